//! What a pod's status says: active, ready, available.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Returns the pod's phase; empty where none is set yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Returns whether the pod has ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Returns the name of the node that the pod is bound to.
pub fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref();
    node.filter(|node| !node.is_empty())
}

/// Returns whether the pod is being deleted.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Returns whether the pod counts as a replica: neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

/// Returns a condition of the pod.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// Returns whether the pod's Ready condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Returns since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether a pod has been ready long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It has.
    Available,
    /// It is ready, and will have been for long enough after this time.
    In(Duration),
    /// It is not ready.
    Unavailable,
}

/// Says whether the pod has been ready for `min_ready_seconds`.
pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !is_ready(pod) {
        return Availability::Unavailable;
    }
    let Ok(wanted) = u64::try_from(min_ready_seconds) else {
        return Availability::Available;
    };
    if wanted == 0 {
        return Availability::Available;
    }
    let Some(since) = ready_since(pod) else {
        return Availability::Unavailable;
    };
    let ready_for = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    match Duration::from_secs(wanted).checked_sub(ready_for) {
        Some(left) if !left.is_zero() => Availability::In(left),
        _ => Availability::Available,
    }
}

/// Returns the owner reference that controls the object.
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata
        .owner_references
        .as_ref()?
        .iter()
        .find(|owner| owner.controller == Some(true))
}

/// Removes what no controller reads, so that many pods stay small in memory.
pub fn slim(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        // Of volumes only those that come from claims matter.
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
        }
        spec.volumes = spec.volumes.take().filter(|volumes| !volumes.is_empty());
        spec.security_context = None;
        spec.image_pull_secrets = None;
        spec.host_aliases = None;
        spec.dns_config = None;
        spec.ephemeral_containers = None;
        for container in spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
        {
            container.args = None;
            container.command = None;
            container.env = None;
            container.env_from = None;
            container.image = None;
            container.lifecycle = None;
            container.liveness_probe = None;
            container.readiness_probe = None;
            container.startup_probe = None;
            container.security_context = None;
            container.volume_mounts = None;
            container.volume_devices = None;
        }
    }
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|name, _| name == DELETION_COST);
    }
}

/// Lower cost is deleted first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
