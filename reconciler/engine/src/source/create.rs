//! New repositories and clones of them.

use std::collections::BTreeMap;
use std::path::Path;

use super::SourceError;

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

/// Makes a bare repository with one commit of `files` on `branch`; gives the commit's id. All or nothing. Blocking.
pub fn init_bare(
    _path: &Path,
    _branch: &str,
    _files: &BTreeMap<String, Vec<u8>>,
    _message: &str,
    _signature: &Identity,
    _time: i64,
) -> Result<String, SourceError> {
    Err(SourceError::NotYet)
}

/// Clones a bare repository on this disk into an empty or missing folder, ready for `git commit` and `git push`. Blocking.
pub fn clone_into(_bare: &Path, _dest: &Path, _identity: &Identity) -> Result<(), SourceError> {
    Err(SourceError::NotYet)
}

/// Says whether `dest` is a work tree whose `origin` is `bare`. Blocking.
pub fn is_clone_of(_dest: &Path, _bare: &Path) -> Result<bool, SourceError> {
    Err(SourceError::NotYet)
}
