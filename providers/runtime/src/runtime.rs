//! The daemon's side: sandboxes and containers by way of their shims.
//!
//! It owns nothing that a restart would lose: what it holds in memory mirrors what the shims say. A step that fails undoes the ones
//! before it.

mod adopt;
mod channel;
mod cleanup;
mod close;
mod dial;
mod link;
mod past;
mod resize;
mod resolve;
mod session;
mod spawn;
mod strays;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use setpoint_net::{AddressPair, AttachRequest, Net, Netns};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::cgroup::{self, Counter, Hierarchies};
use crate::error::RuntimeError;
use crate::fault::{Fault, SandboxStep};
use crate::images::{Image, ImageStore};
use crate::logs;
use crate::protocol::{Request, ShimSetup, features};
use crate::spec::{ContainerSpec, ContainerState, ExecSpec, MountSource, RuntimeEvent, SandboxSpec, SandboxState};
use link::{Greeted, Link, greet};
use spawn::{Spawner, Spawning};

/// How long a shim may take to kill its containers and end.
const SHIM_END: Duration = Duration::from_secs(10);

/// How long the end of a shim's process may take after that of its connection.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// How long a killed container may take to be gone.
const KILL_END: Duration = Duration::from_secs(10);

/// How many events a slow receiver may be behind.
const EVENTS: usize = 1024;

/// The clock.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Where a runtime keeps its things and what it is called.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Where sandboxes keep root file systems, logs and states (below `sandboxes/`).
    pub data_dir: PathBuf,
    /// Where sockets are; short (at most 60 characters), gone after a reboot, for example `/run/setpoint-1a2b`.
    pub run_dir: PathBuf,
    /// Four hexadecimal digits, unique on the host; part of every name made here.
    pub instance: String,
    /// The clock.
    pub now: Now,
}

/// A process that runs inside a container. Dropping it kills the process.
pub struct ExecSession {
    /// Its standard input; dropping it closes the input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output; with a terminal, the terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Takes (columns, rows) of the terminal.
    pub resize: Option<mpsc::Sender<(u16, u16)>>,
    /// Resolves with the exit code (128 + signal when a signal ended it).
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// What a cgroup used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Memory in bytes without reclaimable file cache (the working set).
    pub memory_bytes: u64,
}

/// What a sandbox used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxStats {
    /// All of it together.
    pub total: Usage,
    /// Each running container by its id (`NAME-ATTEMPT`).
    pub containers: Vec<(String, Usage)>,
}

/// What passed through a network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Its name.
    pub name: String,
    /// Received: bytes, packets, errors, dropped packets.
    pub received: [u64; 4],
    /// Sent: bytes, packets, errors, dropped packets.
    pub sent: [u64; 4],
}

/// All that the kernel counted of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxCounters {
    /// All of it together.
    pub total: Vec<(Counter, u64)>,
    /// Each running container by its id (`NAME-ATTEMPT`).
    pub containers: Vec<(String, Vec<(Counter, u64)>)>,
    /// The interfaces of its own network, without the loopback's; none on the host's network.
    pub interfaces: Vec<InterfaceCounters>,
}

/// The containers of one instance on this host. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    config: RuntimeConfig,
    images: Arc<ImageStore>,
    net: Option<Arc<Net>>,
    hierarchies: Hierarchies,
    spawning: Spawning,
    sandboxes: Mutex<Sandboxes>,
    events: broadcast::Sender<RuntimeEvent>,
}

#[derive(Default)]
struct Sandboxes {
    live: BTreeMap<String, Arc<Link>>,
    /// Those without a shim, of which logs and exit codes are kept.
    closed: BTreeMap<String, SandboxState>,
    /// Those whose shim could not be reached when this runtime was opened, as last recorded: they run on, and it is tried again.
    unreached: BTreeMap<String, Option<SandboxState>>,
    /// The containers of those that died, whether or not there is a new one.
    past: BTreeMap<String, Vec<ContainerState>>,
    /// Ids that are being made or taken away.
    busy: BTreeSet<String>,
}

impl Sandboxes {
    fn is_known(&self, id: &str) -> bool {
        self.live.contains_key(id) || self.closed.contains_key(id) || self.unreached.contains_key(id)
    }
}

impl Inner {
    fn directory(&self, sandbox: &str) -> PathBuf {
        self.config.data_dir.join("sandboxes").join(sandbox)
    }

    fn socket(&self, sandbox: &str) -> PathBuf {
        self.config.run_dir.join("shims").join(format!("{sandbox}.sock"))
    }

