use super::*;

const STORAGE: &str = "storage.k8s.io";

#[test]
fn a_class_is_checked_and_hardly_changes() {
    let good = json!({"metadata": {"name": "fast"}, "provisioner": "example.com/disk", "parameters": {"kind": "ssd"}});
    table(
        STORAGE,
        "storageclasses",
        good.clone(),
        &[
            ("/provisioner", json!(""), &["provisioner: Required value"]),
            (
                "/reclaimPolicy",
                json!("Recycle"),
                &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""],
            ),
            (
                "/volumeBindingMode",
                json!("Later"),
                &[
                    "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
                ],
            ),
            (
                "/parameters",
                json!({"": "x"}),
                &["parameters: Invalid value: \"\": field can not be empty."],
            ),
        ],
    );
    update_table(
        STORAGE,
        "storageclasses",
        good,
        &[
            ("/allowVolumeExpansion", json!(true), &[]),
            (
                "/parameters/kind",
                json!("hdd"),
                &["parameters: Forbidden: updates to parameters are forbidden."],
            ),
            (
                "/provisioner",
                json!("other"),
                &["provisioner: Forbidden: updates to provisioner are forbidden."],
            ),
            (
                "/reclaimPolicy",
                json!("Retain"),
                &["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."],
            ),
            (
                "/volumeBindingMode",
                json!("WaitForFirstConsumer"),
                &["volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable"],
            ),
        ],
    );
}

#[test]
fn an_attachment_is_of_one_volume_to_one_node() {
    let good = json!({"metadata": {"name": "a"}, "spec": {"attacher": "csi.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    table(
        STORAGE,
        "volumeattachments",
        good.clone(),
        &[
            ("/spec/attacher", json!(""), &["spec.attacher: Required value"]),
            (
                "/spec/source",
                json!({}),
                &[&format!("spec.source: Required value: {one}")],
            ),
            (
                "/spec/source/inlineVolumeSpec",
                json!({"csi": {}}),
                &[&format!("spec.source: Forbidden: {one}")],
            ),
        ],
    );
    let mut object = good.clone();
    put(&mut object, "/status", json!({"attached": true}));
    update_table(
        STORAGE,
        "volumeattachments",
        object,
        &[("/status/attached", json!(false), &[])],
    );
    let found = update_errors(STORAGE, "volumeattachments", good, |new| {
        new["spec"]["nodeName"] = "m".into()
    });
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("spec: Invalid value: {") && found[0].ends_with(": field is immutable"),
        "{found:?}"
    );
}

#[test]
fn drivers_and_what_they_tell_are_checked() {
    table(
        STORAGE,
        "csidrivers",
        json!({"metadata": {"name": "csi.example.com"}}),
        &[
            (
                "/spec/fsGroupPolicy",
                json!("Any"),
                &[
                    "spec.fsGroupPolicy: Unsupported value: \"Any\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                ],
            ),
            (
                "/spec/volumeLifecycleModes",
                json!(["Short"]),
                &[
                    "spec.volumeLifecycleModes: Unsupported value: \"Short\": supported values: \"Ephemeral\", \"Persistent\"",
                ],
            ),
            (
                "/spec/tokenRequests",
                json!([{"audience": "a", "expirationSeconds": 10}, {"audience": "a"}]),
                &[
                    "spec.tokenRequests[0].expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
                    "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                ],
            ),
        ],
    );
    let node = json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "csi.example.com", "nodeID": "1"}]}});
    table(
        STORAGE,
        "csinodes",
        node,
        &[(
            "/spec/drivers/0",
            json!({"name": "csi.example.com", "nodeID": "", "allocatable": {"count": -1}}),
            &[
                "spec.drivers[0].nodeID: Required value",
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            ],
        )],
    );
    let capacity = json!({"metadata": {"name": "c", "namespace": "d"}, "storageClassName": "fast", "capacity": "1Gi"});
    table(
        STORAGE,
        "csistoragecapacities",
        capacity.clone(),
        &[("/storageClassName", json!(""), &["storageClassName: Required value"])],
    );
    update_table(
        STORAGE,
        "csistoragecapacities",
        capacity,
        &[
            ("/capacity", json!("2Gi"), &[]),
            (
                "/storageClassName",
                json!("slow"),
                &["storageClassName: Invalid value: \"slow\": field is immutable"],
            ),
        ],
    );
    let class = json!({"metadata": {"name": "c"}, "driverName": "csi.example.com", "parameters": {"iops": "100"}});
    table(
        STORAGE,
        "volumeattributesclasses",
        class.clone(),
        &[("/driverName", json!(""), &["driverName: Required value"])],
    );
    update_table(
        STORAGE,
        "volumeattributesclasses",
        class,
        &[(
            "/parameters/iops",
            json!("200"),
            &["parameters: Forbidden: updates to parameters are forbidden."],
        )],
    );
}
