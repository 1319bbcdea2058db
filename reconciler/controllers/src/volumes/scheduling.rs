//! What a pod's claims mean for where it may run, and what has to happen before it does. Pure.
//!
//! Follows the scheduler's plugins `VolumeBinding` and `VolumeRestrictions`, in their words.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use serde_json::json;

use super::actions::{Action, Object};
use super::matching::{self, Place, allows};
use super::{
    BOUND_BY_CONTROLLER, SELECTED_NODE, claims_of, class_of_claim, is_for, is_fully_bound, is_made_for, provision,
    volume_name, waits_for_consumer,
};

/// Classes whose volumes nobody makes.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What is there, as far as a pod's volumes are concerned.
pub struct Storage<'a> {
    /// Finds a claim by namespace and name.
    pub claim: &'a dyn Fn(&str, &str) -> Option<Arc<PersistentVolumeClaim>>,
    /// All volumes.
    pub volumes: &'a [Arc<PersistentVolume>],
    /// All classes.
    pub classes: &'a [Arc<StorageClass>],
    /// What was promised a moment ago and the objects may not show yet.
    pub promises: &'a Promises,
}

/// What pods that were given a node wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// Which volume was promised to which claim: the claim's uid by the volume's name.
    pub volumes: HashMap<String, String>,
    /// Where which claim's volume is to be: the node's name by the claim's uid.
    pub nodes: HashMap<String, String>,
}

impl Promises {
    /// Adds others.
    pub fn extend(&mut self, others: &Promises) {
        let copy = |map: &HashMap<String, String>| {
            map.iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        self.volumes.extend(copy(&others.volumes));
        self.nodes.extend(copy(&others.nodes));
    }
}

/// A pod's claims, before a node is chosen.
#[derive(Debug, Default)]
pub struct PodClaims {
    bound: Vec<Arc<PersistentVolumeClaim>>,
    /// Those that wait for this pod.
    delayed: Vec<Arc<PersistentVolumeClaim>>,
    /// Those that one pod may use at a time.
    alone: Vec<String>,
}

/// What has to be done about a pod's claims once its node is chosen.
#[derive(Debug, Default, PartialEq)]
pub struct Bindings {
    /// The writes; nothing when everything is bound.
    pub actions: Vec<Action>,
    /// What they promise.
    pub promises: Promises,
    /// The claims that have to be bound before the pod is, by name.
    pub awaited: Vec<String>,
}

/// Looks a pod's claims up.
///
/// # Errors
/// Why the pod can run nowhere yet.
pub fn claims_for(pod: &Pod, storage: &Storage<'_>) -> Result<PodClaims, String> {
    let namespace = pod.namespace().unwrap_or_default();
    let mut found = PodClaims::default();
    let mut immediate = false;
    for (name, own) in claims_of(pod) {
        let Some(claim) = (storage.claim)(&namespace, &name) else {
            return Err(if own {
                format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"")
            } else {
                format!("persistentvolumeclaim \"{name}\" not found")
            });
        };
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Lost") {
            let volume = volume_name(&claim);
            return Err(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
            ));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        if own && !is_made_for(&claim, pod) {
            return Err(format!(
                "PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
                pod.name_any()
            ));
        }
        let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
        if modes.unwrap_or_default().iter().any(|mode| mode == "ReadWriteOncePod") {
            found.alone.push(name.clone());
        }
        if is_fully_bound(&claim) {
            found.bound.push(claim);
            continue;
        }
        let class = class_of_claim(&claim).unwrap_or_default();
        let class = storage.classes.iter().find(|known| known.name_any() == class);
        // One that names its volume is bound at once, whatever its class.
        if class.is_some_and(|class| waits_for_consumer(class)) && volume_name(&claim).is_empty() {
            found.delayed.push(claim);
        } else {
            immediate = true;
        }
    }
    if immediate {
        return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
    }
    Ok(found)
}

impl PodClaims {
    /// Returns whether the pod has none, so that every node is as good as any.
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.delayed.is_empty()
    }

    /// Returns the names of the claims that only one pod may use at a time.
    pub fn alone(&self) -> &[String] {
        &self.alone
    }

    /// Returns what has to be done when the pod goes to a node.
    ///
    /// # Errors
    /// Why it cannot, in Kubernetes' words.
    pub fn on(&self, node: &Node, storage: &Storage<'_>) -> Result<Bindings, Vec<String>> {
        let mut objections = Vec::new();
        let mut object = |why: &str| {
            if !objections.iter().any(|known| known == why) {
                objections.push(why.to_owned());
            }
        };
        let by_name = |name: &str| storage.volumes.iter().find(|volume| volume.name_any() == name);
        for claim in &self.bound {
            match by_name(volume_name(claim)) {
                None => object("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
                Some(volume) if !matching::is_reachable(volume, node.labels()) => {
                    object("node(s) didn't match PersistentVolume's node affinity");
                }
                Some(_) => {}
            }
        }
        let mut bindings = Bindings::default();
        for claim in &self.delayed {
            if self.promise(claim, node, storage, &mut bindings).is_none() {
                object("node(s) didn't find available persistent volumes to bind");
            }
        }
        if objections.is_empty() {
            Ok(bindings)
        } else {
            Err(objections)
        }
    }

    /// Finds a volume for a claim on a node, or has one made there.
    fn promise(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        node: &Node,
        storage: &Storage<'_>,
        bindings: &mut Bindings,
    ) -> Option<()> {
        bindings.awaited.push(claim.name_any());
        let uid = claim.uid().unwrap_or_default();
        if let Some(selected) = claim.annotations().get(SELECTED_NODE) {
            // It is being made already, there and nowhere else.
            return (*selected == node.name_any()).then_some(());
        }
        if storage
            .promises
            .nodes
            .get(&uid)
            .is_some_and(|chosen| *chosen != node.name_any())
        {
            return None;
        }
        bindings.promises.nodes.insert(uid.clone(), node.name_any());
        let taken = |name: &str| {
            let promised = [&storage.promises.volumes, &bindings.promises.volumes];
            promised
                .iter()
                .any(|promised| promised.get(name).is_some_and(|other| *other != uid))
        };
        if let Some(volume) = matching::best(claim, storage.volumes, Place::Node(node.labels()), &taken) {
            if !is_for(volume, claim) || super::claim_ref(volume).is_some_and(|reference| reference.uid.is_none()) {
                let mut patch = json!({ "spec": { "claimRef": provision::reference(claim) } });
                if !is_for(volume, claim) {
                    patch["metadata"] = json!({ "annotations": { BOUND_BY_CONTROLLER: "yes" } });
                }
                bindings.actions.push(Action::Patch {
                    object: Object::Volume(volume.clone()),
                    patch,
                });
            }
            bindings.promises.volumes.insert(volume.name_any(), uid);
            return Some(());
        }
        let class = class_of_claim(claim).unwrap_or_default();
        let class = storage.classes.iter().find(|known| known.name_any() == class)?;
        let made = !class.provisioner.is_empty() && class.provisioner != NO_PROVISIONER;
        if !made || !allows(class, node.labels()) {
            return None;
        }
        bindings.actions.push(Action::Patch {
            object: Object::Claim(claim.clone()),
            patch: json!({ "metadata": { "annotations": { SELECTED_NODE: node.name_any() } } }),
        });
        Some(())
    }
}
