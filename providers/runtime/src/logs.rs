//! Logs of containers on disk: one file per attempt in the CRI's format, rotated by the shim.
//!
//! `logs/NAME-ATTEMPT.log` is written, `.log.1` is the one before, and so on. Readers see them as one.

mod follow;
mod read;

use std::path::{Path, PathBuf};

pub(crate) use follow::stream;

/// When a log file is put aside, in bytes.
pub(crate) const ROTATE_AT: u64 = 10 << 20;

/// How many files that were put aside are kept: five with the one that is written, as Kubernetes has it.
pub(crate) const KEEP: u32 = 4;

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
    /// Only what was written to this stream; `None` for both.
    pub stream: Option<Stream>,
}

/// A stream that a log is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in the file.
    fn name(self) -> &'static [u8] {
        match self {
            Stream::Stdout => b"stdout",
            Stream::Stderr => b"stderr",
        }
    }
}

/// Returns the current log file of an attempt.
pub fn path(data_dir: &Path, sandbox: &str, container: &str, attempt: u32) -> PathBuf {
    below(&data_dir.join("sandboxes").join(sandbox), container, attempt)
}

/// As [`path`], in a sandbox's directory.
pub(crate) fn below(sandbox_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    sandbox_dir.join("logs").join(format!("{container}-{attempt}.log"))
}

/// Returns the file that was put aside `number` rotations ago.
pub(crate) fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
