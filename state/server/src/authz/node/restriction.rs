//! What a node may write, where the path does not tell: Kubernetes' admission plugin `NodeRestriction`.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use setpoint_api::{Status, meta};

use super::references::{self, Kind, MIRROR};
use super::{LEASES, identity};
use crate::admission::{Admission, AdmissionRequest, Operation};
use crate::authz::Authorizer;
use crate::cache::Cache;

/// What keeps a volume until its node has removed the folder.
const FOLDER_FINALIZER: &str = "setpoint.dev/local-volume";
/// Labels that only an administrator gives to nodes, for workloads to rely on.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// The labels of Kubernetes' own that a node may give itself.
const NODE_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// The domains of Kubernetes' own below which a node may give itself any label.
const NODE_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The check on writes of nodes. Until the authorizer is there only the server itself writes.
pub(crate) struct Restriction {
    authorizer: Arc<OnceLock<Authorizer>>,
}

impl Restriction {
    /// A check that looks at the objects of the authorizer in the cell, once it is there.
    pub(crate) fn new(authorizer: Arc<OnceLock<Authorizer>>) -> Restriction {
        Restriction { authorizer }
    }
}

impl Admission for Restriction {
    fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut Value,
        _warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let (Some(node), Some(authorizer)) = (identity(request.user), self.authorizer.get()) else {
            return Ok(());
        };
        let resource = request.resource;
        let decided = match (resource.group.as_str(), resource.plural.as_str(), request.subresource) {
            ("", "pods", None) => pod(authorizer.cache(), node, request, object),
            ("", "pods", Some("status")) => pod_status(node, request, object),
            ("", "pods", Some("eviction")) if bound_to(object) == node => Ok(()),
            ("", "pods", Some("eviction")) => Err(format!(
                "node {node} can only evict pods with spec.nodeName set to itself"
            )),
            ("", "pods", Some(other)) => Err(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
            ("", "nodes", _) => node_object(node, request, object),
            ("", "persistentvolumeclaims", Some("status")) => claim_status(node, request, object),
            ("", "persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
            ("", "persistentvolumes", None) => volume(node, request, object),
            ("", "serviceaccounts", Some("token")) => token(authorizer.cache(), node, object)?,
            ("coordination.k8s.io", "leases", _) if meta::namespace(object) != LEASES => {
                Err(format!("can only access leases in the {LEASES:?} system namespace"))
            }
            ("coordination.k8s.io", "leases", _) if meta::name(object) != node => {
                Err("can only access node lease with the same name as the requesting node".to_owned())
            }
            ("storage.k8s.io", "csinodes", _) if meta::name(object) != node => {
                Err("can only access CSINode with the same name as the requesting node".to_owned())
            }
            _ => Ok(()),
        };
        decided.map_err(|why| Status::forbidden(&resource.group, &resource.plural, meta::name(object), &why))
    }
}

fn bound_to(pod: &Value) -> &str {
    meta::str_at(pod, &["spec", "nodeName"])
}

fn pod(cache: &Cache, node: &str, request: &AdmissionRequest<'_>, pod: &Value) -> Result<(), String> {
    match request.operation {
        Operation::Create => mirror_pod(cache, node, pod),
        Operation::Delete if bound_to(pod) == node => Ok(()),
        Operation::Delete => Err(format!(
            "node {node:?} can only delete pods with spec.nodeName set to itself"
        )),
        Operation::Update => Err(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )),
    }
}

