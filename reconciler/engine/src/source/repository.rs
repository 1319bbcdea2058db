//! One git repository on disk, read by its objects and refs only.
//!
//! A repository may belong to somebody else than the user that the daemon runs as. Git refuses such repositories because their
//! configuration can name programs to run (hooks, filters, `core.fsmonitor`, …). None is run here: a repository is opened as a bare
//! one, for its objects and refs, which involves no such check and no work tree; nothing is checked out, no hook is started.
//!
//! Everything blocks on the disk. What others committed is bounded: files, sizes, depth, links.

mod discover;
mod history;
mod loose;
mod sealed;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use git2::{ErrorClass, ErrorCode, ObjectType, Oid};

use super::SourceError;
use super::error::plain;

pub use tree::{MAX_FILES, MAX_TOTAL};

const LONGEST_AUTHOR: usize = 200;
const LONGEST_SUBJECT: usize = 500;
const SHORTEST_PREFIX: usize = 4;
const ID: usize = 40;
const MAX_TAGS: usize = 10;
const BRANCHES: &str = "refs/heads/";

/// An open repository. It blocks and is not `Sync`: open it where it is used (inside `spawn_blocking`), which takes well under a
/// millisecond.
pub struct Repository {
    inner: git2::Repository,
    loose: loose::Loose,
    path: PathBuf,
}

/// The two folders of a repository that say where its refs are; they differ in a linked work tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GitPaths {
    /// Where `HEAD` is.
    pub git_dir: PathBuf,
    /// Where `refs` and `packed-refs` are.
    pub common_dir: PathBuf,
    /// The work tree or bare repository as it was named: another one may be put in its place.
    pub root: PathBuf,
}

/// What a branch points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The branch's short name: `main`, `feat/x`; `HEAD` when it is detached.
    pub branch: String,
    /// The commit's full id.
    pub commit: String,
    /// The committer's time, seconds since 1970.
    pub time: i64,
    /// `Name <address>`, on one line.
    pub author: String,
    /// The message's first line.
    pub subject: String,
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The full id.
    pub id: String,
    /// The committer's time, seconds since 1970.
    pub time: i64,
    /// `Name <address>`, on one line.
    pub author: String,
    /// The message's first line.
    pub subject: String,
}

