//! Reading what a group used.

use std::fs;
use std::path::Path;

use super::Group;
use crate::runtime::Usage;

impl Group {
    /// Returns whether the kernel killed a process of this group for memory.
    pub(crate) fn oom_killed(&self) -> bool {
        let Some((hierarchy, directory)) = self.parts.iter().find(|(hierarchy, _)| hierarchy.has("memory")) else {
            return false;
        };
        let file = if hierarchy.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        field(directory, file, "oom_kill").is_some_and(|count| count > 0)
    }
}

/// Returns what a group used so far; zero where the host counts nothing.
pub(crate) fn usage(group: &Group) -> Usage {
    let mut usage = Usage::default();
    for (hierarchy, directory) in &group.parts {
        if hierarchy.unified {
            if hierarchy.has("memory") {
                let current = number(directory, "memory.current").unwrap_or(0);
                usage.memory_bytes =
                    current.saturating_sub(field(directory, "memory.stat", "inactive_file").unwrap_or(0));
            }
            if hierarchy.has("cpu") {
                usage.cpu_nanoseconds = field(directory, "cpu.stat", "usage_usec").unwrap_or(0) * 1000;
            }
        } else {
            if hierarchy.has("memory") {
                let current = number(directory, "memory.usage_in_bytes").unwrap_or(0);
                usage.memory_bytes =
                    current.saturating_sub(field(directory, "memory.stat", "total_inactive_file").unwrap_or(0));
            }
            if hierarchy.has("cpuacct") {
                usage.cpu_nanoseconds = number(directory, "cpuacct.usage").unwrap_or(0);
            }
        }
    }
    usage
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

fn field(directory: &Path, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}
