//! What this node and its pods use, measured when somebody asks.
//!
//! A rate needs two measurements. The last one serves as the first of the next pair while it is young enough; otherwise two are
//! taken, a second apart. So a node that nobody asks costs nothing, one that is asked regularly measures once each time, and the
//! window that is told is the one that was measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use setpoint_runtime::{SandboxStats, Usage as Counter};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::agent::Now;
use crate::containers::{Containers, RuntimeFailure};

/// For how long an answer is given again.
const FRESH: Duration = Duration::from_secs(10);
/// The longest window.
const WINDOW: Duration = Duration::from_secs(60);
/// The window of two measurements that are taken for one answer.
const SHORT: Duration = Duration::from_secs(1);
/// What `/proc/stat` counts in, in nanoseconds: a hundredth of a second on every Linux.
const TICK: u64 = 10_000_000;

/// What something used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since it began, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// The rate over the window, in nanoseconds of CPU time per second.
    pub cpu_nanocores: u64,
    /// The working set, in bytes.
    pub memory_bytes: u64,
}

/// What a pod used over the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// All of it.
    pub total: Usage,
    /// Each running container by its name.
    pub containers: Vec<(String, Usage)>,
}

/// What a node used over the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUsage {
    /// The end of the window.
    pub at: jiff::Timestamp,
    /// How long the window was.
    pub window: Duration,
    /// All of it, what is no pod's included.
    pub total: Usage,
    /// The pods of which a container runs.
    pub pods: Vec<PodUsage>,
}

/// Measures.
pub(crate) struct Sampler {
    containers: Arc<dyn Containers>,
    now: Now,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Sample>,
    answer: Option<(Instant, NodeUsage)>,
}

/// One measurement.
#[derive(Clone, Debug)]
struct Sample {
    taken: Instant,
    node: Counter,
    pods: BTreeMap<String, PodSample>,
}

#[derive(Clone, Debug)]
struct PodSample {
    namespace: String,
    name: String,
    stats: SandboxStats,
}

impl Sampler {
    pub(crate) fn new(containers: Arc<dyn Containers>, now: Now) -> Sampler {
        Sampler {
            containers,
            now,
            state: Mutex::default(),
        }
    }

    /// Returns what is used: measured now, or at most [`FRESH`] ago.
    pub(crate) async fn usage(&self) -> Result<NodeUsage, RuntimeFailure> {
        // Those who ask at the same time share one measurement.
        let mut state = self.state.lock().await;
        if let Some((when, usage)) = &state.answer
            && when.elapsed() < FRESH
        {
            return Ok(usage.clone());
        }
        let mut new = self.sample().await?;
        let base = match state.last.take() {
            Some(last) if serves(&last, &new) => last,
            _ => {
                tokio::time::sleep(SHORT).await;
                std::mem::replace(&mut new, self.sample().await?)
            }
        };
        let usage = between(&base, &new, (self.now)());
        state.answer = Some((new.taken, usage.clone()));
        state.last = Some(new);
        Ok(usage)
    }

    async fn sample(&self) -> Result<Sample, RuntimeFailure> {
        let read = |path: &str| {
            std::fs::read_to_string(path).map_err(|error| RuntimeFailure::new(format!("cannot read {path}: {error}")))
        };
        let node = node(&read("/proc/stat")?, &read("/proc/meminfo")?)
            .ok_or_else(|| RuntimeFailure::new("cannot make sense of /proc/stat and /proc/meminfo"))?;
        let taken = Instant::now();
        let mut pods = BTreeMap::new();
        for sandbox in self.containers.sandboxes().await? {
            if sandbox.pid == 0 {
                continue;
            }
            let spec = sandbox.spec;
            match self.containers.stats(&spec.id).await {
                Ok(stats) => {
                    let pod = PodSample {
                        namespace: spec.namespace,
                        name: spec.name,
                        stats,
                    };
                    pods.insert(spec.id, pod);
                }
                // It has just gone, or cannot be reached.
                Err(error) => tracing::debug!(sandbox = spec.id, %error, "a pod cannot be measured"),
            }
            // The files of many pods are many: others get their turn in between.
            tokio::task::yield_now().await;
        }
        Ok(Sample { taken, node, pods })
    }
}

/// Whether a measurement can be the first of a pair: not too old, not too young, and of every container that runs now.
fn serves(last: &Sample, new: &Sample) -> bool {
    let window = new.taken.duration_since(last.taken);
    let known = |(id, pod): (&String, &PodSample)| {
        let before = last.pods.get(id);
        pod.stats.containers.iter().all(|(container, _)| {
            before.is_some_and(|before| before.stats.containers.iter().any(|(known, _)| known == container))
        })
    };
    (SHORT..=WINDOW).contains(&window) && new.pods.iter().all(known)
}

