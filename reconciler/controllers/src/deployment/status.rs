//! The status that clients wait on: counts, and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::Action;
use super::sets::Plan;

/// Whether the Progressing condition is to be judged anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// While paused, scaling or being deleted it stays.
    Keep,
    /// A roll-out is under way or done.
    Judge,
}

impl Plan<'_> {
    pub(super) fn condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.conditions
            .iter()
            .find(|condition| condition.type_.as_deref() == Some(kind))
    }

    /// Sets a condition; one with the same status and reason stays as it is.
    pub(super) fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let same = |condition: &DeploymentCondition| {
            condition.status.as_deref() == Some(status) && condition.reason.as_deref() == Some(reason)
        };
        if !self.condition(kind).is_some_and(same) {
            self.renew_condition(kind, status, reason, message);
        }
    }

    /// Sets a condition with a new update time; the transition time changes only with the status.
    fn renew_condition(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let transition = self
            .condition(kind)
            .filter(|before| before.status.as_deref() == Some(status))
            .and_then(|before| before.last_transition_time.clone())
            .unwrap_or(Time(self.now));
        self.drop_condition(kind);
        self.conditions.push(DeploymentCondition {
            type_: Some(kind.to_owned()),
            status: Some(status.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(Time(self.now)),
            last_transition_time: Some(transition),
        });
    }

    fn drop_condition(&mut self, kind: &str) {
        self.conditions
            .retain(|condition| condition.type_.as_deref() != Some(kind));
    }

    /// Says in the Progressing condition that the roll-out rests, or goes on.
    pub(super) fn note_pause(&mut self) {
        if self.spec.progress_deadline_seconds.is_none() {
            return;
        }
        let reason = self
            .condition("Progressing")
            .and_then(|condition| condition.reason.clone());
        if reason.as_deref() == Some("ProgressDeadlineExceeded") {
            return;
        }
        let was_paused = reason.as_deref() == Some("DeploymentPaused");
        let paused = self.spec.paused == Some(true);
        if paused && !was_paused {
            self.set_condition(
                "Progressing",
                "Unknown",
                "DeploymentPaused",
                "Deployment is paused".into(),
            );
        } else if !paused && was_paused {
            self.set_condition(
                "Progressing",
                "Unknown",
                "DeploymentResumed",
                "Deployment is resumed".into(),
            );
        }
    }

    /// Counts, and judges availability.
    fn count(&self) -> DeploymentStatus {
        let status = |read: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| -> i32 {
            self.sets.iter().filter_map(|set| read(set.status()?)).sum()
        };
        let available = status(|status| status.available_replicas);
        let wanted: i32 = self.sets.iter().map(|set| set.replicas).sum();
        let before = self.deployment.status.clone().unwrap_or_default();
        let some = |count: i32| (count > 0).then_some(count);
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(status(|status| Some(status.replicas))),
            updated_replicas: some(self.newest.map_or(0, |newest| self.sets[newest].actual())),
            ready_replicas: some(status(|status| status.ready_replicas)),
            available_replicas: some(available),
            unavailable_replicas: some(wanted - available),
            terminating_replicas: some(status(|status| status.terminating_replicas)),
            collision_count: before.collision_count,
            conditions: None,
        }
    }

    /// Returns whether everything runs as the present template says, and nothing else does.
    pub(super) fn is_complete(&self) -> bool {
        let status = self.count();
        let wanted = self.replicas();
        let count = |count: Option<i32>| count.unwrap_or(0);
        self.newest.is_some()
            && count(status.updated_replicas) == wanted
            && count(status.replicas) == wanted
            && count(status.available_replicas) == wanted
    }

    /// Ends the plan: the sets' changes, then the status.
    pub(super) fn finish(mut self, progress: Progress, actions: &mut Vec<Action>) {
        self.changes(actions);
        let counted = self.count();
        let (_, unavailable) = self.bounds();
        if counted.available_replicas.unwrap_or(0) >= self.replicas() - unavailable {
            let message = "Deployment has minimum availability.".into();
            self.set_condition("Available", "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.".into();
            self.set_condition("Available", "False", "MinimumReplicasUnavailable", message);
        }
        if progress == Progress::Judge {
            self.judge(&counted, actions);
            self.report_failure();
        }
        let status = DeploymentStatus {
            conditions: Some(self.conditions.clone()),
            ..counted
        };
        let before = self.deployment.status.clone().unwrap_or_default();
        let sorted = |status: &DeploymentStatus| {
            let mut conditions = status.conditions.clone().unwrap_or_default();
            conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
            DeploymentStatus {
                conditions: Some(conditions),
                ..status.clone()
            }
        };
        if sorted(&status) != zeroless(sorted(&before)) {
            actions.push(Action::PatchStatus(patch(&status)));
        }
    }

    /// Judges whether the roll-out moves, is done, or has been stuck for too long.
    fn judge(&mut self, counted: &DeploymentStatus, actions: &mut Vec<Action>) {
        let Some(deadline) = self.spec.progress_deadline_seconds else {
            self.drop_condition("Progressing");
            return;
        };
        let about = match self.newest {
            Some(newest) => format!("ReplicaSet {:?}", self.sets[newest].name),
            None => format!("Deployment {:?}", self.deployment.name_any()),
        };
        let reason = self
            .condition("Progressing")
            .and_then(|condition| condition.reason.clone());
        let all_updated = counted.replicas == counted.updated_replicas;
        if all_updated && reason.as_deref() == Some("NewReplicaSetAvailable") {
            return;
        }
        let before = self.deployment.status.clone().unwrap_or_default();
        let count = |count: Option<i32>| count.unwrap_or(0);
        let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
        let moves = count(counted.updated_replicas) > count(before.updated_replicas)
            || old(counted) < old(&before)
            || count(counted.ready_replicas) > count(before.ready_replicas)
            || count(counted.available_replicas) > count(before.available_replicas);
        if self.is_complete() {
            let message = format!("{about} has successfully progressed.");
            self.set_condition("Progressing", "True", "NewReplicaSetAvailable", message);
            return;
        }
        if moves {
            self.renew_condition(
                "Progressing",
                "True",
                "ReplicaSetUpdated",
                format!("{about} is progressing."),
            );
        }
        let Some(condition) = self.condition("Progressing") else {
            return;
        };
        let Some(since) = condition.last_update_time.as_ref().map(|time| time.0) else {
            return;
        };
        let paused = condition.reason.as_deref() == Some("DeploymentPaused");
        let exceeded = condition.reason.as_deref() == Some("ProgressDeadlineExceeded");
        let done = condition.reason.as_deref() == Some("NewReplicaSetAvailable");
        if paused || exceeded || done {
            return;
        }
        let waited = Duration::try_from(self.now.duration_since(since)).unwrap_or_default();
        let deadline = Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
        if waited > deadline {
            let message = format!("{about} has timed out progressing.");
            self.set_condition("Progressing", "False", "ProgressDeadlineExceeded", message);
        } else {
            actions.push(Action::Again(deadline - waited + Duration::from_secs(1)));
        }
    }

    /// Carries over why a set cannot make its pods, the newest set's reason first.
    fn report_failure(&mut self) {
        let order = self.newest.into_iter().chain(self.old());
        let failure = order
            .filter_map(|index| {
                let conditions = self.sets[index].status()?.conditions.as_ref()?;
                conditions
                    .iter()
                    .find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"))
                    .cloned()
            })
            .next();
        match failure {
            Some(failure) => {
                let text = |text: Option<String>| text.unwrap_or_default();
                let (status, reason) = (text(failure.status), text(failure.reason));
                self.set_condition("ReplicaFailure", &status, &reason, text(failure.message));
            }
            None => self.drop_condition("ReplicaFailure"),
        }
    }
}

/// Zeros and absences are the same in a status.
fn zeroless(mut status: DeploymentStatus) -> DeploymentStatus {
    for count in [
        &mut status.replicas,
        &mut status.updated_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
        &mut status.unavailable_replicas,
        &mut status.terminating_replicas,
    ] {
        *count = count.filter(|count| *count > 0);
    }
    status
}

/// Writes the status as a merge patch: what is absent is removed.
fn patch(status: &DeploymentStatus) -> Value {
    let mut fields: Map<String, Value> = [
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
    ]
    .into_iter()
    .map(|field| (field.to_owned(), Value::Null))
    .collect();
    if let Ok(Value::Object(present)) = serde_json::to_value(status) {
        fields.extend(present);
    }
    json!({ "status": fields })
}
