//! `meta.k8s.io/v1 Table`: what `kubectl get` prints.
//!
//! The server makes the cells, kubectl only aligns them: columns of priority 0 are always shown, others with `-o wide`.

mod admission;
mod autoscaling;
mod batch;
mod certificates;
mod cluster;
mod duration;
pub mod jsonpath;
mod metrics;
mod network;
mod networking;
mod pod;
mod quota;
mod scheduling;
mod storage;
mod workload;

pub use duration::{age, human_duration, since};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{Resource, meta};
use jsonpath::JsonPath;

/// The definition of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading, as it is written before kubectl turns it to upper case.
    pub name: String,
    /// The type of the cells: string, integer, number, boolean, date.
    pub ty: String,
    /// `name` for the column that names the object; "" otherwise.
    pub format: String,
    /// What the column shows.
    pub description: String,
    /// 0 is always shown.
    pub priority: i64,
}

impl Column {
    fn new(name: &str, ty: &str, priority: i64, description: &str) -> Column {
        let format = if name == "Name" { "name" } else { "" };
        Column {
            name: name.into(),
            ty: ty.into(),
            format: format.into(),
            description: description.into(),
            priority,
        }
    }

    fn to_value(&self) -> Value {
        json!({
            "name": self.name, "type": self.ty, "format": self.format, "description": self.description, "priority": self.priority,
        })
    }
}

/// How the cells of a row are made.
#[derive(Clone, Debug)]
pub enum Row {
    /// By a function of the kind.
    Builtin(fn(&Value, Timestamp) -> Vec<Value>),
    /// The name, then one path for each further column.
    Paths(Vec<JsonPath>),
}

/// How much of the object accompanies its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as a PartialObjectMetadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Parses the query parameter `includeObject`; "" is the default.
    pub fn parse(text: &str) -> Option<IncludeObject> {
        match text {
            "" | "Metadata" => Some(IncludeObject::Metadata),
            "None" => Some(IncludeObject::None),
            "Object" => Some(IncludeObject::Object),
            _ => None,
        }
    }

    fn of(self, object: &Value) -> Value {
        match self {
            IncludeObject::None => Value::Null,
            IncludeObject::Metadata => partial(object),
            IncludeObject::Object => object.clone(),
        }
    }
}

/// Makes the table of some objects. `metadata` is the list's (resourceVersion, continue, …).
///
/// A watch leaves the columns out after its first event.
pub fn table<'a>(
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a Value>,
    metadata: Value,
    include: IncludeObject,
    columns: bool,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| row(resource, object, include, now))
        .collect();
    let columns = if columns {
        column_definitions(resource)
    } else {
        Value::Null
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows,
    })
}

/// Returns the `columnDefinitions` of a kind.
pub fn column_definitions(resource: &Resource) -> Value {
    resource.columns.iter().map(Column::to_value).collect()
}

/// Makes one row.
pub fn row(resource: &Resource, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let mut row = Map::new();
    row.insert("cells".into(), cells(resource, object, now).into());
    if let Some(conditions) = pod::row_conditions(resource, object) {
        row.insert("conditions".into(), conditions);
    }
    row.insert("object".into(), include.of(object));
    Value::Object(row)
}

/// Makes the table of an `autoscaling/v1 Scale`.
pub fn scale(scale: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let columns = columns(
        "Name|string|0|Name must be unique within a namespace.
Desired|integer|0|The number of pods that are wanted.
Available|integer|0|The number of pods that there are.
Age|string|0|How long ago the object was created.",
    );
    let number = |path| meta::int_at(scale, path).unwrap_or(0);
    let cells = json!([
        meta::name(scale),
        number(&["spec", "replicas"]),
        number(&["status", "replicas"]),
        age(scale, now),
    ]);
    let columns: Value = columns.iter().map(Column::to_value).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": meta::resource_version(scale)},
        "columnDefinitions": columns, "rows": [{"cells": cells, "object": include.of(scale)}],
    })
}

