//! What a pod's status is, as Kubernetes shows it: a pure function of the object, what was observed and the status before (whose
//! transition times are kept where nothing changed).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as ContainerDef, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use setpoint_net::AddressPair;
use setpoint_runtime::spec::ContainerState;

use crate::backoff;
use crate::decide::{self, SHOW_PULL_ERROR};
use crate::observed::{Busy, Container, EVICTED, Ending, Hook, Image, Observed, Resize, Sandbox, Step};
use crate::resize;
use crate::resources;
use crate::roles::{self, Role};

/// How long the last words of all containers of a pod may be, in bytes.
const MESSAGES_LIMIT: usize = 12 << 10;

/// The conditions that the agent always has, in the order in which they are written.
pub const OWN_CONDITIONS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// The condition of a pod that is ended for others' sake; whoever writes it first is believed.
const DISRUPTED: &str = "DisruptionTarget";
/// The condition of a pod that a rule of one of its containers can restart.
const RESTARTING_ALL: &str = "AllContainersRestarting";

/// Returns whether a condition is the agent's own.
pub fn is_own(condition: &str) -> bool {
    OWN_CONDITIONS.contains(&condition) || [resize::PENDING, resize::IN_PROGRESS, RESTARTING_ALL].contains(&condition)
}

/// Makes the status of a pod.
pub fn build(pod: &Pod, observed: &Observed, old: &PodStatus, host: AddressPair, now: Timestamp) -> PodStatus {
    let Some(spec) = &pod.spec else { return old.clone() };
    let view = View {
        pod,
        spec,
        observed,
        old,
        now,
        ending: decide::is_ending(pod, observed),
        restarts_all: decide::restarts_all(spec, observed),
    };
    let mains: Vec<ContainerStatus> = spec
        .containers
        .iter()
        .map(|container| view.container(container, Role::Main))
        .collect();
    let inits: Vec<ContainerStatus> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| view.container(container, Role::Init))
        .collect();
    let ephemeral: Vec<ContainerStatus> = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|container| view.container(&roles::as_container(container), Role::Ephemeral))
        .collect();
    let phase = view.told_phase(&inits, &mains);
    let pod_ips = match observed.sandbox {
        // On the host's network a pod has the host's addresses.
        Sandbox::Ready { addresses } => Some(shown(addresses.unwrap_or(host), |ip| PodIP { ip })),
        // Kubernetes keeps showing the address of a pod that has ended.
        _ if observed.ending >= Ending::Removing || is_terminal(&phase) => old.pod_ips.clone(),
        _ => None,
    };
    let conditions = view.conditions(&phase, &inits, &mains);
    let (reason, message) = match &observed.failed {
        Some((reason, message)) if is_terminal(&phase) => (Some(reason.clone()), Some(message.clone())),
        _ => (old.reason.clone(), old.message.clone()),
    };
    PodStatus {
        phase: Some(phase),
        reason,
        message,
        conditions: Some(conditions),
        container_statuses: Some(mains),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        host_ip: Some(host.first().to_string()),
        host_ips: Some(shown(host, |ip| HostIP { ip })),
        pod_ip: pod_ips.iter().flatten().next().map(|first| first.ip.clone()),
        pod_ips,
        start_time: old.start_time.clone().or(observed.started_at.map(whole_seconds)),
        qos_class: Some(resources::qos_class(spec).to_owned()),
        observed_generation: pod.metadata.generation.or(old.observed_generation),
        ..old.clone()
    }
}

fn shown<T>(addresses: AddressPair, form: impl Fn(String) -> T) -> Vec<T> {
    addresses.all().map(|ip| form(ip.to_string())).collect()
}

/// Returns the id of an attempt as the API shows it.
pub fn container_id(pod_uid: &str, state: &ContainerState) -> String {
    format!("setpoint://{pod_uid}-{}", state.id())
}

/// Returns whether a status says no more than that the pod is on its way, so that it may wait a moment for better news.
pub fn is_only_beginning(status: &PodStatus) -> bool {
    let all = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    all.map(|container| container.state.as_ref().and_then(|state| state.waiting.as_ref()))
        .all(|waiting| {
            waiting.is_some_and(|waiting| {
                matches!(waiting.reason.as_deref(), Some("ContainerCreating" | "PodInitializing"))
            })
        })
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

struct View<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    observed: &'a Observed,
    old: &'a PodStatus,
    now: Timestamp,
    ending: bool,
    /// Whether a container has ended in such a way that all are restarted.
    restarts_all: bool,
}

