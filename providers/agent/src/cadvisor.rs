//! What containers use, in Prometheus' text form under cAdvisor's names, so that dashboards and alerts that people have work here.
//!
//! Measured when somebody asks, like [`crate::usage`]. Pods have rows with an empty `container`; what passed through a pod's network is told with
//! the labels of its sandbox, as cAdvisor does for the container that holds a pod's network elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use setpoint_runtime::spec::{ContainerState, SandboxState};
use setpoint_runtime::{Counter, SandboxCounters};

use crate::containers::{Containers, RuntimeFailure};
use crate::node::Facts;
use crate::volumes::measure::size;

/// A figure's name, what it is, whether it only grows, and what the kernel's figure is divided by.
struct Row {
    counter: Counter,
    name: &'static str,
    help: &'static str,
    grows: bool,
    divided_by: u64,
}

const fn counter(counter: Counter, name: &'static str, divided_by: u64, help: &'static str) -> Row {
    Row {
        counter,
        name,
        help,
        grows: true,
        divided_by,
    }
}

const fn gauge(counter: Counter, name: &'static str, help: &'static str) -> Row {
    Row {
        counter,
        name,
        help,
        grows: false,
        divided_by: 1,
    }
}

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

const ROWS: &[Row] = &[
    counter(
        Counter::CpuUsage,
        "container_cpu_usage_seconds_total",
        SECOND,
        "CPU time.",
    ),
    counter(
        Counter::CpuUser,
        "container_cpu_user_seconds_total",
        SECOND,
        "CPU time outside of the kernel.",
    ),
    counter(
        Counter::CpuSystem,
        "container_cpu_system_seconds_total",
        SECOND,
        "CPU time in the kernel.",
    ),
    counter(
        Counter::CpuPeriods,
        "container_cpu_cfs_periods_total",
        1,
        "Periods in which a quota was counted.",
    ),
    counter(
        Counter::CpuThrottledPeriods,
        "container_cpu_cfs_throttled_periods_total",
        1,
        "Periods of which the quota was used up.",
    ),
    counter(
        Counter::CpuThrottled,
        "container_cpu_cfs_throttled_seconds_total",
        SECOND,
        "For how long it waited then.",
    ),
    gauge(
        Counter::CpuQuota,
        "container_spec_cpu_quota",
        "The quota per period, in microseconds.",
    ),
    gauge(
        Counter::CpuPeriod,
        "container_spec_cpu_period",
        "The period, in microseconds.",
    ),
    gauge(
        Counter::CpuShares,
        "container_spec_cpu_shares",
        "The weight among others.",
    ),
    gauge(
        Counter::MemoryUsage,
        "container_memory_usage_bytes",
        "Memory with all caches.",
    ),
    gauge(
        Counter::MemoryMost,
        "container_memory_max_usage_bytes",
        "The most memory so far.",
    ),
    gauge(
        Counter::MemoryLimit,
        "container_spec_memory_limit_bytes",
        "The limit of memory.",
    ),
    gauge(Counter::MemoryRss, "container_memory_rss", "Memory that holds no file."),
    gauge(Counter::MemoryCache, "container_memory_cache", "Caches of files."),
    gauge(
        Counter::MemoryMapped,
        "container_memory_mapped_file",
        "Files that are mapped.",
    ),
    gauge(Counter::MemorySwap, "container_memory_swap", "Swap."),
    counter(
        Counter::MemoryFailures,
        "container_memory_failcnt",
        1,
        "How often the limit of memory was met.",
    ),
    counter(
        Counter::OomKills,
        "container_oom_events_total",
        1,
        "Processes that were killed for memory.",
    ),
    gauge(Counter::Threads, "container_threads", "Processes and threads."),
    counter(
        Counter::DiskRead,
        "container_fs_reads_bytes_total",
        1,
        "Bytes read from disks.",
    ),
    counter(
        Counter::DiskWritten,
        "container_fs_writes_bytes_total",
        1,
        "Bytes written to disks.",
    ),
    counter(
        Counter::DiskReads,
        "container_fs_reads_total",
        1,
        "How often was read from disks.",
    ),
    counter(
        Counter::DiskWrites,
        "container_fs_writes_total",
        1,
        "How often was written to disks.",
    ),
];

