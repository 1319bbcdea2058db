//! What the runtime is asked for and what it tells: plain data, serializable, independent of Kubernetes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use setpoint_net::AddressPair;

/// Limits of a cgroup. `None` means "not limited".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative CPU weight in cgroup v1 shares (2–262144); v2's weight is derived from it.
    pub cpu_shares: Option<u64>,
    /// CPU time in microseconds that may be used per `cpu_period`.
    pub cpu_quota: Option<i64>,
    /// The CPU period in microseconds (default 100000).
    pub cpu_period: Option<u64>,
    /// Memory in bytes.
    pub memory_limit: Option<u64>,
    /// Number of processes.
    pub pids_limit: Option<u64>,
}

/// A pod's shared part: its namespaces, address and cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Unique id; the agent uses the pod's UID.
    pub id: String,
    /// The pod's namespace and name, for log paths and messages.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The host name inside the sandbox (at most 64 characters); empty keeps the host's own.
    pub hostname: String,
    /// The pod's address; `None` keeps the host's network.
    pub ip: Option<Ipv4Addr>,
    /// Its second address, where the node has IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Whether the host's PID namespace is kept.
    pub host_pid: bool,
    /// Whether the host's IPC namespace is kept.
    pub host_ipc: bool,
    /// Whether the containers share one PID namespace.
    pub share_process_namespace: bool,
    /// Namespaced kernel parameters to set.
    pub sysctls: BTreeMap<String, String>,
    /// The pod-level cgroup limits.
    pub resources: Resources,
    /// Whatever the caller wants back with the sandbox when it is adopted after a restart.
    pub labels: BTreeMap<String, String>,
}

impl SandboxSpec {
    /// Returns the pod's addresses; `None` on the host's network.
    pub fn addresses(&self) -> Option<AddressPair> {
        let ipv4 = self.ip?;
        Some(AddressPair { ipv4, ipv6: self.ipv6 })
    }
}

/// Where a mount's content comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// The host path; it must exist.
        path: PathBuf,
    },
    /// A fresh tmpfs for this container.
    Tmpfs {
        /// Its size in bytes; `None` is the kernel's default.
        size: Option<u64>,
    },
    /// A file or directory of the host of which more is to be said. What a [`MountSource::Bind`] can say is said by one: sandboxes that an earlier
    /// version began know no other.
    Volume {
        /// The host path; it must exist.
        path: PathBuf,
        /// A directory above the path that others write to: the path is looked up below it, and no link leads out.
        beneath: Option<PathBuf>,
        /// Whether what is mounted below the path later is seen on the other side.
        propagation: Propagation,
        /// Whether read-only holds for what is mounted below the path as well.
        recursive: bool,
    },
    /// The files of an image, read-only, and no programs to be run from there.
    Image {
        /// The image's id (`sha256:…`) in the image store.
        image: String,
        /// The image's layers, bottom first; filled in when the container is started.
        layers: Vec<PathBuf>,
        /// The directory or file of the image that is mounted, relative; `None` is the whole.
        sub_path: Option<PathBuf>,
    },
}

/// Which way later mounts below a volume travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    None,
    /// The container sees what the host mounts.
    HostToContainer,
    /// The host sees what the container mounts, too.
    Bidirectional,
}

/// One mount inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The absolute path inside the container; created when missing.
    pub target: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// The seccomp profile of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The runtime's own deny list (as containerd's default profile).
    #[default]
    RuntimeDefault,
    /// No filter.
    Unconfined,
    /// A profile in Docker's or OCI's format, as text.
    Profile(String),
}

/// What a container may do. The default is the safest that ordinary images run with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Numeric user, over the image's own.
    pub run_as_user: Option<u32>,
    /// Numeric group, over the image's own.
    pub run_as_group: Option<u32>,
    /// Refuse to start as user 0.
    pub run_as_non_root: bool,
    /// Further groups (supplementalGroups and fsGroup).
    pub supplemental_groups: Vec<u32>,
    /// Whether the groups that the image's /etc/group gives its user are left out.
    #[serde(default)]
    pub strict_groups: bool,
    /// All capabilities, devices, no seccomp, no masked paths.
    pub privileged: bool,
    /// Capabilities to add to the default set, without `CAP_`; `ALL` means all.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop from the default set; `ALL` means all.
    pub drop_capabilities: Vec<String>,
    /// Whether setuid programs may gain privileges (no_new_privs off).
    pub allow_privilege_escalation: bool,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// The seccomp profile.
    pub seccomp: Seccomp,
    /// Leave /proc unmasked.
    pub unmasked_proc: bool,
}

