//! What a worker does in the background, and what comes of it. Every operation has a deadline.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerDef, Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use setpoint_runtime::spec::{ContainerSpec, ContainerState, Exit, SandboxSpec, SandboxState};
use tokio::io::AsyncReadExt;

use super::writing::{self, WriteError};
use super::{Shared, Worker, failure, image_failure, unbusy};
use crate::containers::{ReadyImage, RuntimeFailure, chain};
use crate::events::Severity;
use crate::images::{self, Found, ImageProblem};
use crate::observed::{Busy, Ending, Hook, Image, Kill, Observed, Sandbox, Step};
use crate::probes::{Kind, Target};
use crate::sources::{self, REQUEST_LIMIT, References};
use crate::streams::LogRequest;
use crate::{backoff, env, hooks, pod_files, resources, security, volumes};

/// How long making or removing a sandbox may take.
const SANDBOX_LIMIT: Duration = Duration::from_secs(60);
/// How long starting a container may take.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long writing volumes may take.
const VOLUMES_LIMIT: Duration = Duration::from_secs(120);
/// How long new connections may take to be led elsewhere.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// What a container gets to stop though its preStop hook used up the grace.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// How long a postStart hook may take.
const HOOK_LIMIT: Duration = Duration::from_secs(600);
/// What the runtime may take beyond the grace to report an end.
const STOP_SLACK: Duration = Duration::from_secs(30);
/// How often a failing stop is tried before the decision is made anew.
const STOP_TRIES: u32 = 5;
/// How much of a container's last words is kept.
const LAST_WORDS: usize = 4096;
/// How much of a log stands in for missing last words.
const LAST_LOG: u64 = 2048;

/// What came of an operation.
pub(super) enum Outcome {
    /// A sandbox was made or not.
    SandboxCreated(Result<SandboxState, RuntimeFailure>),
    /// Volumes were written or not; with the time at which they have to be renewed.
    VolumesPrepared(Result<Option<Timestamp>, String>),
    /// An image was found or not.
    ImageFound { container: String, result: Result<(ReadyImage, Found), ImageProblem> },
    /// A container was started or not.
    Started { container: String, attempt: u32, result: Result<ContainerState, StartFailure> },
    /// A postStart hook has run.
    PostStarted { container: String, attempt: u32, result: Result<(), String> },
    /// A container was stopped or not.
    Stopped { container: String, result: Result<(), RuntimeFailure> },
    /// New connections are led elsewhere.
    Drained,
    /// Nothing is left, or something is.
    Removed(Result<(), String>),
    /// The API was told to forget the pod.
    Finished(Result<(), String>),
    /// A probe has run.
    Probed { container: String, attempt: u32, kind: Kind, result: Result<(), String> },
    /// The status was written or not.
    Written { status: Box<PodStatus>, result: Result<(), WriteError> },
    /// Nothing that matters.
    Nothing,
}

