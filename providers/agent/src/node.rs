//! The Node object: what this machine has and how it is. `keep` keeps it so, and says that the machine lives.

pub(crate) mod images;
mod keep;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use setpoint_net::AddressPair;

use crate::resize::Capacity;
use crate::settings::{Reserved, Settings};
use crate::sources::REQUEST_LIMIT;
use crate::status;

pub use keep::keep;

/// The version of Kubernetes whose behaviour the node shows.
pub const KUBELET_VERSION: &str = "v1.37.0";
/// What a machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Processors.
    pub cpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// The size of the data directory's file system in bytes.
    pub storage: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The operating system's name for people.
    pub os_image: String,
    /// The machine's id.
    pub machine_id: String,
    /// The id of this boot.
    pub boot_id: String,
    /// The firmware's id of the machine.
    pub system_uuid: String,
}

/// How a machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Too little memory is available.
    pub memory: bool,
    /// Too little disk space is left.
    pub disk: bool,
    /// Too few process ids are left.
    pub pids: bool,
}

fn text(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn meminfo(info: &str, name: &str) -> Option<u64> {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

impl Facts {
    /// Reads what this machine has. What cannot be read is left empty.
    pub fn read(data_dir: &Path) -> Self {
        let os = text("/etc/os-release");
        let name = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let disk = rustix::fs::statvfs(data_dir).ok();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory: meminfo(&text("/proc/meminfo"), "MemTotal").unwrap_or(0),
            storage: disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: name.unwrap_or("Linux").trim_matches('"').to_owned(),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
        }
    }
}

/// The disk is under pressure when less than one part in so many of it is free.
pub const DISK_PRESSURE: u64 = 20;

impl Pressure {
    /// Reads how this machine is.
    pub fn read(data_dir: &Path) -> Self {
        let available = meminfo(&text("/proc/meminfo"), "MemAvailable");
        let full = rustix::fs::statvfs(data_dir)
            .is_ok_and(|disk| disk.f_blocks > 0 && disk.f_bavail.saturating_mul(DISK_PRESSURE) < disk.f_blocks);
        let load = text("/proc/loadavg");
        let tasks: Option<u64> = load
            .split_whitespace()
            .nth(3)
            .and_then(|pair| pair.split('/').nth(1))
            .and_then(|count| count.parse().ok());
        let most: Option<u64> = text("/proc/sys/kernel/pid_max").parse().ok();
        Self {
            memory: available.is_some_and(|bytes| bytes < 100 << 20),
            disk: full,
            pids: tasks
                .zip(most)
                .is_some_and(|(tasks, most)| tasks.saturating_mul(10) > most.saturating_mul(9)),
        }
    }
}

/// What the Node object says about this agent.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's name.
    pub name: String,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// The addresses that others reach it by.
    pub addresses: AddressPair,
    /// The pods' ranges, that of IPv4 first.
    pub pod_cidrs: Vec<String>,
    /// The agent's version.
    pub version: String,
    /// How many pods the node takes, and what it keeps from them.
    pub settings: Settings,
    /// The folder that volumes of this node lie in.
    pub volumes_dir: PathBuf,
}

