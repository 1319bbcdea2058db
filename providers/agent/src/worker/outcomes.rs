//! What a worker learns from the operations that ended.

use std::time::Duration;

use jiff::Timestamp;
use setpoint_runtime::spec::{ContainerState, Exit};

use super::operations::{Outcome, StartFailure};
use super::{Worker, failure, unbusy};
use crate::containers::{self, ReadyImage};
use crate::events::Severity;
use crate::images::{self, Found, ImageProblem};
use crate::observed::{Busy, EVICTED, Ending, Hook, Image, Kill, Sandbox, Step};
use crate::{backoff, decide};

/// What is said of a sandbox that is made anew: reason and message.
pub(super) const SANDBOX_CHANGED: (&str, &str) = (
    "SandboxChanged",
    "Pod sandbox changed, it will be killed and re-created.",
);

/// The exit code of a program that could not be executed.
const START_ERROR: i32 = 128;

impl Worker {
    /// Takes what came of an operation.
    pub(super) async fn take_outcome(&mut self, outcome: Outcome) {
        let now = (self.shared.now)();
        tracing::debug!(pod = self.uid, outcome = outcome.word());
        match outcome {
            Outcome::SandboxCreated(Ok(sandbox)) => {
                self.sandbox_failure = None;
                let addresses = sandbox.spec.addresses();
                self.observed.sandbox = Sandbox::Ready { addresses };
                if let Some(addresses) = addresses {
                    self.shared.host_ports.open(&self.uid, addresses);
                }
            }
            Outcome::SandboxCreated(Err(error)) => {
                self.observed.sandbox = Sandbox::Missing;
                self.sandbox_failed(error.message, now);
            }
            Outcome::VolumesPrepared(result) => self.take_volumes(result, now),
            Outcome::Measured(result, again) => self.take_measurement(result, again),
            Outcome::ImageFound { container, result } => self.take_image(&container, result, now),
            Outcome::Started {
                container,
                attempt,
                result,
            } => self.take_start(&container, attempt, result, now),
            Outcome::PostStarted {
                container,
                attempt,
                result,
            } => self.take_post_start(&container, attempt, result),
            Outcome::Resized { changes, result } => self.take_resize(&changes, result, now),
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
                self.give_address_back();
                self.observed.sandbox = Sandbox::Removing;
                self.observed.removal = None;
                self.observed.ending = Ending::Removed;
            }
            Outcome::Removed(Err(message)) => {
                tracing::warn!(
                    pod = self.uid,
                    error = message,
                    "what is left of the pod could not be removed, trying again"
                );
                let before = self.observed.removal.take();
                self.observed.removal = Some(failure(
                    before.as_ref(),
                    "FailedKillPod",
                    message,
                    backoff::internal_delay,
                    now,
                ));
                self.observed.ending = Ending::Stopping;
            }
            Outcome::Finished(Ok(())) => self.observed.ending = Ending::Finished,
            Outcome::Finished(Err(message)) => {
                tracing::warn!(
                    pod = self.uid,
                    error = message,
                    "the API could not be told that the pod has ended, trying again"
                );
                let before = self.observed.removal.take();
                self.observed.removal = Some(failure(
                    before.as_ref(),
                    "Finish",
                    message,
                    backoff::internal_delay,
                    now,
                ));
                self.observed.ending = Ending::Removed;
            }
            Outcome::Probed {
                container,
                attempt,
                kind,
                answer,
            } => self.take_probe(&container, attempt, kind, &answer),
            Outcome::Written { object, status, result } => self.take_written(object.as_deref(), *status, result),
            Outcome::Closed(Ok(())) => {
                self.observed.sandbox = Sandbox::Closed;
                self.observed.removal = None;
                self.give_address_back();
            }
            Outcome::Closed(Err(error)) => {
                tracing::warn!(
                    pod = self.uid,
                    error = error.message,
                    "the sandbox of a completed pod could not be ended, trying again"
                );
                let before = self.observed.removal.take();
                self.observed.removal = Some(failure(
                    before.as_ref(),
                    "FailedKillPod",
                    error.message,
                    backoff::internal_delay,
                    now,
                ));
                self.observed.sandbox = Sandbox::Ready {
                    addresses: self.addresses,
                };
            }
            Outcome::Said {
                container,
                attempt,
                words,
            } => {
                self.listening = self.listening.saturating_sub(1);
                if !words.is_empty() {
                    self.container(&container).messages.insert(attempt, words);
                }
            }
            Outcome::Nothing => {}
        }
    }

    fn give_address_back(&mut self) {
        // The ports first: they must not lead to the address's next pod.
        self.shared.host_ports.release(&self.uid);
        if let Some((addresses, own)) = self.shared.addresses.as_ref().zip(self.addresses.take()) {
            addresses.give_back(own);
        }
    }

    fn take_measurement(&mut self, result: Result<Option<String>, String>, again: Timestamp) {
        match result {
            Ok(Some(_)) if self.is_past_writing() => {}
            Ok(Some(message)) if self.observed.failed.is_none() => {
                self.note(None, Severity::Warning, EVICTED, message.clone());
                self.observed.failed = Some((EVICTED.to_owned(), message));
            }
            Ok(_) => self.measure_at = Some(again),
            Err(error) => {
                tracing::debug!(pod = self.uid, error, "what the pod wrote could not be measured");
                self.measure_at = Some(again);
            }
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
        let reference = self
            .definition(name)
            .and_then(|(_, definition)| definition.image)
            .unwrap_or_default();
        match result {
            Ok((image, found)) => {
                let message = match found {
                    Found::Present => format!(
                        "Container image \"{reference}\" already present on machine and can be accessed by the pod"
                    ),
                    Found::Pulled(took) => images::pulled(&reference, took, &image),
                };
                self.note(Some(name), Severity::Normal, "Pulled", message);
                self.image_failures.remove(name);
                self.container(name).image = Image::Ready(image);
            }
            Err(problem) => {
                let reason = if problem.reason == "ErrImagePull" {
                    "Failed"
                } else {
                    problem.reason
                };
                let shown = if problem.reason == "ErrImagePull" {
                    problem.message.replacen("failed", "Failed", 1)
                } else {
                    problem.message.clone()
                };
                self.note(Some(name), Severity::Warning, reason, shown);
                self.note(
                    Some(name),
                    Severity::Warning,
                    "Failed",
                    format!("Error: {}", problem.reason),
                );
                let before = self.image_failures.remove(name);
                let failure = failure(
                    before.as_ref(),
                    problem.reason,
                    problem.message,
                    backoff::retry_delay,
                    now,
                );
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
                let is_news = container.take(state.clone());
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
                    self.shared
                        .metrics
                        .start
                        .observe(now.duration_since(self.first_seen).as_secs_f64());
                }
                self.note(
                    Some(name),
                    Severity::Normal,
                    "Created",
                    format!("Created container: {name}"),
                );
                self.note(
                    Some(name),
                    Severity::Normal,
                    "Started",
                    format!("Started container {name}"),
                );
                if is_news && state.exit.is_some() {
                    // It was quicker than the answer: no look finds its end any more.
                    self.ended(state);
                }
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
                let exit = Exit {
                    // As containerd tells it, whatever a shell would say.
                    code: START_ERROR,
                    signal: None,
                    oom_killed: false,
                    finished_at: now,
                };
                let image = match &container.image {
                    Image::Ready(image) => image.id.clone(),
                    _ => String::new(),
                };
                container.take(ContainerState {
                    mounted: Vec::new(),
                    name: name.to_owned(),
                    attempt,
                    image,
                    pid: 0,
                    started_at: now,
                    exit: Some(exit),
                });
            }
            Err(StartFailure::Start(error)) if error.reason == containers::OUTDATED => {
                let spec = self.pod.spec.as_ref();
                if spec.is_none_or(|spec| !decide::may_replace_sandbox(spec, &self.observed, name)) {
                    self.start_refused(name, "CreateContainerError", error.message, now);
                } else if !std::mem::replace(&mut self.observed.outdated, true) {
                    tracing::info!(
                        pod = self.uid,
                        container = name,
                        error = error.message,
                        "making the sandbox anew"
                    );
                    self.note(None, Severity::Normal, SANDBOX_CHANGED.0, SANDBOX_CHANGED.1);
                }
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
        if container
            .current
            .as_ref()
            .is_none_or(|current| current.attempt != attempt)
        {
            return;
        }
        container.hook = Hook::Done;
        if let Err(error) = result {
            container.kill = Some(Kill {
                message: "FailedPostStartHook".to_owned(),
                grace_seconds: None,
            });
            self.note(
                Some(name),
                Severity::Warning,
                "FailedPostStartHook",
                format!("PostStartHook failed: {error}"),
            );
        }
    }
}

fn volume_delay(failures: u32) -> Duration {
    backoff::internal_delay(failures.saturating_add(1))
}
