//! Telling the API: a worker's status writes. One at a time, only what changed, tried again until it is there.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::Worker;
use super::operations::Outcome;
use crate::backoff;
use crate::observed::{Busy, Ending};
use crate::sources::REQUEST_LIMIT;
use crate::{static_pods, status};

/// How long "on its way" may wait for better news before it is written.
const BEGINNING: Duration = Duration::from_millis(200);

impl Worker {
    /// Returns the status as it is now.
    pub(super) fn status(&self, now: Timestamp) -> PodStatus {
        status::build(&self.pod, &self.observed, &self.written, self.shared.node_ip, now)
    }

    /// Begins to write the status if it differs from what the API has.
    pub(super) fn write_status(&mut self, now: Timestamp) {
        let status = self.status(now);
        self.gauge.set(status.phase.as_deref().unwrap_or("Unknown"));
        if self.writing || self.listening > 0 || self.observed.gone || self.observed.ending >= Ending::Removed {
            return;
        }
        if status == self.written {
            self.write_at = None;
            return;
        }
        if self.write_failures > 0 {
            // The back-off after a failure was set when it failed.
            if self.write_at.is_some_and(|at| at > now) {
                return;
            }
        } else if let Some(until) = self.better_news(&status).filter(|until| *until > now) {
            self.write_at = Some(until);
            return;
        }
        self.write_at = None;
        self.writing = true;
        self.shared.metrics.writes.inc();
        let patch = patch(&self.pod, &self.written, &status);
        let object = static_pods::api_uid(&self.pod).map(str::to_owned);
        let (client, (name, namespace)) = (self.shared.client.clone(), self.names());
        self.running.push(Box::pin(async move {
            let result = write(client, &namespace, &name, &patch).await;
            Outcome::Written {
                object,
                status: Box::new(status),
                result,
            }
        }));
    }

    /// Returns until when a status may wait, because a start that is under way changes it: writes come one after another, each as slow as the disk, so
    /// that the news of the start would wait for those of its beginning.
    fn better_news(&self, status: &PodStatus) -> Option<Timestamp> {
        if status::is_only_beginning(status) && self.written.container_statuses.is_none() {
            return self.first_seen.checked_add(BEGINNING).ok();
        }
        let restarting = self.observed.containers.values().filter(|container| {
            container.busy == Some(Busy::Starting) && container.failure.is_none() && !container.stale
        });
        let ended = restarting
            .filter_map(|container| container.exit())
            .map(|exit| exit.finished_at);
        ended.min()?.checked_add(BEGINNING).ok()
    }

    /// Takes the answer to a write.
    pub(super) fn take_written(&mut self, object: Option<&str>, status: PodStatus, result: Result<(), WriteError>) {
        self.writing = false;
        if object != static_pods::api_uid(&self.pod) {
            // It was about a mirror that is gone; the next has its own.
            return;
        }
        match result {
            Ok(()) => {
                self.write_failures = 0;
                let foreign = self.pod.status.clone();
                self.written = status;
                if let Some(foreign) = foreign {
                    self.take_foreign_conditions(&foreign);
                }
            }
            // The pod is not there any more; the watch will say so.
            Err(WriteError::Gone) => self.written = status,
            Err(WriteError::Failed(error)) => {
                self.write_failures = self.write_failures.saturating_add(1);
                let delay = backoff::internal_delay(self.write_failures);
                self.write_at = (self.shared.now)().checked_add(delay).ok();
                tracing::warn!(
                    pod = self.uid,
                    error,
                    "the pod's status could not be written, trying again"
                );
            }
        }
    }

    /// Takes over what others wrote into the conditions.
    pub(super) fn take_foreign_conditions(&mut self, api: &PodStatus) {
        let own = status::is_own;
        let foreign: Vec<_> = api
            .conditions
            .iter()
            .flatten()
            .filter(|condition| !own(&condition.type_))
            .cloned()
            .collect();
        let mut mine: Vec<_> = self
            .written
            .conditions
            .iter()
            .flatten()
            .filter(|condition| own(&condition.type_))
            .cloned()
            .collect();
        mine.extend(foreign);
        self.written.conditions = (!mine.is_empty()).then_some(mine);
    }
}

/// Why a status was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The pod no longer exists.
    Gone,
    /// Anything else; passes.
    Failed(String),
}

/// Returns the merge patch from one status to another, for this very pod.
pub(super) fn patch(pod: &Pod, old: &PodStatus, new: &PodStatus) -> Value {
    let fields = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let old = fields(old);
    let mut changed = fields(new);
    for name in old.keys() {
        if !changed.contains_key(name) {
            changed.insert(name.clone(), Value::Null);
        }
    }
    changed.retain(|name, value| old.get(name) != Some(value));
    json!({"metadata": {"uid": static_pods::api_uid(pod)}, "status": changed})
}

/// Whether the API refused because the name belongs to another object by now.
fn is_another(answer: &kube::core::Status) -> bool {
    answer.code == 409 && answer.message.contains("UID in precondition")
}

/// Sends a status patch.
pub(super) async fn write(client: kube::Client, namespace: &str, name: &str, patch: &Value) -> Result<(), WriteError> {
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let params = PatchParams::default();
    match tokio::time::timeout(REQUEST_LIMIT, api.patch_status(name, &params, &Patch::Merge(patch))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(answer))) if answer.code == 404 || is_another(&answer) => Err(WriteError::Gone),
        Ok(Err(error)) => Err(WriteError::Failed(crate::containers::chain(&error))),
        Err(_) => Err(WriteError::Failed(format!(
            "no answer within {} s",
            REQUEST_LIMIT.as_secs()
        ))),
    }
}