/// What passed through an interface: received and sent, each as bytes, packets, errors, dropped packets.
const NETWORK: [(&str, &str); 4] = [
    ("bytes", "Bytes"),
    ("packets", "Packets"),
    ("errors", "Errors"),
    ("packets_dropped", "Packets that were dropped"),
];

/// The text of one kind of figure.
struct Family {
    help: String,
    kind: &'static str,
    samples: String,
}

/// The figures by name, in the order of their names.
#[derive(Default)]
struct Page {
    families: BTreeMap<String, Family>,
}

impl Page {
    fn add(&mut self, name: &str, help: &str, grows: bool, labels: &str, value: f64) {
        let family = self.families.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind: if grows { "counter" } else { "gauge" },
            samples: String::new(),
        });
        family.samples += &format!("{name}{{{labels}}} {value}\n");
    }

    fn text(&self) -> String {
        let families = self.families.iter().map(|(name, family)| {
            let Family { help, kind, samples } = family;
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}")
        });
        families.collect()
    }
}

/// Returns how the image of a container is called by its pod: as its status says, or as it was asked for.
pub(crate) fn image_of(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref();
    let mut told = status
        .into_iter()
        .flat_map(|status| {
            [
                &status.container_statuses,
                &status.init_container_statuses,
                &status.ephemeral_container_statuses,
            ]
        })
        .flat_map(|list| list.iter().flatten());
    let told = told
        .find(|status| status.name == container)
        .map(|status| status.image.clone());
    let asked = || crate::roles::find(pod.spec.as_ref()?, container)?.1.image.clone();
    told.filter(|image| !image.is_empty()).or_else(asked)
}

/// Measures every pod that runs and writes the page. `pod` finds one by its namespace and name.
pub(crate) async fn page(
    containers: &dyn Containers,
    pod: impl Fn(&str, &str) -> Option<Arc<Pod>>,
    facts: &Facts,
    now: jiff::Timestamp,
) -> Result<String, RuntimeFailure> {
    let mut page = Page::default();
    page.add(
        "machine_cpu_cores",
        "Processors of the machine.",
        false,
        "",
        facts.cpus as f64,
    );
    page.add(
        "machine_memory_bytes",
        "Memory of the machine.",
        false,
        "",
        facts.memory as f64,
    );
    for sandbox in containers.sandboxes().await? {
        if sandbox.pid == 0 {
            continue;
        }
        let images = Images {
            pod: pod(&sandbox.spec.namespace, &sandbox.spec.name),
        };
        match containers.counters(&sandbox.spec.id).await {
            Ok(counters) => {
                let written = written(containers, &sandbox).await;
                add(&mut page, &sandbox, &counters, &images, &written, now);
            }
            // It has just gone, or cannot be reached.
            Err(error) => tracing::debug!(sandbox = sandbox.spec.id, %error, "a pod cannot be measured"),
        }
        // The files of many pods are many: others get their turn in between.
        tokio::task::yield_now().await;
    }
    Ok(page.text())
}

/// The names of images, as the pod that runs them has them.
struct Images {
    pod: Option<Arc<Pod>>,
}

impl Images {
    fn name(&self, state: &ContainerState) -> String {
        let named = self.pod.as_deref().and_then(|pod| image_of(pod, &state.name));
        named.unwrap_or_else(|| state.image.clone())
    }
}

