//! Persistent volumes: claims are bound to volumes, volumes are made for claims, and both go when nobody needs them any more.
//!
//! What Kubernetes' persistent volume, protection and ephemeral volume controllers do, and the provisioner of the classes of
//! [`PROVISIONER`]. A volume of such a class is a folder on one node: here only the object is made; the node's agent makes the
//! folder when a pod first uses it, and removes it when the object is deleted ([`FOLDER_FINALIZER`]). The two sides of a binding are written
//! volume first, each on the condition that it is still as it was seen; whoever comes too late looks again. So two claims never have
//! one volume, and a step that was lost is taken again by whichever side is looked at next.
//!
//! Where to start: [`claim`] (binding, as seen from the claim), [`volume`] (phases and reclaiming), [`matching`] (which volume suits), [`provision`],
//! [`protection`], [`ephemeral`]; what the scheduler asks is in [`scheduling`].

pub mod actions;
pub mod claim;
mod controller;
pub mod ephemeral;
pub mod matching;
pub mod protection;
pub mod provision;
pub mod scheduling;
#[cfg(test)]
mod tests;
pub mod volume;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use setpoint_api::Quantity;

pub use controller::wire;

/// The provisioner of classes whose volumes are folders on a node.
pub const PROVISIONER: &str = "setpoint.dev/local";
/// Where a node says which folder its volumes lie in.
pub const NODE_FOLDER: &str = "setpoint.dev/volumes-dir";
/// What keeps a volume until its node has removed the folder.
pub const FOLDER_FINALIZER: &str = "setpoint.dev/local-volume";
/// What keeps a claim that pods use.
pub const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// What keeps a volume that is bound.
pub const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
/// Says of a volume who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Says that a binding was chosen here, not by whoever wrote the object.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Says that a claim was bound once.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The node that the scheduler chose for the first pod of a claim.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make a claim's volume, for provisioners elsewhere; the second is how it was called first.
pub const STORAGE_PROVISIONER: [&str; 2] = [
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
/// How claims and volumes named their class before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// What marks the class of claims that name none.
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// The label by which a volume's node affinity names its node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// Returns the class that a claim asks for; `None` when it does not say, empty when it wants none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    let old = claim.annotations().get(OLD_CLASS).map(String::as_str);
    old.or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

/// Returns the class that a volume is of; empty when of none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let old = volume.annotations().get(OLD_CLASS).map(String::as_str);
    old.or_else(|| volume.spec.as_ref()?.storage_class_name.as_deref())
        .unwrap_or_default()
}

/// Returns the class of claims that name none: of several the newest, then the first by name.
pub fn default_class<'a>(classes: impl IntoIterator<Item = &'a StorageClass>) -> Option<&'a StorageClass> {
    let marked = classes.into_iter().filter(|class| {
        let says = |key: &&str| class.annotations().get(*key).is_some_and(|value| value == "true");
        DEFAULT_CLASS.iter().any(says)
    });
    marked.min_by_key(|class| {
        let made = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(made), class.name_any())
    })
}

/// Returns whether claims of a class wait for a pod.
pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Returns how much a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage")?.0.parse().ok()
}

/// Returns how much a volume holds.
pub fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.parse().ok()
}

/// Returns the name of the volume that a claim names; empty for none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    name.unwrap_or_default()
}

/// Returns the claim that a volume names.
pub fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Returns whether a volume is bound to, or kept for, this very claim.
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|reference| {
        let uid = reference.uid.as_deref().unwrap_or_default();
        reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
    })
}

/// Returns whether a claim is bound for good: both sides say so.
pub fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    !volume_name(claim).is_empty() && claim.annotations().contains_key(BIND_COMPLETED) && phase == Some("Bound")
}

/// Returns whether the provisioner here made a volume.
pub fn is_ours(volume: &PersistentVolume) -> bool {
    volume
        .annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER)
}

/// Returns the names of the claims that a pod's volumes are of, each with whether the claim is made for the pod alone.
pub fn claims_of(pod: &Pod) -> Vec<(String, bool)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            if let Some(source) = &volume.persistent_volume_claim {
                return Some((source.claim_name.clone(), false));
            }
            volume.ephemeral.as_ref()?;
            Some((format!("{}-{}", pod.name_any(), volume.name), true))
        })
        .collect()
}

/// Returns whether a claim was made for a pod's ephemeral volume.
pub fn is_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    crate::pods::controller_of(&claim.metadata).is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
}
