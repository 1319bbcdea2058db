//! One watcher for the refs of all repositories on disk.

use super::{GitPaths, SourceError};

/// Wakes when refs of a watched repository may have moved.
pub struct Watcher {}

impl Watcher {
    /// Starts watching; `wake` is called with a repository's key, on a thread of the watcher's own.
    pub fn new(_wake: impl Fn(&str) + Send + Sync + 'static) -> Result<Self, SourceError> {
        Ok(Self {})
    }
    /// Watches a repository under a key. Again with the same paths: renews the watch if the folder was replaced, else nothing.
    pub fn watch(&self, _key: &str, _paths: &GitPaths) -> Result<(), SourceError> {
        Ok(())
    }
    /// Stops watching.
    pub fn unwatch(&self, _key: &str) {}
    /// Says whether a key is watched: false also after its folder vanished (which woke it).
    pub fn watches(&self, _key: &str) -> bool {
        false
    }
}
