//! New repositories and clones of them: what `up --init` makes.
//!
//! Blocking. A repository appears as a whole or not at all: it is made in a folder beside its place and then renamed; what a killed
//! process left there is removed by the next one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use git2::build::{CloneLocal, RepoBuilder, TreeUpdateBuilder};
use git2::{ErrorCode, FileMode, RepositoryInitOptions, Signature, Time};

use super::{Repository, SourceError};
use crate::declaration::normalize_path;

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

/// Makes a bare repository with one commit of `files` on `branch`, its HEAD; gives the commit's id. `time` is in seconds since 1970.
/// Blocking. All or nothing; `path` must be missing or an empty folder.
pub fn init_bare(
    path: &Path,
    branch: &str,
    files: &BTreeMap<String, Vec<u8>>,
    message: &str,
    identity: &Identity,
    time: i64,
) -> Result<String, SourceError> {
    let reference = branch_reference(branch)?;
    let signature = signature(identity, time)?;
    let mut paths = Vec::with_capacity(files.len());
    for name in files.keys() {
        paths.push(normalize_path(name).map_err(|problem| SourceError::BadPath { problem })?);
    }
    in_place(path, |place| {
        let failed = |source| SourceError::Git {
            operation: "make the first commit",
            path: path.to_path_buf(),
            source,
        };
        let repository = bare(place, branch).map_err(failed)?;
        let mut update = TreeUpdateBuilder::new();
        for (name, data) in paths.iter().zip(files.values()) {
            let id = repository.blob(data).map_err(failed)?;
            update.upsert(name.as_str(), id, FileMode::Blob);
        }
        let empty = repository
            .treebuilder(None)
            .and_then(|builder| builder.write())
            .and_then(|id| repository.find_tree(id))
            .map_err(failed)?;
        let tree = match paths.is_empty() {
            true => empty,
            false => update
                .create_updated(&repository, &empty)
                .and_then(|id| repository.find_tree(id))
                .map_err(failed)?,
        };
        let commit = repository
            .commit(Some(&reference), &signature, &signature, message, &tree, &[])
            .map_err(failed)?;
        Ok(commit.to_string())
    })
}