/// A node makes no pods but those that show what it runs on its own; such a pod refers to nothing.
fn mirror_pod(cache: &Cache, node: &str, pod: &Value) -> Result<(), String> {
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if bound_to(pod) != node {
        return Err(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owner = match meta::owner_references(pod) {
        [] => {
            return Err(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        [owner] => owner,
        _ => {
            return Err(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return Err(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if owner["controller"] != true {
        return Err(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let own = cache.get("core/nodes", "", node);
    let uid = own.as_ref().map_or("", |node| &*node.uid);
    if owner["uid"] != uid {
        return Err(format!(
            "node {node} UID mismatch: expected {} got {uid}",
            owner["uid"].as_str().unwrap_or_default()
        ));
    }
    // A mirror pod gives its node no rights, but it must not look as if it could.
    let mut plain = pod.clone();
    meta::set(&mut plain, "annotations", Value::Null);
    let refers: BTreeSet<Kind> = references::of_pod(&plain).into_iter().map(|(kind, _)| kind).collect();
    let words = [
        (Kind::Account, "a service account"),
        (Kind::Secret, "secrets"),
        (Kind::ConfigMap, "configmaps"),
        (Kind::Claim, "persistentvolumeclaims"),
    ];
    match words.iter().find(|(kind, _)| refers.contains(kind)) {
        Some((_, what)) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

fn pod_status(node: &str, request: &AdmissionRequest<'_>, pod: &Value) -> Result<(), String> {
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return Err("unexpected operation".to_owned());
    };
    if bound_to(old) != node {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if meta::labels(old) != meta::labels(pod) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    let claims = |pod: &Value| pod["status"]["resourceClaimStatuses"].clone();
    if claims(old) != claims(pod) {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    Ok(())
}

fn node_object(node: &str, request: &AdmissionRequest<'_>, object: &Value) -> Result<(), String> {
    let name = meta::name(object);
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    match (request.operation, request.old) {
        (Operation::Create, _) => {
            if !object["spec"]["configSource"].is_null() {
                return Err(format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let forbidden = forbidden_labels(object, &Value::Null);
            if !forbidden.is_empty() {
                return Err(format!(
                    "node {node:?} is not allowed to set the following labels: {}",
                    forbidden.join(", ")
                ));
            }
        }
        (Operation::Update, Some(old)) => {
            let changed = |key: &str| object["spec"][key] != old["spec"][key];
            if !object["spec"]["configSource"].is_null() && changed("configSource") {
                return Err(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if changed("taints") {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            let forbidden = forbidden_labels(object, old);
            if !forbidden.is_empty() {
                return Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
            }
            if meta::owner_references(object) != meta::owner_references(old) {
                return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// The labels that differ and that a node may not give itself.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let (new, old) = (meta::labels(new), meta::labels(old));
    let of = |labels: Option<&serde_json::Map<String, Value>>, key: &str| labels.and_then(|all| all.get(key)).cloned();
    let keys: BTreeSet<&String> = [new, old].into_iter().flatten().flat_map(|all| all.keys()).collect();
    keys.into_iter()
        .filter(|key| of(new, key) != of(old, key) && is_forbidden(key))
        .cloned()
        .collect()
}

fn is_forbidden(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else {
        return false;
    };
    let below = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if below(RESTRICTED) {
        return true;
    }
    let kubernetes = below("kubernetes.io") || below("k8s.io");
    kubernetes && !NODE_LABELS.contains(&label) && !NODE_DOMAINS.iter().any(|domain| below(domain))
}

fn claim_status(node: &str, request: &AdmissionRequest<'_>, claim: &Value) -> Result<(), String> {
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return Err("unexpected operation".to_owned());
    };
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        for key in ["resourceVersion", "managedFields"] {
            meta::set(&mut rest, key, Value::Null);
        }
        if let Some(status) = rest.get_mut("status").and_then(Value::as_object_mut) {
            for key in [
                "capacity",
                "conditions",
                "allocatedResources",
                "allocatedResourceStatuses",
            ] {
                status.remove(key);
            }
        }
        rest
    };
    if rest(old) == rest(claim) {
        Ok(())
    } else {
        Err(format!(
            "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
        ))
    }
}

/// Of a volume that is a folder of its own a node says only that the folder is gone.
fn volume(node: &str, request: &AdmissionRequest<'_>, volume: &Value) -> Result<(), String> {
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return Err("unexpected operation".to_owned());
    };
    let rest = |volume: &Value| {
        let mut rest = volume.clone();
        let others: Vec<Value> = meta::finalizers(volume)
            .filter(|finalizer| *finalizer != FOLDER_FINALIZER)
            .map(Into::into)
            .collect();
        meta::set(&mut rest, "finalizers", others);
        for key in ["resourceVersion", "managedFields"] {
            meta::set(&mut rest, key, Value::Null);
        }
        rest
    };
    let adds = |volume: &Value| meta::finalizers(volume).any(|finalizer| finalizer == FOLDER_FINALIZER);
    if rest(old) == rest(volume) && !adds(volume) {
        Ok(())
    } else {
        Err(format!(
            "node {node:?} is not allowed to update volumes other than by removing the finalizer {FOLDER_FINALIZER}"
        ))
    }
}

/// A node asks for tokens only for pods that are bound to it.
fn token(cache: &Cache, node: &str, request: &Value) -> Result<Result<(), String>, Status> {
    let bound = &request["spec"]["boundObjectRef"];
    let text = |key: &str| bound[key].as_str().unwrap_or_default();
    if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
        return Ok(Err("node requested token not bound to a pod".to_owned()));
    }
    if text("uid").is_empty() {
        return Ok(Err("node requested token with a pod binding without a uid".to_owned()));
    }
    let pod = cache
        .get("core/pods", meta::namespace(request), text("name"))
        .ok_or_else(|| Status::not_found("", "pods", text("name")))?;
    if *pod.uid != *text("uid") {
        return Ok(Err(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        )));
    }
    if pod.field("spec.nodeName") != node {
        return Ok(Err(
            "node requested token bound to a pod scheduled on a different node".to_owned()
        ));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gives_itself_its_own_labels_and_none_that_workloads_rely_on() {
        for label in [
            "rack",
            "example.com/rack",
            "kubernetes.io/hostname",
            "node.kubernetes.io/any",
            "sub.kubelet.kubernetes.io/any",
            "fakekubernetes.io/x",
        ] {
            assert!(!is_forbidden(label), "{label}");
        }
        for label in [
            "node-restriction.kubernetes.io/x",
            "team.node-restriction.kubernetes.io/x",
            "node-role.kubernetes.io/control-plane",
            "kubernetes.io/other",
            "foo.k8s.io/x",
        ] {
            assert!(is_forbidden(label), "{label}");
        }
    }
}