/// Why a container was not started.
pub(super) enum StartFailure {
    /// It cannot be configured for now: reason and message.
    Config(&'static str, String),
    /// The attempt failed.
    Start(RuntimeFailure),
}

impl Worker {
    pub(super) fn create_sandbox(&mut self, now: Timestamp) {
        let ip = if self.on_host_network() {
            None
        } else {
            let taken = self.ip.or_else(|| self.shared.addresses.as_ref().and_then(|addresses| addresses.take()));
            let Some(ip) = taken else {
                let message = "no address is free in the node's pod range".to_owned();
                self.sandbox_failed(message, now);
                return;
            };
            self.ip = Some(ip);
            Some(ip)
        };
        let recreated = self.observed.sandbox == Sandbox::Missing && self.ran;
        self.observed.sandbox = match std::mem::take(&mut self.observed.sandbox) {
            // The count of failures goes on until one attempt succeeds.
            Sandbox::Failed(before) => {
                self.sandbox_failure = Some(before);
                Sandbox::Creating
            }
            _ => Sandbox::Creating,
        };
        let (shared, pod, uid) = (self.shared.clone(), self.pod.clone(), self.uid.clone());
        let on_host = self.on_host_network();
        self.running.push(Box::pin(async move {
            let work = async {
                let spec = sandbox_spec(&shared, &pod, &uid, ip);
                if recreated {
                    // What is left of the sandbox that died has the same id.
                    shared.containers.remove_sandbox(&uid).await?;
                }
                let files = {
                    let (shared, pod, uid) = (shared.clone(), pod.clone(), uid.clone());
                    tokio::task::spawn_blocking(move || write_pod_files(&shared, &pod, &uid, ip, on_host))
                };
                let (files, sandbox) = tokio::join!(files, shared.containers.create_sandbox(spec));
                let sandbox = sandbox?;
                match files {
                    Ok(Ok(())) => Ok(sandbox),
                    Ok(Err(error)) => Err(RuntimeFailure::new(format!("cannot write the pod's files: {}", chain(&error)))),
                    Err(error) => Err(RuntimeFailure::new(format!("writing the pod's files broke off: {error}"))),
                }
            };
            Outcome::SandboxCreated(within(SANDBOX_LIMIT, "making the sandbox", work).await)
        }));
    }

    fn sandbox_failed(&mut self, message: String, now: Timestamp) {
        let message = format!("Failed to create pod sandbox: {message}");
        self.note(None, Severity::Warning, "FailedCreatePodSandBox", message.clone());
        let before = match &self.observed.sandbox {
            Sandbox::Failed(before) => Some(before.clone()),
            _ => self.sandbox_failure.take(),
        };
        let failure = failure(before.as_ref(), "FailedCreatePodSandBox", message, backoff::internal_delay, now);
        self.observed.sandbox = Sandbox::Failed(failure);
    }

    pub(super) fn prepare_volumes(&mut self) {
        self.volumes_failure = match std::mem::replace(&mut self.observed.volumes, Step::Doing) {
            Step::Failed(before) => Some(before),
            _ => None,
        };
        self.write_volumes();
    }

    /// Writes the volumes again while the containers go on.
    pub(super) fn refresh_volumes(&mut self) {
        self.renew_at = None;
        if self.refreshing {
            self.volumes_stale = true;
        } else {
            self.write_volumes();
        }
    }

    fn write_volumes(&mut self) {
        self.refreshing = true;
        let (shared, pod, references) = (self.shared.clone(), self.pod.clone(), self.references.clone());
        self.running.push(Box::pin(async move {
            let has_volumes = pod.spec.as_ref().is_some_and(|spec| spec.volumes.as_ref().is_some_and(|volumes| !volumes.is_empty()));
            if !has_volumes {
                return Outcome::VolumesPrepared(Ok(None));
            }
            let work = async {
                let namespace = pod.metadata.namespace.clone().unwrap_or_default();
                let now = (shared.now)();
                let mut sources = node_sources(&shared);
                sources::read(&shared.client, &namespace, &references, &mut sources).await.map_err(|error| error.to_string())?;
                let (tokens, renew) = sources::read_tokens(&shared.client, &pod, now).await.map_err(|error| error.to_string())?;
                let written = {
                    let (shared, pod) = (shared.clone(), pod.clone());
                    tokio::task::spawn_blocking(move || volumes::prepare(&shared.places, &pod, &sources, &tokens, now))
                };
                match written.await {
                    Ok(result) => result.map(|()| renew).map_err(|error| chain(&error)),
                    Err(error) => Err(format!("writing the volumes broke off: {error}")),
                }
            };
            Outcome::VolumesPrepared(match tokio::time::timeout(VOLUMES_LIMIT, work).await {
                Ok(result) => result,
                Err(_) => Err(format!("the volumes were not ready within {} s", VOLUMES_LIMIT.as_secs())),
            })
        }));
    }

