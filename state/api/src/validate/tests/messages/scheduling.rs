//! Classes of priority and of runtimes.

use serde_json::json;

use super::{refused, update_refused};

#[test]
fn priority_and_runtime_classes() {
    let good = json!({"metadata": {"name": "high"}, "value": 1000});
    refused(
        "scheduling.k8s.io",
        "priorityclasses",
        &good,
        &[
            (
                "/value",
                json!(1_000_000_001),
                &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
            ),
            (
                "/metadata/name",
                json!("system-x"),
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
                ],
            ),
            (
                "/metadata/name",
                json!("system-node-critical"),
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000",
                ],
            ),
            (
                "/preemptionPolicy",
                json!("Always"),
                &[
                    "preemptionPolicy: Unsupported value: \"Always\": supported values: \"Never\", \"PreemptLowerPriority\"",
                ],
            ),
        ],
    );
    update_refused(
        "scheduling.k8s.io",
        "priorityclasses",
        &good,
        &[
            ("/globalDefault", json!(true), &[]),
            (
                "/value",
                json!(1),
                &["value: Forbidden: may not be changed in an update."],
            ),
            (
                "/preemptionPolicy",
                json!("Never"),
                &["preemptionPolicy: Invalid value: \"Never\": field is immutable"],
            ),
        ],
    );
    let runtime = json!({"metadata": {"name": "r"}, "handler": "runc", "overhead": {"podFixed": {"cpu": "10m"}}});
    refused(
        "node.k8s.io",
        "runtimeclasses",
        &runtime,
        &[
            (
                "/overhead/podFixed/cpu",
                json!("-1"),
                &["overhead.podFixed[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"],
            ),
            (
                "/scheduling/tolerations",
                json!([{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]),
                &["scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}"],
            ),
        ],
    );
    update_refused(
        "node.k8s.io",
        "runtimeclasses",
        &runtime,
        &[(
            "/handler",
            json!("kata"),
            &["handler: Invalid value: \"kata\": field is immutable"],
        )],
    );
}
