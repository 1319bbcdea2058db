//! What a worker does in the background, and what comes of it. Every operation has a deadline.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerDef, Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use setpoint_runtime::images::Keyring;
use setpoint_runtime::spec::{ContainerState, SandboxState};

use super::specs::{container_spec, last_words, node_sources, sandbox_spec, write_pod_files};
use super::writing::{self, WriteError};
use super::{Shared, Worker, failure, image_failure};
use crate::containers::{ReadyImage, RuntimeFailure, chain};
use crate::events::Severity;
use crate::images::{self, Found, ImageProblem, secrets};
use crate::observed::{Busy, Ending, Hook, Image, Observed, Resize, Sandbox, Step};
use crate::probes::{Answer, Kind, Target};
use crate::resize::Change;
use crate::sources::{self, REQUEST_LIMIT};
use crate::volumes::folders;
use crate::{backoff, decide, hooks, roles, static_pods, volumes};

/// How long making or removing a sandbox may take.
const SANDBOX_LIMIT: Duration = Duration::from_secs(60);
/// How long starting a container may take.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long after a measurement a pod is measured again, at least: as often as the kubelet looks.
pub(super) const MEASURE: Duration = Duration::from_secs(10);
/// The handler of the RuntimeClasses that this node runs.
const HANDLER: &str = "setpoint";
/// How long changing limits may take.
pub(super) const RESIZE_LIMIT: Duration = Duration::from_secs(30);
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
/// What came of an operation.
pub(super) enum Outcome {
    /// A sandbox was made or not.
    SandboxCreated(Result<SandboxState, RuntimeFailure>),
    /// Volumes were written or not; with the time at which they have to be renewed.
    VolumesPrepared(Result<Option<Timestamp>, String>),
    /// An image was found or not.
    ImageFound {
        container: String,
        result: Result<(ReadyImage, Found), ImageProblem>,
    },
    /// A container was started or not.
    Started {
        container: String,
        attempt: u32,
        result: Result<ContainerState, StartFailure>,
    },
    /// A postStart hook has run.
    PostStarted {
        container: String,
        attempt: u32,
        result: Result<(), String>,
    },
    /// Limits were changed or not.
    Resized {
        changes: Vec<Change>,
        result: Result<(), RuntimeFailure>,
    },
    /// A container was stopped or not.
    Stopped {
        container: String,
        result: Result<(), RuntimeFailure>,
    },
    /// New connections are led elsewhere.
    Drained,
    /// Nothing is left, or something is.
    Removed(Result<(), String>),
    /// The API was told to forget the pod.
    Finished(Result<(), String>),
    /// A probe has run.
    Probed {
        container: String,
        attempt: u32,
        kind: Kind,
        answer: Answer,
    },
    /// The status was written or not.
    Written {
        /// The UID of the object that was written.
        object: Option<String>,
        status: Box<PodStatus>,
        result: Result<(), WriteError>,
    },
    /// The sandbox was closed or not.
    Closed(Result<(), RuntimeFailure>),
    /// What a container said at its end.
    Said {
        container: String,
        attempt: u32,
        words: String,
    },
    /// The pod was measured: why it has to go, if it does, and when to measure again.
    Measured(Result<Option<String>, String>, Timestamp),
    /// Nothing that matters.
    Nothing,
}

impl Outcome {
    /// Returns a word for the log.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::SandboxCreated(_) => "sandbox created",
            Self::VolumesPrepared(_) => "volumes prepared",
            Self::ImageFound { .. } => "image found",
            Self::Started { .. } => "started",
            Self::PostStarted { .. } => "postStart hook has run",
            Self::Resized { .. } => "resized",
            Self::Stopped { .. } => "stopped",
            Self::Drained => "drained",
            Self::Removed(_) => "removed",
            Self::Finished(_) => "finished",
            Self::Probed { .. } => "probed",
            Self::Written { .. } => "status written",
            Self::Closed(_) => "sandbox closed",
            Self::Said { .. } => "last words read",
            Self::Measured(..) => "measured",
            Self::Nothing => "tidied up",
        }
    }
}

