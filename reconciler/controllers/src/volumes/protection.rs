//! What keeps claims and volumes that are in use. Pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;

use super::{CLAIM_FINALIZER, VOLUME_FINALIZER, claims_of, is_made_for};
use crate::pods::{is_terminal, node_of};

/// Returns the finalizers that a claim should have instead of those that it has; `None` when these are right. `used` is asked only
/// when the claim is to go.
pub fn of_claim(claim: &PersistentVolumeClaim, used: impl FnOnce() -> bool) -> Option<Vec<String>> {
    let leaving = claim.metadata.deletion_timestamp.is_some();
    finalizers(claim.finalizers(), CLAIM_FINALIZER, leaving, used)
}

/// The same for a volume, which is in use while it is bound.
pub fn of_volume(volume: &PersistentVolume) -> Option<Vec<String>> {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let leaving = volume.metadata.deletion_timestamp.is_some();
    finalizers(volume.finalizers(), VOLUME_FINALIZER, leaving, || {
        phase == Some("Bound")
    })
}

fn finalizers(held: &[String], name: &str, leaving: bool, used: impl FnOnce() -> bool) -> Option<Vec<String>> {
    let has = held.iter().any(|held| held == name);
    match (leaving, has) {
        (false, false) => Some(held.iter().cloned().chain([name.to_owned()]).collect()),
        (true, true) if !used() => Some(held.iter().filter(|held| *held != name).cloned().collect()),
        _ => None,
    }
}

/// Returns whether a pod keeps a claim. One that is bound to no node does not: it will not be while the claim goes. One that has ended keeps
/// the claims that it names, until it is deleted, but not those that were made for it.
pub fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if node_of(pod).is_none() || pod.namespace() != claim.namespace() {
        return false;
    }
    let name = claim.name_any();
    claims_of(pod)
        .into_iter()
        .any(|(used, own)| used == name && (!own || (is_made_for(claim, pod) && !is_terminal(pod))))
}
