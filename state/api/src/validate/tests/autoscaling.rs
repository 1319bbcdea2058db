use super::*;

fn autoscaler() -> Value {
    json!({"metadata": {"name": "a", "namespace": "d"}, "spec": {"maxReplicas": 3, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        "behavior": {"scaleUp": {}}, "scaleTargetRef": {"kind": "Deployment", "name": "a", "apiVersion": "apps/v1"}}})
}

fn errors_in(version: &str, mut object: Value) -> Vec<String> {
    let row = Scheme::builtin()
        .get("autoscaling", version, "horizontalpodautoscalers")
        .unwrap();
    row.default(&mut object);
    row.validate_create(&object).iter().map(ToString::to_string).collect()
}

#[test]
fn an_autoscaler_is_checked_in_kubernetes_words() {
    let none: &[&str] = &[];
    let metric = "/spec/metrics/0";
    for (pointer, value, expected) in [
        ("/metadata/labels", json!({"a": "b"}), none),
        (
            "/spec/maxReplicas",
            json!(0),
            &[
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            "/spec/minReplicas",
            json!(0),
            &[
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            "/spec/scaleTargetRef/name",
            json!(""),
            &["spec.scaleTargetRef.name: Required value"],
        ),
        (
            "/spec/scaleTargetRef/kind",
            json!("a/b"),
            &["spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'"],
        ),
        (
            "/spec/scaleTargetRef/apiVersion",
            json!("v1"),
            &["spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group"],
        ),
        (
            metric,
            json!({"type": "Pods"}),
            &["spec.metrics[0].pods: Required value: must populate information for the given metric source"],
        ),
        (
            metric,
            json!({"type": "Nothing"}),
            &[
                "spec.metrics[0].type: Unsupported value: \"Nothing\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ],
        ),
        (
            metric,
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Much"}}}),
            &[
                "spec.metrics[0].resource.target.type: Invalid value: \"Much\": must be either Utilization, Value, or AverageValue",
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            ],
        ),
        (
            metric,
            json!({"type": "Pods", "pods": {"metric": {"name": ""}, "target": {"type": "AverageValue", "averageValue": "0"}}}),
            &[
                "spec.metrics[0].pods.metric.name: Required value: must specify a metric name",
                "spec.metrics[0].pods.target.averageValue: Invalid value: \"0\": must be positive",
            ],
        ),
        (
            "/spec/behavior/scaleDown",
            json!({"stabilizationWindowSeconds": 3601, "selectPolicy": "Most", "policies": []}),
            &[
                "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                "spec.behavior.scaleDown.selectPolicy: Unsupported value: \"Most\": supported values: \"Disabled\", \"Max\", \"Min\"",
                "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy",
            ],
        ),
        (
            "/spec/behavior/scaleUp/policies",
            json!([{"type": "Few", "value": 0, "periodSeconds": 1801}]),
            &[
                "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Few\": supported values: \"Percent\", \"Pods\"",
                "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ],
        ),
    ] {
        let mut object = autoscaler();
        put(&mut object, pointer, value.clone());
        assert_eq!(errors_in("v2", object), expected, "{pointer} = {value}");
    }
}

#[test]
fn a_v1_autoscaler_is_checked_as_the_v2_one_that_it_is() {
    let object = json!({"metadata": {"name": "a", "namespace": "d"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 0,
        "scaleTargetRef": {"kind": "Deployment", "name": "a", "apiVersion": "apps/v1"}}});
    assert_eq!(
        errors_in("v1", object),
        ["spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"]
    );
}
