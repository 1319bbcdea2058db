//! Repositories at a distance, mirrored into the daemon's folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SourceError;

/// Where a repository is: as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// On this machine.
    Path(PathBuf),
    /// Elsewhere.
    Remote(Remote),
}

/// A remote repository's address, without credentials in what it prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    url: String,
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}
impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}

/// Who asks: a user name with a password or token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Often irrelevant beside a token.
    pub username: String,
    /// The password or token.
    pub password: String,
}

/// What a fetch may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To connect.
    pub connect: Duration,
    /// Without a byte.
    pub idle: Duration,
    /// As a whole.
    pub total: Duration,
    /// Bytes received.
    pub received: u64,
    /// The program that speaks ssh.
    pub ssh: PathBuf,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
            received: 1 << 30,
            ssh: PathBuf::from("ssh"),
        }
    }
}

impl Location {
    /// Tells a path from a remote address.
    pub fn parse(_text: &str) -> Result<Self, SourceError> {
        Err(SourceError::NotYet)
    }
}

/// Fetches the branches and HEAD of a remote into a bare mirror, which is made when missing. Blocking.
pub fn fetch(
    _remote: &Remote,
    _mirror: &Path,
    _limits: &Limits,
    _credentials: Option<&Credentials>,
) -> Result<(), SourceError> {
    Err(SourceError::NotYet)
}
