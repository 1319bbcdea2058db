//! The rules of PersistentVolumes and PersistentVolumeClaims.

use serde_json::{Map, Value};

use super::field::{FieldError, Path};
use super::{all_invalid, immutable, metadata, one_of, placement, volume};
use crate::meta::{self, at, list_at, str_at};
use crate::names;
use crate::quantity::Quantity;

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
/// What of a volume's spec is no volume source.
const NO_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Returns what is wrong with a PersistentVolume.
pub fn volume(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    let spec = at(object, &["spec"]).unwrap_or(&Value::Null);
    access_modes(&mut errors, &path.child("accessModes"), spec, "");
    capacity(&mut errors, &path.child("capacity"), spec);
    volume_spec(&mut errors, &path, spec);
    errors
}

/// Checks what a volume's spec has in common with one that stands in a VolumeAttachment.
pub(super) fn volume_spec(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let text = |key: &str| str_at(spec, &[key]);
    let policy = text("persistentVolumeReclaimPolicy");
    let policy_path = path.child("persistentVolumeReclaimPolicy");
    one_of(errors, &policy_path, policy, RECLAIM_POLICIES, false);
    let affinity = at(spec, &["nodeAffinity"]).filter(|affinity| affinity.is_object());
    if let Some(affinity) = affinity {
        node_affinity(errors, &path.child("nodeAffinity"), affinity);
    }
    let sources = sources(spec);
    match sources.as_slice() {
        [] => errors.push(FieldError::required(path, "must specify a volume type")),
        [(key, found), more @ ..] => {
            source(errors, &path.child(key), key, found);
            for (key, _) in more {
                let detail = "may not specify more than 1 volume type";
                errors.push(FieldError::forbidden(path.child(key), detail));
            }
            if *key == "local" && affinity.is_none() {
                let detail = "Local volume requires node affinity";
                errors.push(FieldError::required(path.child("nodeAffinity"), detail));
            }
            if *key == "hostPath" && str_at(found, &["path"]).trim_matches('/').is_empty() && policy == "Recycle" {
                let detail = "may not be 'recycle' for a hostPath mount of '/'";
                errors.push(FieldError::forbidden(&policy_path, detail));
            }
        }
    }
    class_name(errors, &path.child("storageClassName"), text("storageClassName"));
    one_of(
        errors,
        &path.child("volumeMode"),
        text("volumeMode"),
        VOLUME_MODES,
        false,
    );
    if let Some(name) = at(spec, &["volumeAttributesClassName"]).and_then(Value::as_str) {
        let class = path.child("volumeAttributesClassName");
        if name.is_empty() {
            errors.push(FieldError::required(&class, "an empty string is disallowed"));
        }
        class_name(errors, &class, name);
        if !sources.iter().any(|(key, _)| *key == "csi") {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(path.child("csi"), detail));
        }
    }
}

fn sources(spec: &Value) -> Vec<(&str, &Value)> {
    let fields = spec.as_object().into_iter().flatten();
    fields
        .filter(|(key, value)| !NO_SOURCES.contains(&key.as_str()) && value.is_object())
        .map(|(key, value)| (key.as_str(), value))
        .collect()
}

fn source(errors: &mut Vec<FieldError>, path: &Path, key: &str, source: &Value) {
    let required: &[&str] = match key {
        "csi" => &["driver", "volumeHandle"],
        "nfs" => &["server", "path"],
        "local" => &["path"],
        "iscsi" => &["targetPortal", "iqn"],
        "hostPath" => {
            volume::host_path(errors, path, source);
            return;
        }
        _ => &[],
    };
    for field in required {
        if str_at(source, &[field]).is_empty() {
            errors.push(FieldError::required(path.child(field), ""));
        }
    }
    let location = str_at(source, &["path"]);
    match key {
        "nfs" if !location.is_empty() && !location.starts_with('/') => {
            errors.push(FieldError::invalid(
                path.child("path"),
                location,
                "must be an absolute path",
            ));
        }
        "local" if volume::has_backsteps(location) => {
            errors.push(FieldError::invalid(
                path.child("path"),
                location,
                "must not contain '..'",
            ));
        }
        "csi" if !str_at(source, &["driver"]).is_empty() => {
            super::storage::driver_name(errors, &path.child("driver"), str_at(source, &["driver"]));
        }
        _ => {}
    }
}