/// Measures the logs and files of a sandbox's containers that run, in bytes by the containers' ids; what cannot be measured is left out.
async fn written(containers: &dyn Containers, sandbox: &SandboxState) -> BTreeMap<String, u64> {
    let running = sandbox.containers.iter().filter(|state| state.exit.is_none());
    let places: Vec<_> = running
        .map(|state| {
            (
                state.id(),
                containers.written(&sandbox.spec.id, &state.name, state.attempt),
            )
        })
        .collect();
    let measure = move || -> BTreeMap<String, u64> {
        let sizes = places.into_iter().filter_map(|(id, paths)| {
            let sizes: io::Result<Vec<u64>> = paths.iter().map(|path| size(path)).collect();
            match sizes {
                Ok(sizes) if !sizes.is_empty() => Some((id, sizes.into_iter().sum())),
                Ok(_) => None,
                Err(error) => {
                    tracing::debug!(container = id, %error, "a container's files cannot be measured");
                    None
                }
            }
        });
        sizes.collect()
    };
    tokio::task::spawn_blocking(measure).await.unwrap_or_else(|error| {
        tracing::debug!(sandbox = sandbox.spec.id, %error, "measuring files broke off");
        BTreeMap::new()
    })
}

fn add(
    page: &mut Page,
    sandbox: &SandboxState,
    counters: &SandboxCounters,
    images: &Images,
    written: &BTreeMap<String, u64>,
    now: jiff::Timestamp,
) {
    let spec = &sandbox.spec;
    let labels = |container: &str, id: &str, image: &str, name: &str| {
        let pairs = [
            ("container", container),
            ("id", id),
            ("image", image),
            ("name", name),
            ("namespace", &spec.namespace),
            ("pod", &spec.name),
        ];
        pairs
            .map(|(label, value)| format!("{label}=\"{}\"", escape(value)))
            .join(",")
    };
    let pod = format!("/kubepods/pod{}", spec.id);
    figures(page, &labels("", &pod, "", ""), &counters.total);
    for (id, counted) in &counters.containers {
        let Some(state) = sandbox.containers.iter().find(|state| state.id() == *id) else {
            continue;
        };
        let name = format!("{}/{id}", spec.id);
        let labels = labels(&state.name, &format!("{pod}/{id}"), &images.name(state), &name);
        figures(page, &labels, counted);
        if let Some(bytes) = written.get(id) {
            let help = "What its files and its log take of the disk.";
            page.add("container_fs_usage_bytes", help, false, &labels, *bytes as f64);
        }
        let seconds = |at: jiff::Timestamp| at.as_second() as f64;
        page.add(
            "container_start_time_seconds",
            "When it started.",
            false,
            &labels,
            seconds(state.started_at),
        );
        page.add(
            "container_last_seen",
            "When it was measured.",
            false,
            &labels,
            seconds(now),
        );
    }
    for interface in &counters.interfaces {
        let labels = format!(
            "{},interface=\"{}\"",
            labels("POD", &pod, "", &spec.id),
            escape(&interface.name)
        );
        for (direction, values) in [("receive", interface.received), ("transmit", interface.sent)] {
            for ((what, help), value) in NETWORK.iter().zip(values) {
                let name = format!("container_network_{direction}_{what}_total");
                let way = if direction == "receive" { "received" } else { "sent" };
                page.add(&name, &format!("{help} that were {way}."), true, &labels, value as f64);
            }
        }
    }
}

