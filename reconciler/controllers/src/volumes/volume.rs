//! What a volume is in, and what becomes of it when its claim is gone. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;
use serde_json::json;

use super::actions::{Action, Object};
use super::{BOUND_BY_CONTROLLER, FOLDER_FINALIZER, PROVISIONED_BY, PROVISIONER, claim_ref, is_ours, volume_name};
use crate::events::Level;

/// Says what to do next for a volume. `claim` is the one that it names, if there is one of that name; `nodes` tells whether a node with that
/// hostname is there.
pub fn decide(
    volume: &Arc<PersistentVolume>,
    claim: Option<&PersistentVolumeClaim>,
    nodes: &dyn Fn(&str) -> bool,
) -> Vec<Action> {
    if volume.metadata.deletion_timestamp.is_some()
        && let Some(actions) = abandon(volume, nodes)
    {
        return actions;
    }
    let Some(reference) = claim_ref(volume) else {
        return enter(volume, "Available", None);
    };
    let uid = reference.uid.as_deref().unwrap_or_default();
    if uid.is_empty() {
        // It is kept for a claim, which binds it when it comes.
        return enter(volume, "Available", None);
    }
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid)) else {
        let mut actions = Vec::new();
        if !matches!(phase(volume), "Released" | "Failed") {
            actions.extend(enter(volume, "Released", None));
        }
        actions.extend(reclaim(volume));
        return actions;
    };
    match volume_name(claim) {
        // The claim is looked at as well, and binds it.
        "" => Vec::new(),
        name if name == volume.name_any() => enter(volume, "Bound", None),
        _ if volume.annotations().contains_key(PROVISIONED_BY) && policy(volume) == "Delete" => {
            // It was made for a claim that took another.
            let mut actions = Vec::new();
            if !matches!(phase(volume), "Released" | "Failed") {
                actions.extend(enter(volume, "Released", None));
            }
            actions.extend(reclaim(volume));
            actions
        }
        _ => unbind(volume),
    }
}

/// A volume whose node is gone for good: nobody removes its folder any more.
fn abandon(volume: &Arc<PersistentVolume>, nodes: &dyn Fn(&str) -> bool) -> Option<Vec<Action>> {
    let ours = volume.finalizers().iter().any(|name| name == FOLDER_FINALIZER);
    let host = host_of(volume).filter(|host| !nodes(host))?;
    if !ours || phase(volume) == "Bound" {
        return None;
    }
    let left: Vec<&String> = volume
        .finalizers()
        .iter()
        .filter(|name| *name != FOLDER_FINALIZER)
        .collect();
    Some(vec![
        Action::Event {
            object: Object::Volume(volume.clone()),
            level: Level::Warning,
            reason: "VolumeAbandoned",
            message: format!("node {host} is gone: the volume's folder, if it is still there, was not removed"),
        },
        Action::Patch {
            object: Object::Volume(volume.clone()),
            patch: json!({ "metadata": { "finalizers": left } }),
        },
    ])
}

/// Returns the host name of the node that a volume of ours lies on.
pub fn host_of(volume: &PersistentVolume) -> Option<&str> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let expressions = required.node_selector_terms.first()?.match_expressions.as_ref()?;
    let host = expressions
        .iter()
        .find(|expression| expression.key == super::HOSTNAME)?;
    host.values.as_ref()?.first().map(String::as_str)
}

fn phase(volume: &PersistentVolume) -> &str {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or("Retain")
}

fn enter(volume: &Arc<PersistentVolume>, wanted: &str, message: Option<&str>) -> Vec<Action> {
    if phase(volume) == wanted {
        return Vec::new();
    }
    vec![Action::Status {
        object: Object::Volume(volume.clone()),
        status: json!({ "phase": wanted, "message": message }),
    }]
}

/// What happens to a volume whose claim is gone.
fn reclaim(volume: &Arc<PersistentVolume>) -> Vec<Action> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let failed = |reason: &'static str, message: String| {
        if phase(volume) == "Failed" {
            return Vec::new();
        }
        let mut actions = enter(volume, "Failed", Some(&message));
        actions.push(Action::Event {
            object: Object::Volume(volume.clone()),
            level: Level::Warning,
            reason,
            message,
        });
        actions
    };
    match policy(volume) {
        "Delete" if is_ours(volume) => vec![Action::DeleteVolume(volume.clone())],
        // Who made it removes it.
        "Delete"
            if volume
                .annotations()
                .get(PROVISIONED_BY)
                .is_some_and(|by| by != PROVISIONER) =>
        {
            Vec::new()
        }
        "Delete" => failed(
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume \"{}\": no deletable volume plugin matched",
                volume.name_any()
            ),
        ),
        "Recycle" => failed(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!".to_owned(),
        ),
        _ => Vec::new(),
    }
}

/// Takes back a binding whose claim has another volume.
fn unbind(volume: &Arc<PersistentVolume>) -> Vec<Action> {
    let patch = if volume.annotations().contains_key(BOUND_BY_CONTROLLER) {
        json!({
            "metadata": { "annotations": { BOUND_BY_CONTROLLER: null } },
            "spec": { "claimRef": null },
        })
    } else {
        json!({ "spec": { "claimRef": { "uid": null } } })
    };
    let mut actions = vec![Action::Patch {
        object: Object::Volume(volume.clone()),
        patch,
    }];
    actions.extend(enter(volume, "Available", None));
    actions
}