    fn link(&self, sandbox: &str) -> Result<Arc<Link>, RuntimeError> {
        let sandboxes = self.sandboxes.lock();
        match sandboxes.live.get(sandbox) {
            Some(link) => Ok(link.clone()),
            None if sandboxes.unreached.contains_key(sandbox) => Err(RuntimeError::Unreached(sandbox.to_owned())),
            None => Err(RuntimeError::NoSandbox(sandbox.to_owned())),
        }
    }

    /// Takes a greeted shim among the live ones.
    fn hold(self: &Arc<Self>, greeted: Greeted) -> Result<Arc<Link>, RuntimeError> {
        let id = greeted.state().spec.id.clone();
        let (inner, sandbox) = (Arc::downgrade(self), id.clone());
        // One that ends in this moment is looked for among the live ones only when it is there.
        let mut sandboxes = self.sandboxes.lock();
        let link = greeted.into_link(self.events.clone(), move || Self::shim_ended(&inner, sandbox))?;
        sandboxes.live.insert(id, link.clone());
        Ok(link)
    }

    /// Lets go of an id that was held for a change, and looks again: nobody took note of a shim that ended meanwhile.
    fn release(self: &Arc<Self>, id: &str) {
        let missed = {
            let mut sandboxes = self.sandboxes.lock();
            sandboxes.busy.remove(id);
            let link = sandboxes.live.get(id);
            link.is_some_and(|link| link.over.load(Ordering::Acquire))
        };
        if missed {
            Self::shim_ended(&Arc::downgrade(self), id.to_owned());
        }
    }

    /// Takes away what is left of a sandbox whose shim ended by itself.
    fn shim_ended(inner: &Weak<Self>, sandbox: String) {
        let Some(inner) = inner.upgrade() else { return };
        let link = {
            let mut sandboxes = inner.sandboxes.lock();
            let link = sandboxes.live.get(&sandbox).cloned();
            let Some(link) = link.filter(|link| !link.removing.load(Ordering::Acquire)) else {
                return;
            };
            // Whoever has begun to take it away goes on with that, and what is made anew under its id must not be taken away here. If it is there
            // still when the id is let go, [`Inner::release`] asks again.
            if !sandboxes.busy.insert(sandbox.clone()) {
                return;
            }
            link
        };
        tokio::spawn(async move {
            if !link.has_ended(LAST_BREATH).await {
                // It lives, and has only let go of this connection: its containers run on.
                tracing::warn!(sandbox, "a shim has closed the connection; connecting again");
                {
                    let mut sandboxes = inner.sandboxes.lock();
                    sandboxes.live.remove(&sandbox);
                    sandboxes.unreached.insert(sandbox.clone(), Some(link.current()));
                    sandboxes.busy.remove(&sandbox);
                }
                Self::reach_later(Arc::downgrade(&inner), sandbox).await;
                return;
            }
            // A daemon that was killed amid the closing has said so to the shim, which hears of it only now.
            if inner.adopt_closed(&sandbox).await.is_none() {
                tracing::warn!(sandbox, "the shim of a sandbox ended");
                if let Err(error) = inner.bury(&sandbox, Some(link.current())).await {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        sandbox,
                        "cannot clean up after a shim"
                    );
                }
            }
            {
                let mut sandboxes = inner.sandboxes.lock();
                sandboxes.live.remove(&sandbox);
                sandboxes.busy.remove(&sandbox);
            }
            // Nobody may be listening.
            drop(inner.events.send(RuntimeEvent::SandboxDied { sandbox }));
        });
    }

    async fn make_sandbox(self: &Arc<Self>, mut spec: SandboxSpec) -> Result<SandboxState, RuntimeError> {
        if spec.resources.pids_limit.is_some() && !self.hierarchies.has("pids") {
            tracing::warn!(sandbox = spec.id, "this host cannot limit the number of processes");
            spec.resources.pids_limit = None;
        }
        let id = spec.id.clone();
        let addresses = spec.addresses();
        let dir = self.directory(&id);
        make_private(&dir)?;
        passed(SandboxStep::Directory)?;
        let setup = ShimSetup {
            spec,
            dir,
            socket: self.socket(&id),
            instance: self.config.instance.clone(),
            hierarchies: self.hierarchies.clone(),
            fault: Fault::armed(),
        };
        let begun = Instant::now();
        let (channel, spawner) = self.spawning.fork(&setup).await?;
        passed(SandboxStep::Asked)?;
        let greeted = match greet(&id, channel, true).await {
            Ok(greeted) => greeted,
            Err(error) => {
                if matches!(error, RuntimeError::Deadline { .. }) {
                    self.spawning.replace(&spawner).await;
                }
                return Err(error);
            }
        };
        passed(SandboxStep::Greeted)?;
        tracing::debug!(sandbox = id, took = ?begun.elapsed(), "the shim is up");
        if let (Some(addresses), Some(net)) = (addresses, &self.net)
            && let Err(source) = attach(net, &id, greeted.state().pid, addresses).await
        {
            let link = greeted.into_link(self.events.clone(), || {})?;
            link.shut_down(SHIM_END).await;
            link.gone(SHIM_END).await;
            return Err(RuntimeError::Network {
                operation: "attach",
                sandbox: id,
                source,
            });
        }
        passed(SandboxStep::Network)?;
        tracing::debug!(sandbox = id, took = ?begun.elapsed(), "the sandbox stands");
        let link = self.hold(greeted)?;
        if let Err(error) = passed(SandboxStep::Held) {
            self.sandboxes.lock().live.remove(&id);
            return Err(error);
        }
        Ok(link.current())
    }
}

