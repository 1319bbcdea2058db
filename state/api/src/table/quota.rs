//! The rows of ResourceQuotas, PodDisruptionBudgets, ReplicationControllers, PodTemplates and ComponentStatuses.

use jiff::Timestamp;
use serde_json::Value;

use super::workload::joined_of;
use super::{Column, Row, age, columns, format_labels};
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::quantity::canonicalize;

/// Returns the columns and the row of ResourceQuotas.
pub(crate) fn resource_quota() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Request|string|0|Request represents a minimum amount of cpu/memory that a container may consume.
Limit|string|0|Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.
Age|string|0|How long ago the object was created.";
    (columns(text), Row::Builtin(quota_row))
}

fn quota_row(quota: &Value, now: Timestamp) -> Vec<Value> {
    let amount = |key: &str, name: &str| {
        let mut value = at(quota, &["status", key, name]).cloned().unwrap_or_else(|| "0".into());
        canonicalize(&mut value);
        value.as_str().unwrap_or("0").to_owned()
    };
    let mut names: Vec<&String> = at(quota, &["status", "hard"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    names.sort();
    let listed = |limits: bool| {
        let shown = names.iter().filter(|name| name.starts_with("limits.") == limits);
        let shown = shown.map(|name| format!("{name}: {}/{}", amount("used", name), amount("hard", name)));
        shown.collect::<Vec<_>>().join(", ")
    };
    vec![
        meta::name(quota).into(),
        listed(false).into(),
        listed(true).into(),
        age(quota, now),
    ]
}

/// Returns the columns and the row of PodDisruptionBudgets.
pub(crate) fn pod_disruption_budget() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Min Available|string|0|The minimum number of pods that must be available.
Max Unavailable|string|0|The maximum number of pods that may be unavailable.
Allowed Disruptions|integer|0|Calculated number of pods that may be disrupted at this time.
Age|string|0|How long ago the object was created.";
    let row = |budget: &Value, now| {
        let bound = |key: &str| match at(budget, &["spec", key]) {
            Some(Value::String(text)) => text.as_str().into(),
            Some(Value::Number(number)) => number.to_string().into(),
            _ => Value::from("N/A"),
        };
        vec![
            meta::name(budget).into(),
            bound("minAvailable"),
            bound("maxUnavailable"),
            int_at(budget, &["status", "disruptionsAllowed"]).unwrap_or(0).into(),
            age(budget, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

fn containers(template: &Value, key: &str) -> Value {
    joined_of(list_at(template, &["spec", "containers"]), key)
}

/// Returns the columns and the row of ReplicationControllers.
pub(crate) fn replication_controller() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Desired|integer|0|The number of pods that are wanted.
Current|integer|0|The number of pods that there are.
Ready|integer|0|The number of pods that are ready.
Age|string|0|How long ago the object was created.
Containers|string|1|Names of each container in the template.
Images|string|1|Images referenced by each container in the template.
Selector|string|1|Which pods belong to it.";
    let row = |object: &Value, now| {
        let number = |path: &[&str]| Value::from(int_at(object, path).unwrap_or(0));
        let template = at(object, &["spec", "template"]).unwrap_or(&Value::Null);
        vec![
            meta::name(object).into(),
            number(&["spec", "replicas"]),
            number(&["status", "replicas"]),
            number(&["status", "readyReplicas"]),
            age(object, now),
            containers(template, "name"),
            containers(template, "image"),
            format_labels(at(object, &["spec", "selector"])),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of PodTemplates.
pub(crate) fn pod_template() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Containers|string|0|Names of each container in the template.
Images|string|0|Images referenced by each container in the template.
Pod Labels|string|0|The labels for the pod template.";
    let row = |object: &Value, _| {
        let template = at(object, &["template"]).unwrap_or(&Value::Null);
        vec![
            meta::name(object).into(),
            containers(template, "name"),
            containers(template, "image"),
            format_labels(at(template, &["metadata", "labels"])),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of ComponentStatuses.
pub(crate) fn component_status() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Status|string|0|Status of the component conditions
Message|string|0|Message of the component conditions
Error|string|0|Error of the component conditions";
    let row = |object: &Value, _| {
        let healthy = list_at(object, &["conditions"])
            .iter()
            .find(|condition| str_at(condition, &["type"]) == "Healthy")
            .unwrap_or(&Value::Null);
        let status = match str_at(healthy, &["status"]) {
            "True" => "Healthy",
            "False" => "Unhealthy",
            _ => "Unknown",
        };
        vec![
            meta::name(object).into(),
            status.into(),
            str_at(healthy, &["message"]).into(),
            str_at(healthy, &["error"]).into(),
        ]
    };
    (columns(text), Row::Builtin(row))
}
