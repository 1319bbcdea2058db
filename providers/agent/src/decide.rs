//! What to do next for a pod: a pure function from the object and what was observed. It is asked again after every event; an action that is
//! under way is part of what was observed, so nothing is begun twice.
//!
//! Order: sandbox, volumes and images side by side; init containers one after another (those with `restartPolicy: Always` stay
//! and only have to have started); then all others at once. Containers to debug the pod by run once, as soon as its sandbox stands.
//! At the end: drain, preStop and stop, the sidecars last in reverse order, remove, forget.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerDef, ContainerRestartRule, Pod, PodSpec};

use crate::observed::{
    Busy, Container, EVICTED, EVICTION_GRACE, Ending, Failure, Hook, Image, Observed, Resize, Sandbox, Step,
};
use crate::resize;
use crate::roles::{self, Role};

/// The grace for a pod that is no longer in the API.
const GRACE_WHEN_GONE: Duration = Duration::from_secs(2);
/// What a sidecar has at least, however much of the pod's grace is used up.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// Kubernetes' default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE_SECONDS: i64 = 30;
/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`.
pub const SHOW_PULL_ERROR: Duration = Duration::from_secs(2);

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the sandbox.
    CreateSandbox,
    /// Write the pod's volumes and generated files.
    PrepareVolumes,
    /// Look for a container's image, fetching it as its pull policy says.
    ResolveImage(String),
    /// Start a container's next attempt.
    StartContainer(String),
    /// Run the postStart hook of a container that was just started.
    RunPostStart(String),
    /// Give running containers the limits that the object asks for.
    Resize,
    /// Stop a container, of which the object asks for another image, to start it from that.
    Replace {
        /// Which one.
        container: String,
        /// How long it may take, the preStop hook included.
        grace: Duration,
    },
    /// Stop a container.
    StopContainer {
        /// Which one.
        container: String,
        /// How long it may take, the preStop hook included.
        grace: Duration,
        /// The message of the event.
        message: String,
    },
    /// Give the pod up as failed.
    Fail {
        /// The status' reason.
        reason: String,
        /// The status' message.
        message: String,
    },
    /// Give the sandbox up, of which no container runs any more, to have it made anew.
    ReplaceSandbox,
    /// Begin anew with every container; none of them runs any more.
    RestartAll,
    /// End the sandbox of a pod whose containers have ended for good.
    CloseSandbox,
    /// Lead new connections elsewhere.
    Drain,
    /// Remove the sandbox, its files and its address.
    Remove,
    /// Report the last status and let the API forget the pod.
    Finish,
}

/// What to do and when to ask again if nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The actions, all to be begun now.
    pub actions: Vec<Action>,
    /// When to ask again.
    pub wake: Option<Timestamp>,
    /// Whether all containers are being stopped.
    pub stops: bool,
}

impl Decision {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// Returns whether a failed step may be tried again, and else notes when.
    fn may_retry(&mut self, failure: &Failure, now: Timestamp) -> bool {
        if failure.retry_at <= now {
            return true;
        }
        self.wake_at(failure.retry_at);
        false
    }
}

/// Says what to do next.
pub fn decide(pod: &Pod, observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let Some(spec) = &pod.spec else { return decision };
    if is_ending(pod, observed) {
        end(&mut decision, pod, spec, observed, now);
    } else if observed.failed.is_some() {
        complete(&mut decision, pod, spec, observed, now);
    } else if let Some(deadline) = active_deadline(pod, spec, observed).filter(|_| !is_over(pod, spec, observed)) {
        if deadline <= now {
            decision.actions.push(Action::Fail {
                reason: "DeadlineExceeded".to_owned(),
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
            });
        } else {
            decision.wake_at(deadline);
            run(&mut decision, pod, spec, observed, now);
        }
    } else {
        run(&mut decision, pod, spec, observed, now);
    }
    decision
}

/// Returns whether the pod is to be ended.
pub fn is_ending(pod: &Pod, observed: &Observed) -> bool {
    observed.gone || pod.metadata.deletion_timestamp.is_some()
}

/// Returns how long the pod's containers may take to stop.
pub fn grace(pod: &Pod, observed: &Observed) -> Duration {
    let spec_grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let asked = pod.metadata.deletion_grace_period_seconds.or(spec_grace);
    let grace = seconds(asked.unwrap_or(DEFAULT_GRACE_SECONDS));
    if observed.failed.as_ref().is_some_and(|(reason, _)| reason == EVICTED) {
        grace.min(EVICTION_GRACE)
    } else if observed.gone {
        grace.min(GRACE_WHEN_GONE)
    } else {
        grace
    }
}

/// Returns whether a container that ended is started again: by its own rules, its own policy, or the pod's.
pub fn restarts(spec: &PodSpec, container: &ContainerDef, role: Role, exit_code: i32) -> bool {
    if role == Role::Ephemeral {
        return false;
    }
    if is_sidecar(container) && role == Role::Init {
        return true;
    }
    // An init container that succeeded is done, whatever the policy.
    if role == Role::Init && exit_code == 0 {
        return false;
    }
    let own = container.restart_policy.as_deref();
    if own.is_some()
        && rule(container, exit_code).is_some_and(|rule| ["Restart", RESTART_ALL].contains(&rule.action.as_str()))
    {
        return true;
    }
    match own.or(spec.restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        _ => true,
    }
}

/// Returns whether a container that ended with this code is followed by another attempt.
pub fn goes_on(spec: &PodSpec, container: &ContainerDef, role: Role, known: &Container, exit_code: i32) -> bool {
    known.replaced || (known.anew && role != Role::Ephemeral) || restarts(spec, container, role, exit_code)
}

/// Returns whether the pod's sandbox may be made anew for a container: not where that would end another one that is not started again.
pub fn may_replace_sandbox(spec: &PodSpec, observed: &Observed, container: &str) -> bool {
    let wanted = roles::find(spec, container).is_some_and(|(role, _)| role != Role::Ephemeral);
    let goes_on = |(role, definition): (Role, std::borrow::Cow<'_, ContainerDef>)| {
        let runs = observed
            .containers
            .get(&definition.name)
            .is_some_and(Container::running);
        !runs || role == Role::Ephemeral || restarts(spec, &definition, role, 0)
    };
    wanted && roles::all(spec).all(goes_on)
}

/// The action of a rule that restarts every container of the pod.
const RESTART_ALL: &str = "RestartAllContainers";

/// Returns whether a container has ended in such a way that all are to be restarted, and that has not been begun yet.
pub fn restarts_all(spec: &PodSpec, observed: &Observed) -> bool {
    let asks = |(role, definition): (Role, std::borrow::Cow<'_, ContainerDef>)| {
        let known = observed.containers.get(&definition.name).filter(|known| !known.anew);
        let exit = known.and_then(Container::exit).filter(|_| role != Role::Ephemeral);
        exit.is_some_and(|exit| rule(&definition, exit.code).is_some_and(|rule| rule.action == RESTART_ALL))
    };
    roles::all(spec).any(asks)
}

/// Returns whether a pod can be restarted by a rule of one of its containers.
pub fn may_restart_all(spec: &PodSpec) -> bool {
    let has_rule = |definition: &ContainerDef| {
        let mut rules = definition.restart_policy_rules.iter().flatten();
        rules.any(|rule| rule.action == RESTART_ALL)
    };
    roles::all(spec).any(|(_, definition)| has_rule(&definition))
}

/// Returns the rule of the container's own that says what is done after this exit code.
fn rule(container: &ContainerDef, exit_code: i32) -> Option<&ContainerRestartRule> {
    let matches = |rule: &&ContainerRestartRule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    // The first rule that matches says what is done.
    let mut rules = container.restart_policy_rules.iter().flatten();
    rules.find(matches)
}

/// Returns whether an init container is one that stays.
pub fn is_sidecar(container: &ContainerDef) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Returns whether every main container has ended for good, or an init container has failed for good.
pub fn is_over(pod: &Pod, spec: &PodSpec, observed: &Observed) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return true;
    }
    let ended = |container: &ContainerDef, role: Role| {
        let known = observed.containers.get(&container.name);
        known.is_some_and(|known| {
            known
                .exit()
                .is_some_and(|exit| !goes_on(spec, container, role, known, exit.code))
        })
    };
    let init_failed = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| !is_sidecar(container))
        .any(|container| {
            let code = observed
                .containers
                .get(&container.name)
                .and_then(Container::exit)
                .map_or(0, |exit| exit.code);
            code != 0 && ended(container, Role::Init)
        });
    init_failed || spec.containers.iter().all(|container| ended(container, Role::Main))
}

fn active_deadline(pod: &Pod, spec: &PodSpec, observed: &Observed) -> Option<Timestamp> {
    let seconds = spec.active_deadline_seconds?;
    let reported = pod
        .status
        .as_ref()
        .and_then(|status| status.start_time.as_ref())
        .map(|time| time.0);
    let started = reported.or(observed.started_at)?;
    started
        .checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
        .ok()
}

fn run(decision: &mut Decision, pod: &Pod, spec: &PodSpec, observed: &Observed, now: Timestamp) {
    if is_over(pod, spec, observed) {
        complete(decision, pod, spec, observed, now);
        return;
    }
    if let (Some((reason, message)), Sandbox::Missing) = (&observed.rejected, &observed.sandbox) {
        decision.actions.push(Action::Fail {
            reason: reason.clone(),
            message: message.clone(),
        });
        return;
    }
    if observed.outdated && matches!(observed.sandbox, Sandbox::Ready { .. }) {
        if stop_everything(decision, spec, observed, grace(pod, observed), now) {
            decision.actions.push(Action::ReplaceSandbox);
        }
        return;
    }
    if restarts_all(spec, observed) && matches!(observed.sandbox, Sandbox::Ready { .. }) {
        // At once and in no order; those to debug the pod by stay.
        let mut left = false;
        for (_, container) in roles::all(spec).filter(|(role, _)| *role != Role::Ephemeral) {
            left |= stop(
                decision,
                &container,
                observed,
                Duration::ZERO,
                "Stopping container",
                now,
            );
        }
        if !left {
            decision.actions.push(Action::RestartAll);
        }
        return;
    }
    match &observed.sandbox {
        Sandbox::Missing | Sandbox::Closed => decision.actions.push(Action::CreateSandbox),
        Sandbox::Failed(failure) => {
            if decision.may_retry(failure, now) {
                decision.actions.push(Action::CreateSandbox);
            }
        }
        Sandbox::Creating | Sandbox::Ready { .. } | Sandbox::Closing | Sandbox::Removing => {}
    }
    match &observed.volumes {
        Step::Todo => decision.actions.push(Action::PrepareVolumes),
        Step::Failed(failure) => {
            if decision.may_retry(failure, now) {
                decision.actions.push(Action::PrepareVolumes);
            }
        }
        Step::Doing | Step::Done => {}
    }
    take_resize(decision, spec, observed, now);
    for container in spec.ephemeral_containers.iter().flatten().map(roles::as_container) {
        drive(decision, spec, &container, Role::Ephemeral, observed, now);
    }
    if !initialize(decision, spec, observed, now) {
        return;
    }
    for container in &spec.containers {
        drive(decision, spec, container, Role::Main, observed, now);
    }
}

fn take_resize(decision: &mut Decision, spec: &PodSpec, observed: &Observed, now: Timestamp) {
    let allowed = match &observed.resize {
        Resize::Settled => true,
        Resize::Failed(failure) => decision.may_retry(failure, now),
        Resize::Infeasible(_) | Resize::Deferred(_) | Resize::Doing => false,
    };
    if allowed && matches!(observed.sandbox, Sandbox::Ready { .. }) && !resize::changes(spec, observed).is_empty() {
        decision.actions.push(Action::Resize);
    }
}

/// Ends what served the main containers, which are done (or were reported so), and then the sandbox.
fn complete(decision: &mut Decision, pod: &Pod, spec: &PodSpec, observed: &Observed, now: Timestamp) {
    let ended = stop_everything(decision, spec, observed, grace(pod, observed), now);
    if !ended || !matches!(observed.sandbox, Sandbox::Ready { .. }) {
        return;
    }
    let allowed = match &observed.removal {
        Some(failure) => decision.may_retry(failure, now),
        None => true,
    };
    if allowed {
        decision.actions.push(Action::CloseSandbox);
    }
}

/// Drives the init containers; returns whether the main ones may run.
fn initialize(decision: &mut Decision, spec: &PodSpec, observed: &Observed, now: Timestamp) -> bool {
    for container in spec.init_containers.iter().flatten() {
        let known = observed.containers.get(&container.name);
        if is_sidecar(container) {
            drive(decision, spec, container, Role::Init, observed, now);
            let up = known.is_some_and(|known| known.running() && known.started && known.hook == Hook::Done);
            if !up && !observed.initialized {
                return false;
            }
        } else if !observed.initialized && !is_done(known) {
            drive(decision, spec, container, Role::Init, observed, now);
            return false;
        }
    }
    true
}

/// Returns whether an init container has succeeded in this sandbox.
fn is_done(known: Option<&Container>) -> bool {
    known.is_some_and(|known| !known.stale && known.exit().is_some_and(|exit| exit.code == 0))
}

/// Returns whether all init containers have done their part, so that the main ones may start.
pub fn is_initialized(spec: &PodSpec, observed: &Observed) -> bool {
    observed.initialized
        || spec.init_containers.iter().flatten().all(|container| {
            let known = observed.containers.get(&container.name);
            if is_sidecar(container) {
                known.is_some_and(|known| known.running() && known.started && known.hook == Hook::Done)
            } else {
                is_done(known)
            }
        })
}

/// Brings one container towards running, or ends it where a probe or hook wants that.
fn drive(
    decision: &mut Decision,
    spec: &PodSpec,
    container: &ContainerDef,
    role: Role,
    observed: &Observed,
    now: Timestamp,
) {
    let fresh = Container::default();
    let known = observed.containers.get(&container.name).unwrap_or(&fresh);
    if known.busy.is_some() {
        return;
    }
    if known.running() {
        if let Some(kill) = &known.kill {
            decision.actions.push(Action::StopContainer {
                container: container.name.clone(),
                grace: kill.grace_seconds.map_or_else(|| grace_of(spec), seconds),
                message: kill.message.clone(),
            });
        } else if role != Role::Ephemeral && known.is_of_another_image(container) {
            replace(decision, spec, container, known);
        } else if known.hook == Hook::Todo {
            decision.actions.push(Action::RunPostStart(container.name.clone()));
        }
        return;
    }
    let again = known.stale && role == Role::Init && !known.anew;
    if let Some(exit) = known.exit().filter(|_| !again) {
        if !goes_on(spec, container, role, known, exit.code) {
            return;
        }
        if let Some(at) = known.restart_at().filter(|at| *at > now) {
            decision.wake_at(at);
            return;
        }
    }
    let of_another = known.asked.is_some() && known.asked != container.image;
    match &known.image {
        Image::Ready(_) | Image::Failed(_) if of_another => {
            decision.actions.push(Action::ResolveImage(container.name.clone()));
        }
        Image::Unresolved => decision.actions.push(Action::ResolveImage(container.name.clone())),
        Image::Failed(failure) => {
            if decision.may_retry(failure, now) {
                decision.actions.push(Action::ResolveImage(container.name.clone()));
            } else if let Ok(at) = failure.failed_at.checked_add(SHOW_PULL_ERROR)
                && at > now
            {
                decision.wake_at(at);
            }
        }
        Image::Resolving => {}
        Image::Ready(_) => {
            let stands = matches!(observed.sandbox, Sandbox::Ready { .. }) && observed.volumes == Step::Done;
            let allowed = match &known.failure {
                Some(failure) => decision.may_retry(failure, now),
                None => true,
            };
            if stands && allowed {
                decision.actions.push(Action::StartContainer(container.name.clone()));
            }
        }
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Returns how long one container may take to stop when the pod goes on.
fn grace_of(spec: &PodSpec) -> Duration {
    seconds(spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS))
}

/// Has a container that runs started from the image that the object asks for now. It goes on until that image is at hand, or cannot be had.
fn replace(decision: &mut Decision, spec: &PodSpec, container: &ContainerDef, known: &Container) {
    match &known.image {
        Image::Resolving => {}
        Image::Ready(_) | Image::Failed(_) if known.asked == container.image => {
            decision.actions.push(Action::Replace {
                container: container.name.clone(),
                grace: grace_of(spec),
            });
        }
        Image::Unresolved | Image::Ready(_) | Image::Failed(_) => {
            decision.actions.push(Action::ResolveImage(container.name.clone()));
        }
    }
}

fn end(decision: &mut Decision, pod: &Pod, spec: &PodSpec, observed: &Observed, now: Timestamp) {
    match observed.ending {
        Ending::None => decision.actions.push(Action::Drain),
        Ending::Draining | Ending::Removing | Ending::Finished => {}
        Ending::Stopping => {
            let grace = grace(pod, observed);
            let changing = matches!(observed.sandbox, Sandbox::Creating | Sandbox::Closing);
            if !stop_everything(decision, spec, observed, grace, now) || changing {
                return;
            }
            let allowed = match &observed.removal {
                Some(failure) => decision.may_retry(failure, now),
                None => true,
            };
            if allowed {
                decision.actions.push(Action::Remove);
            }
        }
        Ending::Removed => {
            let allowed = match &observed.removal {
                Some(failure) => decision.may_retry(failure, now),
                None => true,
            };
            if allowed {
                decision.actions.push(Action::Finish);
            }
        }
    }
}

/// Stops the main containers and those to debug them by, then the init containers in reverse order; returns whether none is left.
///
/// The grace is for all of them: who comes later has what is left of it, and a moment at least.
fn stop_everything(
    decision: &mut Decision,
    spec: &PodSpec,
    observed: &Observed,
    grace: Duration,
    now: Timestamp,
) -> bool {
    decision.stops = true;
    let mut left = false;
    let first = roles::all(spec).filter(|(role, _)| *role != Role::Init);
    for (_, container) in first {
        left |= stop(decision, &container, observed, grace, "Stopping container", now);
    }
    if left {
        return false;
    }
    let elapsed = observed.stopping_since.map_or(Duration::ZERO, |since| {
        Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
    });
    let rest = grace.saturating_sub(elapsed).max(grace.min(LEAST_GRACE));
    for container in spec.init_containers.iter().flatten().rev() {
        if stop(decision, container, observed, rest, "Stopping container", now) {
            return false;
        }
    }
    true
}

/// Stops a container that runs, sooner than asked before if the grace has become shorter; returns whether it is still there.
fn stop(
    decision: &mut Decision,
    container: &ContainerDef,
    observed: &Observed,
    grace: Duration,
    why: &str,
    now: Timestamp,
) -> bool {
    let Some(known) = observed.containers.get(&container.name) else {
        return false;
    };
    let wanted = match known.busy {
        Some(Busy::Starting) => return true,
        Some(Busy::Stopping { by }) => {
            let new = now.checked_add(grace).unwrap_or(by);
            by.duration_since(new) > jiff::SignedDuration::from_secs(1)
        }
        None => known.running(),
    };
    if wanted {
        let message = format!("{why} {}", container.name);
        decision.actions.push(Action::StopContainer {
            container: container.name.clone(),
            grace,
            message,
        });
    }
    known.running() || known.busy.is_some()
}

#[cfg(test)]
mod tests;