/// Fails after a step if a test wants that.
fn passed(step: SandboxStep) -> Result<(), RuntimeError> {
    step.passed().map_err(RuntimeError::io("go on with", "the sandbox"))
}

async fn attach(net: &Net, sandbox: &str, pid: i32, addresses: AddressPair) -> Result<(), setpoint_net::NetError> {
    let netns = Netns::Pid(pid.unsigned_abs());
    net.attach(AttachRequest {
        sandbox: sandbox.to_owned(),
        netns,
        addresses,
    })
    .await
    .map(drop)
}

/// Makes a directory that only root can look into.
fn make_private(path: &Path) -> Result<(), RuntimeError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(RuntimeError::io("make", path))
}

impl Runtime {
    /// Starts the process that makes shims, and adopts every live sandbox of this instance; what is left of dead ones is taken away.
    ///
    /// Of a shim that cannot be reached it is not known whether it lives: its sandbox is kept, and returned as last recorded.
    pub async fn open(
        config: RuntimeConfig,
        images: Arc<ImageStore>,
        net: Option<Arc<Net>>,
    ) -> Result<(Runtime, Vec<SandboxState>), RuntimeError> {
        make_private(&config.data_dir.join("sandboxes"))?;
        make_private(&config.run_dir.join("shims"))?;
        let hierarchies = adopt::hierarchies(&config.data_dir)?;
        let spawning = Spawning::new(Spawner::start).map_err(RuntimeError::Spawner)?;
        let inner = Arc::new(Inner {
            config,
            images,
            net,
            hierarchies,
            spawning,
            sandboxes: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
        });
        let adopted = inner.adopt().await?;
        Ok((Runtime { inner }, adopted))
    }

    /// Returns a receiver of everything that happens from now on.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }

