//! Where a pod's files come from.

use serde_json::Value;

use super::{Pod, Set, plural, quoted, violation};
use crate::meta;
use crate::pod_security::Violation;

/// Sources that hold nothing but what the API gives.
const ALLOWED: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// All others, in the order in which they are told apart.
const OTHERS: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

/// Directories of the host.
pub(super) fn host_path(pod: &Pod<'_>) -> Option<Violation> {
    let bad: Vec<&str> = volumes(pod)
        .filter(|volume| has(volume, "hostPath"))
        .map(|volume| meta::str_at(volume, &["name"]))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let what = plural("volume", "volumes", bad.len());
    violation("hostPath volumes", format!("{what} {}", quoted(bad)))
}

/// Volumes of any kind that is not among those allowed.
pub(super) fn restricted(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = Set::new();
    let bad: Vec<&str> = volumes(pod)
        .filter(|volume| !ALLOWED.iter().any(|kind| has(volume, kind)))
        .map(|volume| {
            types.insert(
                OTHERS
                    .iter()
                    .copied()
                    .find(|kind| has(volume, kind))
                    .unwrap_or("unknown"),
            );
            meta::str_at(volume, &["name"])
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let (what, uses) = (plural("volume", "volumes", bad.len()), plural("uses", "use", bad.len()));
    let kinds = plural("restricted volume type", "restricted volume types", types.len());
    violation(
        "restricted volume types",
        format!("{what} {} {uses} {kinds} {}", quoted(bad), quoted(types)),
    )
}

fn volumes<'a>(pod: &Pod<'a>) -> impl Iterator<Item = &'a Value> {
    meta::list_at(pod.spec, &["volumes"]).iter()
}

fn has(volume: &Value, kind: &str) -> bool {
    volume.get(kind).is_some_and(|source| !source.is_null())
}
