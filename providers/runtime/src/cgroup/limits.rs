//! Setting a group's limits.

use std::io;
use std::path::Path;

use super::{Group, write};
use crate::spec::Resources;

/// The kernel's default period of the CPU quota in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

impl Group {
    /// Sets limits. A limit whose controller this host does not have is an error that names it.
    pub(crate) fn limit(&self, resources: &Resources) -> io::Result<()> {
        let find = |controller: &'static str| {
            self.parts
                .iter()
                .find(|(hierarchy, _)| hierarchy.has(controller))
                .map(|(hierarchy, directory)| (hierarchy.unified, directory.as_path()))
                .ok_or_else(|| {
                    let message = format!("this host has no {controller} cgroup controller, which a limit needs");
                    io::Error::new(io::ErrorKind::Unsupported, message)
                })
        };
        if let Some(shares) = resources.cpu_shares {
            // Shares are a wish, not a limit: without the controller there is nothing to refuse.
            if let Ok((unified, directory)) = find("cpu") {
                if unified {
                    put(directory, "cpu.weight", &weight(shares).to_string())?;
                } else {
                    put(directory, "cpu.shares", &shares.clamp(2, 262_144).to_string())?;
                }
            }
        }
        if let Some(quota) = resources.cpu_quota {
            let (unified, directory) = find("cpu")?;
            let period = resources.cpu_period.unwrap_or(DEFAULT_PERIOD);
            // The kernel refuses less than a millisecond.
            let quota = if quota < 0 { quota } else { quota.max(1000) };
            if unified {
                let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
                put(directory, "cpu.max", &format!("{quota} {period}"))?;
            } else {
                put(directory, "cpu.cfs_period_us", &period.to_string())?;
                put(directory, "cpu.cfs_quota_us", &quota.to_string())?;
            }
        }
        if let Some(bytes) = resources.memory_limit {
            let (unified, directory) = find("memory")?;
            if unified {
                put(directory, "memory.max", &bytes.to_string())?;
                optional(put(directory, "memory.swap.max", "0"))?;
                optional(put(directory, "memory.oom.group", "1"))?;
            } else {
                let (memory, with_swap) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
                let bytes = bytes.to_string();
                // Neither may pass the other on the way: what grows begins with swap, what shrinks with memory.
                if put(directory, memory, &bytes).is_err() {
                    optional(put(directory, with_swap, &bytes))?;
                    put(directory, memory, &bytes)?;
                }
                optional(put(directory, with_swap, &bytes))?;
            }
        }
        if let Some(count) = resources.pids_limit {
            let (_, directory) = find("pids")?;
            put(directory, "pids.max", &count.to_string())?;
        }
        Ok(())
    }
}

fn put(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = directory.join(file);
    write(&path, value).map_err(|error| io::Error::new(error.kind(), format!("{}={value}: {error}", path.display())))
}

/// Kernels without swap accounting do not have the file.
fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(()),
        other => other,
    }
}

/// Turns v1 shares (2–262144) into v2's weight (1–10000), as Kubernetes does.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// Turns v2's weight (1–10000) into v1 shares, as cAdvisor does: what [`weight`] rounded down stays so.
pub(super) fn shares(weight: u64) -> u64 {
    2 + (weight.clamp(1, 10_000) - 1) * 262_142 / 9_999
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_span_the_whole_range_of_shares() {
        assert_eq!(weight(0), 1);
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
        assert_eq!((shares(1), shares(39), shares(10_000)), (2, 998, 262_144));
    }
}
