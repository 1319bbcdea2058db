//! The agent as a whole: its configuration, its tasks, its end.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use setpoint_net::{AddressPair, Net, Ranges};
use setpoint_runtime::Runtime;
use setpoint_runtime::images::ImageStore;
use setpoint_runtime::spec::{ContainerState, ExecSpec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::allocations::Allocations;
use crate::cadvisor;
use crate::containers::{Containers, RuntimeFailure};
use crate::events::Recorder;
use crate::host::Host;
use crate::host_ports::HostPorts;
use crate::http_client;
use crate::metrics::Metrics;
use crate::network::Network;
use crate::node::{self, Facts, Identity, Pressure};
use crate::pods::Pods;
use crate::settings::Settings;
use crate::sources;
use crate::static_pods::{self, Complaints, Keep};
use crate::streams::{
    self, AttachRequest, Duplex, ExecRequest, ExecStreams, LogRequest, LogStream, PodAddress, StreamError,
};
use crate::usage::{NodeUsage, Sampler};
use crate::volumes::{Places, folders};
use crate::worker::{Drain, Shared};

/// The clock, handed in.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// What an agent needs.
#[derive(Clone)]
pub struct AgentConfig {
    /// The node's name.
    pub node_name: String,
    /// The instance's data directory; the agent keeps `pods/` and mounts `volatile/` below it.
    pub data_dir: PathBuf,
    /// The cluster, as the user `system:node:NAME` in the group `system:nodes`, or as somebody who may do more.
    pub client: kube::Client,
    /// What runs containers.
    pub runtime: Arc<Runtime>,
    /// The images.
    pub images: Arc<ImageStore>,
    /// The host's network; `None` runs every pod without addresses of its own.
    pub net: Option<Arc<Net>>,
    /// The instance's address ranges.
    pub ranges: Ranges,
    /// The addresses that other machines reach this one by.
    pub node_ip: AddressPair,
    /// Further labels of the Node.
    pub node_labels: BTreeMap<String, String>,
    /// The version to report, e.g. `0.1.0`.
    pub version: String,
    /// The cluster's DNS domain, `cluster.local`.
    pub cluster_domain: String,
    /// What the node is told beside what the API says.
    pub settings: Settings,
    /// The clock.
    pub now: Now,
    /// Where the agent's metrics are registered.
    pub metrics: prometheus::Registry,
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A directory or mount of the agent could not be made.
    #[error("cannot prepare {path}", path = path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The Node object could not be written.
    #[error("cannot register node {node}")]
    Register {
        /// The node's name.
        node: String,
        /// The API's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The metrics could not be registered.
    #[error("cannot register the agent's metrics")]
    Metrics {
        /// The cause.
        #[source]
        source: prometheus::Error,
    },
    /// Services or DNS could not be started.
    #[error("cannot start {what}")]
    Network {
        /// Which of them.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the runtime still runs could not be read.
    #[error("cannot list the running sandboxes")]
    Runtime {
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A running node agent. Cheap to clone.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    pods: Pods,
    containers: Arc<dyn Containers>,
    node_ip: AddressPair,
    usage: Sampler,
    facts: Facts,
    now: Now,
    network: Option<Arc<Network>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The folder of static pods in the data directory.
pub const STATIC_PODS: &str = "static-pods";

/// How long starting a process may take.
const EXEC_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection into a pod may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long the agent's tasks get to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

impl Agent {
    /// Registers the node, adopts what runs, and starts to keep its pods.
    pub async fn start(config: AgentConfig) -> Result<Agent, AgentError> {
        let places = Places::new(&config.data_dir);
        prepare_directories(&places, &config.data_dir.join(STATIC_PODS))?;
        let metrics = Metrics::new(&config.metrics).map_err(|source| AgentError::Metrics { source })?;
        let containers: Arc<dyn Containers> = Arc::new(Host::new(config.runtime.clone(), config.images.clone()));
        let adopted = containers.sandboxes().await.map_err(|error| AgentError::Runtime {
            source: Box::new(error),
        })?;
        let taken = adopted.iter().filter_map(|sandbox| sandbox.spec.ip);
        let addresses = config
            .net
            .as_ref()
            .map(|_| Arc::new(Addresses::new(config.ranges.clone(), taken)));
        let facts = Facts::read(&config.data_dir);
        let identity = Identity {
            name: config.node_name.clone(),
            labels: config.node_labels.clone(),
            addresses: config.node_ip,
            pod_cidrs: config
                .ranges
                .subnets()
                .iter()
                .map(|subnets| subnets.pods.to_string())
                .collect(),
            version: config.version.clone(),
            settings: config.settings.clone(),
            volumes_dir: places.volumes().to_owned(),
        };
        let pressure = Pressure::read(&config.data_dir);
        let registered = node::register(&config.client, &identity, &facts, pressure, (config.now)())
            .await
            .map_err(|source| AgentError::Register {
                node: config.node_name.clone(),
                source: Box::new(source),
            })?;
        let host_ports = Arc::new(HostPorts::default());
        let network = match &config.net {
            Some(net) => Some(Arc::new(Network::start(&config, net.clone(), &host_ports).await?)),
            None => None,
        };
        let capacity = node::for_pods(&facts, &config.settings.reserved);
        let storage = node::storage_for_pods(&facts, &config.settings.reserved);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            node_name: config.node_name.clone(),
            node_ip: config.node_ip,
            facts: facts.clone(),
            places,
            dns: config.ranges.gateway(),
            cluster_domain: config.cluster_domain.clone(),
            pods: config.settings.pods.clone(),
            seccomp: config.data_dir.join("seccomp"),
            client: config.client.clone(),
            containers: containers.clone(),
            addresses,
            host_ports,
            allocations: Arc::new(Allocations::new(capacity).with_storage(storage)),
            changes: sources::Changes::new(Some(config.client.clone()), stop.clone()),
            events: Recorder::start(
                config.client.clone(),
                config.node_name.clone(),
                config.now.clone(),
                stop.clone(),
            ),
            metrics,
            drain: network.clone().map(|network| network as Arc<dyn Drain>),
            now: config.now.clone(),
        });
        let pods = Pods::new(shared, tasks.clone(), stop.clone());
        let statics = Keep {
            folder: config.data_dir.join(STATIC_PODS),
            node: config.node_name.clone(),
            client: config.client.clone(),
            pods: pods.clone(),
            stop: stop.clone(),
        };
        // Before what runs is looked at: some of it may be theirs.
        let mut said = Complaints::default();
        statics.read(&mut said);
        tasks.spawn(static_pods::keep(statics, said));
        tasks.spawn(pods.clone().follow(config.node_name.clone(), adopted));
        tasks.spawn(folders::keep(
            config.client.clone(),
            Places::new(&config.data_dir),
            config.node_name.clone(),
            stop.clone(),
        ));
        tasks.spawn(node::images::keep(
            config.client.clone(),
            config.node_name.clone(),
            config.images.clone(),
            stop.clone(),
        ));
        tasks.spawn(node::keep(
            config.client,
            identity,
            config.data_dir,
            registered,
            config.now.clone(),
            stop.clone(),
        ));
        Ok(Agent {
            inner: Arc::new(Inner {
                pods,
                usage: Sampler::new(containers.clone(), config.now.clone()),
                facts,
                now: config.now,
                containers,
                node_ip: config.node_ip,
                network,
                tasks,
                stop,
            }),
        })
    }

    /// Streams a container's log.
    ///
    /// # Errors
    /// In Kubernetes' words: an unknown or ambiguous container, one that has not started, no previous attempt.
    pub async fn logs(&self, namespace: &str, pod: &str, request: LogRequest) -> Result<LogStream, StreamError> {
        let (pod, container) = self.container(namespace, pod, request.container.as_deref())?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let attempts = self.attempts(&uid, &container).await?;
        let attempt = streams::pick_attempt(&pod, &container, &attempts, request.previous)?;
        let failed = |error: RuntimeFailure| StreamError::Failed {
            operation: format!("read the log of container {container}"),
            source: Box::new(error),
        };
        self.inner
            .containers
            .logs(&uid, &container, attempt, request)
            .await
            .map_err(failed)
    }

    /// Starts a process in a container.
    ///
    /// # Errors
    /// As for [`Agent::logs`]; a container that does not run is a bad request.
    pub async fn exec(&self, namespace: &str, pod: &str, request: ExecRequest) -> Result<ExecStreams, StreamError> {
        let (uid, container, id) = self.running(namespace, pod, request.container.as_deref()).await?;
        let spec = ExecSpec {
            command: request.command,
            tty: request.tty,
            stdin: request.stdin,
        };
        let failed = |error: RuntimeFailure| StreamError::Failed {
            operation: format!("start a process in container {container}"),
            source: Box::new(error),
        };
        let exec = self.inner.containers.exec(&uid, &id, spec);
        match tokio::time::timeout(EXEC_LIMIT, exec).await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(RuntimeFailure::new(format!(
                "no answer within {} s",
                EXEC_LIMIT.as_secs()
            )))),
        }
    }

    /// Connects to the streams of a container's own process. What its exit resolves to says only that it is over.
    ///
    /// # Errors
    /// As for [`Agent::exec`].
    pub async fn attach(&self, namespace: &str, pod: &str, request: AttachRequest) -> Result<ExecStreams, StreamError> {
        let (uid, container, id) = self.running(namespace, pod, request.container.as_deref()).await?;
        let failed = |error: RuntimeFailure| StreamError::Failed {
            operation: format!("attach to container {container}"),
            source: Box::new(error),
        };
        let attach = self.inner.containers.attach(&uid, &id, request.stdin);
        let streams = match tokio::time::timeout(EXEC_LIMIT, attach).await {
            Ok(Ok(streams)) => streams,
            Ok(Err(error)) => {
                // It may have ended in between, which is no failure.
                self.running(namespace, pod, Some(&container)).await?;
                return Err(failed(error));
            }
            Err(_) => {
                let late = format!("no answer within {} s", EXEC_LIMIT.as_secs());
                return Err(failed(RuntimeFailure::new(late)));
            }
        };
        let exit = streams.exit;
        Ok(ExecStreams {
            stdin: streams.stdin,
            stdout: streams.stdout.filter(|_| request.stdout),
            stderr: streams.stderr.filter(|_| request.stderr),
            resize: streams.resize,
            exit: Box::pin(async move {
                // How the container ended is told by its status; a sandbox that goes is an end, too.
                drop(exit.await);
                Ok(0)
            }),
        })
    }

    /// Opens a TCP connection to a port of a pod.
    ///
    /// # Errors
    /// A pod that is not known here is not found, one of which nothing runs is a bad request; the cause of any other failure is
    /// told in the words of Go's `net` package.
    pub async fn connect(
        &self,
        namespace: &str,
        pod: &str,
        address: PodAddress,
        port: u16,
    ) -> Result<Box<dyn Duplex>, StreamError> {
        let found = self.pod(namespace, pod)?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StreamError::Failed {
            operation: format!("connect to port {port} of pod {pod}"),
            source,
        };
        let uid = found.metadata.uid.clone().unwrap_or_default();
        let sandbox = self.inner.containers.sandbox(&uid).await;
        let sandbox = sandbox
            .map_err(|error| failed(error.into()))?
            .filter(|sandbox| sandbox.pid != 0)
            .ok_or_else(|| StreamError::BadRequest("unable to do port forwarding: pod is not running".to_owned()))?;
        match address {
            PodAddress::Loopback => {
                let connected = self.inner.containers.connect(&uid, port);
                match tokio::time::timeout(CONNECT_LIMIT, connected).await {
                    Ok(stream) => stream.map_err(|error| failed(error.into())),
                    Err(_) => Err(failed("i/o timeout".into())),
                }
            }
            PodAddress::Pod => {
                // A pod without an address of its own has the node's.
                let ip = sandbox.spec.ip.unwrap_or(self.inner.node_ip.ipv4);
                let stream = http_client::connect(&ip.to_string(), port, CONNECT_LIMIT)
                    .await
                    .map_err(|error| failed(error.into()))?;
                stream.set_nodelay(true).map_err(|error| failed(error.into()))?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Returns what the node and its pods use, measured at most some seconds ago.
    ///
    /// # Errors
    /// What the runtime or the kernel's figures cannot be read.
    pub async fn usage(&self) -> Result<NodeUsage, StreamError> {
        self.inner.usage.usage().await.map_err(|error| StreamError::Failed {
            operation: "measure what the node uses".to_owned(),
            source: error.into(),
        })
    }

    /// Returns what the node's containers use, in Prometheus' text form under cAdvisor's names.
    ///
    /// # Errors
    /// What the runtime or the kernel's figures cannot be read.
    pub async fn container_metrics(&self) -> Result<String, StreamError> {
        let (containers, now) = (&*self.inner.containers, (self.inner.now)());
        let pod = |namespace: &str, name: &str| self.inner.pods.find(namespace, name);
        let page = cadvisor::page(containers, pod, &self.inner.facts, now).await;
        page.map_err(|error| StreamError::Failed {
            operation: "measure what the node's containers use".to_owned(),
            source: error.into(),
        })
    }

    /// Stops the agent's tasks; the pods keep running.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, self.inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some tasks of the agent did not end in time");
        }
        if let Some(network) = &self.inner.network {
            network.shutdown().await;
        }
    }

    fn container(
        &self,
        namespace: &str,
        name: &str,
        container: Option<&str>,
    ) -> Result<(Arc<Pod>, String), StreamError> {
        let pod = self.pod(namespace, name)?;
        let container = streams::pick_container(&pod, container)?;
        Ok((pod, container))
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, StreamError> {
        let found = self.inner.pods.find(namespace, name);
        found.ok_or_else(|| StreamError::NotFound(format!("pods \"{name}\" not found on this node")))
    }

    /// Returns the pod's UID, the container's name and the id of its attempt that runs.
    async fn running(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
    ) -> Result<(String, String, String), StreamError> {
        let (pod, container) = self.container(namespace, pod, container)?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let attempts = self.attempts(&uid, &container).await?;
        match attempts.last().filter(|state| state.exit.is_none()) {
            Some(current) => Ok((uid, container, current.id())),
            None => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                Err(StreamError::BadRequest(format!(
                    "container \"{container}\" in pod \"{name}\" is not running"
                )))
            }
        }
    }

    /// Returns a container's attempts, oldest first.
    async fn attempts(&self, uid: &str, container: &str) -> Result<Vec<ContainerState>, StreamError> {
        let failed = |error: RuntimeFailure| StreamError::Failed {
            operation: "look at the pod's sandbox".to_owned(),
            source: Box::new(error),
        };
        let sandbox = self.inner.containers.sandbox(uid).await.map_err(failed)?;
        let mut attempts: Vec<ContainerState> = sandbox
            .into_iter()
            .flat_map(|sandbox| sandbox.containers)
            // Those of a sandbox that died, by a reboot for example.
            .chain(self.inner.containers.past(uid).await)
            .filter(|state| state.name == container)
            .collect();
        attempts.sort_by_key(|state| state.attempt);
        Ok(attempts)
    }
}

/// Removes the files of every pod of an instance, its tmpfs included; volumes that outlive their pods stay. For when nothing of it runs
/// any more.
pub fn remove_all(data_dir: &Path) -> Result<(), AgentError> {
    let places = Places::new(data_dir);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AgentError::Directory { path, source }
    };
    if is_tmpfs(places.memory()) {
        // Detached: a mount that is still in use somewhere goes with its last user.
        rustix::mount::unmount(places.memory(), rustix::mount::UnmountFlags::DETACH)
            .map_err(|error| failed(places.memory())(error.into()))?;
    }
    for path in [places.memory(), places.disk()] {
        match setpoint_runtime::tree::remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path)(error)),
            _ => {}
        }
    }
    Ok(())
}

fn prepare_directories(places: &Places, statics: &Path) -> Result<(), AgentError> {
    for path in [places.disk(), places.memory(), places.volumes(), statics] {
        let prepared =
            fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
        prepared.map_err(|source| AgentError::Directory {
            path: path.to_owned(),
            source,
        })?;
    }
    let memory = places.memory();
    let failed = |error: rustix::io::Errno| AgentError::Directory {
        path: memory.to_owned(),
        source: error.into(),
    };
    if !is_tmpfs(memory) {
        let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
        rustix::mount::mount("tmpfs", memory, "tmpfs", flags, c"mode=0700").map_err(failed)?;
    }
    // Volumes in memory are mounted below: sandboxes that are there already have to see them, however the host's own mounts are shared.
    rustix::mount::mount_change(memory, rustix::mount::MountPropagationFlags::SHARED).map_err(failed)
}

/// Returns whether a path is the root of a tmpfs of its own.
fn is_tmpfs(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let own = path.parent().is_some_and(|parent| device(parent) != device(path));
    own && rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS_MAGIC))
}