/// Why a container was not started.
pub(super) enum StartFailure {
    /// It cannot be configured until something changes: reason and message.
    Config(&'static str, String),
    /// The attempt failed.
    Start(RuntimeFailure),
}

impl Worker {
    pub(super) fn create_sandbox(&mut self, now: Timestamp) {
        let addresses = if self.on_host_network() {
            None
        } else {
            let all = self.shared.addresses.as_ref();
            let taken = all.and_then(|all| match self.addresses {
                Some(own) => Some(all.renewed(own)),
                None => all.take(),
            });
            let Some(own) = taken else {
                let message = "no address is free in the node's pod range".to_owned();
                self.sandbox_failed(message, now);
                return;
            };
            self.addresses = Some(own);
            Some(own)
        };
        let again = std::mem::replace(&mut self.made_sandbox, true);
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
                let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref());
                if let Some(class) = class.filter(|class| !class.is_empty()) {
                    require_handler(&shared, class).await?;
                }
                let spec = sandbox_spec(&shared, &pod, &uid, addresses)?;
                if again {
                    // What is left of the one before, if anything, has the same id.
                    shared.containers.clear_sandbox(&uid).await?;
                }
                // Before the sandbox: one that stands has its files, whenever the agent ends.
                let files = {
                    let (shared, pod, uid) = (shared.clone(), pod.clone(), uid.clone());
                    tokio::task::spawn_blocking(move || write_pod_files(&shared, &pod, &uid, addresses, on_host))
                };
                match files.await {
                    Ok(Ok(())) => shared.containers.create_sandbox(spec).await,
                    Ok(Err(error)) => Err(RuntimeFailure::new(format!(
                        "cannot write the pod's files: {}",
                        chain(&error)
                    ))),
                    Err(error) => Err(RuntimeFailure::new(format!(
                        "writing the pod's files broke off: {error}"
                    ))),
                }
            };
            Outcome::SandboxCreated(within(SANDBOX_LIMIT, "making the sandbox", work).await)
        }));
    }

    /// Ends the sandbox of a completed pod; its address is free then.
    pub(super) fn close_sandbox(&mut self) {
        self.observed.sandbox = Sandbox::Closing;
        // As at a removal: it has ended.
        self.shared.host_ports.release(&self.uid);
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        self.running.push(Box::pin(async move {
            let closing = shared.containers.close_sandbox(&uid);
            Outcome::Closed(within(SANDBOX_LIMIT, "closing the sandbox", closing).await)
        }));
    }

    /// Reads what an attempt that ended left as its last words.
    pub(super) fn read_last_words(&mut self, definition: ContainerDef, state: ContainerState) {
        self.listening += 1;
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        self.running.push(Box::pin(async move {
            let words = last_words(&shared, &uid, &definition, &state).await;
            Outcome::Said {
                container: state.name,
                attempt: state.attempt,
                words,
            }
        }));
    }

    pub(super) fn sandbox_failed(&mut self, message: String, now: Timestamp) {
        let message = format!("Failed to create pod sandbox: {message}");
        self.note(None, Severity::Warning, "FailedCreatePodSandBox", message.clone());
        let before = match &self.observed.sandbox {
            Sandbox::Failed(before) => Some(before.clone()),
            _ => self.sandbox_failure.take(),
        };
        let failure = failure(
            before.as_ref(),
            "FailedCreatePodSandBox",
            message,
            backoff::internal_delay,
            now,
        );
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
            let has_volumes = pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.volumes.as_ref().is_some_and(|volumes| !volumes.is_empty()));
            if !has_volumes {
                return Outcome::VolumesPrepared(Ok(None));
            }
            // A fetch has a limit of its own.
            if let Err(error) = fetch_volume_images(&shared, &pod).await {
                return Outcome::VolumesPrepared(Err(error));
            }
            let work = async {
                let namespace = pod.metadata.namespace.clone().unwrap_or_default();
                let now = (shared.now)();
                let mut sources = node_sources(&shared);
                sources::read(&shared.client, &namespace, &references, &mut sources)
                    .await
                    .map_err(|error| error.to_string())?;
                let (tokens, renew) = sources::read_tokens(&shared.client, &pod, now)
                    .await
                    .map_err(|error| error.to_string())?;
                let stores = folders::read_stores(&shared.client, &shared.places, &shared.node_name, &pod)
                    .await
                    .map_err(|error| chain(&error))?;
                let written = {
                    let (shared, pod) = (shared.clone(), pod.clone());
                    tokio::task::spawn_blocking(move || {
                        volumes::prepare(&shared.places, &pod, &sources, &tokens, &stores, now)
                    })
                };
                match written.await {
                    Ok(result) => result.map(|()| renew).map_err(|error| chain(&error)),
                    Err(error) => Err(format!("writing the volumes broke off: {error}")),
                }
            };
            Outcome::VolumesPrepared(match tokio::time::timeout(VOLUMES_LIMIT, work).await {
                Ok(result) => result,
                Err(_) => Err(format!(
                    "the volumes were not ready within {} s",
                    VOLUMES_LIMIT.as_secs()
                )),
            })
        }));
    }

    /// Whether the pod has done its work or is being ended: what it wrote by then is no reason to end it.
    pub(super) fn is_past_writing(&self) -> bool {
        let spec = self.pod.spec.as_ref();
        spec.is_some_and(|spec| decide::is_over(&self.pod, spec, &self.observed))
            || decide::is_ending(&self.pod, &self.observed)
    }

    /// Measures what the pod has written, where that is limited.
    pub(super) fn measure(&mut self) {
        self.measure_at = None;
        if self.is_past_writing() {
            return;
        }
        let Some(plan) = volumes::measure::plan(&self.shared.places, &self.pod) else {
            return;
        };
        let attempts: Vec<(String, u32)> = self
            .observed
            .containers
            .iter()
            .filter_map(|(name, container)| Some((name.clone(), container.current.as_ref()?.attempt)))
            .collect();
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        self.running.push(Box::pin(async move {
            let begun = (shared.now)();
            let now = shared.now.clone();
            let measured = tokio::task::spawn_blocking(move || {
                volumes::measure::check(&plan, |name| {
                    let attempts = attempts.iter().filter(|(known, _)| known == name);
                    attempts
                        .flat_map(|(name, attempt)| shared.containers.written(&uid, name, *attempt))
                        .collect()
                })
            });
            let result = match measured.await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(error) => Err(format!("it broke off: {error}")),
            };
            let ended = now();
            // What takes long is done more rarely: at most a tenth of the time.
            let pause = Duration::try_from(ended.duration_since(begun)).unwrap_or_default() * 10;
            let again = ended.checked_add(pause.max(MEASURE)).unwrap_or(ended);
            Outcome::Measured(result, again)
        }));
    }

    pub(super) fn resolve_image(&mut self, name: String) {
        let Some((_, definition)) = self.definition(&name) else {
            return;
        };
        let before = self.container(&name).image.clone();
        if let Some(before) = image_failure(&before) {
            self.image_failures.insert(name.clone(), before.clone());
            if before.reason == "ErrImagePull" {
                let message = format!(
                    "Back-off pulling image \"{}\"",
                    definition.image.as_deref().unwrap_or_default()
                );
                self.note(Some(&name), Severity::Normal, "BackOff", message);
            }
        }
        let container = self.container(&name);
        container.image = Image::Resolving;
        container.asked.clone_from(&definition.image);
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        self.running.push(Box::pin(async move {
            let secrets = pull_secrets(&shared, &pod).await;
            let pulling = || {
                let message = format!("Pulling image \"{}\"", definition.image.as_deref().unwrap_or_default());
                shared
                    .events
                    .note(&pod, Some(&definition.name), Severity::Normal, "Pulling", message);
            };
            let result = images::find(&shared.containers, &definition, secrets, pulling).await;
            Outcome::ImageFound {
                container: name,
                result,
            }
        }));
    }

    pub(super) fn start_container(&mut self, name: String) {
        let Some((_, mut definition)) = self.definition(&name) else {
            return;
        };
        let is_granted = !matches!(self.observed.resize, Resize::Infeasible(_) | Resize::Deferred(_));
        let container = self.container(&name);
        let Image::Ready(image) = container.image.clone() else {
            return;
        };
        if let Some(applied) = container.applied.clone().filter(|_| !is_granted) {
            // What the pod asks for beyond that it does not have.
            definition.resources = Some(applied);
        }
        let attempt = container.next_attempt;
        container.busy = Some(Busy::Starting);
        container.applied = Some(definition.resources.clone().unwrap_or_default());
        let target = self.target_of(&name);
        let (shared, pod, uid) = (self.shared.clone(), self.pod.clone(), self.uid.clone());
        let addresses = self.observed.addresses().unwrap_or(shared.node_ip);
        self.running.push(Box::pin(async move {
            let work = async {
                let target = target.map_err(|message| StartFailure::Config("CreateContainerConfigError", message))?;
                let mut spec = container_spec(&shared, &pod, &uid, &definition, attempt, image, addresses).await?;
                spec.target = target;
                shared
                    .containers
                    .start_container(&uid, spec)
                    .await
                    .map_err(StartFailure::Start)
            };
            let result = match tokio::time::timeout(START_LIMIT, work).await {
                Ok(result) => result,
                Err(_) => {
                    let message = format!("starting the container took longer than {} s", START_LIMIT.as_secs());
                    Err(StartFailure::Start(RuntimeFailure::new(message)))
                }
            };
            Outcome::Started {
                container: name,
                attempt,
                result,
            }
        }));
    }

    /// Returns the id of the container whose processes an ephemeral one is to see, if it names one.
    fn target_of(&self, name: &str) -> Result<Option<String>, String> {
        let Some(target) = self.pod.spec.as_ref().and_then(|spec| roles::target(spec, name)) else {
            return Ok(None);
        };
        let known = self.observed.containers.get(target).filter(|known| known.running());
        let current = known.and_then(|known| known.current.as_ref());
        match current {
            Some(current) => Ok(Some(current.id())),
            None => Err(format!("unable to find target container {target}")),
        }
    }

    pub(super) fn run_post_start(&mut self, name: String) {
        let Some((_, definition)) = self.definition(&name) else {
            return;
        };
        let Some(hook) = definition
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.clone())
        else {
            self.container(&name).hook = Hook::Done;
            return;
        };
        let container = self.container(&name);
        let Some(attempt) = container.current.as_ref().map(|current| current.attempt) else {
            return;
        };
        container.hook = Hook::Running;
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        let ip = self.observed.addresses().unwrap_or(shared.node_ip).ipv4;
        self.running.push(Box::pin(async move {
            let id = format!("{name}-{attempt}");
            let target = Target {
                containers: &shared.containers,
                sandbox: &uid,
                container_id: &id,
                definition: &definition,
                ip,
            };
            let result = hooks::run(&target, &hook, HOOK_LIMIT).await;
            Outcome::PostStarted {
                container: name,
                attempt,
                result,
            }
        }));
    }

    pub(super) fn stop_container(&mut self, name: String, grace: Duration, message: String, now: Timestamp) {
        let Some((_, definition)) = self.definition(&name) else {
            return;
        };
        let container = self.container(&name);
        let again = matches!(container.busy, Some(Busy::Stopping { .. }));
        let Some(attempt) = container.current.as_ref().map(|current| current.attempt) else {
            return;
        };
        container.busy = Some(Busy::Stopping {
            by: now.checked_add(grace).unwrap_or(now),
        });
        container.kill = None;
        if !again {
            self.note(Some(&name), Severity::Normal, "Killing", message);
        }
        let (shared, pod, uid) = (self.shared.clone(), self.pod.clone(), self.uid.clone());
        let ip = self.observed.addresses().unwrap_or(shared.node_ip).ipv4;
        self.running.push(Box::pin(async move {
            let id = format!("{name}-{attempt}");
            let begun = tokio::time::Instant::now();
            let hook = definition
                .lifecycle
                .as_ref()
                .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
            if let Some(hook) = hook.filter(|_| !again && !grace.is_zero()) {
                let target = Target {
                    containers: &shared.containers,
                    sandbox: &uid,
                    container_id: &id,
                    definition: &definition,
                    ip,
                };
                let result = match tokio::time::timeout(grace, hooks::run(&target, hook, grace)).await {
                    Ok(result) => result,
                    Err(_) => Err(format!("it took longer than the grace period of {} s", grace.as_secs())),
                };
                if let Err(error) = result {
                    let message = format!("PreStopHook failed: {error}");
                    shared
                        .events
                        .note(&pod, Some(&name), Severity::Warning, "FailedPreStopHook", message);
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
            Outcome::Stopped {
                container: name,
                result,
            }
        }));
    }

    pub(super) fn drain(&mut self) {
        self.observed.ending = Ending::Draining;
        let addresses = self.observed.addresses().filter(|_| !self.observed.gone);
        let Some((addresses, drain)) = addresses.zip(self.shared.drain.clone()) else {
            self.observed.ending = Ending::Stopping;
            return;
        };
        self.running.push(Box::pin(async move {
            // The limit is for a drain that forgets its own.
            let drained = tokio::time::timeout(DRAIN_LIMIT * 2, drain.drained(addresses, DRAIN_LIMIT)).await;
            drop(drained);
            Outcome::Drained
        }));
    }

    pub(super) fn remove(&mut self) {
        self.observed.ending = Ending::Removing;
        // From here on the status says that it has ended, and another may be sent here for its ports.
        self.shared.host_ports.release(&self.uid);
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        self.running.push(Box::pin(async move {
            let removed = within(
                SANDBOX_LIMIT,
                "removing the sandbox",
                shared.containers.remove_sandbox(&uid),
            )
            .await;
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
        let uid = static_pods::api_uid(&self.pod).map(str::to_owned);
        let (client, (name, namespace)) = (self.shared.client.clone(), self.names());
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
                preconditions: Some(Preconditions {
                    uid,
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            Outcome::Finished(
                match tokio::time::timeout(REQUEST_LIMIT, api.delete(&name, &params)).await {
                    Ok(Ok(_)) => Ok(()),
                    // Another pod has the name by now, or none: this one is forgotten.
                    Ok(Err(kube::Error::Api(answer))) if answer.code == 404 || answer.code == 409 => Ok(()),
                    Ok(Err(error)) => Err(chain(&error)),
                    Err(_) => Err(format!("no answer within {} s", REQUEST_LIMIT.as_secs())),
                },
            )
        }));
    }

    fn status_at_the_end(&self, now: Timestamp) -> PodStatus {
        let observed = Observed {
            ending: Ending::Removed,
            ..self.observed.clone()
        };
        crate::status::build(&self.pod, &observed, &self.written, self.shared.node_ip, now)
    }

    /// Removes an attempt that nobody asks for any more.
    pub(super) fn forget_attempt(&mut self, name: &str, attempt: u32) {
        let (shared, uid, name) = (self.shared.clone(), self.uid.clone(), name.to_owned());
        self.running.push(Box::pin(async move {
            let id = format!("{name}-{attempt}");
            let removal = shared.containers.remove_container(&uid, &id);
            if let Err(error) = within(START_LIMIT, "removing an old attempt", removal).await {
                tracing::debug!(
                    pod = uid,
                    container = id,
                    error = error.message,
                    "an old attempt could not be removed"
                );
            }
            let log = shared.places.termination_log(&uid, &name, attempt);
            let removed = tokio::fs::remove_file(log).await;
            drop(removed);
            Outcome::Nothing
        }));
    }
}

/// Reads the credentials that a pod brings for its images, and tells of those that are missing.
async fn pull_secrets(shared: &Shared, pod: &Pod) -> Keyring {
    let (secrets, missing) = secrets::read(&shared.client, pod).await;
    for message in missing {
        let reason = "FailedToRetrieveImagePullSecret";
        shared.events.note(pod, None, Severity::Warning, reason, message);
    }
    secrets
}

/// Has the images of a pod's volumes at hand, and tells of it.
async fn fetch_volume_images(shared: &Arc<Shared>, pod: &Arc<Pod>) -> Result<(), String> {
    let note = |reason: &str, message: String| shared.events.note(pod, None, Severity::Normal, reason, message);
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    if !volumes.into_iter().any(|volume| volume.image.is_some()) {
        return Ok(());
    }
    let pulling = |reference: &str| note("Pulling", format!("Pulling image \"{reference}\""));
    let secrets = pull_secrets(shared, pod).await;
    let fetched = volumes::images::prepare(&shared.containers, &shared.places, pod, &secrets, pulling).await?;
    for volumes::images::Fetched {
        reference,
        image,
        found,
    } in fetched
    {
        if let Found::Pulled(took) = found {
            note("Pulled", images::pulled(&reference, took, &image));
        }
    }
    Ok(())
}

/// Refuses a RuntimeClass that asks for another runtime.
async fn require_handler(shared: &Shared, class: &str) -> Result<(), RuntimeFailure> {
    let handler = sources::read_handler(&shared.client, class).await;
    match handler
        .map_err(|error| RuntimeFailure::new(error.to_string()))?
        .as_str()
    {
        HANDLER => Ok(()),
        other => Err(RuntimeFailure::new(format!(
            "failed to get sandbox runtime: no runtime for {other:?} is configured; this node has {HANDLER:?} only"
        ))),
    }
}

pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, RuntimeFailure>>,
) -> Result<T, RuntimeFailure> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(RuntimeFailure::new(format!(
            "{what} took longer than {} s",
            limit.as_secs()
        ))),
    }
}

async fn is_ended(shared: &Shared, uid: &str, name: &str, attempt: u32) -> bool {
    match shared.containers.sandbox(uid).await {
        Ok(Some(sandbox)) => {
            let found = sandbox
                .containers
                .iter()
                .find(|state| state.name == name && state.attempt == attempt);
            found.is_none_or(|state| state.exit.is_some())
        }
        Ok(None) => true,
        Err(_) => false,
    }
}