/// Clones a bare repository on this disk into an empty or missing folder: its HEAD's branch is checked out and followed, `origin` is the
/// bare repository's path, and the clone has an identity of its own, so that `git commit` and `git push` work on a machine without any
/// configuration of git. Blocking.
pub fn clone_into(bare: &Path, dest: &Path, identity: &Identity) -> Result<(), SourceError> {
    signature(identity, 0)?;
    let bare = absolute(bare)?;
    let branch = match Repository::open(&bare)?.head(None)? {
        Some(head) => Some(head.branch),
        None => None,
    };
    if let Some(parent) = dest.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(disk("make the folder", parent))?;
    }
    let fill = |place: &Path| {
        let failed = |source| SourceError::Git {
            operation: "clone",
            path: bare.clone(),
            source,
        };
        let address = bare.to_str().ok_or_else(|| SourceError::BadPath {
            problem: format!("the path {} is not UTF-8; choose another place", bare.display()),
        })?;
        let mut builder = RepoBuilder::new();
        // Own copies: objects shared by hard links would also share their owner and their damage.
        builder.clone_local(CloneLocal::NoLinks);
        if let Some(branch) = &branch {
            builder.branch(branch);
        }
        let repository = builder.clone(address, place).map_err(failed)?;
        let mut config = repository.config().map_err(failed)?;
        let mut entries = vec![
            ("user.name", identity.name.as_str()),
            ("user.email", identity.email.as_str()),
        ];
        // A configuration of the machine may want something else, and then a plain push would ask.
        entries.push(("push.default", "simple"));
        for (key, value) in entries {
            config.set_str(key, value).map_err(failed)?;
        }
        Ok(())
    };
    match std::fs::read_dir(dest) {
        // Renaming over a folder would leave a shell that stands in it nowhere.
        Ok(mut entries) => match entries.next() {
            None => fill(dest),
            Some(_) => Err(SourceError::Occupied {
                path: dest.to_path_buf(),
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => in_place(dest, fill),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(SourceError::Occupied {
            path: dest.to_path_buf(),
        }),
        Err(error) => Err(disk("read", dest)(error)),
    }
}

/// Says whether `dest` is a repository whose `origin` is `bare`; false also when nothing is there. Blocking.
pub fn is_clone_of(dest: &Path, bare: &Path) -> Result<bool, SourceError> {
    let repository = match Repository::open(dest) {
        Ok(repository) => repository,
        Err(SourceError::Missing { .. } | SourceError::NotRepository { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some(origin) = repository.origin()? else {
        return Ok(false);
    };
    let origin = origin.strip_prefix("file://").unwrap_or(&origin).to_owned();
    let origin = dest.join(origin);
    Ok(match (origin.canonicalize(), bare.canonicalize()) {
        (Ok(origin), Ok(bare)) => origin == bare,
        _ => origin == bare,
    })
}

impl Repository {
    fn origin(&self) -> Result<Option<String>, SourceError> {
        match self.git().find_remote("origin") {
            Ok(remote) => Ok(Some(String::from_utf8_lossy(remote.url_bytes()).into_owned())),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.failed("read the remote origin")(error)),
        }
    }
}

/// Makes an empty bare repository.
pub(super) fn bare(place: &Path, branch: &str) -> Result<git2::Repository, git2::Error> {
    let mut options = RepositoryInitOptions::new();
    // Without the machine's template: it may bring hooks.
    options
        .bare(true)
        .no_reinit(true)
        .mkpath(true)
        .external_template(false)
        .initial_head(branch);
    git2::Repository::init_opts(place, &options)
}

/// Lets `fill` make a folder beside `path` and moves it there when it is complete.
pub(super) fn in_place<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T, SourceError>) -> Result<T, SourceError> {
    let path = absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SourceError::Occupied { path });
    };
    let occupied = match std::fs::read_dir(&path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if occupied {
        return Err(SourceError::Occupied { path });
    }
    std::fs::create_dir_all(parent).map_err(disk("make the folder", parent))?;
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    let partial = parent.join(partial);
    remove(&partial)?;
    let filled = fill(&partial).and_then(|filled| {
        std::fs::rename(&partial, &path).map_err(disk("move the new repository to", &path))?;
        Ok(filled)
    });
    if filled.is_err() {
        // The first error is the one to tell; what is left is removed by the next attempt.
        remove(&partial).ok();
    }
    filled
}

fn remove(folder: &Path) -> Result<(), SourceError> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disk("remove the unfinished", folder)(error)),
    }
}

fn branch_reference(branch: &str) -> Result<String, SourceError> {
    let reference = format!("refs/heads/{branch}");
    if branch.is_empty() || branch.starts_with('-') || !git2::Reference::is_valid_name(&reference) {
        return Err(SourceError::BadPath {
            problem: format!(
                "`{}` is no name of a branch; use one such as `main`",
                branch.escape_debug()
            ),
        });
    }
    Ok(reference)
}

fn signature(identity: &Identity, time: i64) -> Result<Signature<'static>, SourceError> {
    let Identity { name, email } = identity;
    let bad = || SourceError::BadIdentity {
        name: name.escape_debug().to_string(),
        email: email.escape_debug().to_string(),
    };
    if [name, email]
        .iter()
        .any(|text| text.trim().is_empty() || text.contains(['<', '>', '\n', '\r', '\0']))
    {
        return Err(bad());
    }
    Signature::new(name, email, &Time::new(time, 0)).map_err(|_| bad())
}

fn absolute(path: &Path) -> Result<PathBuf, SourceError> {
    std::path::absolute(path).map_err(disk("find", path))
}

fn disk(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    let path = path.to_path_buf();
    move |source| SourceError::Disk {
        operation,
        path,
        source,
    }
}
