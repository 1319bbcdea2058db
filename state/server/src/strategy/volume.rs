//! Volumes and claims: a claim that names no class gets the default one, both are kept while they are in use, a claim grows only where its class
//! lets it, and a volume tells since when it is in its phase.

use std::cmp::Reverse;

use serde_json::Value;
use setpoint_api::{Quantity, Status, meta};

use super::{Scene, Strategy};

/// What marks the class of claims that name none.
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// How claims named their class before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// What keeps a claim that pods use, and a volume that is bound.
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const CLASSES: &str = "storage.k8s.io/storageclasses";

pub(crate) struct Claims;

impl Strategy for Claims {
    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        protect(object, CLAIM_FINALIZER);
        let named = meta::at(object, &["spec", "storageClassName"]).is_some_and(|name| !name.is_null());
        if named || meta::annotation(object, OLD_CLASS).is_some() {
            return Ok(());
        }
        if let Some(class) = default_class(scene) {
            meta::map_mut(meta::map_of(object), "spec").insert("storageClassName".into(), class.into());
        }
        Ok(())
    }

    fn update(&self, scene: &Scene<'_>, object: &mut Value, old: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        grows(scene, object, old)
            .map_err(|why| Status::forbidden("", "persistentvolumeclaims", meta::name(object), &why))
    }
}

/// Kubernetes' admission plugin `PersistentVolumeClaimResize`.
fn grows(scene: &Scene<'_>, new: &Value, old: &Value) -> Result<(), String> {
    let wanted = |claim: &Value| {
        let amount = meta::at(claim, &["spec", "resources", "requests", "storage"])?;
        Quantity::from_value(amount).ok()
    };
    // What is asked of a claim that is not bound is refused as a change of what may not change.
    if wanted(new) <= wanted(old) || meta::str_at(old, &["status", "phase"]) != "Bound" {
        return Ok(());
    }
    let class = meta::annotation(new, OLD_CLASS).unwrap_or_else(|| meta::str_at(new, &["spec", "storageClassName"]));
    let class = scene.cache.get(CLASSES, "", class);
    if class.is_some_and(|class| class.value()["allowVolumeExpansion"] == true) {
        return Ok(());
    }
    Err(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            .to_owned(),
    )
}

/// Kubernetes' admission plugin `StorageObjectInUseProtection`.
fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers: Vec<Value> = meta::finalizers(object).map(Into::into).collect();
    if !finalizers.iter().any(|held| held == finalizer) {
        finalizers.push(finalizer.into());
        meta::set(object, "finalizers", finalizers);
    }
}

/// The name of the default class; of several the newest, then the first by name.
fn default_class(scene: &Scene<'_>) -> Option<String> {
    let classes = scene.cache.list(CLASSES, None);
    let marked = classes.iter().map(|stored| stored.value()).filter(is_default);
    marked
        .min_by_key(|class| (Reverse(meta::creation_timestamp(class)), meta::name(class).to_owned()))
        .map(|class| meta::name(&class).to_owned())
}

/// Whether a class is marked as the one of claims that name none.
pub(crate) fn is_default<V: std::borrow::Borrow<Value>>(class: &V) -> bool {
    DEFAULT_CLASS
        .iter()
        .any(|key| meta::annotation(class.borrow(), key) == Some("true"))
}

pub(crate) struct Volumes;

impl Strategy for Volumes {
    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        protect(object, VOLUME_FINALIZER);
        meta::map_mut(meta::map_of(object), "status")
            .insert("lastPhaseTransitionTime".into(), meta::format_time(scene.now).into());
        Ok(())
    }

    fn update_part(&self, scene: &Scene<'_>, subresource: &str, object: &mut Value, old: &Value) -> Result<(), Status> {
        let at = |object: &Value, key: &str| meta::at(object, &["status", key]).cloned();
        let same = |key: &str| at(object, key) == at(old, key);
        if subresource == "status" && !same("phase") && same("lastPhaseTransitionTime") {
            meta::map_mut(meta::map_of(object), "status")
                .insert("lastPhaseTransitionTime".into(), meta::format_time(scene.now).into());
        }
        Ok(())
    }
}
