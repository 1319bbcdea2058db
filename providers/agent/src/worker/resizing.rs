//! A worker's resizes: what is begun and what comes of it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::{Value, json};

use super::operations::Outcome;
use super::{Worker, failure};
use crate::containers::RuntimeFailure;
use crate::events::Severity;
use crate::observed::{Kill, Resize};
use crate::resize::{self, Change};
use crate::roles::{self, Role};
use crate::{backoff, decide, resources};

impl Worker {
    /// Takes over what adopted containers were last said to have; of those of which nothing is known it is taken that they have what they ask for.
    pub(super) fn adopt_resources(&mut self, pod: &Pod) {
        let reported = pod.status.iter().flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            status.container_statuses.iter().flatten().chain(init)
        });
        let reported: Vec<_> = reported.collect();
        for (_, definition) in pod.spec.iter().flat_map(roles::all) {
            let Some(container) = self.observed.containers.get_mut(&definition.name) else {
                continue;
            };
            let attempt = container.current.as_ref().map(|current| current.attempt);
            let status = reported.iter().find(|status| status.name == definition.name);
            let status = status.filter(|status| u32::try_from(status.restart_count).ok() == attempt);
            let said = status.and_then(|status| status.resources.clone());
            container.applied = said.or_else(|| Some(definition.resources.clone().unwrap_or_default()));
        }
    }

    /// Says how a resize stands, and notes what the pod has of the node.
    pub(super) fn settle_resize(&mut self, spec: &PodSpec) {
        let allocations = &self.shared.allocations;
        if self.observed.failed.is_some() || decide::is_over(&self.pod, spec, &self.observed) {
            allocations.take_back(&self.uid);
        } else if self.observed.resize != Resize::Doing {
            allocations.note(&self.uid, resize::requested(&resize::allocated(spec, &self.observed)));
        }
        // Before others are looked at: what changes from here on is a reason to look again.
        self.room.mark_unchanged();
        self.observed.others = allocations.others(&self.uid);
        let stands = resize::assess(spec, &self.observed);
        self.stand(spec, stands);
    }

    /// Takes note of how a resize stands, and tells of one that has to wait.
    fn stand(&mut self, spec: &PodSpec, stands: Resize) {
        if stands == self.observed.resize {
            return;
        }
        let pending = match &stands {
            Resize::Infeasible(message) => Some(("ResizeInfeasible", "Infeasible", message)),
            Resize::Deferred(message) => Some(("ResizeDeferred", "Deferred", message)),
            _ => None,
        };
        if let Some((event, word, message)) = pending {
            let changes = resize::changes(spec, &self.observed);
            let told = told(&self.pod, spec, &changes, Some(message));
            self.note(None, Severity::Warning, event, format!("Pod resize {word}: {told}"));
        }
        self.observed.resize = stands;
    }

    /// Begins to give running containers the limits that the object asks for.
    pub(super) fn resize(&mut self) {
        let pod = self.pod.clone();
        let Some(spec) = &pod.spec else { return };
        let given = self.shared.allocations.give(&self.uid, resize::requested(spec));
        if let Err(message) = given {
            // Another pod was quicker.
            self.stand(spec, Resize::Deferred(message));
            return;
        }
        let changes = resize::changes(spec, &self.observed);
        if !matches!(self.observed.resize, Resize::Failed(_)) {
            let message = format!("Pod resize started: {}", told(&pod, spec, &changes, None));
            self.note(None, Severity::Normal, "ResizeStarted", message);
        }
        self.resize_failure = match std::mem::replace(&mut self.observed.resize, Resize::Doing) {
            Resize::Failed(before) => Some(before),
            _ => None,
        };
        let mut whole = resources::of_pod(spec);
        if changes.iter().any(|change| change.restart) {
            // Until they have ended, those that are to be restarted use what they had.
            let before = resources::of_pod(&resize::allocated(spec, &self.observed)).memory_limit;
            // No limit is more than any.
            whole.memory_limit = whole.memory_limit.zip(before).map(|(new, old)| new.max(old));
        }
        let given = changes.iter().filter(|change| !change.restart).map(|change| {
            let id = format!("{}-{}", change.name, change.attempt);
            (id, resources::of_requirements(Some(&change.resources)))
        });
        let given: Vec<_> = given.collect();
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        self.running.push(Box::pin(async move {
            let work = shared.containers.resize(&uid, whole, given);
            let result = super::operations::within(super::operations::RESIZE_LIMIT, "resizing the pod", work).await;
            Outcome::Resized { changes, result }
        }));
    }

    /// Takes what came of a resize.
    pub(super) fn take_resize(&mut self, changes: &[Change], result: Result<(), RuntimeFailure>, now: Timestamp) {
        let pod = self.pod.clone();
        if let Err(error) = result {
            let before = self.resize_failure.take();
            let message = format!("Pod resize error: {}", error.message);
            self.note(None, Severity::Warning, "ResizeError", message);
            let failure = failure(before.as_ref(), "Error", error.message, backoff::retry_delay, now);
            self.observed.resize = Resize::Failed(failure);
            return;
        }
        self.observed.resize = Resize::Settled;
        for change in changes {
            let container = self.container(&change.name);
            let same = container
                .current
                .as_ref()
                .is_some_and(|current| current.attempt == change.attempt);
            if !same {
                continue;
            }
            if change.restart {
                container.kill = Some(Kill {
                    message: format!("Container {} resize requires restart", change.name),
                    grace_seconds: None,
                });
            } else {
                container.applied = Some(change.resources.clone());
            }
        }
        if let Some(spec) = &pod.spec {
            let message = format!("Pod resize completed: {}", told(&pod, spec, changes, None));
            self.note(None, Severity::Normal, "ResizeCompleted", message);
        }
    }
}

/// Writes a resize as events tell it.
fn told(pod: &Pod, spec: &PodSpec, changes: &[Change], error: Option<&str>) -> String {
    let of_role = |role: Role| -> Vec<Value> {
        let named = changes
            .iter()
            .filter(|change| roles::find(spec, &change.name).is_some_and(|(found, _)| found == role));
        named
            .map(|change| json!({"name": change.name, "resources": change.resources}))
            .collect()
    };
    let mut all = json!({"generation": pod.metadata.generation});
    for (key, role) in [("containers", Role::Main), ("initContainers", Role::Init)] {
        let list = of_role(role);
        if !list.is_empty() {
            all[key] = list.into();
        }
    }
    if let Some(error) = error {
        all["error"] = error.into();
    }
    all.to_string()
}
