//! Volumes and claims: a claim that names no class gets the default one, and a volume tells since when it is in its phase.

use std::cmp::Reverse;

use serde_json::Value;
use setpoint_api::{Status, meta};

use super::{Scene, Strategy};

/// What marks the class of claims that name none.
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// How claims named their class before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(crate) struct Claims;

impl Strategy for Claims {
    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        let named = meta::at(object, &["spec", "storageClassName"]).is_some_and(|name| !name.is_null());
        if named || meta::annotation(object, OLD_CLASS).is_some() {
            return Ok(());
        }
        if let Some(class) = default_class(scene) {
            meta::map_mut(meta::map_of(object), "spec").insert("storageClassName".into(), class.into());
        }
        Ok(())
    }
}

/// The name of the default class; of several the newest, then the first by name.
fn default_class(scene: &Scene<'_>) -> Option<String> {
    let classes = scene.cache.list("storage.k8s.io/storageclasses", None);
    let marked = classes.iter().map(|stored| stored.value()).filter(|class| {
        DEFAULT_CLASS
            .iter()
            .any(|key| meta::annotation(class, key) == Some("true"))
    });
    marked
        .min_by_key(|class| (Reverse(meta::creation_timestamp(class)), meta::name(class).to_owned()))
        .map(|class| meta::name(&class).to_owned())
}

pub(crate) struct Volumes;

impl Strategy for Volumes {
    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        meta::map_mut(meta::map_of(object), "status")
            .insert("lastPhaseTransitionTime".into(), meta::format_time(scene.now).into());
        Ok(())
    }
}
