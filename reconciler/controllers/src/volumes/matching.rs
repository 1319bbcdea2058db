//! Which volume suits a claim. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, VolumeNodeAffinity};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use setpoint_api::LabelSelector;

use super::{capacity, claim_ref, class_of_claim, class_of_volume, is_for, requested};
use crate::scheduler::affinity;

/// Where a volume is looked for.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// Anywhere.
    Anywhere,
    /// Nowhere but among those kept for the claim: a pod decides where it is needed.
    Kept,
    /// On a node with these labels.
    Node(&'a BTreeMap<String, String>),
}

/// Returns the volume that suits a claim best: one that is kept for it, else the smallest free one that is large enough.
pub fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'a Arc<PersistentVolume>>,
    place: Place<'_>,
    taken: &dyn Fn(&str) -> bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let wanted = requested(claim)?;
    let class = class_of_claim(claim).unwrap_or_default();
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = match selector {
        // What cannot be read selects nothing; the API has validated it.
        Some(selector) => Some(LabelSelector::from_value(&serde_json::to_value(selector).ok()?).ok()?),
        None => None,
    };
    let mut smallest: Option<(setpoint_api::Quantity, &Arc<PersistentVolume>)> = None;
    for volume in volumes {
        let kept = is_for(volume, claim);
        let Some(size) = capacity(volume).filter(|size| *size >= wanted) else {
            continue;
        };
        if (claim_ref(volume).is_some() && !kept)
            || mode(volume) != mode_wanted(claim)
            || volume.metadata.deletion_timestamp.is_some()
            || taken(&volume.name_any())
        {
            continue;
        }
        let reachable = match place {
            Place::Node(labels) => is_reachable(volume, labels),
            Place::Anywhere | Place::Kept => true,
        };
        if kept {
            return reachable.then_some(volume);
        }
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let suits = !matches!(place, Place::Kept)
            && phase == Some("Available")
            && selector.as_ref().is_none_or(|selector| {
                let labels = volume.labels().iter();
                let labels = labels
                    .map(|(key, value)| (key.clone(), value.as_str().into()))
                    .collect();
                selector.matches(Some(&labels))
            })
            && class_of_volume(volume) == class
            && reachable
            && offers_modes(volume, claim);
        let better = |(held, at): &(setpoint_api::Quantity, &Arc<PersistentVolume>)| {
            (&size, volume.name_any()) < (held, at.name_any())
        };
        if suits && smallest.as_ref().is_none_or(better) {
            smallest = Some((size, volume));
        }
    }
    smallest.map(|(_, volume)| volume)
}

/// Returns why a volume that a claim names cannot be its own, in Kubernetes' words.
pub fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    if capacity(volume) < requested(claim) {
        Some("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim).unwrap_or_default() {
        Some("storageClassName does not match")
    } else if mode(volume) != mode_wanted(claim) {
        Some("incompatible volumeMode")
    } else if !offers_modes(volume, claim) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

/// Returns whether a volume can be used on a node with these labels.
pub fn is_reachable(volume: &PersistentVolume, labels: &BTreeMap<String, String>) -> bool {
    let affinity: Option<&VolumeNodeAffinity> = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    // A node counts by its labels alone, as for Kubernetes: its name matches no field.
    required.is_none_or(|required| {
        required
            .node_selector_terms
            .iter()
            .any(|term| affinity::matches(term, labels, ""))
    })
}

/// Returns whether volumes of a class can be made for a node with these labels.
pub fn allows(class: &StorageClass, labels: &BTreeMap<String, String>) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty()
        || terms.iter().any(|term| {
            let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
            let holds = |key: &String, values: &[String]| labels.get(key).is_some_and(|value| values.contains(value));
            !expressions.is_empty() && expressions.iter().all(|wanted| holds(&wanted.key, &wanted.values))
        })
}

fn mode(volume: &PersistentVolume) -> &str {
    let mode = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    mode.unwrap_or("Filesystem")
}

/// Returns what a claim wants its volume to be, `Filesystem` or `Block`.
pub fn mode_wanted(claim: &PersistentVolumeClaim) -> &str {
    let mode = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    mode.unwrap_or("Filesystem")
}

fn offers_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    let offered = offered.unwrap_or_default();
    wanted.unwrap_or_default().iter().all(|mode| offered.contains(mode))
}
