//! Logs of containers on disk: one file per attempt in the CRI's format, rotated by the shim.

use std::path::{Path, PathBuf};

/// What to read of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Only lines since then.
    pub since: Option<jiff::Timestamp>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Whether to go on until the container ended.
    pub follow: bool,
}

/// Returns the current log file of an attempt.
pub fn path(data_dir: &Path, sandbox: &str, container: &str, attempt: u32) -> PathBuf {
    data_dir.join("sandboxes").join(sandbox).join("logs").join(format!("{container}-{attempt}.log"))
}