impl Repository {
    /// Opens the repository at `path`: a work tree's root (linked ones too), a bare repository or a `.git` folder. Parents are not
    /// searched.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let git_dir = discover::git_dir(path)?;
        discover::check_format(&git_dir, path)?;
        let inner = git2::Repository::open_bare(&git_dir).map_err(|source| match source.code() {
            ErrorCode::NotFound => SourceError::NotRepository {
                path: path.to_path_buf(),
            },
            _ => SourceError::Git {
                operation: "read the configuration",
                path: path.to_path_buf(),
                source,
            },
        })?;
        let loose = loose::Loose::of(inner.commondir());
        sealed::check(loose.folders()).map_err(|source| SourceError::Git {
            operation: "read the packs",
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            inner,
            loose,
            path: path.to_path_buf(),
        })
    }

    /// Gives the folders to watch, absolute.
    pub fn paths(&self) -> GitPaths {
        GitPaths {
            git_dir: self.inner.path().to_path_buf(),
            common_dir: self.inner.commondir().to_path_buf(),
            root: self.path.clone(),
        }
    }

    /// Reads what `branch`, or else the repository's HEAD, points at. None while the repository has no branch at all; an error that
    /// names the branches when it has others than the one wanted.
    pub fn head(&self, branch: Option<&str>) -> Result<Option<Head>, SourceError> {
        let full = match branch {
            Some(branch) => format!("{BRANCHES}{}", branch.strip_prefix(BRANCHES).unwrap_or(branch)),
            None => {
                let head = self.reference("HEAD")?.ok_or_else(|| SourceError::NotRepository {
                    path: self.path.clone(),
                })?;
                match head.symbolic_target_bytes() {
                    Some(target) => String::from_utf8_lossy(target).into_owned(),
                    None => return self.pointed("HEAD", &head).map(Some),
                }
            }
        };
        let name = full.strip_prefix(BRANCHES).unwrap_or(&full).to_owned();
        match self.reference(&full)? {
            Some(reference) => self.pointed(&name, &reference).map(Some),
            None => match self.branches()? {
                known if known.is_empty() => Ok(None),
                known => Err(SourceError::NoBranch {
                    repository: self.path.display().to_string(),
                    branch: plain(name.as_bytes(), LONGEST_AUTHOR),
                    known,
                }),
            },
        }
    }

    /// Lists the branches' short names, sorted.
    pub fn branches(&self) -> Result<Vec<String>, SourceError> {
        let references = self
            .inner
            .references_glob("refs/heads/*")
            .map_err(self.failed("list the branches"))?;
        let mut names = Vec::new();
        for reference in references {
            let reference = reference.map_err(self.failed("list the branches"))?;
            let name = String::from_utf8_lossy(reference.name_bytes());
            names.push(name.strip_prefix(BRANCHES).unwrap_or(&name).to_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Reads one commit by its full id; none when there is none of this id.
    pub fn commit(&self, commit: &str) -> Result<Option<Commit>, SourceError> {
        let Some(id) = full_id(commit) else {
            return Ok(None);
        };
        Ok(self.find(id)?.map(|commit| described(&commit)))
    }

    /// Reads one file of a commit, following links that stay in the repository; none when it is absent.
    pub fn file(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        self.walk(commit)?.file(path)
    }

    /// Reads all files below a folder of a commit, named relative to the folder. Links are replaced by what they lead to as long as
    /// that is in the repository. At most [`MAX_FILES`] files and [`MAX_TOTAL`] bytes; submodules and other things that have no
    /// content here are errors that name them.
    pub fn files(&self, commit: &str, folder: &str) -> Result<BTreeMap<String, Vec<u8>>, SourceError> {
        self.walk(commit)?.files(folder)
    }

    /// Gives the id of what a path holds at a commit: the same id, the same content, except for what links inside lead to.
    pub fn tree_id(&self, commit: &str, path: &str) -> Result<Option<String>, SourceError> {
        self.walk(commit)?.id(path)
    }

    /// Resolves `HEAD`, a branch, a tag or at least four characters of an id to a commit's full id; none when nothing fits.
    pub fn resolve(&self, revision: &str) -> Result<Option<String>, SourceError> {
        let names = [format!("{BRANCHES}{revision}"), format!("refs/tags/{revision}")];
        let head = (revision == "HEAD").then(|| "HEAD".to_owned());
        for name in head.iter().chain(&names) {
            if let Some(reference) = self.reference(name)?
                && let Some(commit) = self.peeled(&reference)?
            {
                return Ok(Some(commit.id().to_string()));
            }
        }
        let hex = revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || !(SHORTEST_PREFIX..=ID).contains(&revision.len()) {
            return Ok(None);
        }
        let failed = |error| self.failed("look for a commit")(error);
        let odb = self.inner.odb().map_err(failed)?;
        let prefix = Oid::from_str(revision).map_err(failed)?;
        match odb.exists_prefix(prefix, revision.len()) {
            Ok(id) => Ok(self.find(id)?.map(|commit| commit.id().to_string())),
            Err(error) => match error.code() {
                ErrorCode::NotFound => Ok(None),
                ErrorCode::Ambiguous => Err(SourceError::Ambiguous {
                    path: self.path.clone(),
                    revision: revision.to_owned(),
                }),
                _ => Err(failed(error)),
            },
        }
    }

    fn walk(&self, commit: &str) -> Result<tree::Walk<'_>, SourceError> {
        let found = self.found(commit)?;
        tree::Walk::new(self, found.tree_id(), short(commit))
    }

    fn found(&self, commit: &str) -> Result<git2::Commit<'_>, SourceError> {
        let missing = || SourceError::NoCommit {
            path: self.path.clone(),
            commit: plain(commit.as_bytes(), ID),
        };
        let id = full_id(commit).ok_or_else(missing)?;
        self.find(id)?.ok_or_else(missing)
    }

    /// None when there is no such object, or it is no commit.
    fn find(&self, id: Oid) -> Result<Option<git2::Commit<'_>>, SourceError> {
        let failed = |error| self.failed("read a commit")(error);
        self.loose.check(id).map_err(failed)?;
        match self.inner.find_commit(id) {
            Ok(commit) => Ok(Some(commit)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Follows a reference and the tags that it may lead to; none when there is no commit at the end.
    fn peeled(&self, reference: &git2::Reference<'_>) -> Result<Option<git2::Commit<'_>>, SourceError> {
        let failed = |error| self.failed("read the commit of a branch")(error);
        let resolved = reference.resolve().map_err(failed)?;
        let mut target = resolved.target();
        for _ in 0..MAX_TAGS {
            let Some(id) = target else { return Ok(None) };
            self.loose.check(id).map_err(failed)?;
            let object = self.inner.find_object(id, None).map_err(failed)?;
            target = match object.kind() {
                Some(ObjectType::Commit) => return self.find(id),
                Some(ObjectType::Tag) => object.as_tag().map(git2::Tag::target_id),
                _ => None,
            };
        }
        Ok(None)
    }

    fn reference(&self, name: &str) -> Result<Option<git2::Reference<'_>>, SourceError> {
        match self.inner.find_reference(name) {
            Ok(reference) => Ok(Some(reference)),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => Ok(None),
            Err(error) => Err(self.failed("read a branch")(error)),
        }
    }

    fn pointed(&self, branch: &str, reference: &git2::Reference<'_>) -> Result<Head, SourceError> {
        let Some(commit) = self.peeled(reference)? else {
            let error = git2::Error::new(ErrorCode::Peel, ErrorClass::Reference, "it leads to no commit");
            return Err(self.failed("read the commit of a branch")(error));
        };
        let Commit {
            id,
            time,
            author,
            subject,
        } = described(&commit);
        Ok(Head {
            branch: branch.to_owned(),
            commit: id,
            time,
            author,
            subject,
        })
    }

    /// The repository below, for what is done to it elsewhere in [`crate::source`].
    pub(super) fn git(&self) -> &git2::Repository {
        &self.inner
    }

    pub(super) fn failed(&self, operation: &'static str) -> impl Fn(git2::Error) -> SourceError + '_ {
        move |source| SourceError::Git {
            operation,
            path: self.path.clone(),
            source,
        }
    }
}

/// libgit2 takes shorter ids and fills them with zeros, which would find nothing or the wrong thing.
fn full_id(text: &str) -> Option<Oid> {
    if text.len() == ID {
        Oid::from_str(text).ok()
    } else {
        None
    }
}

fn short(commit: &str) -> String {
    commit.get(..8).unwrap_or(commit).to_owned()
}

fn described(commit: &git2::Commit<'_>) -> Commit {
    let author = commit.author();
    let author = [author.name_bytes(), b" <", author.email_bytes(), b">"].concat();
    Commit {
        id: commit.id().to_string(),
        time: commit.time().seconds(),
        author: plain(&author, LONGEST_AUTHOR),
        subject: plain(commit.summary_bytes().unwrap_or_default(), LONGEST_SUBJECT),
    }
}