impl View<'_> {
    fn container(&self, definition: &ContainerDef, role: Role) -> ContainerStatus {
        let fresh = Container::default();
        let known = self.observed.containers.get(&definition.name).unwrap_or(&fresh);
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let stays = role != Role::Init || decide::is_sidecar(definition);
        let room = self.message_room();
        let terminated = |state: &ContainerState| terminated(uid, state, known, room);
        let (state, last) = match &known.current {
            None => (waiting(self.first_wait(definition, known, role)), None),
            Some(current) => match &current.exit {
                None => {
                    let running = ContainerStateRunning {
                        started_at: Some(whole_seconds(current.started_at)),
                    };
                    let state = ApiState {
                        running: Some(running),
                        ..ApiState::default()
                    };
                    (state, known.previous.as_ref().and_then(terminated))
                }
                Some(exit) => match self.wait_after_exit(definition, known, role, exit.code) {
                    Some(wait) => (waiting(wait), terminated(current)),
                    None => (
                        terminated(current).unwrap_or_default(),
                        known.previous.as_ref().and_then(terminated),
                    ),
                },
            },
        };
        let running = known.running();
        let started = running && known.started && known.hook == Hook::Done;
        let ready = if role == Role::Ephemeral {
            false
        } else if stays {
            started && known.ready && self.observed.failed.is_none()
        } else {
            !known.stale && known.exit().is_some_and(|exit| exit.code == 0)
        };
        // What debugs a pod and what has ended uses nothing that could be changed.
        let applied = known
            .applied
            .as_ref()
            .filter(|_| running && stays && role != Role::Ephemeral);
        ContainerStatus {
            name: definition.name.clone(),
            image: self.image(definition, known),
            image_id: self.image_id(definition, known),
            container_id: known.current.as_ref().map(|current| container_id(uid, current)),
            restart_count: i32::try_from(known.next_attempt.saturating_sub(1)).unwrap_or(i32::MAX),
            started: (role != Role::Ephemeral).then_some(started && stays),
            ready,
            state: Some(state),
            last_state: Some(last.unwrap_or_default()),
            stop_signal: definition
                .lifecycle
                .as_ref()
                .and_then(|lifecycle| lifecycle.stop_signal.clone()),
            allocated_resources: applied.and_then(|applied| applied.requests.clone()),
            resources: applied.cloned(),
            ..ContainerStatus::default()
        }
    }

    /// How long the last words of one container may be: a pod's share an amount.
    fn message_room(&self) -> usize {
        MESSAGES_LIMIT / roles::all(self.spec).count().max(1)
    }

    /// Returns the reference that the newest attempt is of; before the first that of the object.
    fn image(&self, definition: &ContainerDef, known: &Container) -> String {
        known
            .reference
            .clone()
            .filter(|_| known.current.is_some())
            .or_else(|| definition.image.clone())
            .unwrap_or_default()
    }

    fn image_id(&self, definition: &ContainerDef, known: &Container) -> String {
        let Some(current) = &known.current else {
            return String::new();
        };
        if let Image::Ready(image) = &known.image
            && image.id == current.image
        {
            return crate::images::image_id(&self.image(definition, known), image);
        }
        let all = self
            .old
            .container_statuses
            .iter()
            .flatten()
            .chain(self.old.init_container_statuses.iter().flatten())
            .chain(self.old.ephemeral_container_statuses.iter().flatten());
        let known_before = all.filter(|status| status.name == definition.name && !status.image_id.is_empty());
        known_before
            .map(|status| status.image_id.clone())
            .next()
            .unwrap_or_else(|| current.image.clone())
    }

    /// Why a container that never ran does not run.
    fn first_wait(&self, definition: &ContainerDef, known: &Container, role: Role) -> (String, Option<String>) {
        if role == Role::Main && !decide::is_initialized(self.spec, self.observed) {
            return ("PodInitializing".to_owned(), self.obstacle());
        }
        if let Some(wait) = self.problem(definition, known) {
            return wait;
        }
        let has_init = self
            .spec
            .init_containers
            .as_ref()
            .is_some_and(|containers| !containers.is_empty());
        let reason = if has_init {
            "PodInitializing"
        } else {
            "ContainerCreating"
        };
        (reason.to_owned(), self.obstacle())
    }

    /// What keeps all containers of the pod from starting.
    fn obstacle(&self) -> Option<String> {
        let sandbox = match &self.observed.sandbox {
            Sandbox::Failed(failure) => Some(failure),
            _ => None,
        };
        let volumes = match &self.observed.volumes {
            Step::Failed(failure) => Some(failure),
            _ => None,
        };
        sandbox.or(volumes).map(|failure| failure.message.clone())
    }

    /// Why a container that ended is not running again yet; `None` while it counts as ended.
    fn wait_after_exit(
        &self,
        definition: &ContainerDef,
        known: &Container,
        role: Role,
        code: i32,
    ) -> Option<(String, Option<String>)> {
        let anew = role != Role::Ephemeral && (known.anew || self.restarts_all);
        if self.ending
            || self.observed.failed.is_some()
            || !(anew || decide::goes_on(self.spec, definition, role, known, code))
        {
            return None;
        }
        if let Some(wait) = self.problem(definition, known) {
            return Some(wait);
        }
        if known.restart_at().is_none_or(|at| at <= self.now) {
            return anew.then(|| ("RestartingAllContainers".to_owned(), None));
        }
        let delay = backoff::restart_delay(known.crashes);
        let message = format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            go_duration(delay),
            definition.name,
            self.pod.metadata.name.as_deref().unwrap_or_default(),
            self.pod.metadata.namespace.as_deref().unwrap_or_default(),
            self.pod.metadata.uid.as_deref().unwrap_or_default(),
        );
        Some(("CrashLoopBackOff".to_owned(), Some(message)))
    }

    fn problem(&self, definition: &ContainerDef, known: &Container) -> Option<(String, Option<String>)> {
        if let Image::Failed(failure) = &known.image {
            let shown_until = failure.failed_at.checked_add(SHOW_PULL_ERROR).unwrap_or(self.now);
            if failure.reason == "ErrImagePull" && shown_until <= self.now {
                let image = definition.image.as_deref().unwrap_or_default();
                let message = format!(
                    "Back-off pulling image \"{image}\": {}: {}",
                    failure.reason, failure.message
                );
                return Some(("ImagePullBackOff".to_owned(), Some(message)));
            }
            return Some((failure.reason.clone(), Some(failure.message.clone())));
        }
        known
            .failure
            .as_ref()
            .map(|failure| (failure.reason.clone(), Some(failure.message.clone())))
    }

    /// The phase as it is told: a pod has ended when none of its containers runs any more, so that nobody gives away what they use.
    fn told_phase(&self, inits: &[ContainerStatus], mains: &[ContainerStatus]) -> String {
        let phase = self.phase(inits, mains);
        let runs = |known: &Container| known.running() || known.busy == Some(Busy::Starting);
        if is_terminal(&phase) && self.observed.containers.values().any(runs) {
            let before = self.old.phase.clone();
            return before.unwrap_or_else(|| "Pending".to_owned());
        }
        phase
    }

    /// The phase by Kubernetes' rules (`getPhase` of the kubelet). What has ended stays ended.
    fn phase(&self, inits: &[ContainerStatus], mains: &[ContainerStatus]) -> String {
        if let Some(phase) = self.old.phase.as_deref().filter(|phase| is_terminal(phase)) {
            return phase.to_owned();
        }
        if self.observed.failed.is_some() {
            return "Failed".to_owned();
        }
        let fresh = Container::default();
        let goes_on = |definition: &ContainerDef, role: Role, code: i32| {
            let known = self.observed.containers.get(&definition.name).unwrap_or(&fresh);
            decide::goes_on(self.spec, definition, role, known, code)
        };
        let is_terminal = self.observed.ending >= Ending::Removing;
        let definitions = self.spec.init_containers.iter().flatten();
        let mut pending = 0;
        for (status, definition) in inits
            .iter()
            .zip(definitions)
            .filter(|(_, definition)| !decide::is_sidecar(definition))
        {
            match exit_of(status) {
                Some(0) => {}
                Some(code) if !goes_on(definition, Role::Init, code) => return "Failed".to_owned(),
                Some(_) | None => pending += 1,
            }
            debug_assert_eq!(status.name, definition.name);
        }
        let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
        let mut one_goes_on = false;
        for (status, definition) in mains.iter().zip(&self.spec.containers) {
            let state = status.state.clone().unwrap_or_default();
            if state.running.is_some() {
                running += 1;
            } else if let Some(exit) = exit_of(status) {
                stopped += 1;
                one_goes_on |= goes_on(definition, Role::Main, exit);
                succeeded += i32::from(exit == 0 && state.terminated.is_some());
            } else {
                waiting += 1;
            }
        }
        let all_succeeded = stopped == succeeded;
        let phase = if is_terminal && running == 0 {
            if stopped > 0 && all_succeeded && waiting == 0 {
                "Succeeded"
            } else {
                "Failed"
            }
        } else if pending > 0 && running + stopped == 0 || waiting > 0 {
            "Pending"
        } else if running > 0 {
            "Running"
        } else if stopped == 0 {
            "Pending"
        } else if one_goes_on {
            "Running"
        } else if all_succeeded {
            "Succeeded"
        } else {
            "Failed"
        };
        phase.to_owned()
    }

    fn conditions(&self, phase: &str, inits: &[ContainerStatus], mains: &[ContainerStatus]) -> Vec<PodCondition> {
        let stands = matches!(self.observed.sandbox, Sandbox::Ready { .. });
        let unready: Vec<&str> = mains
            .iter()
            .filter(|status| !status.ready)
            .map(|status| status.name.as_str())
            .collect();
        let sidecars = self
            .spec
            .init_containers
            .iter()
            .flatten()
            .filter(|container| decide::is_sidecar(container));
        let unready_sidecars = sidecars
            .filter(|container| {
                inits
                    .iter()
                    .any(|status| status.name == container.name && !status.ready)
            })
            .map(|container| container.name.as_str());
        let unready: Vec<&str> = unready_sidecars.chain(unready).collect();
        let containers_ready = match phase {
            "Succeeded" => Verdict::no("PodCompleted", None),
            "Failed" => Verdict::no("PodFailed", None),
            _ if unready.is_empty() => Verdict::yes(),
            _ => {
                let message = format!("containers with unready status: [{}]", unready.join(" "));
                Verdict::no("ContainersNotReady", Some(message))
            }
        };
        let ready = if containers_ready.status {
            self.gates()
        } else {
            containers_ready.clone()
        };
        let initialized = if phase == "Succeeded" {
            Verdict {
                status: true,
                reason: Some("PodCompleted".to_owned()),
                message: None,
            }
        } else if decide::is_initialized(self.spec, self.observed)
            || self.observed.containers.values().any(|known| known.anew)
        {
            // One that begins anew stays what it was.
            Verdict::yes()
        } else {
            let missing: Vec<&str> = inits
                .iter()
                .filter(|status| !status.ready)
                .map(|status| status.name.as_str())
                .collect();
            let message = format!("containers with incomplete status: [{}]", missing.join(" "));
            Verdict::no("ContainersNotInitialized", Some(message))
        };
        let stands = Verdict {
            status: stands,
            reason: None,
            message: None,
        };
        let own = [stands, initialized, ready, containers_ready];
        let mut all: Vec<PodCondition> = OWN_CONDITIONS
            .iter()
            .zip(own)
            .map(|(name, verdict)| self.condition(name, verdict))
            .collect();
        let foreign = self
            .old
            .conditions
            .iter()
            .flatten()
            .filter(|condition| !is_own(&condition.type_));
        let resizing = match &self.observed.resize {
            Resize::Settled => None,
            Resize::Infeasible(message) => Some((resize::PENDING, Some("Infeasible"), Some(message))),
            Resize::Deferred(message) => Some((resize::PENDING, Some("Deferred"), Some(message))),
            Resize::Doing => Some((resize::IN_PROGRESS, None, None)),
            Resize::Failed(failure) => Some((resize::IN_PROGRESS, Some("Error"), Some(&failure.message))),
        };
        if let Some((name, reason, message)) = resizing {
            let verdict = Verdict {
                status: true,
                reason: reason.map(str::to_owned),
                message: message.cloned(),
            };
            all.push(self.condition(name, verdict));
        }
        let evicted = self.observed.failed.as_ref().filter(|(reason, _)| reason == EVICTED);
        let told = self
            .old
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == DISRUPTED);
        if let Some((_, message)) = evicted.filter(|_| !told) {
            let verdict = Verdict {
                status: true,
                reason: Some("TerminationByKubelet".to_owned()),
                message: Some(message.clone()),
            };
            all.push(self.condition(DISRUPTED, verdict));
        }
        if decide::may_restart_all(self.spec) {
            all.push(self.condition(RESTARTING_ALL, self.restarting_all(phase)));
        }
        all.extend(foreign.cloned());
        all
    }

    fn restarting_all(&self, phase: &str) -> Verdict {
        let (status, reason, message) = match phase {
            "Succeeded" => (false, Some("PodCompleted"), None),
            "Failed" => (false, Some("PodFailed"), None),
            _ if self.restarts_all => (
                true,
                Some("RestartAllContainersStarted"),
                Some("container exited with restart policy rule"),
            ),
            _ => (false, None, None),
        };
        Verdict {
            status,
            reason: reason.map(str::to_owned),
            message: message.map(str::to_owned),
        }
    }

    fn gates(&self) -> Verdict {
        // The object's conditions, not the ones that were written last: the gates are other people's.
        let conditions = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        let mut unmet = Vec::new();
        for gate in self.spec.readiness_gates.iter().flatten() {
            let name = &gate.condition_type;
            match conditions.iter().find(|condition| condition.type_ == *name) {
                None => unmet.push(format!(
                    "corresponding condition of pod readiness gate \"{name}\" does not exist."
                )),
                Some(condition) if condition.status != "True" => {
                    unmet.push(format!(
                        "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                        condition.status
                    ));
                }
                Some(_) => {}
            }
        }
        if unmet.is_empty() {
            Verdict::yes()
        } else {
            Verdict::no("ReadinessGatesNotReady", Some(unmet.join(", ")))
        }
    }

    fn condition(&self, name: &str, verdict: Verdict) -> PodCondition {
        let status = if verdict.status { "True" } else { "False" };
        let before = self
            .old
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == name);
        let unchanged = before.filter(|condition| condition.status == status);
        let since = unchanged.and_then(|condition| condition.last_transition_time.clone());
        PodCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason,
            message: verdict.message,
            last_transition_time: since.or(Some(whole_seconds(self.now))),
            last_probe_time: None,
            observed_generation: self.pod.metadata.generation,
        }
    }
}

