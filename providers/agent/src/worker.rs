//! One pod's task: looks at what is, asks [`crate::decide`] what to do, does it in the background, and looks again.
//!
//! Everything that takes time is a future in `Worker::running`; it belongs to the worker and ends with it. The worker itself never waits for
//! one of them alone, so a hanging step stops nothing else of the pod, and nothing of other pods.

mod operations;
mod outcomes;
mod probing;
mod resizing;
mod specs;
mod writing;

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerDef, Pod, PodStatus};
use setpoint_net::AddressPair;
use setpoint_runtime::spec::{ContainerState, Exit, SandboxState};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::Now;
use crate::addresses::Addresses;
use crate::allocations::Allocations;
use crate::backoff;
use crate::containers::Containers;
use crate::decide::{self, Action};
use crate::events::{Recorder, Severity};
use crate::host_ports::{self, HostPorts};
use crate::metrics::{Metrics, PhaseGauge};
use crate::node::Facts;
use crate::observed::{Busy, Container, Ending, Failure, Hook, Image, Observed, Resize, Sandbox, Step};
use crate::probes::{Kind, Schedule};
use crate::roles::{self, Role};
use crate::settings::PodSettings;
use crate::sources::{Change, Changes, Following, References};
use crate::static_pods;
use crate::sysctls;
use crate::volumes::{self, Places};
use operations::Outcome;
use outcomes::SANDBOX_CHANGED;

/// How often in a row decisions are carried out before the worker looks at the world again.
const ROUNDS: usize = 16;
/// The longest pause: a safety net, nothing depends on it.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Waits until new connections no longer reach a pod.
#[async_trait]
pub trait Drain: Send + Sync + 'static {
    /// Returns once the node's rules no longer point to the address, or when the time is over.
    async fn drained(&self, pod: AddressPair, within: Duration);
}

/// What all workers of a node share.
pub struct Shared {
    /// The node's name.
    pub node_name: String,
    /// The node's addresses.
    pub node_ip: AddressPair,
    /// What the node has.
    pub facts: Facts,
    /// Where pods' files lie.
    pub places: Places,
    /// Where pods ask for names.
    pub dns: Ipv4Addr,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// What holds for every pod.
    pub pods: PodSettings,
    /// Where seccomp profiles lie that pods name.
    pub seccomp: PathBuf,
    /// The API.
    pub client: kube::Client,
    /// What runs containers.
    pub containers: Arc<dyn Containers>,
    /// The pods' addresses; `None` leaves every pod on the host's network.
    pub addresses: Option<Arc<Addresses>>,
    /// Who has which port of the host.
    pub host_ports: Arc<HostPorts>,
    /// Who has how much of the node.
    pub allocations: Arc<Allocations>,
    /// Tells of changed ConfigMaps and Secrets.
    pub changes: Changes,
    /// Takes events.
    pub events: Recorder,
    /// Counts.
    pub metrics: Metrics,
    /// Leads new connections elsewhere.
    pub drain: Option<Arc<dyn Drain>>,
    /// The clock.
    pub now: Now,
}

/// What a worker is told of its pod.
#[derive(Clone, Debug)]
pub struct Update {
    /// The newest known object.
    pub pod: Arc<Pod>,
    /// Whether it is no longer in the API.
    pub gone: bool,
}

/// Runs a pod until it is gone or `stop`. `adopted` is its sandbox, if it runs already.
///
/// A worker that breaks off by a panic is replaced after a pause, and no other pod is touched.
pub async fn run(
    shared: Arc<Shared>,
    updates: watch::Receiver<Update>,
    wake: Arc<Notify>,
    mut adopted: Option<SandboxState>,
    stop: CancellationToken,
) {
    let mut panics: u32 = 0;
    // Taken by a worker that broke off before there was a sandbox to find them in.
    let mut addresses = None;
    loop {
        let mut worker = Worker::new(
            shared.clone(),
            updates.clone(),
            wake.clone(),
            adopted.take(),
            panics > 0,
        );
        worker.addresses = worker.addresses.or(addresses);
        let work = tokio::select! {
            () = stop.cancelled() => return,
            result = AssertUnwindSafe(worker.run()).catch_unwind() => result,
        };
        let Err(panic) = work else { return };
        panics = panics.saturating_add(1);
        let uid = std::mem::take(&mut worker.uid);
        addresses = worker.addresses.take();
        drop(worker);
        tracing::error!(
            pod = uid,
            error = panic_message(panic.as_ref()),
            "the work on this pod broke off, it is taken up again; please report this"
        );
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff::internal_delay(panics)) => {}
        }
        adopted = match shared.containers.sandbox(&uid).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                tracing::warn!(pod = uid, error = error.message, "the sandbox could not be looked at");
                None
            }
        };
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

