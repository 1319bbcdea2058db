//! Logs of containers on disk: one file per attempt in the CRI's format, rotated by the shim.
//!
//! `logs/NAME-ATTEMPT.log` is written, `.log.1` is the one before, and so on. Readers see them as one.

mod follow;
mod read;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use follow::stream;

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

/// Lists the files that were put aside, the newest first, by their numbers; how many were to be kept may have been another number for each
/// attempt.
pub(crate) fn aside(path: &Path) -> io::Result<Vec<u32>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry?.file_name();
        let number = entry
            .to_str()
            .and_then(|entry| entry.strip_prefix(name)?.strip_prefix('.'));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the files of an attempt's log: the one that is written, and those that were put aside.
pub(crate) fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let aside = aside(path)?.into_iter().map(|number| rotated(path, number));
    Ok([path.to_owned()].into_iter().chain(aside).collect())
}
