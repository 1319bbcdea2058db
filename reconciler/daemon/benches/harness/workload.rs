//! When pods and Deployments are where they should be.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

/// Says whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Says whether all of a Deployment runs as its generation says, and nothing older.
pub fn done(deployment: &Deployment, generation: i64) -> bool {
    let wanted = deployment.spec.replicas;
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= Some(generation)
            && status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
    })
}
