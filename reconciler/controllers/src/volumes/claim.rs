//! Binding, as seen from a claim: what to do next for it. Pure.
//!
//! Follows Kubernetes' persistent volume controller: a claim that was never bound takes the volume that it names, one that is kept for it, the
//! smallest that suits, or one that is made for it; a claim that was bound stays so, and is lost when its volume is.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::actions::{Action, Object};
use super::matching::{self, Place};
use super::provision::{self, Refusal};
use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONER, SELECTED_NODE, STORAGE_PROVISIONER, capacity, claim_ref,
    class_of_claim, default_class, is_for, is_ours, requested, volume_name, waits_for_consumer,
};

/// What a claim is decided on.
pub struct Scene<'a> {
    /// All volumes.
    pub volumes: &'a [Arc<PersistentVolume>],
    /// All classes.
    pub classes: &'a [Arc<StorageClass>],
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// The pods that use the claim and run nowhere yet, by name.
    pub waiting: &'a [String],
}

impl Scene<'_> {
    fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.iter().find(|volume| volume.name_any() == name)
    }
}

/// Says what to do next for a claim.
pub fn decide(claim: &Arc<PersistentVolumeClaim>, scene: &Scene<'_>) -> Vec<Action> {
    if claim.annotations().contains_key(BIND_COMPLETED) {
        bound(claim, scene)
    } else if claim.metadata.deletion_timestamp.is_some() {
        // Nobody may use it any more.
        Vec::new()
    } else if volume_name(claim).is_empty() {
        search(claim, scene)
    } else {
        named(claim, scene)
    }
}

/// A claim that names no volume.
fn search(claim: &Arc<PersistentVolumeClaim>, scene: &Scene<'_>) -> Vec<Action> {
    let Some(class_name) = class_of_claim(claim) else {
        // It was made before there was a default class; with none, it takes what is of no class.
        if let Some(class) = default_class(scene.classes.iter().map(|class| &**class)) {
            return vec![Action::Patch {
                object: Object::Claim(claim.clone()),
                patch: json!({ "spec": { "storageClassName": class.name_any() } }),
            }];
        }
        return search_in(claim, "", scene);
    };
    search_in(claim, class_name, scene)
}

fn search_in(claim: &Arc<PersistentVolumeClaim>, class_name: &str, scene: &Scene<'_>) -> Vec<Action> {
    let class = scene.classes.iter().find(|class| class.name_any() == class_name);
    let delayed = class.is_some_and(|class| waits_for_consumer(class));
    let chosen = claim.annotations().contains_key(SELECTED_NODE);
    let place = if delayed { Place::Kept } else { Place::Anywhere };
    if let Some(volume) = matching::best(claim, scene.volumes, place, &|_| false) {
        return bind(volume, claim);
    }
    let mut actions = match class {
        _ if class_name.is_empty() => vec![Action::tell(
            claim,
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        )],
        None => vec![Action::warn(
            claim,
            "ProvisioningFailed",
            format!("storageclass.storage.k8s.io \"{class_name}\" not found"),
        )],
        Some(_) if delayed && !chosen => vec![match scene.waiting {
            [] => Action::tell(
                claim,
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding",
            ),
            [pod] => Action::tell(
                claim,
                "WaitForPodScheduled",
                format!("waiting for pod {pod} to be scheduled"),
            ),
            pods => Action::tell(
                claim,
                "WaitForPodScheduled",
                format!("waiting for pods {} to be scheduled", pods.join(",")),
            ),
        }],
        Some(class) => provision(claim, class, scene),
    };
    actions.extend(pending(claim));
    actions
}

/// Makes a volume, or has it made.
fn provision(claim: &Arc<PersistentVolumeClaim>, class: &StorageClass, scene: &Scene<'_>) -> Vec<Action> {
    let provisioner = class.provisioner.as_str();
    if provisioner != PROVISIONER && provisioner.starts_with("kubernetes.io/") {
        let message = format!("no volume plugin matched name: {provisioner}");
        return vec![Action::warn(claim, "ProvisioningFailed", message)];
    }
    let mut actions = Vec::new();
    let told = |name: &&str| claim.annotations().get(*name).is_some_and(|by| by == provisioner);
    if !STORAGE_PROVISIONER.iter().all(told) {
        let annotations: serde_json::Map<String, Value> = STORAGE_PROVISIONER
            .iter()
            .map(|name| ((*name).to_owned(), provisioner.into()))
            .collect();
        actions.push(Action::Patch {
            object: Object::Claim(claim.clone()),
            patch: json!({ "metadata": { "annotations": annotations } }),
        });
    }
    if provisioner != PROVISIONER {
        actions.push(Action::tell(
            claim,
            "ExternalProvisioning",
            format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            ),
        ));
        return actions;
    }
    let made = provision::volume_name_for(claim);
    if scene.volume(&made).is_some() {
        // It is there, but not to be had: it goes, or somebody changed it. Either is looked at when it changes.
        let message = format!("failed to provision volume: volume {made} is there and not free");
        actions.push(Action::warn(claim, "ProvisioningFailed", message));
        return actions;
    }
    match provision::volume_for(claim, class, scene.nodes) {
        Ok(volume) => {
            let whose = format!("{}/{}", claim.namespace().unwrap_or_default(), claim.name_any());
            actions.push(Action::tell(
                claim,
                "Provisioning",
                format!("External provisioner is provisioning volume for claim \"{whose}\""),
            ));
            actions.push(Action::CreateVolume(Box::new(volume)));
            actions.push(Action::tell(
                claim,
                "ProvisioningSucceeded",
                format!("Successfully provisioned volume {made}"),
            ));
        }
        Err(Refusal::NodeGone(node)) => {
            let message = format!("failed to get target node: node \"{node}\" not found");
            actions.push(Action::warn(claim, "ProvisioningFailed", message));
            // The scheduler chooses another.
            actions.push(Action::Patch {
                object: Object::Claim(claim.clone()),
                patch: json!({ "metadata": { "annotations": { SELECTED_NODE: null } } }),
            });
        }
        Err(Refusal::Impossible(why)) => {
            let message = format!(
                "failed to provision volume with StorageClass \"{}\": {why}",
                class.name_any()
            );
            actions.push(Action::warn(claim, "ProvisioningFailed", message));
        }
    }
    actions
}