/// Where the Node says which folder its volumes lie in: who makes volumes reads it there.
const VOLUMES_DIR: &str = "setpoint.dev/volumes-dir";

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns the labels and spec of the Node.
fn object(identity: &Identity) -> Value {
    let mut labels = identity.labels.clone();
    for (name, value) in [
        ("kubernetes.io/hostname", identity.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
    ] {
        labels.insert(name.to_owned(), value.to_owned());
        if let Some(rest) = name.strip_prefix("kubernetes.io/").filter(|rest| *rest != "hostname") {
            labels.insert(format!("beta.kubernetes.io/{rest}"), value.to_owned());
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": identity.name, "labels": labels, "annotations": {VOLUMES_DIR: identity.volumes_dir}},
        "spec": {"podCIDR": identity.pod_cidrs.first(), "podCIDRs": identity.pod_cidrs},
    })
}

/// Returns what a machine has for pods.
pub fn for_pods(facts: &Facts, reserved: &Reserved) -> Capacity {
    let (cpu, memory, _) = reserved.of(facts.cpus * 1000, facts.memory, facts.storage);
    Capacity {
        cpu_millis: i128::from(facts.cpus * 1000 - cpu),
        // As the Node says it.
        memory: i128::from((facts.memory - memory) / 1024 * 1024),
    }
}

/// Returns what a machine has of its disk for pods, in bytes.
pub fn storage_for_pods(facts: &Facts, reserved: &Reserved) -> u64 {
    let (_, _, storage) = reserved.of(facts.cpus * 1000, facts.memory, facts.storage);
    facts.storage - storage
}

/// Returns the Node's status; transition times are kept from `old` where nothing changed.
pub fn status(identity: &Identity, facts: &Facts, pressure: Pressure, old: Option<&Value>, now: Timestamp) -> Value {
    let pods = identity.settings.pods.max.to_string();
    let (cpu, memory, storage) = identity
        .settings
        .reserved
        .of(facts.cpus * 1000, facts.memory, facts.storage);
    let left = match facts.cpus * 1000 - cpu {
        millis if millis % 1000 == 0 => (millis / 1000).to_string(),
        millis => format!("{millis}m"),
    };
    let time = json!(status::whole_seconds(now));
    let internal = identity.addresses.all();
    let mut addresses: Vec<Value> = internal
        .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": identity.name}));
    let condition = |kind: &str, on: bool, good: (&str, &str), bad: (&str, &str)| {
        let value = if on { "True" } else { "False" };
        let (reason, message) = if on == (kind == "Ready") { good } else { bad };
        let before = old.and_then(|old| {
            old["conditions"]
                .as_array()?
                .iter()
                .find(|condition| condition["type"] == kind)
        });
        let since = before
            .filter(|condition| condition["status"] == value)
            .map(|condition| condition["lastTransitionTime"].clone());
        json!({
            "type": kind, "status": value, "reason": reason, "message": message,
            "lastHeartbeatTime": time, "lastTransitionTime": since.unwrap_or_else(|| time.clone()),
        })
    };
    json!({
        "capacity": {
            "cpu": facts.cpus.to_string(),
            "memory": format!("{}Ki", facts.memory / 1024),
            "ephemeral-storage": format!("{}Ki", facts.storage / 1024),
            "pods": pods,
        },
        // As the kubelet has it: disk space in bytes here.
        "allocatable": {
            "cpu": left,
            "memory": format!("{}Ki", (facts.memory - memory) / 1024),
            "ephemeral-storage": (facts.storage - storage).to_string(),
            "pods": pods,
        },
        "addresses": addresses,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
        "nodeInfo": {
            "architecture": architecture(),
            "bootID": facts.boot_id,
            "containerRuntimeVersion": format!("setpoint://{}", identity.version),
            "kernelVersion": facts.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": KUBELET_VERSION,
            "machineID": facts.machine_id,
            "operatingSystem": "linux",
            "osImage": facts.os_image,
            "systemUUID": facts.system_uuid,
        },
        "conditions": [
            condition("MemoryPressure", pressure.memory,
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available")),
            condition("DiskPressure", pressure.disk,
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                ("KubeletHasDiskPressure", "kubelet has disk pressure")),
            condition("PIDPressure", pressure.pids,
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available")),
            condition("Ready", true, ("KubeletReady", "kubelet is posting ready status"), ("KubeletNotReady", "kubelet is not ready")),
        ],
    })
}

/// Whether a Node's status says what was written of it; times may differ, and others may have added to it.
fn says(found: &Value, written: &Value) -> bool {
    match (found, written) {
        (Value::Object(found), Value::Object(written)) => written
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "lastHeartbeatTime" | "lastTransitionTime"))
            // What is empty is left out of what is read.
            .all(|(name, value)| found.get(name).map_or(*value == json!(""), |found| says(found, value))),
        (Value::Array(found), Value::Array(written)) => {
            written.iter().all(|value| found.iter().any(|found| says(found, value)))
        }
        (found, written) => found == written,
    }
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(result) => result,
        Err(_) => Err(kube::Error::Service("the API gave no answer in time".into())),
    }
}

/// Creates the Node or brings it up to date; returns its status as written and its UID.
pub async fn register(
    client: &Client,
    identity: &Identity,
    facts: &Facts,
    pressure: Pressure,
    now: Timestamp,
) -> Result<(Value, String), kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let wanted = object(identity);
    let existing = within(api.get_opt(&identity.name)).await?;
    let node = match existing {
        Some(_) => within(api.patch(&identity.name, &PatchParams::default(), &Patch::Merge(&wanted))).await?,
        None => {
            let node: Node = serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
            within(api.create(&PostParams::default(), &node)).await?
        }
    };
    let old = serde_json::to_value(&node.status).map_err(kube::Error::SerdeError)?;
    let status = status(identity, facts, pressure, Some(&old), now);
    write_status(&api, &identity.name, &status).await?;
    Ok((status, node.metadata.uid.unwrap_or_default()))
}