fn node_affinity(errors: &mut Vec<FieldError>, path: &Path, affinity: &Value) {
    let path = path.child("required");
    let Some(required) = at(affinity, &["required"]).filter(|required| required.is_object()) else {
        errors.push(FieldError::required(&path, "must specify required node constraints"));
        return;
    };
    placement::node_selector(errors, &path, required);
}

fn class_name(errors: &mut Vec<FieldError>, path: &Path, name: &str) {
    if !name.is_empty() {
        all_invalid(errors, path, name, names::dns_subdomain(name));
    }
}

fn access_modes(errors: &mut Vec<FieldError>, path: &Path, spec: &Value, needed: &str) {
    let modes: Vec<&str> = list_at(spec, &["accessModes"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if modes.is_empty() {
        errors.push(FieldError::required(path, needed));
    }
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::not_supported(path, *mode, ACCESS_MODES));
    }
    let alone = "ReadWriteOncePod";
    if modes.contains(&alone) && modes.iter().any(|mode| *mode != alone) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn capacity(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let none = Map::new();
    let amounts = at(spec, &["capacity"]).and_then(Value::as_object).unwrap_or(&none);
    if amounts.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if !amounts.contains_key("storage") || amounts.len() > 1 {
        errors.push(FieldError::not_supported(
            path,
            Value::Object(amounts.clone()),
            &["storage"],
        ));
    }
    for (name, amount) in amounts {
        positive(errors, &path.key(name), amount);
    }
}

/// Refuses an amount that is nothing, or less.
fn positive(errors: &mut Vec<FieldError>, path: &Path, amount: &Value) {
    match Quantity::from_value(amount) {
        Ok(quantity) if quantity.is_zero() || quantity.is_negative() => {
            errors.push(FieldError::invalid(path, amount.clone(), "must be greater than zero"));
        }
        Ok(_) => {}
        Err(error) => errors.push(FieldError::invalid(path, amount.clone(), error.to_string())),
    }
}

/// Returns what is wrong with the change of a PersistentVolume.
pub fn volume_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = volume(new);
    let before = |object: &'_ Value, key: &str| at(object, &["spec", key]).cloned();
    let source = |object: &Value| {
        let spec = at(object, &["spec"]).cloned().unwrap_or(Value::Null);
        let mut found = sources(&spec)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.clone()));
        let mut first = found.next();
        // A volume that was made before its driver could grow it may be told how.
        if let Some((_, Value::Object(source))) = &mut first
            && at(old, &["spec", "csi", "controllerExpandSecretRef"]).is_none_or(Value::is_null)
        {
            source.remove("controllerExpandSecretRef");
        }
        first
    };
    if source(new) != source(old) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", detail));
    }
    let mode = |object: &Value| before(object, "volumeMode");
    immutable(
        &mut errors,
        &Path::new("volumeMode"),
        mode(new).as_ref(),
        mode(old).as_ref(),
    );
    let affinity = |object: &Value| before(object, "nodeAffinity").filter(|affinity| !affinity.is_null());
    if affinity(old).is_some() {
        let path = Path::new("nodeAffinity");
        immutable(&mut errors, &path, affinity(new).as_ref(), affinity(old).as_ref());
    }
    errors
}

/// Returns what is wrong with a PersistentVolumeClaim.
pub fn claim(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = at(object, &["spec"]).unwrap_or(&Value::Null);
    claim_spec(&mut errors, &Path::new("spec"), spec);
    errors
}

