//! Deployments, ReplicaSets, StatefulSets and DaemonSets.

use serde_json::Value;
use setpoint_api::meta;

use super::conditions::{Condition, condition};
use super::{Health, UNOBSERVED, brief, count, is_unobserved, number};
use crate::text::plural;

fn wanted(object: &Value) -> i64 {
    number(object, &["spec", "replicas"]).unwrap_or(1)
}

/// `2 of 3 replicas are ready`.
fn of(part: i64, all: i64, what: &str) -> String {
    format!("{part} of {all} {} {what}", plural(all, "replica is", "replicas are"))
}

/// Adds why pods cannot be made, where the controller says so.
fn with_failure(object: &Value, reason: String) -> Health {
    match condition(object, "ReplicaFailure").filter(Condition::is_true) {
        Some(failure) => Health::progressing(format!("{reason}; pods cannot be created: {}", brief(failure.message))),
        None => Health::progressing(reason),
    }
}

fn ready(all: i64) -> Health {
    if all == 0 {
        Health::healthy("it is scaled to 0 replicas")
    } else {
        Health::healthy(of(all, all, "ready"))
    }
}

/// Judges what is ready, and what has to stay so for a while.
fn waiting_for_ready(object: &Value, available: i64, all: i64) -> Option<Health> {
    if available >= all {
        return None;
    }
    let now_ready = count(object, "readyReplicas");
    let seconds = number(object, &["spec", "minReadySeconds"]).unwrap_or(0);
    let reason = if now_ready >= all && seconds > 0 {
        format!("{}, but not yet all for {seconds} s", of(now_ready, all, "ready"))
    } else {
        of(now_ready.min(all), all, "ready")
    };
    Some(with_failure(object, reason))
}

pub(super) fn deployment(object: &Value) -> Health {
    if is_unobserved(object) {
        return Health::progressing(UNOBSERVED);
    }
    let all = wanted(object);
    let (updated, total, available) = (
        count(object, "updatedReplicas"),
        count(object, "replicas"),
        count(object, "availableReplicas"),
    );
    if let Some(progressing) = condition(object, "Progressing").filter(Condition::is_false)
        && progressing.reason == "ProgressDeadlineExceeded"
    {
        let seconds = number(object, &["spec", "progressDeadlineSeconds"]).unwrap_or(600);
        let state = of(count(object, "readyReplicas").min(all), all, "ready");
        return Health::degraded(format!("the roll-out made no progress for {seconds} s: {state}"));
    }
    if meta::at(object, &["spec", "paused"]) == Some(&Value::Bool(true)) {
        return Health::suspended("the roll-out is paused");
    }
    if updated < all {
        return with_failure(object, of(updated, all, "of the new revision"));
    }
    if total > updated {
        let old = total - updated;
        return Health::progressing(format!(
            "{old} old {} still to go",
            plural(old, "replica is", "replicas are")
        ));
    }
    waiting_for_ready(object, available, all).unwrap_or_else(|| ready(all))
}

pub(super) fn replica_set(object: &Value) -> Health {
    if is_unobserved(object) {
        return Health::progressing(UNOBSERVED);
    }
    let all = wanted(object);
    let total = count(object, "replicas");
    if total > all {
        let surplus = total - all;
        return Health::progressing(format!(
            "{surplus} {} still to go",
            plural(surplus, "replica is", "replicas are")
        ));
    }
    waiting_for_ready(object, count(object, "availableReplicas"), all).unwrap_or_else(|| ready(all))
}

pub(super) fn stateful_set(object: &Value) -> Health {
    if is_unobserved(object) {
        return Health::progressing(UNOBSERVED);
    }
    let all = wanted(object);
    let ready_now = count(object, "readyReplicas");
    if ready_now < all {
        return Health::progressing(of(ready_now, all, "ready"));
    }
    // Pods that are replaced only when somebody deletes them are nothing to wait for.
    if meta::str_at(object, &["spec", "updateStrategy", "type"]) == "OnDelete" {
        return ready(all);
    }
    let partition = number(object, &["spec", "updateStrategy", "rollingUpdate", "partition"]).unwrap_or(0);
    let to_update = (all - partition).max(0);
    let (current, new) = (
        meta::str_at(object, &["status", "currentRevision"]),
        meta::str_at(object, &["status", "updateRevision"]),
    );
    let updated = count(object, "updatedReplicas");
    if current != new && updated < to_update {
        return Health::progressing(of(updated, to_update, "of the new revision"));
    }
    waiting_for_ready(
        object,
        number(object, &["status", "availableReplicas"]).unwrap_or(all),
        all,
    )
    .unwrap_or_else(|| ready(all))
}

pub(super) fn daemon_set(object: &Value) -> Health {
    if is_unobserved(object) {
        return Health::progressing(UNOBSERVED);
    }
    let all = count(object, "desiredNumberScheduled");
    let on = |part: i64, what: &str| format!("on {part} of {all} {} {what}", plural(all, "node", "nodes"));
    let on_delete = meta::str_at(object, &["spec", "updateStrategy", "type"]) == "OnDelete";
    let updated = count(object, "updatedNumberScheduled");
    if !on_delete && updated < all {
        return Health::progressing(on(updated, "its pod is of the new revision"));
    }
    let available = count(object, "numberAvailable");
    if available < all {
        return Health::progressing(on(
            count(object, "numberReady").min(available.max(0)),
            "its pod is ready",
        ));
    }
    Health::healthy(on(all, "its pod is ready"))
}
