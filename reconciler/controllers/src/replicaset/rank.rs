//! Which pods go first when there are too many, in Kubernetes' order: the least useful.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::pods;

/// Returns the `count` pods to delete first.
///
/// `all` are the namespace's pods: those of the same Deployment on the same node make a pod more dispensable.
pub(super) fn first_to_go<'a>(
    active: &[&'a Arc<Pod>],
    all: &[Arc<Pod>],
    set: &ReplicaSet,
    count: usize,
) -> Vec<&'a Arc<Pod>> {
    let crowded = crowds(active, all, set);
    let mut ranked: Vec<_> = active.to_vec();
    ranked.sort_by(|a, b| order(a, b, &crowded));
    ranked.truncate(count);
    ranked
}

fn node(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

/// Counts, for each node, the active pods of the sets that share this set's controller.
fn crowds(active: &[&Arc<Pod>], all: &[Arc<Pod>], set: &ReplicaSet) -> HashMap<String, usize> {
    let mut crowds: HashMap<String, usize> = HashMap::new();
    let template_hash = |pod: &Pod| -> Vec<(String, String)> {
        pod.labels()
            .iter()
            .filter(|(key, _)| *key != "pod-template-hash")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let Some(sample) = active.first().filter(|_| pods::controller_of(&set.metadata).is_some()) else {
        for pod in active {
            *crowds.entry(node(pod).to_owned()).or_default() += 1;
        }
        return crowds;
    };
    // The sets of one Deployment differ in the template's hash only.
    let labels = template_hash(sample);
    for pod in all.iter().filter(|pod| pods::is_active(pod)) {
        if template_hash(pod) == labels {
            *crowds.entry(node(pod).to_owned()).or_default() += 1;
        }
    }
    crowds
}

fn order(a: &Pod, b: &Pod, crowds: &HashMap<String, usize>) -> Ordering {
    let assigned = |pod: &Pod| !node(pod).is_empty();
    let phase = |pod: &Pod| match pods::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = |pod: &Pod| -> i32 {
        pod.annotations()
            .get(pods::DELETION_COST)
            .and_then(|cost| cost.parse().ok())
            .unwrap_or(0)
    };
    let crowd = |pod: &Pod| crowds.get(node(pod)).copied().unwrap_or(0);
    let ready_since = |pod: &Pod| pods::ready_since(pod).unwrap_or(Timestamp::MAX);
    let created = |pod: &Pod| {
        pod.metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::MAX, |time| time.0)
    };
    assigned(a)
        .cmp(&assigned(b))
        .then(phase(a).cmp(&phase(b)))
        .then(pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then(cost(a).cmp(&cost(b)))
        .then(Reverse(crowd(a)).cmp(&Reverse(crowd(b))))
        .then(Reverse(ready_since(a)).cmp(&Reverse(ready_since(b))))
        .then(Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
        .then(Reverse(created(a)).cmp(&Reverse(created(b))))
        .then(b.name_any().cmp(&a.name_any()))
}

fn restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let counts = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    counts.map(|container| container.restart_count).max().unwrap_or(0)
}
