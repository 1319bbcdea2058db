//! Reading what a group used.

use super::Group;
use super::counters::{Counter, counters};
use crate::runtime::Usage;

impl Group {
    /// Returns whether the kernel killed a process of this group for memory.
    pub(crate) fn oom_killed(&self) -> bool {
        counters(self, |counter| counter == Counter::OomKills)
            .iter()
            .any(|(_, count)| *count > 0)
    }
}

/// Returns what a group used so far; zero where the host counts nothing.
pub(crate) fn usage(group: &Group) -> Usage {
    use Counter::{CpuUsage, MemoryInactiveFile, MemoryUsage};
    let wanted = [CpuUsage, MemoryUsage, MemoryInactiveFile];
    let found = counters(group, |counter| wanted.contains(&counter));
    let value = |wanted| {
        found
            .iter()
            .find(|(counter, _)| *counter == wanted)
            .map_or(0, |(_, value)| *value)
    };
    Usage {
        cpu_nanoseconds: value(CpuUsage),
        memory_bytes: value(MemoryUsage).saturating_sub(value(MemoryInactiveFile)),
    }
}
