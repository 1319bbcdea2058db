//! The rules of storage.k8s.io: classes, attachments, CSI drivers and what they tell of nodes and capacities.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, immutable, metadata, one_of, persistent};
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::names;
use crate::quantity::Quantity;

/// The most parameters of a class.
const MOST_PARAMETERS: usize = 512;
/// The most bytes in the parameters of a class.
const PARAMETERS_SIZE: usize = 256 * 1024;
/// The longest name of a CSI driver, in bytes.
const LONGEST_DRIVER: usize = 63;
/// The longest id of a node, in bytes.
const LONGEST_NODE_ID: usize = 256;
/// The longest message of a volume's error, in bytes.
const LONGEST_MESSAGE: usize = 1024;
/// The shortest life of a token, in seconds.
const SHORTEST_TOKEN: i64 = 10 * 60;

/// Refuses what is no name of a CSI driver.
pub(super) fn driver_name(errors: &mut Vec<FieldError>, path: &Path, name: &str) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > LONGEST_DRIVER {
        errors.push(FieldError::too_long(path, LONGEST_DRIVER));
    }
    all_invalid(errors, path, name, names::dns_subdomain(&name.to_lowercase()));
}

/// Returns what is wrong with a StorageClass.
pub fn class(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |key: &str| str_at(object, &[key]);
    let provisioner = text("provisioner");
    let path = Path::new("provisioner");
    if provisioner.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        all_invalid(
            &mut errors,
            &path,
            provisioner,
            names::qualified_name(&provisioner.to_lowercase()),
        );
    }
    parameters(&mut errors, object);
    one_of(
        &mut errors,
        &Path::new("reclaimPolicy"),
        text("reclaimPolicy"),
        &["Delete", "Retain"],
        false,
    );
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(
        &mut errors,
        &Path::new("volumeBindingMode"),
        text("volumeBindingMode"),
        &modes,
        true,
    );
    for (index, term) in list_at(object, &["allowedTopologies"]).iter().enumerate() {
        let path = Path::new("allowedTopologies")
            .index(index)
            .child("matchLabelExpressions");
        let mut seen = HashSet::new();
        for (index, expression) in list_at(term, &["matchLabelExpressions"]).iter().enumerate() {
            let path = path.index(index);
            let key = str_at(expression, &["key"]);
            all_invalid(&mut errors, &path.child("key"), key, names::qualified_name(key));
            if list_at(expression, &["values"]).is_empty() {
                errors.push(FieldError::required(path.child("values"), ""));
            }
            if !seen.insert(key) {
                errors.push(FieldError::duplicate(path.child("key"), key));
            }
        }
    }
    errors
}

fn parameters(errors: &mut Vec<FieldError>, object: &Value) {
    let path = Path::new("parameters");
    let Some(parameters) = at(object, &["parameters"]).and_then(Value::as_object) else {
        return;
    };
    if parameters.len() > MOST_PARAMETERS {
        errors.push(FieldError::too_long(path, MOST_PARAMETERS));
        return;
    }
    if parameters.contains_key("") {
        errors.push(FieldError::invalid(&path, "", "field can not be empty."));
    }
    let size: usize = parameters
        .iter()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > PARAMETERS_SIZE {
        errors.push(FieldError::too_long(path, PARAMETERS_SIZE));
    }
}

/// Returns what is wrong with the change of a StorageClass.
pub fn class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        fixed(&mut errors, key, new, old);
    }
    immutable(
        &mut errors,
        &Path::new("volumeBindingMode"),
        new.get("volumeBindingMode"),
        old.get("volumeBindingMode"),
    );
    errors.extend(
        class(new)
            .into_iter()
            .filter(|error| error.field.starts_with("allowedTopologies")),
    );
    errors
}

/// Refuses the change of a field in the words that classes have for it.
fn fixed(errors: &mut Vec<FieldError>, key: &str, new: &Value, old: &Value) {
    let said = |object: &Value| {
        let value = object.get(key).filter(|value| !value.is_null());
        value
            .filter(|value| !value.as_object().is_some_and(serde_json::Map::is_empty))
            .cloned()
    };
    if said(new) != said(old) {
        errors.push(FieldError::forbidden(key, format!("updates to {key} are forbidden.")));
    }
}

