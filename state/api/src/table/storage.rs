//! The rows of volumes, claims, and of the kinds of storage.k8s.io.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, columns};
use crate::meta::{self, at, list_at, str_at};
use crate::quantity::canonicalize;

const UNSET: &str = "<unset>";

/// Returns the columns and the row of PersistentVolumes.
pub(crate) fn persistent_volume() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Capacity|string|0|How much the volume holds.
Access Modes|string|0|In which ways the volume can be mounted.
Reclaim Policy|string|0|What becomes of the volume when its claim is gone.
Status|string|0|Whether the volume is available, bound, released or failed.
Claim|string|0|The claim that the volume is bound to.
StorageClass|string|0|StorageClass of the pv
VolumeAttributesClass|string|0|VolumeAttributesClass of the pv
Reason|string|0|Why the volume is in its state, in one word.
Age|string|0|How long ago the object was created.
VolumeMode|string|1|Whether the volume has a file system or is a raw device.";
    (columns(text), Row::Builtin(volume_row))
}

/// Returns the columns and the row of PersistentVolumeClaims.
pub(crate) fn persistent_volume_claim() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Status|string|0|Whether the claim is pending, bound or lost.
Volume|string|0|The volume that the claim is bound to.
Capacity|string|0|How much the volume holds.
Access Modes|string|0|In which ways the volume can be mounted.
StorageClass|string|0|StorageClass of the pvc
VolumeAttributesClass|string|0|VolumeAttributesClass of the pvc
Age|string|0|How long ago the object was created.
VolumeMode|string|1|Whether the volume has a file system or is a raw device.";
    (columns(text), Row::Builtin(claim_row))
}

/// `RWO,ROX`, each mode once, in Kubernetes' order.
fn access_modes(object: &Value, path: &[&str]) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let modes: Vec<&str> = list_at(object, path).iter().filter_map(Value::as_str).collect();
    let shown = SHORT
        .iter()
        .filter(|(mode, _)| modes.contains(mode))
        .map(|(_, short)| *short);
    shown.collect::<Vec<_>>().join(",")
}

/// An amount as Kubernetes writes it; `absent` where there is none.
fn amount(value: Option<&Value>, absent: &str) -> String {
    let Some(mut value) = value.filter(|value| !value.is_null()).cloned() else {
        return absent.to_owned();
    };
    canonicalize(&mut value);
    value.as_str().unwrap_or(absent).to_owned()
}

/// A text that may not be there at all.
fn or_unset(object: &Value, path: &[&str]) -> Value {
    at(object, path).and_then(Value::as_str).unwrap_or(UNSET).into()
}

/// The class of a volume or claim: an old annotation goes before the field.
fn class(object: &Value) -> Value {
    let annotation = meta::annotation(object, "volume.beta.kubernetes.io/storage-class");
    annotation
        .unwrap_or_else(|| str_at(object, &["spec", "storageClassName"]))
        .into()
}

fn phase(object: &Value) -> Value {
    match meta::is_being_deleted(object) {
        true => "Terminating".into(),
        false => str_at(object, &["status", "phase"]).into(),
    }
}