/// A claim that names its volume.
fn named(claim: &Arc<PersistentVolumeClaim>, scene: &Scene<'_>) -> Vec<Action> {
    let name = volume_name(claim);
    let Some(volume) = scene.volume(name) else {
        return pending(claim);
    };
    let mut actions = match claim_ref(volume) {
        None => match matching::mismatch(claim, volume) {
            None => return bind(volume, claim),
            Some(why) => {
                let message = format!("Cannot bind to requested volume \"{name}\": {why}");
                vec![Action::warn(claim, "VolumeMismatch", message)]
            }
        },
        Some(_) if is_for(volume, claim) => return bind(volume, claim),
        Some(_) => {
            let message = format!("volume \"{name}\" already bound to a different claim.");
            vec![Action::warn(claim, "FailedBinding", message)]
        }
    };
    actions.extend(pending(claim));
    actions
}

/// A claim that was bound once.
fn bound(claim: &Arc<PersistentVolumeClaim>, scene: &Scene<'_>) -> Vec<Action> {
    let name = volume_name(claim);
    let lost = |reason: &'static str, message: &str| {
        if phase(claim) == "Lost" {
            return Vec::new();
        }
        let status = json!({ "phase": "Lost", "accessModes": null, "capacity": null });
        vec![
            Action::Status {
                object: Object::Claim(claim.clone()),
                status,
            },
            Action::warn(claim, reason, message),
        ]
    };
    if name.is_empty() {
        return lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        );
    }
    let Some(volume) = scene.volume(name) else {
        return lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    };
    let own = claim_ref(volume).is_none_or(|reference| reference.uid == claim.metadata.uid);
    if !own {
        return lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        );
    }
    let mut actions = bind(volume, claim);
    if actions.is_empty() {
        actions = grow(volume, claim);
    }
    actions
}

/// Grants a bound claim the size that it asks for by now: a folder needs nothing else. Whether its class lets it grow was checked
/// when it was asked.
fn grow(volume: &Arc<PersistentVolume>, claim: &Arc<PersistentVolumeClaim>) -> Vec<Action> {
    let (Some(wanted), Some(held)) = (requested(claim), capacity(volume)) else {
        return Vec::new();
    };
    if wanted <= held || claim.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    if !is_ours(volume) {
        let message = "waiting for an external controller to expand this PVC";
        return vec![Action::tell(claim, "ExternalExpanding", message)];
    }
    let size = json!({ "storage": wanted.to_string() });
    vec![
        Action::Patch {
            object: Object::Volume(volume.clone()),
            patch: json!({ "spec": { "capacity": size } }),
        },
        Action::Status {
            object: Object::Claim(claim.clone()),
            status: json!({ "capacity": size, "allocatedResources": size }),
        },
        Action::tell(claim, "VolumeResizeSuccessful", "Resize volume succeeded"),
    ]
}

/// Binds the two, or what of it is not done yet: the volume first.
pub fn bind(volume: &Arc<PersistentVolume>, claim: &Arc<PersistentVolumeClaim>) -> Vec<Action> {
    let mut actions = Vec::new();
    let own = claim_ref(volume).filter(|reference| reference.uid.is_some() && reference.uid == claim.metadata.uid);
    if own.is_none() {
        let mut patch = json!({ "spec": { "claimRef": provision::reference(claim) } });
        if !is_for(volume, claim) {
            patch["metadata"] = json!({ "annotations": { BOUND_BY_CONTROLLER: "yes" } });
        }
        actions.push(Action::Patch {
            object: Object::Volume(volume.clone()),
            patch,
        });
    }
    let held = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if held != Some("Bound") {
        actions.push(Action::Status {
            object: Object::Volume(volume.clone()),
            status: json!({ "phase": "Bound", "message": null, "reason": null }),
        });
    }
    let mut annotations = serde_json::Map::new();
    let mut patch = json!({});
    if volume_name(claim) != volume.name_any() {
        patch["spec"] = json!({ "volumeName": volume.name_any() });
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".into());
    }
    if !claim.annotations().contains_key(BIND_COMPLETED) {
        annotations.insert(BIND_COMPLETED.to_owned(), "yes".into());
    }
    if !annotations.is_empty() {
        patch["metadata"] = json!({ "annotations": annotations });
        actions.push(Action::Patch {
            object: Object::Claim(claim.clone()),
            patch,
        });
    }
    let status = claim.status.clone().unwrap_or_default();
    let spec = volume.spec.clone().unwrap_or_default();
    if phase(claim) != "Bound" || status.capacity != spec.capacity || status.access_modes != spec.access_modes {
        actions.push(Action::Status {
            object: Object::Claim(claim.clone()),
            status: json!({ "phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity }),
        });
    }
    actions
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

fn pending(claim: &Arc<PersistentVolumeClaim>) -> Vec<Action> {
    let status = claim.status.clone().unwrap_or_default();
    if phase(claim) == "Pending" && status.capacity.is_none() && status.access_modes.is_none() {
        return Vec::new();
    }
    vec![Action::Status {
        object: Object::Claim(claim.clone()),
        status: json!({ "phase": "Pending", "accessModes": null, "capacity": null }),
    }]
}
