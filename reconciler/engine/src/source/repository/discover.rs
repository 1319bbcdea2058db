//! Where a path's repository is, and whether it can be read.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::super::SourceError;

const MAX_GITFILE: u64 = 8 * 1024;
const MAX_CONFIG: u64 = 1 << 20;

/// Finds the folder that holds HEAD.
pub(super) fn git_dir(path: &Path) -> Result<PathBuf, SourceError> {
    let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::Missing {
            path: path.to_path_buf(),
        },
        _ => unreadable(path, source),
    })?;
    let none = || SourceError::NotRepository {
        path: path.to_path_buf(),
    };
    if !metadata.is_dir() {
        return Err(none());
    }
    let inner = path.join(".git");
    match std::fs::metadata(&inner) {
        Ok(metadata) if metadata.is_dir() => return Ok(inner),
        Ok(_) => return linked(&inner).map(|target| path.join(target)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(source) => return Err(unreadable(&inner, source)),
    }
    let has = |name: &str| path.join(name).exists();
    // `commondir` instead of `objects`: the folder of a linked work tree below `.git/worktrees`.
    if has("HEAD") && (has("objects") || has("commondir")) {
        return Ok(path.to_path_buf());
    }
    Err(none())
}

/// Refuses formats that libgit2 would misread or explain badly.
pub(super) fn check_format(git_dir: &Path, shown: &Path) -> Result<(), SourceError> {
    let common = match bounded(&git_dir.join("commondir"), MAX_GITFILE) {
        Ok(text) => git_dir.join(text.trim()),
        Err(_) => git_dir.to_path_buf(),
    };
    let file = common.join("config");
    let config = match std::fs::metadata(&file) {
        Ok(metadata) if metadata.len() <= MAX_CONFIG => git2::Config::open(&file),
        // Git takes a repository without a configuration, and libgit2 reports what it cannot read.
        _ => return Ok(()),
    };
    let Ok(config) = config else { return Ok(()) };
    let unsupported = |feature: String, advice| SourceError::Unsupported {
        path: shown.to_path_buf(),
        feature,
        advice,
    };
    if let Ok(storage) = config.get_string("extensions.refstorage")
        && storage != "files"
    {
        return Err(unsupported(
            format!("the ref storage {storage:?}"),
            "convert it with `git refs migrate --ref-format=files`",
        ));
    }
    if let Ok(format) = config.get_string("extensions.objectformat")
        && format != "sha1"
    {
        return Err(unsupported(
            format!("{format:?} object ids"),
            "make a new one with `git init --object-format=sha1` and commit the files there",
        ));
    }
    if config.get_string("extensions.partialclone").is_ok() {
        return Err(unsupported(
            "a partial clone".to_owned(),
            "fetch everything with `git fetch --refetch --no-filter`, or clone it without `--filter`",
        ));
    }
    Ok(())
}

fn linked(file: &Path) -> Result<PathBuf, SourceError> {
    let text = bounded(file, MAX_GITFILE).map_err(|source| unreadable(file, source))?;
    match text.trim().strip_prefix("gitdir:") {
        Some(target) if !target.trim().is_empty() => Ok(PathBuf::from(target.trim())),
        _ => Err(SourceError::NotRepository {
            path: file.to_path_buf(),
        }),
    }
}

fn bounded(file: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(path: &Path, source: io::Error) -> SourceError {
    SourceError::Disk {
        operation: "read",
        path: path.to_path_buf(),
        source,
    }
}
