//! What is stored comes back as it was, by whichever version it went.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::Scheme;
use crate::convert::autoscaling::keep_status;

fn seen_in(group: &str, version: &str, plural: &str, mut stored: Value) -> Value {
    let row = Scheme::builtin().get(group, version, plural).unwrap();
    row.from_stored(&mut stored);
    stored
}

fn stored_from(group: &str, version: &str, plural: &str, mut object: Value) -> Value {
    let row = Scheme::builtin().get(group, version, plural).unwrap();
    row.to_stored(&mut object);
    object
}

fn autoscaler() -> Value {
    json!({
        "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2",
        "metadata": {"name": "web", "namespace": "d", "annotations": {"mine": "stays"}},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 9,
            "metrics": [
                {"type": "Object", "object": {
                    "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"},
                    "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "2k"}}},
                {"type": "Pods", "pods": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "External", "external": {"metric": {"name": "sold"}, "target": {"type": "AverageValue", "averageValue": "3"}}},
                {"type": "ContainerResource", "containerResource": {
                    "name": "memory", "container": "app", "target": {"type": "Utilization", "averageUtilization": 70}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
            ],
            "behavior": {"scaleDown": {"selectPolicy": "Min", "tolerance": "100m",
                "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}]}},
        },
        "status": {
            "currentReplicas": 3, "desiredReplicas": 4, "lastScaleTime": "2024-01-01T00:00:00Z",
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 55, "averageValue": "110m"}}}],
            "conditions": [{"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale"}],
        },
    })
}

#[test]
fn an_autoscaler_reads_in_v1_as_kubernetes_writes_it() {
    let v1 = seen_in("autoscaling", "v1", "horizontalpodautoscalers", autoscaler());
    assert_eq!(v1["apiVersion"], "autoscaling/v1");
    assert_eq!(
        v1["spec"],
        json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2, "maxReplicas": 9, "targetCPUUtilizationPercentage": 60})
    );
    assert_eq!(
        v1["status"],
        json!({"currentReplicas": 3, "desiredReplicas": 4, "lastScaleTime": "2024-01-01T00:00:00Z", "currentCPUUtilizationPercentage": 55})
    );
    let annotation = |name: &str| -> Value {
        let key = format!("autoscaling.alpha.kubernetes.io/{name}");
        serde_json::from_str(v1["metadata"]["annotations"][&key].as_str().unwrap()).unwrap()
    };
    assert_eq!(
        annotation("metrics")[0],
        json!({"type": "Object", "object": {"target": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"},
            "metricName": "hits", "selector": {"matchLabels": {"a": "b"}}, "targetValue": "2k"}})
    );
    assert_eq!(
        annotation("metrics")[3],
        json!({"type": "ContainerResource", "containerResource": {"name": "memory", "container": "app", "targetAverageUtilization": 70}})
    );
    assert_eq!(
        annotation("behavior"),
        json!({"ScaleDown": {"SelectPolicy": "Min", "Tolerance": "100m", "Policies": [{"Type": "Percent", "Value": 10, "PeriodSeconds": 60}]}})
    );
    assert_eq!(
        annotation("current-metrics"),
        json!([{"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 55, "currentAverageValue": "110m"}}])
    );
    assert_eq!(annotation("conditions"), autoscaler()["status"]["conditions"]);
    assert_eq!(v1["metadata"]["annotations"]["mine"], "stays");
}

#[test]
fn an_autoscaler_comes_back_from_v1_as_it_was_stored() {
    let v1 = seen_in("autoscaling", "v1", "horizontalpodautoscalers", autoscaler());
    assert_eq!(
        stored_from("autoscaling", "v1", "horizontalpodautoscalers", v1),
        autoscaler()
    );
}

#[test]
fn a_v1_autoscaler_without_a_target_aims_at_eighty_percent() {
    let row = Scheme::builtin()
        .get("autoscaling", "v1", "horizontalpodautoscalers")
        .unwrap();
    let mut object = json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a", "apiVersion": "apps/v1"}}});
    row.default(&mut object);
    assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 80);
    assert_eq!(object["spec"]["minReplicas"], 1);
    assert_eq!(object["metadata"].get("annotations"), None);
    let again = object.clone();
    row.default(&mut object);
    assert_eq!(object, again);
    row.to_stored(&mut object);
    assert_eq!(
        object["spec"]["metrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
    );
}

#[test]
fn a_writer_of_v1_keeps_the_status_that_stands_in_annotations() {
    let old = seen_in("autoscaling", "v1", "horizontalpodautoscalers", autoscaler());
    let mut new = old.clone();
    new["metadata"]["annotations"] = json!({"mine": "changed"});
    keep_status(&mut new, &old);
    let stored = stored_from("autoscaling", "v1", "horizontalpodautoscalers", new);
    assert_eq!(stored["status"], autoscaler()["status"]);
    assert_eq!(stored["metadata"]["annotations"], json!({"mine": "changed"}));
}

#[test]
fn an_event_is_the_same_under_the_names_of_both_groups() {
    let core = json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "e", "namespace": "d"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "d"}, "reason": "Started", "message": "it runs", "type": "Normal",
        "reportingComponent": "agent", "reportingInstance": "one", "source": {"component": "agent"}, "count": 2,
        "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:00:01Z", "eventTime": null, "action": "Start"});
    let own = seen_in("events.k8s.io", "v1", "events", core.clone());
    assert_eq!(
        own,
        json!({"kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "e", "namespace": "d"},
            "regarding": {"kind": "Pod", "name": "p", "namespace": "d"}, "reason": "Started", "note": "it runs", "type": "Normal",
            "reportingController": "agent", "reportingInstance": "one", "deprecatedSource": {"component": "agent"}, "deprecatedCount": 2,
            "deprecatedFirstTimestamp": "2024-01-01T00:00:00Z", "deprecatedLastTimestamp": "2024-01-01T00:00:01Z", "eventTime": null, "action": "Start"})
    );
    assert_eq!(stored_from("events.k8s.io", "v1", "events", own), core);
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "spec",
        "status",
        "metadata",
        "annotations",
        "metrics",
        "behavior",
        "scaleUp",
        "type",
        "resource",
        "Resource",
        "name",
        "cpu",
        "target",
        "currentMetrics",
        "autoscaling.alpha.kubernetes.io/metrics",
        "autoscaling.alpha.kubernetes.io/behavior",
        "[]",
        "{",
        "involvedObject",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((words.clone(), inner), 0..5).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_is_too_strange_to_be_converted(object in any_json()) {
        for row in Scheme::builtin().resources() {
            if let Some(conversion) = &row.conversion {
                let mut object = object.clone();
                (conversion.to_stored)(&mut object);
                (conversion.from_stored)(&mut object);
                (conversion.to_stored)(&mut object);
            }
        }
    }
}
