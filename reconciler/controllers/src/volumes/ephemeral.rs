//! Claims that belong to one pod: made from the templates in its volumes, and gone with it. Pure.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::is_made_for;
use crate::pods::is_active;

/// What a pod's ephemeral volumes need.
#[derive(Debug, Default, PartialEq)]
pub struct Needs {
    /// Claims to make.
    pub claims: Vec<Value>,
    /// Why a volume can have none, for the pod's events.
    pub problems: Vec<String>,
}

/// Says which claims a pod still needs. `found` returns the claim of a name in the pod's namespace.
pub fn decide<C: std::ops::Deref<Target = PersistentVolumeClaim>>(
    pod: &Pod,
    found: impl Fn(&str) -> Option<C>,
) -> Needs {
    let mut needs = Needs::default();
    if !is_active(pod) {
        return needs;
    }
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let Some(template) = volume
            .ephemeral
            .as_ref()
            .and_then(|source| source.volume_claim_template.as_ref())
        else {
            continue;
        };
        let name = format!("{}-{}", pod.name_any(), volume.name);
        match found(&name) {
            None => {
                let metadata = template.metadata.clone().unwrap_or_default();
                needs.claims.push(json!({
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {
                        "name": name,
                        "namespace": pod.namespace(),
                        "labels": metadata.labels,
                        "annotations": metadata.annotations,
                        "ownerReferences": [{
                            "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.metadata.uid,
                            "controller": true, "blockOwnerDeletion": true,
                        }],
                    },
                    "spec": template.spec,
                }));
            }
            Some(claim) if !is_made_for(&claim, pod) => {
                let namespace = pod.namespace().unwrap_or_default();
                needs.problems.push(format!(
                    "ephemeral volume \"{}\": PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
                    volume.name,
                    pod.name_any(),
                ));
            }
            Some(_) => {}
        }
    }
    needs
}