    pub(super) fn resolve_image(&mut self, name: String) {
        let Some(definition) = self.definition(&name).cloned() else { return };
        let before = self.container(&name).image.clone();
        if let Some(before) = image_failure(&before) {
            self.image_failures.insert(name.clone(), before.clone());
            if before.reason == "ErrImagePull" {
                let message = format!("Back-off pulling image \"{}\"", definition.image.as_deref().unwrap_or_default());
                self.note(Some(&name), Severity::Normal, "BackOff", message);
            }
        }
        self.container(&name).image = Image::Resolving;
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        self.running.push(Box::pin(async move {
            let pulling = || {
                let message = format!("Pulling image \"{}\"", definition.image.as_deref().unwrap_or_default());
                shared.events.note(&pod, Some(&definition.name), Severity::Normal, "Pulling", message);
            };
            let result = images::find(&shared.containers, &definition, pulling).await;
            Outcome::ImageFound { container: name, result }
        }));
    }

    pub(super) fn start_container(&mut self, name: String) {
        let Some(definition) = self.definition(&name).cloned() else { return };
        let container = self.container(&name);
        let Image::Ready(image) = container.image.clone() else { return };
        let attempt = container.next_attempt;
        container.busy = Some(Busy::Starting);
        let (shared, pod, uid) = (self.shared.clone(), self.pod.clone(), self.uid.clone());
        let ip = self.observed.ip().unwrap_or(shared.node_ip);
        self.running.push(Box::pin(async move {
            let work = async {
                let spec = container_spec(&shared, &pod, &uid, &definition, attempt, image, ip).await?;
                shared.containers.start_container(&uid, spec).await.map_err(StartFailure::Start)
            };
            let result = match tokio::time::timeout(START_LIMIT, work).await {
                Ok(result) => result,
                Err(_) => {
                    let message = format!("starting the container took longer than {} s", START_LIMIT.as_secs());
                    Err(StartFailure::Start(RuntimeFailure::new(message)))
                }
            };
            Outcome::Started { container: name, attempt, result }
        }));
    }

    pub(super) fn run_post_start(&mut self, name: String) {
        let Some(definition) = self.definition(&name).cloned() else { return };
        let Some(hook) = definition.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.clone()) else {
            self.container(&name).hook = Hook::Done;
            return;
        };
        let container = self.container(&name);
        let Some(attempt) = container.current.as_ref().map(|current| current.attempt) else { return };
        container.hook = Hook::Running;
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        let ip = self.observed.ip().unwrap_or(shared.node_ip);
        self.running.push(Box::pin(async move {
            let id = format!("{name}-{attempt}");
            let target = Target { containers: &shared.containers, sandbox: &uid, container_id: &id, definition: &definition, ip };
            let result = hooks::run(&target, &hook, HOOK_LIMIT).await;
            Outcome::PostStarted { container: name, attempt, result }
        }));
    }

    pub(super) fn stop_container(&mut self, name: String, grace: Duration, message: String, now: Timestamp) {
        let Some(definition) = self.definition(&name).cloned() else { return };
        let container = self.container(&name);
        let again = matches!(container.busy, Some(Busy::Stopping { .. }));
        let Some(attempt) = container.current.as_ref().map(|current| current.attempt) else { return };
        container.busy = Some(Busy::Stopping { by: now.checked_add(grace).unwrap_or(now) });
        container.kill = None;
        if !again {
            self.note(Some(&name), Severity::Normal, "Killing", message);
        }
        let (shared, pod, uid) = (self.shared.clone(), self.pod.clone(), self.uid.clone());
        let ip = self.observed.ip().unwrap_or(shared.node_ip);
        self.running.push(Box::pin(async move {
            let id = format!("{name}-{attempt}");
            let begun = tokio::time::Instant::now();
            let hook = definition.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
            if let Some(hook) = hook.filter(|_| !again && !grace.is_zero()) {
                let target = Target { containers: &shared.containers, sandbox: &uid, container_id: &id, definition: &definition, ip };
                let result = match tokio::time::timeout(grace, hooks::run(&target, hook, grace)).await {
                    Ok(result) => result,
                    Err(_) => Err(format!("it took longer than the grace period of {} s", grace.as_secs())),
                };
                if let Err(error) = result {
                    let message = format!("PreStopHook failed: {error}");
                    shared.events.note(&pod, Some(&name), Severity::Warning, "FailedPreStopHook", message);
                }
            }
            let left = grace.saturating_sub(begun.elapsed()).max(LEAST_GRACE.min(grace));
            let mut tries = 0;
            let result = loop {
                tries += 1;
                let stop = shared.containers.stop_container(&uid, &id, left);
                let result = within(left.saturating_add(STOP_SLACK), "stopping the container", stop).await;
                if result.is_ok() || tries >= STOP_TRIES || is_ended(&shared, &uid, &name, attempt).await {
                    break result;
                }
                tokio::time::sleep(backoff::internal_delay(tries)).await;
            };
            Outcome::Stopped { container: name, result }
        }));
    }