/// Returns what is wrong with a VolumeAttributesClass.
pub fn attributes_class(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    driver_name(&mut errors, &Path::new("driverName"), str_at(object, &["driverName"]));
    if at(object, &["parameters"])
        .and_then(Value::as_object)
        .is_none_or(serde_json::Map::is_empty)
    {
        let detail = "must contain at least one key/value pair";
        errors.push(FieldError::required("parameters", detail));
    }
    parameters(&mut errors, object);
    errors
}

/// Returns what is wrong with the change of a VolumeAttributesClass.
pub fn attributes_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["driverName", "parameters"] {
        fixed(&mut errors, key, new, old);
    }
    errors
}

/// Returns what is wrong with a VolumeAttachment.
pub fn attachment(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    driver_name(
        &mut errors,
        &path.child("attacher"),
        str_at(object, &["spec", "attacher"]),
    );
    let source = path.child("source");
    let inline = at(object, &["spec", "source", "inlineVolumeSpec"]).filter(|spec| spec.is_object());
    let name = at(object, &["spec", "source", "persistentVolumeName"]).and_then(Value::as_str);
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline, name) {
        (None, None) => errors.push(FieldError::required(&source, ONE)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(&source, ONE)),
        (None, Some("")) => errors.push(FieldError::required(
            source.child("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        )),
        (None, Some(name)) => {
            all_invalid(
                &mut errors,
                &source.child("persistentVolumeName"),
                name,
                names::dns_subdomain(name),
            );
        }
        (Some(spec), None) => inline_volume(&mut errors, &source.child("inlineVolumeSpec"), spec),
    }
    let node = str_at(object, &["spec", "nodeName"]);
    all_invalid(&mut errors, &path.child("nodeName"), node, names::dns_subdomain(node));
    errors.extend(attachment_status(object));
    errors
}

fn inline_volume(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    for key in ["claimRef", "capacity", "storageClassName"] {
        let set = spec.get(key).is_some_and(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
        if set {
            let detail = "may not be specified in the context of inline volumes";
            errors.push(FieldError::forbidden(path.child(key), detail));
        }
    }
    if !spec.get("csi").is_some_and(Value::is_object) {
        let detail = "has to be specified in the context of inline volumes";
        errors.push(FieldError::required(path.child("csi"), detail));
    }
    persistent::volume_spec(errors, path, spec);
}

/// Returns what is wrong with the change of a VolumeAttachment.
pub fn attachment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = attachment(new);
    immutable(&mut errors, &Path::new("spec"), new.get("spec"), old.get("spec"));
    errors
}

/// Returns what is wrong with a VolumeAttachment's status.
pub fn attachment_status(object: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    for key in ["attachError", "detachError"] {
        if str_at(object, &["status", key, "message"]).len() > LONGEST_MESSAGE {
            errors.push(FieldError::too_long(path.child(key).child("message"), LONGEST_MESSAGE));
        }
    }
    errors
}

/// Returns what is wrong with a CSIDriver.
pub fn driver(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    driver_name(&mut errors, &Path::new("metadata.name"), meta::name(object));
    let path = Path::new("spec");
    for (key, named) in [
        // Kubernetes' own spelling.
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if at(object, &["spec", key]).is_none_or(Value::is_null) {
            errors.push(FieldError::required(path.child(named), ""));
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    one_of(
        &mut errors,
        &path.child("fsGroupPolicy"),
        str_at(object, &["spec", "fsGroupPolicy"]),
        &policies,
        true,
    );
    let mut seen = HashSet::new();
    for (index, token) in list_at(object, &["spec", "tokenRequests"]).iter().enumerate() {
        let path = path.child("tokenRequests").index(index);
        let audience = str_at(token, &["audience"]);
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(path.child("audience"), audience));
        }
        match int_at(token, &["expirationSeconds"]) {
            Some(seconds) if seconds < SHORTEST_TOKEN => {
                let detail = "may not specify a duration less than 10 minutes";
                errors.push(FieldError::invalid(path.child("expirationSeconds"), seconds, detail));
            }
            Some(seconds) if seconds > 1 << 32 => {
                let detail = "may not specify a duration larger than 2^32 seconds";
                errors.push(FieldError::invalid(path.child("expirationSeconds"), seconds, detail));
            }
            _ => {}
        }
    }
    for mode in list_at(object, &["spec", "volumeLifecycleModes"])
        .iter()
        .filter_map(Value::as_str)
    {
        let modes = ["Ephemeral", "Persistent"];
        if !modes.contains(&mode) {
            errors.push(FieldError::not_supported(
                path.child("volumeLifecycleModes"),
                mode,
                &modes,
            ));
        }
    }
    errors
}

/// Returns what is wrong with the change of a CSIDriver.
pub fn driver_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = driver(new);
    for (key, named) in [
        ("attachRequired", "attachedRequired"),
        ("volumeLifecycleModes", "volumeLifecycleModes"),
    ] {
        let path = Path::new("spec").child(named);
        immutable(&mut errors, &path, at(new, &["spec", key]), at(old, &["spec", key]));
    }
    errors
}

/// Returns what is wrong with a CSINode.
pub fn node(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (index, driver) in list_at(object, &["spec", "drivers"]).iter().enumerate() {
        let path = Path::new("spec.drivers").index(index);
        let name = str_at(driver, &["name"]);
        driver_name(&mut errors, &path.child("name"), name);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
        let id = str_at(driver, &["nodeID"]);
        if id.is_empty() {
            errors.push(FieldError::required(path.child("nodeID"), ""));
        } else if id.len() > LONGEST_NODE_ID {
            let detail = format!("must be {LONGEST_NODE_ID} characters or less");
            errors.push(FieldError::invalid(path.child("nodeID"), id, detail));
        }
        super::non_negative(
            &mut errors,
            &path.child("allocatable").child("count"),
            at(driver, &["allocatable", "count"]),
        );
        let mut keys = HashSet::new();
        for key in list_at(driver, &["topologyKeys"]).iter().filter_map(Value::as_str) {
            let path = path.child("topologyKeys");
            if !keys.insert(key) {
                errors.push(FieldError::duplicate(&path, key));
            }
            all_invalid(&mut errors, &path, key, names::qualified_name(key));
        }
    }
    errors
}

/// Returns what is wrong with the change of a CSINode: a driver that stays says what it said.
pub fn node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = node(new);
    let drivers = |object: &Value| list_at(object, &["spec", "drivers"]).to_vec();
    let (before, now) = (drivers(old), drivers(new));
    for driver in &before {
        let name = str_at(driver, &["name"]);
        if let Some(found) = now.iter().find(|found| str_at(found, &["name"]) == name)
            && found != driver
        {
            errors.push(FieldError::immutable("CSINodeDriver", found.clone()));
        }
    }
    errors
}

/// Returns what is wrong with a CSIStorageCapacity.
pub fn capacity(object: &Value) -> Vec<FieldError> {
    let mut errors = metadata::selector(&Path::new("nodeTopology"), object.get("nodeTopology"));
    let class = str_at(object, &["storageClassName"]);
    let path = Path::new("storageClassName");
    if class.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        all_invalid(&mut errors, &path, class, names::dns_subdomain(class));
    }
    for key in ["capacity", "maximumVolumeSize"] {
        if let Some(amount) = object.get(key).filter(|amount| !amount.is_null())
            && Quantity::from_value(amount).is_ok_and(|quantity| quantity.is_negative())
        {
            let detail = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(key, amount.clone(), detail));
        }
    }
    errors
}

/// Returns what is wrong with the change of a CSIStorageCapacity.
pub fn capacity_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = capacity(new);
    for key in ["nodeTopology", "storageClassName"] {
        immutable(&mut errors, &Path::new(key), new.get(key), old.get(key));
    }
    errors
}