    /// Makes a pod's namespaces, network and cgroup. Nothing is left of it when that fails.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxState, RuntimeError> {
        let id = spec.id.clone();
        if !resolve::is_name(&id) {
            return Err(RuntimeError::Invalid(format!("{id:?} cannot be a sandbox's id")));
        }
        if spec.hostname.len() > 64 {
            return Err(RuntimeError::Invalid(format!(
                "host name {:?} is longer than 64 characters",
                spec.hostname
            )));
        }
        {
            let mut sandboxes = self.inner.sandboxes.lock();
            if sandboxes.is_known(&id) || !sandboxes.busy.insert(id.clone()) {
                return Err(RuntimeError::Exists { what: "sandbox", id });
            }
        }
        // A task of its own: a caller that gives up must not leave half a sandbox.
        let inner = self.inner.clone();
        let made = tokio::spawn(async move {
            let id = spec.id.clone();
            let wanted = SandboxState {
                spec: spec.clone(),
                pid: 0,
                containers: Vec::new(),
            };
            let result = inner.make_sandbox(spec).await;
            if result.is_err()
                && let Err(error) = inner.bury(&id, Some(wanted)).await
            {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    sandbox = id,
                    "cannot undo a sandbox"
                );
            }
            inner.release(&id);
            result
        });
        made.await.unwrap_or_else(|_| Err(RuntimeError::ShimGone(id)))
    }

    /// Starts a container and returns once its program is executed. Nothing is left of the attempt when that fails.
    pub async fn start_container(
        &self,
        sandbox: &str,
        mut spec: ContainerSpec,
    ) -> Result<ContainerState, RuntimeError> {
        let image = self.image(&spec.image)?;
        for mount in &mut spec.mounts {
            if let MountSource::Image { image, layers, .. } = &mut mount.source {
                *layers = self.image(image)?.layers;
            }
        }
        self.start_container_with(sandbox, spec, &image).await
    }

    fn image(&self, id: &str) -> Result<Image, RuntimeError> {
        let found = self.inner.images.get(id);
        found
            .map_err(|source| RuntimeError::Image {
                image: id.to_owned(),
                source,
            })?
            .ok_or_else(|| RuntimeError::NoImage(id.to_owned()))
    }

    /// As [`Runtime::start_container`] with an image that need not be in the store.
    ///
    /// An attempt that runs already, because a daemon that was killed has started it, is returned as it is.
    pub async fn start_container_with(
        &self,
        sandbox: &str,
        spec: ContainerSpec,
        image: &Image,
    ) -> Result<ContainerState, RuntimeError> {
        let link = self.inner.link(sandbox)?;
        let state = link.current();
        let id = format!("{}-{}", spec.name, spec.attempt);
        match find(&link, &id) {
            Ok(found) if found.exit.is_none() => return Ok(found),
            Ok(_) => return Err(RuntimeError::Exists { what: "container", id }),
            Err(_) => {}
        }
        if let Some(what) = features::lacking(&link.features, &spec) {
            return Err(RuntimeError::Outdated {
                sandbox: sandbox.to_owned(),
                what,
            });
        }
        let request = resolve::resolve(&state.spec, spec, image)?;
        let begun = Instant::now();
        match link.call("start a container", Request::Start(Box::new(request))).await {
            // The shim tells of a change before it answers.
            Err(error @ RuntimeError::Shim { .. }) => {
                let found = find(&link, &id).ok().filter(|found| found.exit.is_none());
                return found.ok_or(error);
            }
            answer => answer?,
        }
        tracing::debug!(sandbox, container = id, took = ?begun.elapsed(), "the container runs");
        find(&link, &id)
    }

    /// Asks a container to stop and kills it when it has not after `grace`. Returns how it ended.
    pub async fn stop_container(
        &self,
        sandbox: &str,
        container: &str,
        grace: Duration,
    ) -> Result<ContainerState, RuntimeError> {
        let link = self.inner.link(sandbox)?;
        let state = find(&link, container)?;
        if state.exit.is_some() {
            return Ok(state);
        }
        if !grace.is_zero() {
            let deadline = Instant::now() + grace;
            let request = Request::Stop {
                container: container.to_owned(),
            };
            match tokio::time::timeout(grace, link.call("stop a container", request)).await {
                // It may have ended by itself meanwhile; the wait tells. Who does not answer has had the grace.
                Ok(Ok(()) | Err(RuntimeError::Shim { .. })) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(ended) = wait_for_exit(&link, container, left).await? {
                return Ok(ended);
            }
        }
        let request = Request::Kill {
            container: container.to_owned(),
        };
        match tokio::time::timeout(KILL_END, link.call("kill a container", request)).await {
            Ok(answer) => answer?,
            // Its containers go with it, and the end of this one is wanted.
            Err(_) => {
                link.kill("it does not kill a container");
                link.has_ended(SHIM_END).await;
                let finished_at = (self.inner.config.now)();
                return Ok(state.killed(finished_at));
            }
        }
        wait_for_exit(&link, container, KILL_END)
            .await?
            .ok_or_else(|| RuntimeError::Deadline {
                operation: format!("the end of container {container} after it was killed"),
                seconds: KILL_END.as_secs(),
            })
    }

    /// Sends a signal to a container's first process.
    pub async fn signal(&self, sandbox: &str, container: &str, signal: i32) -> Result<(), RuntimeError> {
        let link = self.inner.link(sandbox)?;
        if find(&link, container)?.exit.is_some() {
            return Err(RuntimeError::NotRunning(container.to_owned()));
        }
        link.call(
            "send a signal",
            Request::Signal {
                container: container.to_owned(),
                signal,
            },
        )
        .await
    }

    /// Removes what is left of an attempt (it is killed if it runs): files, cgroup, log.
    pub async fn remove_container(&self, sandbox: &str, container: &str) -> Result<(), RuntimeError> {
        if self.inner.forget_past(sandbox, container).await? {
            return Ok(());
        }
        let state = self.stop_container(sandbox, container, Duration::ZERO).await?;
        let link = self.inner.link(sandbox)?;
        link.call(
            "forget a container",
            Request::Remove {
                container: container.to_owned(),
            },
        )
        .await?;
        let directory = self.inner.directory(sandbox);
        let files = directory.join("containers").join(container);
        let log = logs::below(&directory, &state.name, state.attempt);
        cleanup::remove_container_files(files, log).await
    }

    /// Kills a sandbox and removes everything that it had. Succeeds when there is none.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.end_sandbox(id, false).await
    }

    /// Returns every sandbox as last reported by its shim, the closed ones (of which `pid` is 0) and those that cannot be reached included.
    pub fn sandboxes(&self) -> Vec<SandboxState> {
        let sandboxes = self.inner.sandboxes.lock();
        let live = sandboxes.live.values().map(|link| link.current());
        let closed = sandboxes.closed.iter().map(|(id, state)| (id, Some(state)));
        let unreached = sandboxes.unreached.iter().map(|(id, state)| (id, state.as_ref()));
        let others = closed
            .chain(unreached)
            .filter(|(id, _)| !sandboxes.live.contains_key(*id))
            .filter_map(|(_, state)| state);
        live.chain(others.cloned()).collect()
    }

    /// Returns one sandbox as last reported by its shim, also when it is closed or cannot be reached.
    pub fn sandbox(&self, id: &str) -> Option<SandboxState> {
        let sandboxes = self.inner.sandboxes.lock();
        let live = sandboxes.live.get(id).map(|link| link.current());
        live.or_else(|| sandboxes.closed.get(id).cloned())
            .or_else(|| sandboxes.unreached.get(id).cloned().flatten())
    }

    /// Runs a process inside a running container.
    pub async fn exec(&self, sandbox: &str, container: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError> {
        let link = self.inner.link(sandbox)?;
        if find(&link, container)?.exit.is_some() {
            return Err(RuntimeError::NotRunning(container.to_owned()));
        }
        session::exec(&self.inner.socket(sandbox), sandbox, container, spec).await
    }

    /// Connects to the streams of a running container: what it writes from now on, and, where `stdin` asks for it and the
    /// container has one, its input. The session's exit is the container's; dropping it only detaches.
    pub async fn attach(&self, sandbox: &str, container: &str, stdin: bool) -> Result<ExecSession, RuntimeError> {
        let link = self.inner.link(sandbox)?;
        if find(&link, container)?.exit.is_some() {
            return Err(RuntimeError::NotRunning(container.to_owned()));
        }
        session::attach(&self.inner.socket(sandbox), sandbox, container, stdin).await
    }

    /// Returns the current log file of an attempt.
    pub fn log_path(&self, sandbox: &str, container: &str, attempt: u32) -> PathBuf {
        logs::path(&self.inner.config.data_dir, sandbox, container, attempt)
    }

    /// Returns the files of an attempt's log, those that were put aside included.
    ///
    /// # Errors
    /// Where the sandbox's logs cannot be listed.
    pub fn log_files(&self, sandbox: &str, container: &str, attempt: u32) -> Result<Vec<PathBuf>, RuntimeError> {
        let path = self.log_path(sandbox, container, attempt);
        logs::files(&path).map_err(RuntimeError::io("list the files of", path))
    }

    /// Returns the directories of what an attempt of a container has written: to its root, and to the volumes that only its image declares. The second
    /// need not be there.
    pub fn written_paths(&self, sandbox: &str, container: &str, attempt: u32) -> [PathBuf; 2] {
        let sandbox = self.inner.config.data_dir.join("sandboxes").join(sandbox);
        let attempt = sandbox.join("containers").join(format!("{container}-{attempt}"));
        ["upper", "volumes"].map(|name| attempt.join(name))
    }

    /// Streams the log of an attempt; with `options.follow` until the container ended.
    pub fn logs(
        &self,
        sandbox: &str,
        container: &str,
        attempt: u32,
        options: logs::ReadOptions,
    ) -> mpsc::Receiver<Result<bytes::Bytes, RuntimeError>> {
        let link = self.inner.link(sandbox).ok();
        let id = format!("{container}-{attempt}");
        let ended = async move {
            let Some(link) = link else { return };
            let mut state = link.state.clone();
            let over = |state: &SandboxState| {
                let found = state.containers.iter().find(|container| container.id() == id);
                found.is_none_or(|container| container.exit.is_some())
            };
            // An error means that the shim is gone: that is the end, too.
            drop(state.wait_for(over).await);
        };
        logs::stream(self.log_path(sandbox, container, attempt), options, ended)
    }

    /// Connects to a port of `localhost` as the sandbox sees it.
    pub async fn connect(&self, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
        let pid = self.inner.link(sandbox)?.current().pid;
        dial::connect(pid, port).await
    }

    /// Returns what a sandbox used so far.
    pub async fn stats(&self, sandbox: &str) -> Result<SandboxStats, RuntimeError> {
        let state = self.inner.link(sandbox)?.current();
        let (hierarchies, instance) = (&self.inner.hierarchies, &self.inner.config.instance);
        let running = state.containers.iter().filter(|container| container.exit.is_none());
        Ok(SandboxStats {
            total: cgroup::usage(&hierarchies.sandbox(instance, sandbox)),
            containers: running
                .map(|container| {
                    let id = container.id();
                    let usage = cgroup::usage(&hierarchies.container(instance, sandbox, &id));
                    (id, usage)
                })
                .collect(),
        })
    }

    /// Reads all that the kernel counted of a sandbox.
    pub async fn counters(&self, sandbox: &str) -> Result<SandboxCounters, RuntimeError> {
        let state = self.inner.link(sandbox)?.current();
        let (hierarchies, instance) = (&self.inner.hierarchies, &self.inner.config.instance);
        let running = state.containers.iter().filter(|container| container.exit.is_none());
        let read = |id: String| {
            let group = hierarchies.container(instance, sandbox, &id);
            (id, cgroup::counters(&group, |_| true))
        };
        let path = PathBuf::from(format!("/proc/{}/net/dev", state.pid));
        let interfaces = match state.spec.ip {
            Some(_) => interfaces(&std::fs::read_to_string(&path).map_err(RuntimeError::io("read", &path))?),
            None => Vec::new(),
        };
        Ok(SandboxCounters {
            total: cgroup::counters(&hierarchies.sandbox(instance, sandbox), |_| true),
            containers: running.map(|container| read(container.id())).collect(),
            interfaces,
        })
    }

    /// Removes every sandbox and everything else of an instance; needs no open runtime.
    pub async fn remove_all(data_dir: &Path, run_dir: &Path, instance: &str) -> Result<(), RuntimeError> {
        cleanup::remove_all(data_dir, run_dir, instance).await
    }

    /// Returns the cgroups of every instance on this host, open or not, with the instance's four digits; blocking, short.
    pub fn traces() -> Vec<(String, std::path::PathBuf)> {
        crate::cgroup::traces()
    }
}

