//! The rows of the kinds of apps/v1.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, columns, or_none};
use crate::LabelSelector;
use crate::meta::{self, at, int_at, list_at, str_at};

/// Returns the columns and the row of Deployments.
pub(crate) fn deployment() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Ready|string|0|Number of the pod with ready state
Up-to-date|string|0|The number of pods that have the newest template.
Available|string|0|The number of pods that have been ready for minReadySeconds.
Age|string|0|How long ago the object was created.
Containers|string|1|Names of each container in the template.
Images|string|1|Images referenced by each container in the template.
Selector|string|1|Which pods belong to it.";
    (columns(text), Row::Builtin(deployment_row))
}

/// Returns the columns and the row of ReplicaSets.
pub(crate) fn replica_set() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Desired|integer|0|The number of pods that are wanted.
Current|integer|0|The number of pods that there are.
Ready|integer|0|The number of pods that are ready.
Age|string|0|How long ago the object was created.
Containers|string|1|Names of each container in the template.
Images|string|1|Images referenced by each container in the template.
Selector|string|1|Which pods belong to it.";
    (columns(text), Row::Builtin(replica_set_row))
}

/// Returns the columns and the row of StatefulSets.
pub(crate) fn stateful_set() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Ready|string|0|Number of the pod with ready state
Age|string|0|How long ago the object was created.
Containers|string|1|Names of each container in the template.
Images|string|1|Images referenced by each container in the template.";
    let row = |object: &Value, now| {
        let ready = number(object, &["status", "readyReplicas"]);
        vec![
            meta::name(object).into(),
            format!("{ready}/{}", number(object, &["spec", "replicas"])).into(),
            age(object, now),
            joined(object, "name"),
            joined(object, "image"),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of DaemonSets.
pub(crate) fn daemon_set() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Desired|integer|0|The number of nodes that should run a pod of it.
Current|integer|0|The number of those that run one.
Ready|integer|0|The number of those whose pod is ready.
Up-to-date|integer|0|The number of those whose pod has the newest template.
Available|integer|0|The number of those whose pod has been ready for minReadySeconds.
Node Selector|string|0|Which nodes should run a pod of it.
Age|string|0|How long ago the object was created.
Containers|string|1|Names of each container in the template.
Images|string|1|Images referenced by each container in the template.
Selector|string|1|Which pods belong to it.";
    (columns(text), Row::Builtin(daemon_set_row))
}

/// Returns the columns and the row of ControllerRevisions.
pub(crate) fn controller_revision() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Controller|string|0|Controller of the object
Revision|string|0|The revision of the state that it holds.
Age|string|0|How long ago the object was created.";
    (columns(text), Row::Builtin(controller_revision_row))
}

fn daemon_set_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = |key: &str| Value::from(number(object, &["status", key]));
    vec![
        meta::name(object).into(),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        super::format_labels(at(object, &["spec", "template", "spec", "nodeSelector"])),
        age(object, now),
        joined(object, "name"),
        joined(object, "image"),
        or_none(&selector(object)),
    ]
}

fn controller_revision_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let controller = meta::controller_of(object).map(|owner| {
        let (group, _) = meta::group_version(str_at(owner, &["apiVersion"]));
        let kind = crate::status::qualified(&str_at(owner, &["kind"]).to_lowercase(), group);
        format!("{kind}/{}", str_at(owner, &["name"]))
    });
    vec![
        meta::name(object).into(),
        or_none(&controller.unwrap_or_default()),
        number(object, &["revision"]).into(),
        age(object, now),
    ]
}

fn number(object: &Value, path: &[&str]) -> i64 {
    int_at(object, path).unwrap_or(0)
}

fn joined(object: &Value, key: &str) -> Value {
    joined_of(list_at(object, &["spec", "template", "spec", "containers"]), key)
}

/// Joins a field of containers.
pub(super) fn joined_of(containers: &[Value], key: &str) -> Value {
    containers
        .iter()
        .map(|container| str_at(container, &[key]))
        .collect::<Vec<_>>()
        .join(",")
        .into()
}

/// Formats the selector of a workload.
pub(super) fn selector(object: &Value) -> String {
    let selector = at(object, &["spec", "selector"]).unwrap_or(&Value::Null);
    LabelSelector::from_value(selector).map_or_else(|_| "<invalid>".to_owned(), |selector| selector.to_string())
}

fn deployment_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = number(object, &["status", "readyReplicas"]);
    vec![
        meta::name(object).into(),
        format!("{ready}/{}", number(object, &["spec", "replicas"])).into(),
        number(object, &["status", "updatedReplicas"]).into(),
        number(object, &["status", "availableReplicas"]).into(),
        age(object, now),
        joined(object, "name"),
        joined(object, "image"),
        selector(object).into(),
    ]
}

fn replica_set_row(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        number(object, &["spec", "replicas"]).into(),
        number(object, &["status", "replicas"]).into(),
        number(object, &["status", "readyReplicas"]).into(),
        age(object, now),
        joined(object, "name"),
        joined(object, "image"),
        or_none(&selector(object)),
    ]
}