/// Turns a Table, a PartialObjectMetadata or a list of those into its form of another version of `meta.k8s.io`.
pub fn to_version(document: &mut Value, api_version: &str) {
    let set = |value: &mut Value| {
        if let Some(found) = value.get_mut("apiVersion") {
            *found = api_version.into();
        }
    };
    set(document);
    for row in document
        .get_mut("rows")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(object) = row.get_mut("object")
            && meta::kind(object) == "PartialObjectMetadata"
        {
            set(object);
        }
    }
    let items = document.get_mut("items").and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(set);
}

/// Returns an object's metadata as a `PartialObjectMetadata`.
pub fn partial(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    match &resource.row {
        Row::Builtin(make) => make(object, now),
        Row::Paths(paths) => {
            let mut cells = vec![Value::from(meta::name(object))];
            for (path, column) in paths.iter().zip(resource.columns.iter().skip(1)) {
                cells.push(
                    path.first(object)
                        .map_or(Value::Null, |value| custom_cell(&column.ty, &value, now)),
                );
            }
            cells
        }
    }
}

/// Turns what a column's path found into a cell of the column's type.
fn custom_cell(ty: &str, value: &Value, now: Timestamp) -> Value {
    match (ty, value) {
        ("string", Value::String(_)) => value.clone(),
        // What is no text is printed as JSON.
        ("string", Value::Null) => Value::Null,
        ("string", other) => other.to_string().into(),
        #[allow(clippy::cast_possible_truncation)]
        ("integer", Value::Number(number)) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|float| float as i64))
            .into(),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match meta::parse_time(text) {
            Some(time) => since(Some(time), now).into(),
            None if text.is_empty() => "<unknown>".into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

/// The columns and row of kinds that show no more than their name and when they were made.
pub(crate) fn created_at() -> (Vec<Column>, Row) {
    (
        columns(
            "Name|string|0|Name must be unique within a namespace.
Created At|date|0|When the object was created.",
        ),
        Row::Builtin(|object, _| {
            vec![
                meta::name(object).into(),
                meta::text(object, "creationTimestamp").into(),
            ]
        }),
    )
}

/// Parses column definitions, one a line: `name|type|priority|description`.
fn columns(text: &str) -> Vec<Column> {
    let column = |line: &str| {
        let mut parts = line.splitn(4, '|');
        let mut next = || parts.next().unwrap_or("");
        let (name, ty, priority, description) = (next(), next(), next(), next());
        Column::new(name, ty, i64::from(priority != "0"), description)
    };
    text.lines().map(column).collect()
}

pub(crate) use admission::{api_service, mutating_policy, policy_binding, validating_policy, webhooks};
pub(crate) use autoscaling::{horizontal_pod_autoscaler, horizontal_pod_autoscaler_v1};
pub(crate) use batch::{cron_job, job};
pub(crate) use certificates::{pod_request, signing_request, trust_bundle};
pub(crate) use cluster::{
    config_map, event, event_of_events, lease, namespace, node, role_binding, secret, service_account,
};
pub(crate) use metrics::{node_metrics, pod_metrics};
pub(crate) use network::{endpoint_slice, endpoints, service};
pub(crate) use networking::{ingress, ingress_class, ip_address, network_policy, service_range};
pub(crate) use pod::pod;
pub(crate) use quota::{component_status, pod_disruption_budget, pod_template, replication_controller, resource_quota};
pub(crate) use scheduling::{priority_class, runtime_class};
pub(crate) use storage::{
    csi_driver, csi_node, csi_storage_capacity, persistent_volume, persistent_volume_claim, storage_class,
    volume_attachment, volume_attributes_class,
};
pub(crate) use workload::{controller_revision, daemon_set, deployment, replica_set, stateful_set};

/// Returns a text, or `<none>`.
fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// Formats labels as `a=b,c=d`, or `<none>`.
fn format_labels(labels: Option<&Value>) -> Value {
    let Some(labels) = labels.and_then(Value::as_object) else {
        return "<none>".into();
    };
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    pairs.sort();
    or_none(&pairs.join(","))
}

#[cfg(test)]
mod tests;