/// Checks the spec of a claim, also where it is a part of something else.
pub fn claim_spec(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let text = |key: &str| str_at(spec, &[key]);
    access_modes(
        errors,
        &path.child("accessModes"),
        spec,
        "at least 1 access mode is required",
    );
    errors.extend(metadata::selector(&path.child("selector"), at(spec, &["selector"])));
    let storage = path.child("resources").key("storage");
    match at(spec, &["resources", "requests", "storage"]).filter(|amount| !amount.is_null()) {
        Some(amount) => positive(errors, &storage, amount),
        None => errors.push(FieldError::required(storage, "")),
    }
    class_name(errors, &path.child("storageClassName"), text("storageClassName"));
    one_of(
        errors,
        &path.child("volumeMode"),
        text("volumeMode"),
        VOLUME_MODES,
        false,
    );
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = at(spec, &[key]).filter(|source| source.is_object()) {
            data_source(errors, &path.child(key), source);
        }
    }
    class_name(
        errors,
        &path.child("volumeAttributesClassName"),
        text("volumeAttributesClassName"),
    );
}

fn data_source(errors: &mut Vec<FieldError>, path: &Path, source: &Value) {
    let text = |key: &str| str_at(source, &[key]);
    for key in ["name", "kind"] {
        if text(key).is_empty() {
            errors.push(FieldError::required(path.child(key), ""));
        }
    }
    if text("apiGroup").is_empty() && text("kind") != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(path, text("kind"), detail));
    } else if !text("apiGroup").is_empty() {
        all_invalid(
            errors,
            &path.child("apiGroup"),
            text("apiGroup"),
            names::dns_subdomain(text("apiGroup")),
        );
    }
}

/// What of a claim's spec may change, in Kubernetes' words.
const CHANGEABLE: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// Returns what is wrong with the change of a PersistentVolumeClaim.
pub fn claim_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = claim(new);
    let spec = |object: &Value| at(object, &["spec"]).cloned().unwrap_or(Value::Null);
    let (mut changed, before) = (spec(new), spec(old));
    let bound = str_at(new, &["status", "phase"]) == "Bound";
    {
        // What may change is taken back; all else has to be as it was.
        let map = meta::map_of(&mut changed);
        let mut keep = |key: &str| match before.get(key) {
            Some(value) => map.insert(key.to_owned(), value.clone()),
            None => map.remove(key),
        };
        if str_at(old, &["spec", "volumeName"]).is_empty() {
            keep("volumeName");
        }
        keep("volumeAttributesClassName");
        // A claim that was made when there was no default class may be given one.
        let class = |object: &Value| at(object, &["spec", "storageClassName"]).cloned().unwrap_or_default();
        let said = meta::annotation(new, "volume.beta.kubernetes.io/storage-class");
        if class(old).is_null() && said.is_none_or(|said| class(new) == said) {
            keep("storageClassName");
        }
        if bound {
            let amount = at(&before, &["resources", "requests", "storage"]).cloned();
            if let (Some(Value::Object(requests)), Some(amount)) = (
                map.get_mut("resources")
                    .and_then(|resources| resources.get_mut("requests")),
                amount,
            ) {
                requests.insert("storage".into(), amount);
            }
        }
    }
    if changed != before {
        errors.push(FieldError::forbidden("spec", CHANGEABLE));
    }
    let size = |object: &Value, path: &[&str]| at(object, path).and_then(|amount| Quantity::from_value(amount).ok());
    let requested = ["spec", "resources", "requests", "storage"];
    if let (Some(wanted), Some(had)) = (size(new, &requested), size(old, &requested))
        && wanted < had
        && size(old, &["status", "capacity", "storage"]).is_none_or(|capacity| wanted <= capacity)
    {
        let detail = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden("spec.resources.requests.storage", detail));
    }
    let at_path = |object: &'_ Value, key: &str| at(object, &["spec", key]).cloned();
    immutable(
        &mut errors,
        &Path::new("volumeMode"),
        at_path(new, "volumeMode").as_ref(),
        at_path(old, "volumeMode").as_ref(),
    );
    let class = |object: &Value| at_path(object, "volumeAttributesClassName").filter(|name| !name.is_null());
    if let Some(had) = class(old) {
        let refused = match class(new) {
            None => Some("update from non-nil value to nil is forbidden"),
            Some(name) if name == "" && had != "" => Some("update from non-nil value to an empty string is forbidden"),
            Some(_) => None,
        };
        if let Some(detail) = refused {
            errors.push(FieldError::forbidden("spec.volumeAttributesClassName", detail));
        }
    }
    errors
}