/// One attempt to run a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name within its pod.
    pub name: String,
    /// How often it was started before (0 for the first).
    pub attempt: u32,
    /// The image's id (its config digest, `sha256:…`) in the image store.
    pub image: String,
    /// Overrides the image's entrypoint (`command` of a pod), already expanded.
    pub command: Option<Vec<String>>,
    /// Overrides the image's arguments, already expanded.
    pub args: Option<Vec<String>>,
    /// Variables, over the image's own.
    pub env: Vec<(String, String)>,
    /// Overrides the signal by which the image wants to be stopped, e.g. `SIGUSR1`.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Overrides the image's working directory.
    pub working_dir: Option<String>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Privileges.
    pub security: Security,
    /// Limits.
    pub resources: Resources,
    /// Adjustment of the out-of-memory killer (-1000–1000).
    pub oom_score_adj: i32,
    /// Whether standard input is kept open.
    pub stdin: bool,
    /// Whether standard input ends with the first client that attached to it.
    #[serde(default)]
    pub stdin_once: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// The attempt (`NAME-ATTEMPT`) whose processes it sees, for looking into that one; it must run.
    #[serde(default)]
    pub target: Option<String>,
    /// How large its log gets.
    #[serde(default)]
    pub log: LogLimits,
}

/// How large the log of an attempt gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// The size in bytes from which on the file that is written is put aside.
    pub size: u64,
    /// How many files there are at most, the one that is written included; less than 2 counts as 2.
    pub files: u32,
}

impl Default for LogLimits {
    /// As Kubernetes has it.
    fn default() -> Self {
        Self {
            size: 10 << 20,
            files: 5,
        }
    }
}

impl ContainerSpec {
    /// Returns the ids of all images that the container needs: the one that it runs, and those that it mounts.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let mounted = self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image { image, .. } => Some(image.as_str()),
            _ => None,
        });
        std::iter::once(self.image.as_str()).chain(mounted)
    }
}

/// How a container's first process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// When it ended.
    pub finished_at: jiff::Timestamp,
}

/// The state of one attempt of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// The container's name within its pod.
    pub name: String,
    /// The attempt.
    pub attempt: u32,
    /// The image's id.
    pub image: String,
    /// The ids of the images that it has mounted besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted: Vec<String>,
    /// The process on the host.
    pub pid: i32,
    /// When it started.
    pub started_at: jiff::Timestamp,
    /// How it ended; `None` while it runs.
    pub exit: Option<Exit>,
}

impl ContainerState {
    /// Returns the ids of all images whose layers it holds.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.image).chain(&self.mounted).map(String::as_str)
    }

    /// Returns the id of this attempt within its sandbox: `NAME-ATTEMPT`.
    pub fn id(&self) -> String {
        format!("{}-{}", self.name, self.attempt)
    }

    /// Returns it as ended by SIGKILL at `finished_at`, unless it had ended before: what became of it when its shim went.
    pub fn killed(self, finished_at: jiff::Timestamp) -> Self {
        let exit = self.exit.unwrap_or(Exit {
            code: 137,
            signal: Some(9),
            oom_killed: false,
            finished_at,
        });
        Self {
            exit: Some(exit),
            ..self
        }
    }
}

/// A sandbox and its containers as the shim knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// What was asked for.
    pub spec: SandboxSpec,
    /// The shim's process on the host; its namespaces are the sandbox's. 0 when the sandbox is closed.
    pub pid: i32,
    /// Every attempt that was not removed, oldest first.
    pub containers: Vec<ContainerState>,
}

/// What happens without being asked for. Carries names only to wake who is interested; read the state again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A container's first process ended.
    ContainerExited {
        /// The sandbox's id.
        sandbox: String,
        /// The attempt's final state (`exit` is set).
        container: ContainerState,
    },
    /// The shim is gone, and with it every container of the sandbox.
    SandboxDied {
        /// The sandbox's id.
        sandbox: String,
    },
}

/// A process to run inside a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether standard input is connected.
    pub stdin: bool,
}