fn figures(page: &mut Page, labels: &str, counted: &[(Counter, u64)]) {
    let value = |wanted: Counter| {
        counted
            .iter()
            .find(|(counter, _)| *counter == wanted)
            .map(|(_, value)| *value)
    };
    for row in ROWS {
        let Some(value) = value(row.counter) else { continue };
        // cAdvisor tells the time of all processors together, and says so.
        let labels = match row.counter {
            Counter::CpuUsage => format!("{labels},cpu=\"total\""),
            _ => labels.to_owned(),
        };
        page.add(
            row.name,
            row.help,
            row.grows,
            &labels,
            value as f64 / row.divided_by as f64,
        );
    }
    if let Some(usage) = value(Counter::MemoryUsage) {
        let working = usage.saturating_sub(value(Counter::MemoryInactiveFile).unwrap_or(0));
        let help = "Memory without caches that can go.";
        page.add(
            "container_memory_working_set_bytes",
            help,
            false,
            labels,
            working as f64,
        );
    }
    for (counter, kind) in [
        (Counter::PageFaults, "pgfault"),
        (Counter::MajorPageFaults, "pgmajfault"),
    ] {
        if let Some(value) = value(counter) {
            let labels = format!("{labels},failure_type=\"{kind}\",scope=\"hierarchy\"");
            page.add(
                "container_memory_failures_total",
                "Page faults.",
                true,
                &labels,
                value as f64,
            );
        }
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use setpoint_runtime::InterfaceCounters;
    use setpoint_runtime::spec::SandboxSpec;

    use super::*;

    fn sandbox() -> SandboxState {
        SandboxState {
            spec: SandboxSpec {
                id: "u1".to_owned(),
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                ..SandboxSpec::default()
            },
            pid: 1,
            containers: vec![ContainerState {
                mounted: Vec::new(),
                name: "app".to_owned(),
                attempt: 2,
                image: "sha256:0".to_owned(),
                pid: 2,
                started_at: jiff::Timestamp::from_second(100).expect("a time"),
                exit: None,
            }],
        }
    }

    #[test]
    fn figures_carry_the_names_and_labels_that_dashboards_ask_for() {
        let counted = vec![
            (Counter::CpuUsage, 1_500_000_000),
            (Counter::MemoryUsage, 10),
            (Counter::MemoryInactiveFile, 4),
            (Counter::PageFaults, 3),
            (Counter::CpuShares, 256),
            (Counter::DiskReads, 11),
            (Counter::DiskWrites, 12),
        ];
        let counters = SandboxCounters {
            total: counted.clone(),
            containers: vec![("app-2".to_owned(), counted)],
            interfaces: vec![InterfaceCounters {
                name: "eth0".to_owned(),
                received: [1, 2, 3, 4],
                sent: [5, 6, 7, 8],
            }],
        };
        let mut page = Page::default();
        let pod = serde_json::json!({"metadata": {}, "spec": {"containers": [{"name": "app", "image": "shop/web:1"}]}});
        let images = Images {
            pod: Some(serde_json::from_value(pod).expect("a pod")),
        };
        add(
            &mut page,
            &sandbox(),
            &counters,
            &images,
            &BTreeMap::from([("app-2".to_owned(), 4096)]),
            jiff::Timestamp::from_second(200).expect("a time"),
        );
        let text = page.text();
        let container = "container=\"app\",id=\"/kubepods/podu1/app-2\",image=\"shop/web:1\",name=\"u1/app-2\",namespace=\"shop\",pod=\"web\"";
        for line in [
            format!("container_cpu_usage_seconds_total{{{container},cpu=\"total\"}} 1.5"),
            format!("container_memory_working_set_bytes{{{container}}} 6"),
            format!("container_memory_failures_total{{{container},failure_type=\"pgfault\",scope=\"hierarchy\"}} 3"),
            format!("container_start_time_seconds{{{container}}} 100"),
            format!("container_fs_usage_bytes{{{container}}} 4096"),
            format!("container_fs_reads_total{{{container}}} 11"),
            format!("container_fs_writes_total{{{container}}} 12"),
            format!("container_spec_cpu_shares{{{container}}} 256"),
            "container_memory_usage_bytes{container=\"\",id=\"/kubepods/podu1\",image=\"\",name=\"\",namespace=\"shop\",pod=\"web\"} 10".to_owned(),
            "container_network_transmit_packets_dropped_total{container=\"POD\",id=\"/kubepods/podu1\",image=\"\",name=\"u1\",namespace=\"shop\",pod=\"web\",interface=\"eth0\"} 8".to_owned(),
            "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
            "# TYPE container_memory_working_set_bytes gauge".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        // Each kind of figure is described once, and its samples stand together.
        assert_eq!(text.matches("# TYPE container_memory_usage_bytes ").count(), 1);
    }
}