struct Worker {
    shared: Arc<Shared>,
    updates: watch::Receiver<Update>,
    wake: Arc<Notify>,
    changes: broadcast::Receiver<Change>,
    /// Changes when other pods have less.
    room: watch::Receiver<()>,
    pod: Arc<Pod>,
    uid: String,
    observed: Observed,
    /// The addresses that were taken for this pod.
    addresses: Option<AddressPair>,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
    /// The probes of each container's newest attempt.
    schedules: BTreeMap<(String, Kind), (u32, Schedule)>,
    /// The status as the API has it.
    written: PodStatus,
    /// Whether a write is under way.
    writing: bool,
    write_failures: u32,
    /// How many ended containers' last words are being read; the status waits for them.
    listening: usize,
    /// When the status is to be written, if it may wait.
    write_at: Option<Timestamp>,
    /// What the volumes are made of.
    references: References,
    /// What the pod refers to is watched as long as this is here.
    following: Following,
    /// Whether that changed while the volumes were being written.
    volumes_stale: bool,
    /// Whether the volumes are being written.
    refreshing: bool,
    /// The failure before the one that is being tried to avoid, for counting on.
    sandbox_failure: Option<Failure>,
    volumes_failure: Option<Failure>,
    resize_failure: Option<Failure>,
    image_failures: BTreeMap<String, Failure>,
    /// When the volumes have to be renewed (tokens).
    renew_at: Option<Timestamp>,
    /// When what the pod has written is measured next.
    measure_at: Option<Timestamp>,
    gauge: PhaseGauge,
    first_seen: Timestamp,
    /// Whether a container ran in this worker's time.
    ran: bool,
    /// Whether something of a sandbox may be there, whatever came of making it.
    made_sandbox: bool,
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        mut updates: watch::Receiver<Update>,
        wake: Arc<Notify>,
        adopted: Option<SandboxState>,
        again: bool,
    ) -> Self {
        let update = updates.borrow_and_update().clone();
        let now = (shared.now)();
        let pod = update.pod;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut worker = Self {
            changes: shared.changes.subscribe(),
            room: shared.allocations.room(),
            gauge: PhaseGauge::new(&shared.metrics),
            references: References::of_volumes(&pod),
            following: {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                // A pod that is gone needs nothing any more, and its node may not see what it referred to.
                let needed = if update.gone {
                    References::default()
                } else {
                    References::of_pod(&pod)
                };
                shared.changes.follow(namespace, &needed)
            },
            written: pod.status.clone().unwrap_or_default(),
            observed: Observed {
                gone: update.gone,
                started_at: Some(now),
                rejected: pod.spec.as_ref().and_then(|spec| {
                    let why = sysctls::refused(spec, &shared.pods.allowed_unsafe_sysctls)?;
                    Some(("SysctlForbidden".to_owned(), format!("Pod was rejected: {why}")))
                }),
                capacity: Some(shared.allocations.capacity()),
                ..Observed::default()
            },
            first_seen: now,
            shared,
            updates,
            wake,
            pod,
            uid,
            addresses: None,
            running: FuturesUnordered::new(),
            schedules: BTreeMap::new(),
            writing: false,
            write_failures: 0,
            listening: 0,
            write_at: None,
            volumes_stale: false,
            refreshing: false,
            sandbox_failure: None,
            volumes_failure: None,
            resize_failure: None,
            image_failures: BTreeMap::new(),
            renew_at: None,
            measure_at: None,
            ran: false,
            made_sandbox: again,
        };
        worker.adopt(adopted, now);
        worker.take_host_ports();
        if volumes::measure::plan(&worker.shared.places, &worker.pod).is_some() {
            worker.measure_at = now.checked_add(operations::MEASURE).ok();
        }
        worker
    }

    /// Takes the pod's host ports, or refuses the pod as the kubelet does.
    fn take_host_ports(&mut self) {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let is_over = matches!(phase, Some("Succeeded" | "Failed"));
        if is_over || decide::is_ending(&self.pod, &self.observed) {
            return;
        }
        if !self.shared.host_ports.reserve(&self.uid, &self.pod) {
            self.note(None, Severity::Warning, host_ports::REASON, host_ports::MESSAGE);
            let message = format!("Pod was rejected: {}", host_ports::MESSAGE);
            self.observed.failed = Some((host_ports::REASON.to_owned(), message));
            return;
        }
        for port in host_ports::wanted(&self.pod) {
            let has_none = self
                .shared
                .addresses
                .as_ref()
                .is_some_and(|addresses| !addresses.have_ipv6());
            if let Some(ip) = port
                .ip
                .filter(IpAddr::is_ipv6)
                .filter(|_| has_none && !self.on_host_network())
            {
                let message = format!("hostPort {} on {ip} is not open: pods have no IPv6 here", port.port);
                self.note(None, Severity::Warning, "HostPortNotOpen", message);
            }
        }
    }

    /// Rebuilds what is known from a running sandbox and from the status that was reported last.
    fn adopt(&mut self, adopted: Option<SandboxState>, now: Timestamp) {
        let pod = self.pod.clone();
        let reported = pod.status.iter().flat_map(|status| {
            let ephemeral = status.ephemeral_container_statuses.iter().flatten();
            status
                .container_statuses
                .iter()
                .flatten()
                .chain(status.init_container_statuses.iter().flatten())
                .chain(ephemeral)
        });
        for status in reported {
            let container = self.observed.containers.entry(status.name.clone()).or_default();
            let attempt = u32::try_from(status.restart_count).unwrap_or(0);
            let (state, last) = (
                status.state.clone().unwrap_or_default(),
                status.last_state.clone().unwrap_or_default(),
            );
            let ended = state.terminated.or(last.terminated);
            let began = state.running.and_then(|running| running.started_at).map(|time| time.0);
            if began.is_none() && ended.is_none() {
                continue;
            }
            container.crashes = attempt.min(16);
            let exit = ended.as_ref().filter(|_| began.is_none());
            container.take(ContainerState {
                mounted: Vec::new(),
                name: status.name.clone(),
                attempt,
                image: status.image_id.clone(),
                pid: 0,
                started_at: began
                    .or_else(|| ended.as_ref()?.started_at.as_ref().map(|time| time.0))
                    .unwrap_or(now),
                exit: Some(Exit {
                    code: exit.map_or(137, |exit| exit.exit_code),
                    signal: None,
                    oom_killed: exit.is_some_and(|exit| exit.reason.as_deref() == Some("OOMKilled")),
                    finished_at: exit
                        .and_then(|exit| exit.finished_at.as_ref())
                        .map_or(now, |time| time.0),
                }),
            });
            if let Some(message) = exit.and_then(|exit| exit.message.clone()) {
                container.messages.insert(attempt, message);
            }
            container.stale = true;
        }
        let Some(sandbox) = adopted else { return };
        let is_closed = sandbox.pid == 0;
        self.observed.sandbox = if is_closed {
            Sandbox::Closed
        } else {
            self.addresses = sandbox.spec.addresses();
            Sandbox::Ready {
                addresses: self.addresses,
            }
        };
        let mut attempts: Vec<&ContainerState> = sandbox.containers.iter().collect();
        attempts.sort_by_key(|state| state.attempt);
        for state in &attempts {
            // The shim knows better than the status that was written last. As many attempts ended as are numbered before the newest that
            // runs; those that are taken below count themselves.
            let own = || attempts.iter().filter(|other| other.name == state.name);
            let ended = own().filter(|other| other.exit.is_some()).count();
            let starts = own()
                .map(|other| other.attempt.saturating_add(u32::from(other.exit.is_some())))
                .max()
                .unwrap_or(0);
            let container = self.observed.containers.entry(state.name.clone()).or_default();
            container.current = None;
            container.previous = None;
            container.stale = false;
            container.crashes = starts.min(16).saturating_sub(u32::try_from(ended).unwrap_or(u32::MAX));
        }
        for state in attempts {
            let container = self.observed.containers.entry(state.name.clone()).or_default();
            container.take(state.clone());
            container.hook = Hook::Done;
        }
        let names: Vec<&str> = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .map(|container| container.name.as_str())
            .collect();
        self.observed.initialized = sandbox
            .containers
            .iter()
            .any(|state| names.contains(&state.name.as_str()));
        self.adopt_resources(&pod);
        let of_mains = pod.status.iter().flat_map(|status| &status.container_statuses);
        let of_inits = pod.status.iter().flat_map(|status| &status.init_container_statuses);
        let mains = of_mains.flatten().map(|status| (Role::Main, status));
        for (role, status) in mains.chain(of_inits.flatten().map(|status| (Role::Init, status))) {
            let Some(container) = self.observed.containers.get_mut(&status.name) else {
                continue;
            };
            let same = container
                .current
                .as_ref()
                .is_some_and(|known| i32::try_from(known.attempt) == Ok(status.restart_count));
            if container.running() && same && role == Role::Main {
                // Ready stays ready across a restart of the agent, until a probe says otherwise.
                container.started = status.started == Some(true);
                container.ready = status.ready;
            }
            if same {
                container.reference = Some(status.image.clone()).filter(|image| !image.is_empty());
            }
        }
        self.ran = true;
    }

    /// Takes note of containers that ended with a former sandbox: the status that was written last may be behind.
    async fn recall(&mut self) {
        for state in self.shared.containers.past(&self.uid).await {
            let container = self.observed.containers.entry(state.name.clone()).or_default();
            match &container.current {
                Some(current) if current.attempt > state.attempt => continue,
                Some(current) if current.attempt == state.attempt => {
                    // Unless it runs in the sandbox that was adopted.
                    if container.stale {
                        container.current = Some(state);
                    }
                    continue;
                }
                _ => {}
            }
            container.take(state);
            container.stale = true;
        }
    }

    async fn run(&mut self) {
        self.recall().await;
        loop {
            self.look().await;
            let now = (self.shared.now)();
            self.settle();
            self.plan_probes(now);
            if self.renew_at.is_some_and(|at| at <= now) {
                self.refresh_volumes();
            }
            if self.measure_at.is_some_and(|at| at <= now) {
                self.measure();
            }
            let wake = self.act(now);
            if self.observed.ending == Ending::Finished {
                return;
            }
            self.write_status(now);
            let wakes = [wake, self.next_probe(), self.write_at, self.renew_at, self.measure_at];
            let pause = wakes.into_iter().flatten().min().map_or(LONGEST_PAUSE, |at| {
                at.duration_since(now).try_into().unwrap_or(Duration::ZERO)
            });
            tokio::select! {
                changed = self.updates.changed() => if changed.is_err() { return } else { self.take_update() },
                () = self.wake.notified() => {}
                change = self.changes.recv() => self.take_change(change),
                // Its sender lives as long as the node.
                _ = self.room.changed(), if matches!(self.observed.resize, Resize::Deferred(_)) => {}
                Some(outcome) = self.running.next(), if !self.running.is_empty() => self.take_outcome(outcome).await,
                () = tokio::time::sleep(pause.min(LONGEST_PAUSE)) => {}
            }
        }
    }

    /// Reads what the runtime knows of the sandbox.
    async fn look(&mut self) {
        if !matches!(self.observed.sandbox, Sandbox::Ready { .. }) {
            return;
        }
        match self.shared.containers.sandbox(&self.uid).await {
            Ok(Some(sandbox)) => {
                for state in sandbox.containers {
                    let container = self.observed.containers.entry(state.name.clone()).or_default();
                    if container.take(state.clone()) && state.exit.is_some() {
                        self.ended(state);
                    }
                }
            }
            Ok(None) if self.observed.ending < Ending::Removing => {
                tracing::warn!(pod = self.uid, "the sandbox is gone, and its containers with it");
                self.observed.lose_sandbox((self.shared.now)());
                self.note(None, Severity::Normal, SANDBOX_CHANGED.0, SANDBOX_CHANGED.1);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(
                pod = self.uid,
                error = error.message,
                "the sandbox could not be looked at"
            ),
        }
    }

    /// A container has just ended: says so, and begins to read what it said. Its restart waits for neither.
    fn ended(&mut self, state: ContainerState) {
        let Some((role, definition)) = self.definition(&state.name) else {
            return;
        };
        let code = state.exit.as_ref().map_or(0, |exit| exit.code);
        let ending = decide::is_ending(&self.pod, &self.observed);
        let Some(container) = self.observed.containers.get_mut(&state.name) else {
            return;
        };
        if definition.image_pull_policy.as_deref() == Some("Always") && !container.replaced {
            // The next attempt asks the registry again, as the kubelet does.
            container.image = Image::Unresolved;
        }
        let container = &*container;
        let delay = backoff::restart_delay(container.crashes);
        if let Some(spec) = &self.pod.spec
            && !delay.is_zero()
            && !ending
            && decide::goes_on(spec, &definition, role, container, code)
        {
            let (name, namespace) = self.names();
            let message = format!(
                "Back-off restarting failed container {} in pod {name}_{namespace}({})",
                state.name, self.uid
            );
            self.note(Some(&state.name), Severity::Warning, "BackOff", message);
        }
        self.read_last_words(definition, state);
    }

    /// Draws the conclusions that need nothing but what is known.
    fn settle(&mut self) {
        let pod = self.pod.clone();
        let Some(spec) = &pod.spec else { return };
        for (_, definition) in roles::all(spec) {
            let Some(container) = self.observed.containers.get_mut(&definition.name) else {
                continue;
            };
            if !container.running() {
                continue;
            }
            let has_hook = definition
                .lifecycle
                .as_ref()
                .is_some_and(|lifecycle| lifecycle.post_start.is_some());
            if !has_hook {
                container.hook = Hook::Done;
            }
            container.started |= definition.startup_probe.is_none();
            container.ready |= container.started && definition.readiness_probe.is_none();
        }
        self.settle_resize(spec);
        if matches!(self.observed.sandbox, Sandbox::Ready { .. }) && decide::is_initialized(spec, &self.observed) {
            self.observed.initialized = true;
        }
    }

    /// Decides and begins what was decided; returns when to decide again.
    fn act(&mut self, now: Timestamp) -> Option<Timestamp> {
        for _ in 0..ROUNDS {
            let decision = decide::decide(&self.pod, &self.observed, now);
            let since = self.observed.stopping_since;
            self.observed.stopping_since = decision.stops.then(|| since.unwrap_or(now));
            if decision.actions.is_empty() {
                return decision.wake;
            }
            for action in decision.actions {
                self.begin(action, now);
            }
            if self.observed.ending == Ending::Finished {
                return None;
            }
        }
        tracing::error!(pod = self.uid, "decisions do not settle; pausing a second");
        now.checked_add(Duration::from_secs(1)).ok()
    }

    fn begin(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::CreateSandbox => self.create_sandbox(now),
            Action::PrepareVolumes => self.prepare_volumes(),
            Action::ResolveImage(name) => self.resolve_image(name),
            Action::StartContainer(name) => self.start_container(name),
            Action::RunPostStart(name) => self.run_post_start(name),
            Action::Resize => self.resize(),
            Action::StopContainer {
                container,
                grace,
                message,
            } => self.stop_container(container, grace, message, now),
            Action::Replace { container, grace } => {
                self.container(&container).replaced = true;
                let message = format!("Container {container} definition changed, will be restarted");
                self.stop_container(container, grace, message, now);
            }
            Action::Fail { reason, message } => {
                let severity = if reason == "DeadlineExceeded" {
                    Severity::Normal
                } else {
                    Severity::Warning
                };
                self.note(None, severity, &reason, message.clone());
                self.observed.failed = Some((reason, message));
            }
            Action::RestartAll => {
                let kept = self.pod.spec.as_ref().map(|spec| roles::names(spec, Role::Ephemeral));
                self.observed.restart_all_but(&kept.unwrap_or_default());
            }
            Action::ReplaceSandbox => {
                self.observed.outdated = false;
                self.observed.lose_sandbox(now);
                self.made_sandbox = true;
            }
            Action::CloseSandbox => self.close_sandbox(),
            Action::Drain => self.drain(),
            Action::Remove => self.remove(),
            Action::Finish => self.finish(now),
        }
    }

    fn take_update(&mut self) {
        let update = self.updates.borrow_and_update().clone();
        self.observed.gone |= update.gone;
        if static_pods::api_uid(&update.pod) != static_pods::api_uid(&self.pod) {
            // Another object shows this pod now, and says nothing of it yet.
            self.written = update.pod.status.clone().unwrap_or_default();
        } else if let Some(status) = &update.pod.status {
            self.take_foreign_conditions(status);
        }
        let count = |pod: &Pod| pod.spec.iter().flat_map(roles::all).count();
        if count(&self.pod) != count(&update.pod) && !self.observed.gone {
            // A container to debug it by may refer to more.
            let namespace = update.pod.metadata.namespace.as_deref().unwrap_or_default();
            let needed = References::of_pod(&update.pod);
            self.following = self.shared.changes.follow(namespace, &needed);
        }
        self.pod = update.pod;
    }

    fn take_change(&mut self, change: Result<Change, broadcast::error::RecvError>) {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let (all, change) = match change {
            Ok(change) if change.namespace() != namespace => return,
            Ok(change) => (false, Some(change)),
            Err(broadcast::error::RecvError::Lagged(_)) => (true, None),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let concerns =
            |references: &References| all || change.as_ref().is_some_and(|change| references.includes(change));
        if concerns(&self.references) {
            match &mut self.observed.volumes {
                Step::Failed(failure) => failure.retry_at = failure.failed_at,
                Step::Doing => self.volumes_stale = true,
                Step::Done => self.refresh_volumes(),
                Step::Todo => {}
            }
        }
        let pod = self.pod.clone();
        for (_, definition) in pod.spec.iter().flat_map(roles::all) {
            let failed = self
                .observed
                .containers
                .get_mut(&definition.name)
                .and_then(|container| container.failure.as_mut());
            if let Some(failure) = failed.filter(|_| concerns(&References::of_env(&definition))) {
                failure.retry_at = failure.failed_at;
            }
        }
    }

    fn definition(&self, name: &str) -> Option<(Role, ContainerDef)> {
        let (role, found) = roles::find(self.pod.spec.as_ref()?, name)?;
        Some((role, found.into_owned()))
    }

    fn names(&self) -> (String, String) {
        (
            self.pod.metadata.name.clone().unwrap_or_default(),
            self.pod.metadata.namespace.clone().unwrap_or_default(),
        )
    }

    fn note(&self, container: Option<&str>, severity: Severity, reason: &str, message: impl Into<String>) {
        self.shared.events.note(&self.pod, container, severity, reason, message);
    }

    fn container(&mut self, name: &str) -> &mut Container {
        self.observed.containers.entry(name.to_owned()).or_default()
    }

    fn on_host_network(&self) -> bool {
        self.shared.addresses.is_none()
            || self
                .pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.host_network == Some(true))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.allocations.take_back(&self.uid);
    }
}

/// Makes the next failure of a step after the one before.
fn failure(
    before: Option<&Failure>,
    reason: &str,
    message: String,
    delay: fn(u32) -> Duration,
    now: Timestamp,
) -> Failure {
    let count = before.map_or(0, |before| before.count).saturating_add(1);
    let retry_at = now.checked_add(delay(count)).unwrap_or(now);
    Failure {
        reason: reason.to_owned(),
        message,
        count,
        failed_at: now,
        retry_at,
    }
}

/// Takes a busy mark away unless another operation has set a newer one.
fn unbusy(container: &mut Container, busy: fn(&Busy) -> bool) {
    if container.busy.as_ref().is_some_and(busy) {
        container.busy = None;
    }
}

/// Returns whether an image step stands at a failure, for counting on from there.
fn image_failure(image: &Image) -> Option<&Failure> {
    match image {
        Image::Failed(failure) => Some(failure),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
