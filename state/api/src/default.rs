//! What Kubernetes fills in where a client left something out.
//!
//! Every function is idempotent: a defaulted object is its own default. A field that is null counts as left out.

pub mod admission;
pub mod autoscaling;
pub mod batch;
pub mod config;
pub mod network;
pub mod networking;
pub mod pod;
pub mod quota;
pub mod rbac;
pub mod replication;
pub mod scheduling;
pub mod storage;
pub mod workload;

use serde_json::{Map, Value};

use crate::meta;

/// Sets a field that is absent or null.
pub(crate) fn fill(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    match map.get_mut(key) {
        Some(found) if !found.is_null() => {}
        _ => {
            map.insert(key.to_owned(), value.into());
        }
    }
}

/// Sets a text that is absent, null or empty.
pub(crate) fn fill_text(map: &mut Map<String, Value>, key: &str, value: &str) {
    if map.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
        map.insert(key.to_owned(), value.into());
    }
}

/// Sets a number that is absent, null or 0.
pub(crate) fn fill_number(map: &mut Map<String, Value>, key: &str, value: i64) {
    if map.get(key).and_then(Value::as_i64).is_none_or(|number| number == 0) {
        map.insert(key.to_owned(), value.into());
    }
}

/// Visits the maps in a list.
pub(crate) fn each(map: &mut Map<String, Value>, key: &str, mut visit: impl FnMut(&mut Map<String, Value>)) {
    if let Some(Value::Array(list)) = map.get_mut(key) {
        for item in list {
            if let Value::Object(item) = item {
                visit(item);
            }
        }
    }
}

/// Visits the map under a key, if there is one.
pub(crate) fn inside(map: &mut Map<String, Value>, key: &str, visit: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(Value::Object(inner)) = map.get_mut(key) {
        visit(inner);
    }
}

/// Returns the spec for writing, making it if there is none.
fn spec(object: &mut Value) -> &mut Map<String, Value> {
    meta::map_mut(meta::map_of(object), "spec")
}

#[cfg(test)]
mod tests;