/// What was used between two measurements.
fn between(base: &Sample, new: &Sample, at: jiff::Timestamp) -> NodeUsage {
    let window = new.taken.duration_since(base.taken);
    let rate = |before: &Counter, after: &Counter| {
        let used = u128::from(after.cpu_nanoseconds.saturating_sub(before.cpu_nanoseconds));
        let rate = used * 1_000_000_000 / window.as_nanos().max(1);
        Usage {
            cpu_nanoseconds: after.cpu_nanoseconds,
            cpu_nanocores: u64::try_from(rate).unwrap_or(u64::MAX),
            memory_bytes: after.memory_bytes,
        }
    };
    let pods = new.pods.iter().filter_map(|(uid, pod)| {
        let before = base.pods.get(uid)?;
        let containers: Vec<(String, Usage)> = pod
            .stats
            .containers
            .iter()
            .filter_map(|(id, after)| {
                let (_, before) = before.stats.containers.iter().find(|(known, _)| known == id)?;
                // An attempt's id is the container's name and a number.
                let (name, _) = id.rsplit_once('-')?;
                Some((name.to_owned(), rate(before, after)))
            })
            .collect();
        (!containers.is_empty()).then(|| PodUsage {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: uid.clone(),
            total: rate(&before.stats.total, &pod.stats.total),
            containers,
        })
    });
    NodeUsage {
        at,
        window,
        total: rate(&base.node, &new.node),
        pods: pods.collect(),
    }
}

/// Reads what the whole host used: all CPU time that was not idle, and all memory that is neither free nor inactive file cache.
fn node(stat: &str, meminfo: &str) -> Option<Counter> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|number| number.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq; what others stole is not ours, and guests are counted in the first two already.
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else {
        return None;
    };
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    let used = kib("MemTotal")?.saturating_sub(kib("MemFree")? + kib("Inactive(file)").unwrap_or(0));
    Some(Counter {
        cpu_nanoseconds: (user + nice + system + irq + softirq).saturating_mul(TICK),
        memory_bytes: used.saturating_mul(1024),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(cpu_nanoseconds: u64, memory_bytes: u64) -> Counter {
        Counter {
            cpu_nanoseconds,
            memory_bytes,
        }
    }

    fn sample(taken: Instant, containers: &[(&str, u64)]) -> Sample {
        let stats = SandboxStats {
            total: counter(containers.iter().map(|(_, cpu)| cpu).sum(), 9),
            containers: containers
                .iter()
                .map(|(id, cpu)| ((*id).to_owned(), counter(*cpu, 4)))
                .collect(),
        };
        let pod = PodSample {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            stats,
        };
        Sample {
            taken,
            node: counter(0, 0),
            pods: BTreeMap::from([("uid".to_owned(), pod)]),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_of_the_window_between_two_measurements() {
        let start = Instant::now();
        let base = sample(start, &[("app-0", 1_000_000_000)]);
        let new = sample(start + Duration::from_secs(4), &[("app-0", 3_000_000_000)]);
        let usage = between(&base, &new, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(usage.window, Duration::from_secs(4));
        let [(name, app)] = &usage.pods[0].containers[..] else {
            panic!("one container")
        };
        assert_eq!(
            (name.as_str(), app.cpu_nanocores, app.memory_bytes),
            ("app", 500_000_000, 4)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_measurement_serves_while_it_is_young_and_knows_every_container() {
        let start = Instant::now();
        let after = |seconds, containers: &[(&str, u64)]| sample(start + Duration::from_secs(seconds), containers);
        let last = after(0, &[("app-0", 1)]);
        assert!(serves(&last, &after(15, &[("app-0", 2)])));
        assert!(!serves(&last, &after(61, &[("app-0", 2)])), "too old");
        assert!(!serves(&last, &after(15, &[("app-1", 2)])), "a new attempt");
        let usage = between(&last, &after(15, &[("app-1", 2)]), jiff::Timestamp::UNIX_EPOCH);
        assert!(usage.pods.is_empty(), "nothing of it was measured twice");
    }

    #[test]
    fn the_host_is_read_from_what_the_kernel_counts() {
        let stat = "cpu  10 1 5 900 50 2 2 9 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let meminfo = "MemTotal:  1000 kB\nMemFree:  300 kB\nInactive(file):   100 kB\n";
        let read = node(stat, meminfo).expect("figures");
        assert_eq!(read, counter(20 * TICK, 600 * 1024));
        assert_eq!(node("", meminfo), None);
    }
}
