//! The ReplicaSet's decisions.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::core::Selector;
use serde_json::{Value, json};

use super::{Action, Decision, Observed, decide};

fn set(replicas: i32) -> Arc<ReplicaSet> {
    let set = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "rs" },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": 10,
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } },
        },
    });
    Arc::new(serde_json::from_value(set).expect("a set"))
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": { "app": "web" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true }],
            "creationTimestamp": "1970-01-01T00:00:00Z",
        },
        "spec": { "containers": [], "nodeName": "n" },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z" }],
        },
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn look(replicas: i32, pods: Vec<Arc<Pod>>) -> Decision {
    look_knowing(replicas, pods, &[])
}

fn look_knowing(replicas: i32, pods: Vec<Arc<Pod>>, deleted: &[&str]) -> Decision {
    let set = set(replicas);
    let selector = Selector::try_from(set.spec.selector.clone()).expect("a selector");
    let deleted: HashSet<String> = deleted.iter().map(|uid| (*uid).to_owned()).collect();
    decide(
        &Observed { set, pods, deleted },
        &selector,
        Timestamp::from_second(100).expect("in range"),
    )
}

fn deleted(decision: &Decision) -> Vec<&str> {
    let names = decision.actions.iter().filter_map(|action| match action {
        Action::Delete { name, .. } => Some(name.as_str()),
        _ => None,
    });
    names.collect()
}

#[test]
fn missing_pods_are_created_and_ended_ones_replaced() {
    let ended = pod("ended", |pod| pod["status"]["phase"] = json!("Failed"));
    let ending = pod("ending", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:01Z")
    });
    let decision = look(3, vec![pod("a", |_| {}), ended, ending]);
    assert_eq!(decision.actions, [Action::Create(2)]);
    assert_eq!(decision.status.replicas, 1);
    assert_eq!(decision.status.terminating_replicas, Some(1));
}

#[test]
fn a_pod_that_was_asked_to_end_no_longer_counts_whatever_the_cache_says() {
    let decision = look_knowing(1, vec![pod("a", |_| {})], &["uid-a"]);
    assert_eq!(decision.actions, [Action::Create(1)]);
}

#[test]
fn surplus_pods_go_in_kubernetes_order() {
    let unassigned = pod("unassigned", |pod| pod["spec"] = json!({ "containers": [] }));
    let pending = pod("pending", |pod| pod["status"]["phase"] = json!("Pending"));
    let unready = pod("unready", |pod| {
        pod["status"]["conditions"][0]["status"] = json!("False")
    });
    let cheap = pod("cheap", |pod| {
        pod["metadata"]["annotations"] = json!({ "controller.kubernetes.io/pod-deletion-cost": "-5" });
    });
    let fresh = pod("fresh", |pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!("1970-01-01T00:01:00Z");
    });
    let all = vec![pod("old", |_| {}), fresh, cheap, unready, pending, unassigned];
    let decision = look(1, all);
    assert_eq!(
        deleted(&decision),
        ["unassigned", "pending", "unready", "cheap", "fresh"]
    );
}

#[test]
fn a_pod_is_available_once_it_was_ready_long_enough() {
    let young = pod("young", |pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!("1970-01-01T00:01:35Z");
    });
    let decision = look(2, vec![pod("old", |_| {}), young]);
    assert_eq!(
        (decision.status.ready_replicas, decision.status.available_replicas),
        (Some(2), Some(1))
    );
    assert_eq!(decision.actions, [Action::Again(std::time::Duration::from_secs(5))]);
}

#[test]
fn orphans_are_adopted_and_strangers_let_go() {
    let orphan = pod("orphan", |pod| pod["metadata"]["ownerReferences"] = json!([]));
    let stranger = pod("stranger", |pod| pod["metadata"]["labels"] = json!({ "app": "other" }));
    let foreign = pod("foreign", |pod| {
        pod["metadata"]["ownerReferences"][0]["uid"] = json!("another")
    });
    let decision = look(1, vec![orphan, stranger, foreign]);
    let owners: Vec<(&str, usize)> = decision
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::SetOwners { name, patch } => Some((
                name.as_str(),
                patch["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len),
            )),
            _ => None,
        })
        .collect();
    assert_eq!(owners, [("orphan", 1), ("stranger", 0)]);
    assert_eq!(decision.status.replicas, 1, "the adopted one counts");
    assert!(!decision.actions.contains(&Action::Create(1)));
}