    pub(super) fn drain(&mut self) {
        self.observed.ending = Ending::Draining;
        let ip = self.observed.ip().filter(|_| !self.observed.gone);
        let Some((ip, drain)) = ip.zip(self.shared.drain.clone()) else {
            self.observed.ending = Ending::Stopping;
            return;
        };
        self.running.push(Box::pin(async move {
            // The limit is for a drain that forgets its own.
            let drained = tokio::time::timeout(DRAIN_LIMIT * 2, drain.drained(ip, DRAIN_LIMIT)).await;
            drop(drained);
            Outcome::Drained
        }));
    }

    pub(super) fn remove(&mut self) {
        self.observed.ending = Ending::Removing;
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        self.running.push(Box::pin(async move {
            let removed = within(SANDBOX_LIMIT, "removing the sandbox", shared.containers.remove_sandbox(&uid)).await;
            let result = match removed {
                Err(error) => Err(error.message),
                Ok(()) => {
                    let shared = shared.clone();
                    match tokio::task::spawn_blocking(move || shared.places.remove_pod(&uid)).await {
                        Ok(result) => result.map_err(|error| format!("cannot remove the pod's files: {error}")),
                        Err(error) => Err(format!("removing the pod's files broke off: {error}")),
                    }
                }
            };
            Outcome::Removed(result)
        }));
    }

