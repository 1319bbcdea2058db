//! Defaults of volumes, claims, and of the kinds of storage.k8s.io.

use serde_json::{Map, Value, json};

use super::{fill, fill_text, inside, pod, spec};
use crate::meta;
use crate::quantity::canonicalize;

/// Fills in a PersistentVolume.
pub fn volume(volume: &mut Value) {
    let spec = spec(volume);
    fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill_text(spec, "volumeMode", "Filesystem");
    inside(spec, "capacity", |amounts| amounts.values_mut().for_each(canonicalize));
    pod::volume_source(spec);
}

/// Fills in a PersistentVolumeClaim.
pub fn claim(claim: &mut Value) {
    claim_spec(spec(claim));
    inside(meta::map_of(claim), "status", |status| {
        inside(status, "capacity", |amounts| {
            amounts.values_mut().for_each(canonicalize)
        });
    });
}

/// Fills in the spec of a claim, also where it is a part of something else.
pub fn claim_spec(spec: &mut Map<String, Value>) {
    fill_text(spec, "volumeMode", "Filesystem");
    inside(spec, "resources", |resources| {
        for key in ["limits", "requests"] {
            inside(resources, key, |amounts| amounts.values_mut().for_each(canonicalize));
        }
    });
    // Where one says what a volume is made of, the other one says the same.
    let said = |spec: &Map<String, Value>, key: &str| spec.get(key).filter(|value| value.is_object()).cloned();
    match (said(spec, "dataSource"), said(spec, "dataSourceRef")) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".into(), source);
        }
        (None, Some(source)) if meta::str_at(&source, &["namespace"]).is_empty() => {
            spec.insert("dataSource".into(), source);
        }
        _ => {}
    }
}

/// Fills in a StorageClass.
pub fn class(class: &mut Value) {
    let class = meta::map_of(class);
    fill_text(class, "reclaimPolicy", "Delete");
    fill_text(class, "volumeBindingMode", "Immediate");
}

/// Fills in a CSIDriver.
pub fn driver(driver: &mut Value) {
    let spec = spec(driver);
    fill(spec, "attachRequired", true);
    fill_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    for key in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
        fill(spec, key, false);
    }
    if spec
        .get("volumeLifecycleModes")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
    }
}

/// Fills in a CSIStorageCapacity.
pub fn capacity(capacity: &mut Value) {
    for key in ["capacity", "maximumVolumeSize"] {
        if let Some(amount) = meta::map_of(capacity).get_mut(key) {
            canonicalize(amount);
        }
    }
}
