//! Times, memory and disk.

use std::path::Path;
use std::time::Duration;

use crate::Outcome;

/// Times of one operation, many times over.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: Times) {
        self.0.extend(other.0);
    }

    fn quantile(&mut self, of_hundred: usize) -> f64 {
        self.0.sort_unstable();
        let index = (self.0.len() * of_hundred / 100).min(self.0.len().saturating_sub(1));
        self.0.get(index).map_or(0.0, Duration::as_secs_f64) * 1000.0
    }

    /// Half of them and 99 of 100, in milliseconds.
    pub fn spread(&mut self) -> String {
        format!("{:.3} / {:.3} ms", self.quantile(50), self.quantile(99))
    }
}

/// A process's proportional share of memory in bytes.
pub fn memory(process: u32) -> Outcome<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no Pss")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}

/// What the files in a folder take on disk in bytes, holes left out.
pub fn disk(dir: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        total += match entry.file_type()?.is_dir() {
            true => disk(&entry.path())?,
            false => entry.metadata()?.blocks() * 512,
        };
    }
    Ok(total)
}

/// Bytes as a person reads them.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