async fn write_status(api: &Api<Node>, name: &str, status: &Value) -> Result<(), kube::Error> {
    let mut status = status.clone();
    // Addresses are told apart by their type, of which a node with two families has one twice: they are put in place of what is there.
    if let Some(addresses) = status["addresses"].as_array_mut() {
        addresses.push(json!({"$patch": "replace"}));
    }
    let patch = json!({"status": status});
    within(api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "one".to_owned(),
            labels: BTreeMap::from([("rack".to_owned(), "7".to_owned())]),
            addresses: AddressPair {
                ipv4: [192, 0, 2, 1].into(),
                ipv6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()),
            },
            pod_cidrs: vec!["10.42.0.0/24".to_owned(), "fd00:0:1:42::/64".to_owned()],
            version: "0.1.0".to_owned(),
            settings: Settings::default(),
            volumes_dir: "/data/volumes".into(),
        }
    }

    #[test]
    fn the_node_carries_the_well_known_labels_and_its_own() {
        let node = object(&identity());
        for (label, value) in [
            ("kubernetes.io/hostname", "one"),
            ("kubernetes.io/os", "linux"),
            ("rack", "7"),
        ] {
            assert_eq!(node["metadata"]["labels"][label], value);
        }
        assert_eq!(node["metadata"]["annotations"][VOLUMES_DIR], "/data/volumes");
        serde_json::from_value::<Node>(node).expect("a valid Node");
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let facts = Facts {
            cpus: 2,
            memory: 4 << 30,
            ..Facts::default()
        };
        let first = status(
            &identity(),
            &facts,
            Pressure::default(),
            None,
            Timestamp::from_second(100).expect("a time"),
        );
        let later = Timestamp::from_second(200).expect("a time");
        let same = status(&identity(), &facts, Pressure::default(), Some(&first), later);
        assert_eq!(
            same["conditions"][1]["lastTransitionTime"],
            first["conditions"][1]["lastTransitionTime"]
        );
        assert_eq!(same["conditions"][3]["reason"], "KubeletReady");
        let full = status(
            &identity(),
            &facts,
            Pressure {
                disk: true,
                ..Pressure::default()
            },
            Some(&first),
            later,
        );
        assert_eq!(full["conditions"][1]["status"], "True");
        assert_eq!(full["conditions"][1]["reason"], "KubeletHasDiskPressure");
        assert_ne!(
            full["conditions"][1]["lastTransitionTime"],
            first["conditions"][1]["lastTransitionTime"]
        );
        assert_eq!(full["capacity"]["memory"], "4194304Ki");
        assert_eq!(full["allocatable"]["cpu"], "1940m");
        assert_eq!(full["allocatable"]["memory"], "3882188Ki");
        // What containers without a limit are told they have.
        let reserved = Reserved::default();
        let disk = Facts {
            storage: 1000,
            ..facts.clone()
        };
        assert_eq!(storage_for_pods(&disk, &reserved), 900);
        let capacity = for_pods(&facts, &reserved);
        assert_eq!((capacity.cpu_millis, capacity.memory), (1940, 3_882_188 << 10));
    }

    #[test]
    fn a_status_that_was_changed_in_what_we_say_no_longer_says_it() {
        let time = |second| Timestamp::from_second(second).expect("a time");
        let facts = Facts {
            cpus: 2,
            ..Facts::default()
        };
        let written = status(&identity(), &facts, Pressure::default(), None, time(100));
        // As it is read: through the type, with what others added, and later.
        let typed: k8s_openapi::api::core::v1::NodeStatus =
            serde_json::from_value(status(&identity(), &facts, Pressure::default(), None, time(200)))
                .expect("a status");
        let mut found = serde_json::to_value(typed).expect("a value");
        found["capacity"]["example.com/dongle"] = json!("1");
        found["conditions"]
            .as_array_mut()
            .expect("conditions")
            .insert(0, json!({"type": "Other", "status": "True"}));
        assert!(says(&found, &written), "{found}");
        for (path, value) in [
            ("/conditions/4/status", json!("Unknown")),
            ("/conditions/4/reason", json!("NodeStatusUnknown")),
            ("/conditions/1/type", json!("Gone")),
            ("/capacity/cpu", json!("64")),
            ("/addresses", json!([])),
            ("/nodeInfo", Value::Null),
        ] {
            let mut changed = found.clone();
            *changed.pointer_mut(path).expect("a field") = value;
            assert!(!says(&changed, &written), "{path}");
        }
        assert!(!says(&Value::Null, &written));
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let facts = Facts::read(Path::new("/"));
        assert!(facts.cpus > 0 && facts.memory > 0 && facts.storage > 0, "{facts:?}");
        assert!(!facts.kernel.is_empty());
    }
}