#[derive(Clone)]
struct Verdict {
    status: bool,
    reason: Option<String>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self {
            status: true,
            reason: None,
            message: None,
        }
    }

    fn no(reason: &str, message: Option<String>) -> Self {
        Self {
            status: false,
            reason: Some(reason.to_owned()),
            message,
        }
    }
}

/// The exit code of a container that has ended and does not run again yet.
fn exit_of(status: &ContainerStatus) -> Option<i32> {
    let state = status.state.as_ref()?;
    if state.running.is_some() {
        return None;
    }
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    state
        .terminated
        .as_ref()
        .or(last)
        .map(|terminated| terminated.exit_code)
}

fn waiting((reason, message): (String, Option<String>)) -> ApiState {
    ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason),
            message,
        }),
        ..ApiState::default()
    }
}

fn terminated(uid: &str, state: &ContainerState, known: &Container, room: usize) -> Option<ApiState> {
    let exit = state.exit.as_ref()?;
    let unstarted = known.unstarted.contains(&state.attempt);
    let reason = match () {
        () if unstarted => "StartError",
        () if exit.oom_killed => "OOMKilled",
        () if exit.code == 0 => "Completed",
        () => "Error",
    };
    let ended = ContainerStateTerminated {
        container_id: Some(container_id(uid, state)),
        exit_code: exit.code,
        signal: None,
        reason: Some(reason.to_owned()),
        message: known
            .messages
            .get(&state.attempt)
            .filter(|message| !message.is_empty())
            .map(|message| cut(message, room).to_owned()),
        started_at: Some(whole_seconds(state.started_at)),
        finished_at: Some(whole_seconds(exit.finished_at)),
    };
    Some(ApiState {
        terminated: Some(ended),
        ..ApiState::default()
    })
}

/// Cuts a text to so many bytes, at the end of a character.
fn cut(text: &str, room: usize) -> &str {
    let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Cuts a time to whole seconds, as the API stores it: what is compared must survive the way there and back.
pub fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Writes a duration of whole seconds as Go does (`10s`, `2m40s`, `5m0s`).
pub(crate) fn go_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{}s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests;
