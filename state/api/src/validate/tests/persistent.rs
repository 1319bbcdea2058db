use super::*;

fn volume() -> Value {
    json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}}})
}

fn claim() -> Value {
    json!({"metadata": {"name": "c", "namespace": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
        "resources": {"requests": {"storage": "2Gi"}}}})
}

#[test]
fn a_volume_is_checked_in_kubernetes_words() {
    table(
        "",
        "persistentvolumes",
        volume(),
        &[
            (
                "/spec/capacity",
                Value::Null,
                &[
                    "spec.capacity: Required value",
                    "spec.capacity: Unsupported value: {}: supported values: \"storage\"",
                ],
            ),
            (
                "/spec/capacity/storage",
                json!("0"),
                &["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"],
            ),
            ("/spec/accessModes", json!([]), &["spec.accessModes: Required value"]),
            (
                "/spec/accessModes",
                json!(["Any"]),
                &[
                    "spec.accessModes: Unsupported value: \"Any\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                ],
            ),
            (
                "/spec/accessModes",
                json!(["ReadWriteOnce", "ReadWriteOncePod"]),
                &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
            ),
            (
                "/spec/hostPath",
                Value::Null,
                &["spec: Required value: must specify a volume type"],
            ),
            (
                "/spec/hostPath/path",
                json!("/a/../b"),
                &["spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
            ),
            (
                "/spec/nfs",
                json!({"server": "s", "path": "/p"}),
                &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                "/spec/persistentVolumeReclaimPolicy",
                json!("Keep"),
                &[
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Keep\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
                ],
            ),
            (
                "/spec/volumeMode",
                json!("Tape"),
                &["spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\""],
            ),
            (
                "/spec/nodeAffinity",
                json!({"required": {"nodeSelectorTerms": []}}),
                &[
                    "spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term",
                ],
            ),
        ],
    );
    let mut local = volume();
    put(&mut local, "/spec/hostPath", Value::Null);
    put(&mut local, "/spec/local", json!({"path": "/disk"}));
    assert_eq!(
        errors("", "persistentvolumes", local),
        ["spec.nodeAffinity: Required value: Local volume requires node affinity"]
    );
}

#[test]
fn a_volume_stays_where_it_is() {
    update_table(
        "",
        "persistentvolumes",
        volume(),
        &[
            ("/spec/capacity/storage", json!("2Gi"), &[]),
            ("/spec/claimRef", json!({"name": "c", "namespace": "d"}), &[]),
            (
                "/spec/hostPath/path",
                json!("/else"),
                &["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
            ),
            (
                "/spec/volumeMode",
                json!("Block"),
                &["volumeMode: Invalid value: \"Block\": field is immutable"],
            ),
        ],
    );
}

#[test]
fn a_claim_is_checked_in_kubernetes_words() {
    table(
        "",
        "persistentvolumeclaims",
        claim(),
        &[
            (
                "/spec/accessModes",
                Value::Null,
                &["spec.accessModes: Required value: at least 1 access mode is required"],
            ),
            (
                "/spec/resources",
                Value::Null,
                &["spec.resources[storage]: Required value"],
            ),
            (
                "/spec/resources/requests/storage",
                json!("-1"),
                &["spec.resources[storage]: Invalid value: \"-1\": must be greater than zero"],
            ),
            (
                "/spec/dataSource",
                json!({"kind": "VolumeSnapshot", "name": ""}),
                &[
                    "spec.dataSource.name: Required value",
                    "spec.dataSource: Invalid value: \"VolumeSnapshot\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                    "spec.dataSourceRef.name: Required value",
                    "spec.dataSourceRef: Invalid value: \"VolumeSnapshot\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                ],
            ),
        ],
    );
}

#[test]
fn a_claim_is_bound_once_and_grows_once_bound() {
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    update_table(
        "",
        "persistentvolumeclaims",
        claim(),
        &[
            ("/spec/volumeName", json!("v"), &[]),
            ("/spec/accessModes", json!(["ReadOnlyMany"]), &[immutable]),
            ("/spec/resources/requests/storage", json!("3Gi"), &[immutable]),
        ],
    );
    let mut bound = claim();
    put(&mut bound, "/spec/volumeName", json!("v"));
    put(
        &mut bound,
        "/status",
        json!({"phase": "Bound", "capacity": {"storage": "1Gi"}}),
    );
    update_table(
        "",
        "persistentvolumeclaims",
        bound,
        &[
            ("/spec/resources/requests/storage", json!("3Gi"), &[]),
            ("/spec/resources/requests/storage", json!("1536Mi"), &[]),
            (
                "/spec/resources/requests/storage",
                json!("1Gi"),
                &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
            ),
            ("/spec/volumeName", json!("w"), &[immutable]),
        ],
    );
}
