//! Making volumes for claims: a folder on the node that was chosen, as an object. Pure.
//!
//! The size is what the claim asks for and what its owner is told; a plain folder does not enforce it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use serde_json::json;

use super::matching::{allows, mode_wanted};
use super::{FOLDER_FINALIZER, HOSTNAME, NODE_FOLDER, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, VOLUME_FINALIZER};

/// Why no volume is made.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The node that was chosen is not there any more: another has to be chosen.
    NodeGone(String),
    /// What is asked for cannot be had; the event's message.
    Impossible(String),
}

/// Returns the volume for a claim of a class of [`PROVISIONER`].
///
/// # Errors
/// Why there can be none.
pub fn volume_for(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    nodes: &[Arc<Node>],
) -> Result<PersistentVolume, Refusal> {
    let refuse = |why: String| Err(Refusal::Impossible(why));
    let spec = claim.spec.clone().unwrap_or_default();
    if mode_wanted(claim) == "Block" {
        return refuse(format!("{PROVISIONER} does not support block volume provisioning"));
    }
    if spec.selector.is_some() {
        return refuse("claim Selector is not supported".to_owned());
    }
    if let Some(source) = &spec.data_source_ref {
        return refuse(format!(
            "{PROVISIONER} makes empty volumes only: it cannot fill one from {} {}",
            source.kind, source.name
        ));
    }
    if class.mount_options.as_ref().is_some_and(|options| !options.is_empty()) {
        return refuse(format!(
            "mount options are not supported by the provisioner {PROVISIONER}"
        ));
    }
    if let Some(name) = class.parameters.iter().flatten().map(|(name, _)| name).next() {
        return refuse(format!("the provisioner {PROVISIONER} has no parameter {name}"));
    }
    let node = node_for(claim, class, nodes)?;
    let Some(folder) = folder_of(node) else {
        return refuse(format!(
            "node {} does not say where its volumes lie (annotation {NODE_FOLDER})",
            node.name_any()
        ));
    };
    let name = volume_name_for(claim);
    let host = node.labels().get(HOSTNAME).cloned().unwrap_or_else(|| node.name_any());
    let object = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": { PROVISIONED_BY: PROVISIONER },
            "finalizers": [VOLUME_FINALIZER, FOLDER_FINALIZER],
        },
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": { "storage": spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage")) },
            "claimRef": reference(claim),
            "local": { "path": format!("{folder}/{name}") },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{
                "matchExpressions": [{ "key": HOSTNAME, "operator": "In", "values": [host] }],
            }] } },
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.name_any(),
            "volumeMode": "Filesystem",
        },
    });
    serde_json::from_value(object).map_err(|error| Refusal::Impossible(format!("cannot describe the volume: {error}")))
}

/// Returns the name of the volume that is made for a claim: always the same, so that it is made once.
pub fn volume_name_for(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// Returns how a volume names its claim.
pub fn reference(claim: &PersistentVolumeClaim) -> serde_json::Value {
    json!({
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": claim.metadata.namespace,
        "name": claim.metadata.name,
        "uid": claim.metadata.uid,
        "resourceVersion": claim.metadata.resource_version,
    })
}

/// Returns the folder that a node's volumes lie in, without a slash at its end.
pub fn folder_of(node: &Node) -> Option<&str> {
    let folder = node.annotations().get(NODE_FOLDER)?.trim_end_matches('/');
    folder.starts_with('/').then_some(folder)
}

/// The node that the scheduler chose; for claims that wait for nobody the first by name that offers volumes.
fn node_for<'a>(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    nodes: &'a [Arc<Node>],
) -> Result<&'a Arc<Node>, Refusal> {
    if let Some(selected) = claim.annotations().get(SELECTED_NODE) {
        let found = nodes.iter().find(|node| node.name_any() == *selected);
        return found.ok_or_else(|| Refusal::NodeGone(selected.clone()));
    }
    let offers = nodes
        .iter()
        .filter(|node| folder_of(node).is_some() && allows(class, node.labels()));
    offers
        .min_by_key(|node| node.name_any())
        .ok_or_else(|| Refusal::Impossible("no node that the class allows says where its volumes lie".to_owned()))
}
