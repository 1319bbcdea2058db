//! The rows of Nodes, Events, and the small kinds of core, coordination and RBAC.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, columns, or_none, since};
use crate::convert::events::EVENT;
use crate::meta::{self, at, int_at, list_at, str_at};

fn length(object: &Value, key: &str) -> usize {
    match object.get(key) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

/// Returns the columns and the row of Namespaces.
pub(crate) fn namespace() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Status|string|0|The status of the namespace
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        vec![
            meta::name(object).into(),
            str_at(object, &["status", "phase"]).into(),
            age(object, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of Secrets.
pub(crate) fn secret() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Type|string|0|What the secret is for.
Data|string|0|The number of its entries.
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        vec![
            meta::name(object).into(),
            str_at(object, &["type"]).into(),
            length(object, "data").into(),
            age(object, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of ConfigMaps.
pub(crate) fn config_map() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Data|string|0|The number of its entries.
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        let entries = length(object, "data") + length(object, "binaryData");
        vec![meta::name(object).into(), entries.into(), age(object, now)]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of ServiceAccounts.
pub(crate) fn service_account() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Secrets|string|0|The number of secrets that pods of this account may use.
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        vec![
            meta::name(object).into(),
            length(object, "secrets").into(),
            age(object, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of Leases.
pub(crate) fn lease() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Holder|string|0|Who holds the lease.
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        vec![
            meta::name(object).into(),
            str_at(object, &["spec", "holderIdentity"]).into(),
            age(object, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of RoleBindings and ClusterRoleBindings.
pub(crate) fn role_binding() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Role|string|0|The role that is granted.
Age|string|0|How long ago the object was created.
Users|string|1|Users in the roleBinding
Groups|string|1|Groups in the roleBinding
ServiceAccounts|string|1|ServiceAccounts in the roleBinding";
    (columns(text), Row::Builtin(role_binding_row))
}

fn role_binding_row(binding: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| {
        let name = |subject: &Value| match str_at(subject, &["namespace"]) {
            namespace if kind == "ServiceAccount" => format!("{namespace}/{}", str_at(subject, &["name"])),
            _ => str_at(subject, &["name"]).to_owned(),
        };
        let all = list_at(binding, &["subjects"])
            .iter()
            .filter(|subject| str_at(subject, &["kind"]) == kind);
        Value::from(all.map(name).collect::<Vec<_>>().join(", "))
    };
    let role = format!(
        "{}/{}",
        str_at(binding, &["roleRef", "kind"]),
        str_at(binding, &["roleRef", "name"])
    );
    vec![
        meta::name(binding).into(),
        role.into(),
        age(binding, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

/// Returns the columns and the row of Nodes.
pub(crate) fn node() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Status|string|0|The status of the node
Roles|string|0|The roles of the node
Age|string|0|How long ago the object was created.
Version|string|0|The version of the node's agent.
Internal-IP|string|1|The address inside the cluster.
External-IP|string|1|The address outside the cluster.
OS-Image|string|1|The operating system.
Kernel-Version|string|1|The kernel.
Container-Runtime|string|1|The container runtime and its version.";
    (columns(text), Row::Builtin(node_row))
}

fn node_row(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list_at(node, &["status", "conditions"])
        .iter()
        .find(|condition| str_at(condition, &["type"]) == "Ready");
    let mut status = match ready.map(|condition| str_at(condition, &["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if at(node, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let address = |ty: &str| {
        let found = list_at(node, &["status", "addresses"])
            .iter()
            .find(|address| str_at(address, &["type"]) == ty);
        or_none(found.map_or("", |address| str_at(address, &["address"])))
    };
    let info = |key: &str| match str_at(node, &["status", "nodeInfo", key]) {
        "" => Value::from("<unknown>"),
        text => text.into(),
    };
    vec![
        meta::name(node).into(),
        status.into(),
        or_none(&roles(node).join(",")),
        age(node, now),
        str_at(node, &["status", "nodeInfo", "kubeletVersion"]).into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn roles(node: &Value) -> Vec<&str> {
    let mut roles: Vec<&str> = meta::labels(node)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// Returns the columns and the row of Events.
pub(crate) fn event() -> (Vec<Column>, Row) {
    let text = "Last Seen|string|0|When it was seen last.
Type|string|0|Normal or Warning.
Reason|string|0|Why it happened, in one word.
Object|string|0|The object that it is about.
Subobject|string|1|The part of the object that it is about.
Source|string|1|Who reports it.
Message|string|0|What happened.
First Seen|string|1|When it was seen first.
Count|string|1|How often it was seen.
Name|string|1|Name must be unique within a namespace.";
    (columns(text), Row::Builtin(event_row))
}

/// Returns the columns and the row of Events of events.k8s.io: those of the core group.
pub(crate) fn event_of_events() -> (Vec<Column>, Row) {
    let row = |event: &Value, now| {
        let mut event = event.clone();
        (EVENT.to_stored)(&mut event);
        event_row(&event, now)
    };
    (event().0, Row::Builtin(row))
}

fn event_row(event: &Value, now: Timestamp) -> Vec<Value> {
    let time = |path: &[&str]| meta::parse_time(str_at(event, path));
    let first = time(&["firstTimestamp"]).or_else(|| time(&["eventTime"]));
    let last = time(&["series", "lastObservedTime"])
        .or_else(|| time(&["lastTimestamp"]))
        .or(first);
    let count = int_at(event, &["series", "count"])
        .or_else(|| int_at(event, &["count"]))
        .unwrap_or(0)
        .max(1);
    let kind = str_at(event, &["involvedObject", "kind"]).to_lowercase();
    let object = match str_at(event, &["involvedObject", "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let or_else = |first: &[&str], second: &[&str]| match str_at(event, first) {
        "" => str_at(event, second).to_owned(),
        text => text.to_owned(),
    };
    let mut source = or_else(&["source", "component"], &["reportingComponent"]);
    let host = or_else(&["source", "host"], &["reportingInstance"]);
    if !host.is_empty() {
        source = format!("{source}, {host}");
    }
    vec![
        since(last, now).into(),
        str_at(event, &["type"]).into(),
        str_at(event, &["reason"]).into(),
        object.into(),
        str_at(event, &["involvedObject", "fieldPath"]).into(),
        source.into(),
        str_at(event, &["message"]).trim().into(),
        since(first, now).into(),
        count.into(),
        meta::name(event).into(),
    ]
}
