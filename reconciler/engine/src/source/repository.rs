//! One git repository on disk, read by objects only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::SourceError;

/// An open repository. Blocking and not `Sync`: open it where it is used (inside `spawn_blocking`), which takes well under a millisecond.
pub struct Repository {
    _inner: git2::Repository,
}

/// The two folders of a repository that say where its refs are; they differ in a linked work tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GitPaths {
    /// Where `HEAD` is.
    pub git_dir: PathBuf,
    /// Where `refs` and `packed-refs` are.
    pub common_dir: PathBuf,
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
    /// `Name <address>`.
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
    /// `Name <address>`.
    pub author: String,
    /// The message's first line.
    pub subject: String,
}

impl Repository {
    /// Opens the repository at `path` (a work tree's root, a bare repository or a `.git` folder). Blocking.
    pub fn open(_path: &Path) -> Result<Self, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Gives the folders to watch.
    pub fn paths(&self) -> GitPaths {
        GitPaths { git_dir: PathBuf::new(), common_dir: PathBuf::new() }
    }
    /// Reads what `branch` (or else the repository's HEAD) points at; none while the branch has no commit yet.
    pub fn head(&self, _branch: Option<&str>) -> Result<Option<Head>, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Lists the branches' short names, sorted.
    pub fn branches(&self) -> Result<Vec<String>, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Reads one commit; none when there is none of this id.
    pub fn commit(&self, _commit: &str) -> Result<Option<Commit>, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Reads one file of a commit; none when it is absent.
    pub fn file(&self, _commit: &str, _path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Reads all files below a folder of a commit, named relative to the folder.
    pub fn files(&self, _commit: &str, _folder: &str) -> Result<BTreeMap<String, Vec<u8>>, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Gives the id of what a path holds at a commit: the same id, the same content.
    pub fn tree_id(&self, _commit: &str, _path: &str) -> Result<Option<String>, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Lists a commit and its ancestors, newest first.
    pub fn log(&self, _commit: &str, _limit: usize) -> Result<Vec<Commit>, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Resolves a branch, a tag or the beginning of an id to a commit's full id.
    pub fn resolve(&self, _revision: &str) -> Result<Option<String>, SourceError> {
        Err(SourceError::NotYet)
    }
    /// Says whether one commit is the other or one of its ancestors.
    pub fn is_ancestor(&self, _ancestor: &str, _descendant: &str) -> Result<bool, SourceError> {
        Err(SourceError::NotYet)
    }
}