/// Reads `/proc/PID/net/dev`: eight columns of what was received and eight of what was sent, by interface.
fn interfaces(text: &str) -> Vec<InterfaceCounters> {
    let read = |line: &str| {
        let (name, columns) = line.split_once(':')?;
        let columns: Vec<u64> = columns.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let (received, sent) = (columns.get(..4)?, columns.get(8..12)?);
        Some(InterfaceCounters {
            name: name.trim().to_owned(),
            received: received.try_into().ok()?,
            sent: sent.try_into().ok()?,
        })
    };
    text.lines()
        .filter_map(read)
        .filter(|interface| interface.name != "lo")
        .collect()
}

fn find(link: &Link, container: &str) -> Result<ContainerState, RuntimeError> {
    let state = link.state.borrow();
    let found = state.containers.iter().find(|state| state.id() == container);
    found.cloned().ok_or_else(|| RuntimeError::NoContainer {
        sandbox: link.id.clone(),
        container: container.to_owned(),
    })
}

/// Waits until a container ended; `None` when it has not in time.
async fn wait_for_exit(
    link: &Link,
    container: &str,
    patience: Duration,
) -> Result<Option<ContainerState>, RuntimeError> {
    let mut state = link.state.clone();
    let ended = state.wait_for(|state| {
        let found = state.containers.iter().find(|state| state.id() == container);
        found.is_none_or(|container| container.exit.is_some())
    });
    // The state is let go of before it is looked at again: who waits to change it meanwhile would wait for this thread, and it for him.
    let ended = tokio::time::timeout(patience, ended).await.map(|ended| ended.map(drop));
    match ended {
        Err(_) => Ok(None),
        Ok(Err(_)) => Err(RuntimeError::ShimGone(link.id.clone())),
        Ok(Ok(())) => find(link, container).map(Some),
    }
}
