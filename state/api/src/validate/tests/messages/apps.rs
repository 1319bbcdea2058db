//! Workloads.

use serde_json::{Value, json};

use super::{refused, status_refused, update_refused};

fn workload() -> Value {
    json!({"metadata": {"name": "x", "namespace": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}}})
}

#[test]
fn stateful_sets() {
    let mut good = workload();
    good["spec"]["serviceName"] = "x".into();
    good["spec"]["volumeClaimTemplates"] =
        json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    good["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    refused(
        "apps",
        "statefulsets",
        &good,
        &[
            (
                "/spec/podManagementPolicy",
                json!("Any"),
                &["spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'"],
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
                &[
                    "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
                ],
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"partition": -1, "maxUnavailable": 0}}),
                &[
                    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
                ],
            ),
            (
                "/spec/persistentVolumeClaimRetentionPolicy/whenScaled",
                json!("Keep"),
                &[
                    "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"",
                ],
            ),
            (
                "/spec/replicas",
                json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/ordinals/start",
                json!(-1),
                &["spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
            ),
            (
                "/spec/volumeClaimTemplates",
                json!([]),
                &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(1),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
                ],
            ),
        ],
    );
    let forbidden: &[&str] = &[
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    ];
    update_refused(
        "apps",
        "statefulsets",
        &good,
        &[
            ("/spec/replicas", json!(3), &[]),
            ("/spec/revisionHistoryLimit", json!(3), &[]),
            ("/spec/serviceName", json!("y"), forbidden),
            (
                "/spec/volumeClaimTemplates/0/spec/accessModes",
                json!(["ReadWriteMany"]),
                forbidden,
            ),
            ("/spec/podManagementPolicy", json!("Parallel"), forbidden),
        ],
    );
    let old = json!({"metadata": {"name": "x", "namespace": "d"}, "status": {"replicas": 2, "collisionCount": 2}});
    status_refused(
        "apps",
        "statefulsets",
        &old,
        &[
            ("/status/readyReplicas", json!(2), &[]),
            (
                "/status/availableReplicas",
                json!(1),
                &["status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas"],
            ),
            (
                "/status/updatedReplicas",
                json!(3),
                &["status.updatedReplicas: Invalid value: 3: cannot be greater than status.replicas"],
            ),
            (
                "/status/collisionCount",
                json!(1),
                &["status.collisionCount: Invalid value: 1: cannot be decremented"],
            ),
            (
                "/status/replicas",
                json!(-1),
                &[
                    "status.replicas: Invalid value: -1: must be greater than or equal to 0",
                    "status.readyReplicas: Invalid value: 0: cannot be greater than status.replicas",
                    "status.currentReplicas: Invalid value: 0: cannot be greater than status.replicas",
                    "status.updatedReplicas: Invalid value: 0: cannot be greater than status.replicas",
                    "status.availableReplicas: Invalid value: 0: cannot be greater than status.replicas",
                ],
            ),
        ],
    );
}

#[test]
fn daemon_sets_deployments_and_revisions() {
    refused(
        "apps",
        "daemonsets",
        &workload(),
        &[
            (
                "/spec/selector",
                json!({"matchLabels": {"a": "c"}}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}),
                &[
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
                ],
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": 0}}),
                &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
                &[
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                ],
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "X"}),
                &[
                    "spec.updateStrategy: Unsupported value: {\"type\":\"X\"}: supported values: \"OnDelete\", \"RollingUpdate\"",
                ],
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(1),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
                ],
            ),
            (
                "/spec/minReadySeconds",
                json!(-1),
                &["spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"],
            ),
        ],
    );
    let mut other = workload();
    other["spec"]["template"]["metadata"]["labels"] = json!({"a": "b", "c": "d"});
    update_refused(
        "apps",
        "daemonsets",
        &other,
        &[(
            "/spec/selector",
            json!({"matchLabels": {"c": "d"}}),
            &["spec.selector: Invalid value: {\"matchLabels\":{\"c\":\"d\"}}: field is immutable"],
        )],
    );
    refused(
        "apps",
        "deployments",
        &workload(),
        &[
            (
                "/spec/strategy",
                json!({"type": "Recreate", "rollingUpdate": {}}),
                &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
            ),
            (
                "/spec/strategy",
                json!({"rollingUpdate": {"maxUnavailable": "x"}}),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ],
            ),
            (
                "/spec/minReadySeconds",
                json!(600),
                &["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
            ),
        ],
    );
    let old = json!({"metadata": {"name": "x", "namespace": "d"}, "status": {"replicas": 1}});
    status_refused(
        "apps",
        "deployments",
        &old,
        &[
            (
                "/status/updatedReplicas",
                json!(2),
                &["status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas"],
            ),
            (
                "/status/availableReplicas",
                json!(1),
                &["status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas"],
            ),
        ],
    );
    let revision = json!({"metadata": {"name": "r", "namespace": "d"}, "revision": 1, "data": {"a": 1}});
    refused(
        "apps",
        "controllerrevisions",
        &revision,
        &[
            ("/data", Value::Null, &["data: Required value: data is mandatory"]),
            (
                "/revision",
                json!(-1),
                &["revision: Invalid value: -1: must be greater than or equal to 0"],
            ),
        ],
    );
    update_refused(
        "apps",
        "controllerrevisions",
        &revision,
        &[
            ("/revision", json!(2), &[]),
            (
                "/data",
                json!({"a": 2}),
                &["data: Invalid value: {\"a\":2}: field is immutable"],
            ),
        ],
    );
}