    pub(super) fn finish(&mut self, now: Timestamp) {
        if self.observed.gone {
            self.observed.ending = Ending::Finished;
            return;
        }
        // `Removing` again: something is under way.
        self.observed.ending = Ending::Removing;
        let status = self.status_at_the_end(now);
        let patch = (status != self.written).then(|| writing::patch(&self.pod, &self.written, &status));
        let (client, (name, namespace), uid) = (self.shared.client.clone(), self.names(), self.uid.clone());
        self.running.push(Box::pin(async move {
            if let Some(patch) = patch {
                match writing::write(client.clone(), &namespace, &name, &patch).await {
                    Ok(()) => {}
                    Err(WriteError::Gone) => return Outcome::Finished(Ok(())),
                    Err(WriteError::Failed(error)) => return Outcome::Finished(Err(error)),
                }
            }
            let api: Api<Pod> = Api::namespaced(client, &namespace);
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
                ..DeleteParams::default()
            };
            Outcome::Finished(match tokio::time::timeout(REQUEST_LIMIT, api.delete(&name, &params)).await {
                Ok(Ok(_)) => Ok(()),
                // Another pod has the name by now, or none: this one is forgotten.
                Ok(Err(kube::Error::Api(answer))) if answer.code == 404 || answer.code == 409 => Ok(()),
                Ok(Err(error)) => Err(chain(&error)),
                Err(_) => Err(format!("no answer within {} s", REQUEST_LIMIT.as_secs())),
            })
        }));
    }

    fn status_at_the_end(&self, now: Timestamp) -> PodStatus {
        let observed = Observed { ending: Ending::Removed, ..self.observed.clone() };
        crate::status::build(&self.pod, &observed, &self.written, self.shared.node_ip, now)
    }

    /// Takes what came of an operation.
    pub(super) async fn take_outcome(&mut self, outcome: Outcome) {
        let now = (self.shared.now)();
        match outcome {
            Outcome::SandboxCreated(Ok(sandbox)) => {
                self.sandbox_failure = None;
                self.observed.sandbox = Sandbox::Ready { ip: sandbox.spec.ip };
            }
            Outcome::SandboxCreated(Err(error)) => {
                self.observed.sandbox = Sandbox::Missing;
                self.sandbox_failed(error.message, now);
            }
            Outcome::VolumesPrepared(result) => self.take_volumes(result, now),
            Outcome::ImageFound { container, result } => self.take_image(&container, result, now),
            Outcome::Started { container, attempt, result } => self.take_start(&container, attempt, result, now),
            Outcome::PostStarted { container, attempt, result } => self.take_post_start(&container, attempt, result),
            Outcome::Stopped { container, result } => {
                self.look().await;
                if let Err(error) = result {
                    let message = format!("error killing container: {}", error.message);
                    self.note(Some(&container), Severity::Warning, "FailedKillPod", message);
                }
                unbusy(self.container(&container), |busy| matches!(busy, Busy::Stopping { .. }));
            }
            Outcome::Drained => self.observed.ending = self.observed.ending.max(Ending::Stopping),
            Outcome::Removed(Ok(())) => {
                if let Some((addresses, ip)) = self.shared.addresses.as_ref().zip(self.ip.take()) {
                    addresses.give_back(ip);
                }
                self.observed.sandbox = Sandbox::Removing;
                self.observed.removal = None;
                self.observed.ending = Ending::Removed;
            }
            Outcome::Removed(Err(message)) => {
                tracing::warn!(pod = self.uid, error = message, "what is left of the pod could not be removed, trying again");
                let before = self.observed.removal.take();
                self.observed.removal = Some(failure(before.as_ref(), "FailedKillPod", message, backoff::internal_delay, now));
                self.observed.ending = Ending::Stopping;
            }
            Outcome::Finished(Ok(())) => self.observed.ending = Ending::Finished,
            Outcome::Finished(Err(message)) => {
                tracing::warn!(pod = self.uid, error = message, "the API could not be told that the pod has ended, trying again");
                let before = self.observed.removal.take();
                self.observed.removal = Some(failure(before.as_ref(), "Finish", message, backoff::internal_delay, now));
                self.observed.ending = Ending::Removed;
            }
            Outcome::Probed { container, attempt, kind, result } => self.take_probe(&container, attempt, kind, result),
            Outcome::Written { status, result } => self.take_written(*status, result),
            Outcome::Nothing => {}
        }
    }

    fn take_volumes(&mut self, result: Result<Option<Timestamp>, String>, now: Timestamp) {
        self.refreshing = false;
        match result {
            Ok(renew) => {
                self.observed.volumes = Step::Done;
                self.renew_at = renew;
                if std::mem::take(&mut self.volumes_stale) {
                    self.refresh_volumes();
                }
            }
            Err(message) => {
                self.note(None, Severity::Warning, "FailedMount", message.clone());
                if self.observed.volumes == Step::Done {
                    // The containers keep what they have; it is tried again.
                    self.renew_at = now.checked_add(backoff::retry_delay(1)).ok();
                } else {
                    let failure = failure(self.volumes_failure.as_ref(), "FailedMount", message, volume_delay, now);
                    self.observed.volumes = Step::Failed(failure);
                }
            }
        }
    }

    fn take_image(&mut self, name: &str, result: Result<(ReadyImage, Found), ImageProblem>, now: Timestamp) {
        let reference = self.definition(name).and_then(|definition| definition.image.clone()).unwrap_or_default();
        match result {
            Ok((image, found)) => {
                let message = match found {
                    Found::Present => format!("Container image \"{reference}\" already present on machine"),
                    Found::Pulled(took) => {
                        let seconds = took.as_secs_f64();
                        format!("Successfully pulled image \"{reference}\" in {seconds:.3}s ({seconds:.3}s including waiting). Image size: {} bytes.", image.size)
                    }
                };
                self.note(Some(name), Severity::Normal, "Pulled", message);
                self.image_failures.remove(name);
                self.container(name).image = Image::Ready(image);
            }
            Err(problem) => {
                let reason = if problem.reason == "ErrImagePull" { "Failed" } else { problem.reason };
                let shown = if problem.reason == "ErrImagePull" { problem.message.replacen("failed", "Failed", 1) } else { problem.message.clone() };
                self.note(Some(name), Severity::Warning, reason, shown);
                self.note(Some(name), Severity::Warning, "Failed", format!("Error: {}", problem.reason));
                let before = self.image_failures.remove(name);
                let failure = failure(before.as_ref(), problem.reason, problem.message, backoff::retry_delay, now);
                self.container(name).image = Image::Failed(failure);
            }
        }
    }

    fn take_start(&mut self, name: &str, attempt: u32, result: Result<ContainerState, StartFailure>, now: Timestamp) {
        unbusy(self.container(name), |busy| *busy == Busy::Starting);
        match result {
            Ok(state) => {
                let container = self.container(name);
                container.failure = None;
                container.take(state);
                if container.running() {
                    container.hook = Hook::Todo;
                    container.started = false;
                    container.ready = false;
                    container.kill = None;
                }
                if attempt > 0 {
                    self.shared.metrics.restarts.inc();
                }
                if !std::mem::replace(&mut self.ran, true) {
                    self.shared.metrics.start.observe(now.duration_since(self.first_seen).as_secs_f64());
                }
                self.note(Some(name), Severity::Normal, "Created", format!("Created container: {name}"));
                self.note(Some(name), Severity::Normal, "Started", format!("Started container {name}"));
                if let Some(old) = attempt.checked_sub(2) {
                    self.forget_attempt(name, old);
                }
            }
            Err(StartFailure::Config(reason, message)) => self.start_refused(name, reason, message, now),
            Err(StartFailure::Start(error)) if error.reason == "StartError" => {
                let message = format!("Error: {}", error.message);
                self.note(Some(name), Severity::Warning, "Failed", message);
                let container = self.container(name);
                container.failure = None;
                container.unstarted.push(attempt);
                container.messages.insert(attempt, error.message);
                let exit = Exit { code: error.code, signal: None, oom_killed: false, finished_at: now };
                let image = match &container.image {
                    Image::Ready(image) => image.id.clone(),
                    _ => String::new(),
                };
                container.take(ContainerState { name: name.to_owned(), attempt, image, pid: 0, started_at: now, exit: Some(exit) });
            }
            Err(StartFailure::Start(error)) => {
                if error.reason == "ErrImageNeverPull" {
                    // Somebody removed the image: it is looked for anew.
                    self.container(name).image = Image::Unresolved;
                }
                self.start_refused(name, error.reason, error.message, now);
            }
        }
    }

    fn start_refused(&mut self, name: &str, reason: &str, message: String, now: Timestamp) {
        self.note(Some(name), Severity::Warning, "Failed", format!("Error: {message}"));
        let container = self.container(name);
        let before = container.failure.take();
        container.failure = Some(failure(before.as_ref(), reason, message, backoff::retry_delay, now));
    }

    fn take_post_start(&mut self, name: &str, attempt: u32, result: Result<(), String>) {
        let container = self.container(name);
        if container.current.as_ref().is_none_or(|current| current.attempt != attempt) {
            return;
        }
        container.hook = Hook::Done;
        if let Err(error) = result {
            container.kill = Some(Kill { message: "FailedPostStartHook".to_owned(), grace_seconds: None });
            self.note(Some(name), Severity::Warning, "FailedPostStartHook", format!("PostStartHook failed: {error}"));
        }
    }

    /// Removes an attempt that nobody asks for any more.
    fn forget_attempt(&mut self, name: &str, attempt: u32) {
        let (shared, uid, name) = (self.shared.clone(), self.uid.clone(), name.to_owned());
        self.running.push(Box::pin(async move {
            let id = format!("{name}-{attempt}");
            let removal = shared.containers.remove_container(&uid, &id);
            if let Err(error) = within(START_LIMIT, "removing an old attempt", removal).await {
                tracing::debug!(pod = uid, container = id, error = error.message, "an old attempt could not be removed");
            }
            let log = shared.places.termination_log(&uid, &name, attempt);
            let removed = tokio::fs::remove_file(log).await;
            drop(removed);
            Outcome::Nothing
        }));
    }
}