fn volume_row(volume: &Value, now: Timestamp) -> Vec<Value> {
    let claim = at(volume, &["spec", "claimRef"]).filter(|claim| claim.is_object());
    let claim = claim.map_or_else(String::new, |claim| {
        format!("{}/{}", str_at(claim, &["namespace"]), str_at(claim, &["name"]))
    });
    vec![
        meta::name(volume).into(),
        amount(at(volume, &["spec", "capacity", "storage"]), "0").into(),
        access_modes(volume, &["spec", "accessModes"]).into(),
        str_at(volume, &["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase(volume),
        claim.into(),
        class(volume),
        or_unset(volume, &["spec", "volumeAttributesClassName"]),
        str_at(volume, &["status", "reason"]).into(),
        age(volume, now),
        or_unset(volume, &["spec", "volumeMode"]),
    ]
}

fn claim_row(claim: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !str_at(claim, &["spec", "volumeName"]).is_empty();
    let (capacity, modes) = match bound {
        true => (
            amount(at(claim, &["status", "capacity", "storage"]), "0"),
            access_modes(claim, &["status", "accessModes"]),
        ),
        false => (String::new(), String::new()),
    };
    vec![
        meta::name(claim).into(),
        phase(claim),
        str_at(claim, &["spec", "volumeName"]).into(),
        capacity.into(),
        modes.into(),
        class(claim),
        or_unset(claim, &["spec", "volumeAttributesClassName"]),
        age(claim, now),
        or_unset(claim, &["spec", "volumeMode"]),
    ]
}

/// Returns the columns and the row of StorageClasses.
pub(crate) fn storage_class() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Provisioner|string|0|Who makes the volumes.
ReclaimPolicy|string|0|What becomes of a volume when its claim is gone.
VolumeBindingMode|string|0|When volumes are made and bound.
AllowVolumeExpansion|string|0|Whether volumes can grow.
Age|string|0|How long ago the object was created.";
    let row = |class: &Value, now| {
        let is_default = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ]
        .iter()
        .any(|key| meta::annotation(class, key) == Some("true"));
        let suffix = if is_default { " (default)" } else { "" };
        let text = |key: &str, absent: &str| match str_at(class, &[key]) {
            "" => absent.to_owned(),
            text => text.to_owned(),
        };
        vec![
            format!("{}{suffix}", meta::name(class)).into(),
            text("provisioner", "").into(),
            text("reclaimPolicy", "Delete").into(),
            text("volumeBindingMode", "Immediate").into(),
            flag(class, &["allowVolumeExpansion"]).into(),
            age(class, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

fn flag(object: &Value, path: &[&str]) -> bool {
    at(object, path) == Some(&Value::Bool(true))
}

/// Returns the columns and the row of VolumeAttachments.
pub(crate) fn volume_attachment() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Attacher|string|0|Who attaches the volume.
PV|string|0|The volume.
Node|string|0|The node that it is attached to.
Attached|boolean|0|Whether it is attached.
Age|string|0|How long ago the object was created.";
    let row = |attachment: &Value, now| {
        vec![
            meta::name(attachment).into(),
            str_at(attachment, &["spec", "attacher"]).into(),
            str_at(attachment, &["spec", "source", "persistentVolumeName"]).into(),
            str_at(attachment, &["spec", "nodeName"]).into(),
            flag(attachment, &["status", "attached"]).into(),
            age(attachment, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of CSIDrivers.
pub(crate) fn csi_driver() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
AttachRequired|boolean|0|Whether volumes are attached before they are mounted.
PodInfoOnMount|boolean|0|Whether the driver is told of the pod.
StorageCapacity|boolean|0|Whether the driver tells how much room there is.
TokenRequests|string|0|The audiences of the tokens that the driver is given.
RequiresRepublish|boolean|0|Whether the driver is called again and again.
Modes|string|0|For which sorts of volumes the driver is.
Age|string|0|How long ago the object was created.";
    let row = |driver: &Value, now| {
        let joined = |texts: Vec<&str>, absent: &str| match texts.is_empty() {
            true => Value::from(absent),
            false => texts.join(",").into(),
        };
        let modes = list_at(driver, &["spec", "volumeLifecycleModes"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let tokens = list_at(driver, &["spec", "tokenRequests"]);
        let audiences = tokens.iter().map(|token| str_at(token, &["audience"])).collect();
        // What is not said is so, but for this one.
        let attach = at(driver, &["spec", "attachRequired"]) != Some(&Value::Bool(false));
        vec![
            meta::name(driver).into(),
            attach.into(),
            flag(driver, &["spec", "podInfoOnMount"]).into(),
            flag(driver, &["spec", "storageCapacity"]).into(),
            joined(audiences, UNSET),
            flag(driver, &["spec", "requiresRepublish"]).into(),
            joined(modes, "<none>"),
            age(driver, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of CSINodes.
pub(crate) fn csi_node() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Drivers|integer|0|The number of drivers on the node.
Age|string|0|How long ago the object was created.";
    let row = |node: &Value, now| {
        let drivers = list_at(node, &["spec", "drivers"]).len();
        vec![meta::name(node).into(), drivers.into(), age(node, now)]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of CSIStorageCapacities.
pub(crate) fn csi_storage_capacity() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
StorageClassName|string|0|The class that the room is for.
Capacity|string|0|How much room there is.";
    let row = |capacity: &Value, _| {
        vec![
            meta::name(capacity).into(),
            str_at(capacity, &["storageClassName"]).into(),
            amount(at(capacity, &["capacity"]), UNSET).into(),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of VolumeAttributesClasses.
pub(crate) fn volume_attributes_class() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
DriverName|string|0|The driver that knows the attributes.
Age|string|0|How long ago the object was created.";
    let row = |class: &Value, now| {
        let is_default =
            meta::annotation(class, "volumeattributesclass.kubernetes.io/is-default-class") == Some("true");
        let suffix = if is_default { " (default)" } else { "" };
        vec![
            format!("{}{suffix}", meta::name(class)).into(),
            str_at(class, &["driverName"]).into(),
            age(class, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}
