//! All that the kernel counts for a group, each figure by a row of a table: where it is in the first version of cgroups and where in the second.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::{Group, limits};

/// A figure of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// CPU time, in nanoseconds.
    CpuUsage,
    /// CPU time outside of the kernel, in nanoseconds.
    CpuUser,
    /// CPU time in the kernel, in nanoseconds.
    CpuSystem,
    /// Periods in which a quota was counted.
    CpuPeriods,
    /// Periods of which the quota was used up.
    CpuThrottledPeriods,
    /// For how long it waited then, in nanoseconds.
    CpuThrottled,
    /// The quota per period, in microseconds; absent without one.
    CpuQuota,
    /// The period, in microseconds.
    CpuPeriod,
    /// The weight among others, in shares of the first version.
    CpuShares,
    /// Memory with all caches, in bytes.
    MemoryUsage,
    /// The most of it so far, in bytes.
    MemoryMost,
    /// The limit, in bytes; absent without one.
    MemoryLimit,
    /// Memory of no file, in bytes.
    MemoryRss,
    /// Caches of files, in bytes.
    MemoryCache,
    /// Files that are mapped, in bytes.
    MemoryMapped,
    /// Caches that were not used lately, in bytes: what goes first.
    MemoryInactiveFile,
    /// Swap, in bytes.
    MemorySwap,
    /// How often the limit was met.
    MemoryFailures,
    /// Page faults.
    PageFaults,
    /// Page faults that read from a disk.
    MajorPageFaults,
    /// Processes that were killed for memory.
    OomKills,
    /// Processes and threads.
    Threads,
    /// Bytes read from disks.
    DiskRead,
    /// Bytes written to disks.
    DiskWritten,
    /// How often was read from disks.
    DiskReads,
    /// How often was written to disks.
    DiskWrites,
}