fn volume_delay(failures: u32) -> Duration {
    backoff::internal_delay(failures.saturating_add(1))
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T, RuntimeFailure>>) -> Result<T, RuntimeFailure> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(RuntimeFailure::new(format!("{what} took longer than {} s", limit.as_secs()))),
    }
}

async fn is_ended(shared: &Shared, uid: &str, name: &str, attempt: u32) -> bool {
    match shared.containers.sandbox(uid).await {
        Ok(Some(sandbox)) => {
            let found = sandbox.containers.iter().find(|state| state.name == name && state.attempt == attempt);
            found.is_none_or(|state| state.exit.is_some())
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

fn node_sources(shared: &Shared) -> env::Sources {
    env::Sources {
        host_ip: shared.node_ip.to_string(),
        node_cpu_millis: i128::from(shared.facts.cpus) * 1000,
        node_memory: shared.facts.memory,
        node_storage: shared.facts.storage,
        ..env::Sources::default()
    }
}

fn sandbox_spec(shared: &Shared, pod: &Pod, uid: &str, ip: Option<std::net::Ipv4Addr>) -> SandboxSpec {
    let spec = pod.spec.clone().unwrap_or_default();
    let sysctls = spec.security_context.iter().flat_map(|security| security.sysctls.iter().flatten());
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    SandboxSpec {
        id: uid.to_owned(),
        labels: [("namespace".to_owned(), namespace.clone()), ("name".to_owned(), name.clone())].into(),
        namespace,
        name,
        hostname: pod_files::sandbox_hostname(pod, &shared.cluster_domain),
        ip,
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_process_namespace: spec.share_process_namespace == Some(true),
        sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
        resources: resources::of_pod(&spec),
    }
}

/// Writes hosts, hostname and resolv.conf. Blocking.
fn write_pod_files(shared: &Shared, pod: &Pod, uid: &str, ip: Option<std::net::Ipv4Addr>, on_host: bool) -> io::Result<()> {
    // On the host's network only a missing file is taken for an empty one, as a host may have none.
    let host_file = |path: &str| match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result,
    };
    let hosts = if on_host {
        format!("{}{}", host_file("/etc/hosts")?, pod_files::host_aliases(pod))
    } else {
        pod_files::hosts(pod, ip, &shared.cluster_domain)
    };
    let resolv = pod_files::resolv_conf(pod, &host_file("/etc/resolv.conf")?, shared.dns, &shared.cluster_domain);
    let hostname = if on_host { host_file("/proc/sys/kernel/hostname")? } else { format!("{}\n", pod_files::hostname(pod)) };
    for (name, text) in [("hosts", hosts), ("resolv.conf", resolv), ("hostname", hostname)] {
        let path = shared.places.file(uid, name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

async fn container_spec(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    uid: &str,
    definition: &ContainerDef,
    attempt: u32,
    image: ReadyImage,
    ip: std::net::Ipv4Addr,
) -> Result<ContainerSpec, StartFailure> {
    let config = |message: String| StartFailure::Config("CreateContainerConfigError", message);
    let spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let security = security::of(&spec, definition);
    if let Some(refused) = security::refuses_root(&security, image.user.as_deref()) {
        return Err(config(refused));
    }
    let mut sources = env::Sources { pod_ip: ip.to_string(), ..node_sources(shared) };
    let references = References::of_env(definition);
    let links = spec.enable_service_links.unwrap_or(true);
    sources::read(&shared.client, &namespace, &references, &mut sources).await.map_err(|error| config(error.to_string()))?;
    sources.services =
        sources::read_services(&shared.client, &namespace, links).await.map_err(|error| config(error.to_string()))?;
    let mut variables = env::build(pod, definition, &sources).map_err(|error| config(error.to_string()))?;
    let named = |name: &str| variables.iter().any(|(known, _)| known == name);
    if !named("HOSTNAME") {
        variables.insert(0, ("HOSTNAME".to_owned(), pod_files::hostname(pod)));
    }
    let termination = shared.places.termination_log(uid, &definition.name, attempt);
    let mounts = {
        let (shared, pod, definition, variables) = (shared.clone(), pod.clone(), definition.clone(), variables.clone());
        let termination = termination.clone();
        tokio::task::spawn_blocking(move || {
            make_termination_log(&termination).map_err(|error| format!("cannot create {}: {error}", termination.display()))?;
            volumes::container_mounts(&shared.places, &pod, &definition, &variables, &termination).map_err(|error| chain(&error))
        })
    };
    let mounts = match mounts.await {
        Ok(result) => result.map_err(config)?,
        Err(error) => return Err(config(format!("preparing the mounts broke off: {error}"))),
    };
    let memory = shared.facts.memory;
    Ok(ContainerSpec {
        name: definition.name.clone(),
        attempt,
        image: image.id,
        command: env::expand_all(definition.command.as_ref(), &variables),
        args: env::expand_all(definition.args.as_ref(), &variables),
        env: variables,
        working_dir: definition.working_dir.clone().filter(|dir| !dir.is_empty()),
        mounts,
        security,
        resources: resources::of_container(definition),
        oom_score_adj: resources::oom_score_adj(&spec, definition, memory),
        stdin: definition.stdin == Some(true),
        tty: definition.tty == Some(true),
    })
}

fn make_termination_log(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, b"")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// Returns what a container that ended left as its last words: its termination log, or the end of its log where it asks for that.
pub(super) async fn last_words(shared: &Shared, uid: &str, definition: &ContainerDef, state: &ContainerState) -> String {
    let path = shared.places.termination_log(uid, &definition.name, state.attempt);
    let read = async {
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(&path).await?;
        file.take(LAST_WORDS as u64).read_to_end(&mut bytes).await?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let said = match tokio::time::timeout(Duration::from_secs(2), read).await {
        Ok(Ok(said)) => said,
        // No last words are no fault.
        Ok(Err(_)) | Err(_) => String::new(),
    };
    let failed = state.exit.as_ref().is_some_and(|exit| exit.code != 0);
    if !said.is_empty() || !failed || definition.termination_message_policy.as_deref() != Some("FallbackToLogsOnError") {
        return said;
    }
    let request = LogRequest { tail_lines: Some(80), limit_bytes: Some(LAST_LOG * 8), ..LogRequest::default() };
    let log = async {
        let mut stream = shared.containers.logs(uid, &definition.name, state.attempt, request).await.ok()?;
        let mut all = Vec::new();
        while let Some(Ok(bytes)) = stream.next().await {
            all.extend_from_slice(&bytes);
        }
        let start = all.len().saturating_sub(LAST_LOG as usize);
        Some(String::from_utf8_lossy(&all[start..]).into_owned())
    };
    tokio::time::timeout(Duration::from_secs(2), log).await.ok().flatten().unwrap_or_default()
}