/// Where a figure is.
#[derive(Clone, Copy)]
enum Place {
    /// The whole of a file.
    File(&'static str),
    /// A word of a file, by its place (the word `max` is absent).
    Word(&'static str, usize),
    /// The value after a name, in a file of such lines.
    Field(&'static str, &'static str),
    /// The sum of what follows a name, over the lines of a file: of `name=value` in lines of devices, or of lines `device name value`.
    Sum(&'static str, &'static str),
}

use Place::{Field, File, Sum, Word};

/// A figure, its controller, and its place and unit in both versions.
struct Row {
    counter: Counter,
    first: (&'static str, Place, u64),
    second: (&'static str, Place, u64),
}

/// Ticks of `cpuacct.stat` are hundredths of a second on every Linux.
const TICK: u64 = 10_000_000;
/// The first version says "no limit" by the largest number of whole pages.
const UNLIMITED: u64 = 1 << 60;

const fn row(counter: Counter, first: (&'static str, Place, u64), second: (&'static str, Place, u64)) -> Row {
    Row { counter, first, second }
}

const ROWS: &[Row] = &[
    row(
        Counter::CpuUsage,
        ("cpuacct", File("cpuacct.usage"), 1),
        ("cpu", Field("cpu.stat", "usage_usec"), 1000),
    ),
    row(
        Counter::CpuUser,
        ("cpuacct", Field("cpuacct.stat", "user"), TICK),
        ("cpu", Field("cpu.stat", "user_usec"), 1000),
    ),
    row(
        Counter::CpuSystem,
        ("cpuacct", Field("cpuacct.stat", "system"), TICK),
        ("cpu", Field("cpu.stat", "system_usec"), 1000),
    ),
    row(
        Counter::CpuPeriods,
        ("cpu", Field("cpu.stat", "nr_periods"), 1),
        ("cpu", Field("cpu.stat", "nr_periods"), 1),
    ),
    row(
        Counter::CpuThrottledPeriods,
        ("cpu", Field("cpu.stat", "nr_throttled"), 1),
        ("cpu", Field("cpu.stat", "nr_throttled"), 1),
    ),
    row(
        Counter::CpuThrottled,
        ("cpu", Field("cpu.stat", "throttled_time"), 1),
        ("cpu", Field("cpu.stat", "throttled_usec"), 1000),
    ),
    row(
        Counter::CpuQuota,
        ("cpu", File("cpu.cfs_quota_us"), 1),
        ("cpu", Word("cpu.max", 0), 1),
    ),
    row(
        Counter::CpuPeriod,
        ("cpu", File("cpu.cfs_period_us"), 1),
        ("cpu", Word("cpu.max", 1), 1),
    ),
    row(
        Counter::CpuShares,
        ("cpu", File("cpu.shares"), 1),
        ("cpu", File("cpu.weight"), 1),
    ),
    row(
        Counter::MemoryUsage,
        ("memory", File("memory.usage_in_bytes"), 1),
        ("memory", File("memory.current"), 1),
    ),
    row(
        Counter::MemoryMost,
        ("memory", File("memory.max_usage_in_bytes"), 1),
        ("memory", File("memory.peak"), 1),
    ),
    row(
        Counter::MemoryLimit,
        ("memory", File("memory.limit_in_bytes"), 1),
        ("memory", Word("memory.max", 0), 1),
    ),
    row(
        Counter::MemoryRss,
        ("memory", Field("memory.stat", "total_rss"), 1),
        ("memory", Field("memory.stat", "anon"), 1),
    ),
    row(
        Counter::MemoryCache,
        ("memory", Field("memory.stat", "total_cache"), 1),
        ("memory", Field("memory.stat", "file"), 1),
    ),
    row(
        Counter::MemoryMapped,
        ("memory", Field("memory.stat", "total_mapped_file"), 1),
        ("memory", Field("memory.stat", "file_mapped"), 1),
    ),
    row(
        Counter::MemoryInactiveFile,
        ("memory", Field("memory.stat", "total_inactive_file"), 1),
        ("memory", Field("memory.stat", "inactive_file"), 1),
    ),
    row(
        Counter::MemorySwap,
        ("memory", Field("memory.stat", "total_swap"), 1),
        ("memory", File("memory.swap.current"), 1),
    ),
    row(
        Counter::MemoryFailures,
        ("memory", File("memory.failcnt"), 1),
        ("memory", Field("memory.events", "max"), 1),
    ),
    row(
        Counter::PageFaults,
        ("memory", Field("memory.stat", "total_pgfault"), 1),
        ("memory", Field("memory.stat", "pgfault"), 1),
    ),
    row(
        Counter::MajorPageFaults,
        ("memory", Field("memory.stat", "total_pgmajfault"), 1),
        ("memory", Field("memory.stat", "pgmajfault"), 1),
    ),
    row(
        Counter::OomKills,
        ("memory", Field("memory.oom_control", "oom_kill"), 1),
        ("memory", Field("memory.events", "oom_kill"), 1),
    ),
    row(
        Counter::Threads,
        ("pids", File("pids.current"), 1),
        ("pids", File("pids.current"), 1),
    ),
    row(
        Counter::DiskRead,
        ("blkio", Sum("blkio.throttle.io_service_bytes", "Read"), 1),
        ("io", Sum("io.stat", "rbytes"), 1),
    ),
    row(
        Counter::DiskWritten,
        ("blkio", Sum("blkio.throttle.io_service_bytes", "Write"), 1),
        ("io", Sum("io.stat", "wbytes"), 1),
    ),
    row(
        Counter::DiskReads,
        ("blkio", Sum("blkio.throttle.io_serviced", "Read"), 1),
        ("io", Sum("io.stat", "rios"), 1),
    ),
    row(
        Counter::DiskWrites,
        ("blkio", Sum("blkio.throttle.io_serviced", "Write"), 1),
        ("io", Sum("io.stat", "wios"), 1),
    ),
];

/// Returns those figures of a group that are wanted. What a controller that is not there would count is absent.
pub(crate) fn counters(group: &Group, wanted: impl Fn(Counter) -> bool) -> Vec<(Counter, u64)> {
    let mut files: HashMap<(usize, &'static str), Option<String>> = HashMap::new();
    let mut found = Vec::new();
    for row in ROWS.iter().filter(|row| wanted(row.counter)) {
        for (number, (hierarchy, directory)) in group.parts.iter().enumerate() {
            let (controller, place, unit) = if hierarchy.unified { row.second } else { row.first };
            if !hierarchy.has(controller) {
                continue;
            }
            let file = place.file();
            let text = files.entry((number, file)).or_insert_with(|| read(directory, file));
            let value = text.as_deref().and_then(|text| place.value(text));
            let is_limit = row.counter == Counter::MemoryLimit && !hierarchy.unified;
            if let Some(value) = value.filter(|value| !is_limit || *value < UNLIMITED) {
                let value = match row.counter {
                    Counter::CpuShares if hierarchy.unified => limits::shares(value),
                    _ => value.saturating_mul(unit),
                };
                found.push((row.counter, value));
                break;
            }
        }
    }
    found
}

fn read(directory: &Path, name: &str) -> Option<String> {
    // A file that this kernel does not have counts nothing.
    fs::read_to_string(directory.join(name)).ok()
}

impl Place {
    fn file(self) -> &'static str {
        match self {
            File(name) | Word(name, _) | Field(name, _) | Sum(name, _) => name,
        }
    }

    fn value(self, text: &str) -> Option<u64> {
        match self {
            // A quota of -1 is none.
            File(_) => text.trim().parse().ok(),
            Word(_, number) => text.split_whitespace().nth(number)?.parse().ok(),
            Field(_, name) => {
                let lines = text.lines().map(|line| line.split_once(' '));
                let value = lines.flatten().find(|(field, _)| *field == name)?.1;
                value.trim().parse().ok()
            }
            Sum(_, name) => {
                let values = text.lines().flat_map(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    let pairs = words.iter().filter_map(|word| word.split_once('='));
                    let named = pairs.filter(|(field, _)| *field == name).map(|(_, value)| value);
                    let third = match words[..] {
                        [_, field, value] if field == name => Some(value),
                        _ => None,
                    };
                    named
                        .chain(third)
                        .filter_map(|value| value.parse::<u64>().ok())
                        .collect::<Vec<_>>()
                });
                Some(values.sum())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_read_as_the_kernel_writes_it() {
        assert_eq!(File("").value("12\n"), Some(12));
        assert_eq!(File("").value("-1\n"), None);
        assert_eq!(Word("", 0).value("max 100000\n"), None);
        assert_eq!(Word("", 1).value("max 100000\n"), Some(100_000));
        assert_eq!(Field("", "anon").value("anon_thp 3\nanon 7\n"), Some(7));
        let first = "8:0 Read 5\n8:0 Write 2\n8:16 Read 1\nTotal 8\n";
        assert_eq!(Sum("", "Read").value(first), Some(6));
        let second = "8:0 rbytes=5 wbytes=2 rios=9\n8:16 rbytes=1 wbytes=0\n";
        assert_eq!(
            (Sum("", "rbytes").value(second), Sum("", "wbytes").value(second)),
            (Some(6), Some(2))
        );
    }

    #[test]
    fn this_host_counts_what_matters() {
        let hierarchies = crate::cgroup::Hierarchies::detect().expect("cgroups");
        let parts = hierarchies
            .list
            .iter()
            .map(|hierarchy| (hierarchy.clone(), hierarchy.base.clone()));
        let group = Group { parts: parts.collect() };
        // The root of the second version counts less than a group: this is about reading at all.
        let found: Vec<Counter> = counters(&group, |_| true)
            .into_iter()
            .map(|(counter, _)| counter)
            .collect();
        assert!(found.contains(&Counter::CpuUsage), "{found:?}");
        assert!(found.contains(&Counter::MemoryRss), "{found:?}");
    }
}
