//! What a client may not choose: the general part of every create and update.
//!
//! Kubernetes calls these strategies. All functions are pure: uid, name and time of a new object are set by the
//! caller before or after.

pub mod daemon_set;
pub mod job;
pub mod kinds;
pub mod pod;

use serde_json::Value;

use crate::apply::Scope;
use crate::{Resource, meta};

/// Makes ready for storage what a client sent as a new object.
///
/// The status is reset, the generation starts, and fields of metadata that only the server writes are dropped (the
/// caller sets uid and creationTimestamp afterwards).
pub fn prepare_for_create(resource: &Resource, new: &mut Value) {
    normalize(resource, new);
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "selfLink",
        "generation",
    ] {
        meta::set(new, key, Value::Null);
    }
    if resource.has_generation {
        meta::set(new, "generation", 1);
    }
    if resource.has_status && !resource.status_on_create {
        meta::map_of(new).remove("status");
    }
    (resource.rules.prepare_create)(new);
}

/// Makes ready for storage what a client wants an object to become.
///
/// The status and the server's metadata stay as they are; the generation grows when anything but metadata and status
/// changes. Call it after defaulting, so that a default filled in again is no change.
pub fn prepare_for_update(resource: &Resource, new: &mut Value, old: &Value) {
    normalize(resource, new);
    keep_metadata(new, old);
    if resource.has_status {
        keep(new, old, "status");
    }
    (resource.rules.prepare_update)(new, old);
    let generation = meta::metadata(old)
        .and_then(|metadata| metadata.get("generation"))
        .cloned();
    let generation = match generation {
        _ if resource.has_generation && differs(resource, new, old) => Value::from(meta::generation(old) + 1),
        Some(generation) => generation,
        None => Value::Null,
    };
    meta::set(new, "generation", generation);
}

/// Which part of an object is written through a subresource, "" for the object itself.
pub fn scope(resource: &Resource, subresource: &str) -> Scope<'static> {
    match subresource {
        "status" if resource.custom => Scope::StatusOnly,
        "status" => Scope::Without(resource.status_resets),
        _ if resource.has_status => Scope::Without(&[&["status"]]),
        _ => Scope::Without(&[]),
    }
}

/// Makes ready for storage what a client sent to an object's status: what this path may not change stays as it is.
///
/// That is everything but the status of a custom resource, and of a built-in kind what its row says (the spec, as a rule):
/// labels, annotations and finalizers are written through the status too. managedFields are the caller's.
pub fn prepare_for_status(resource: &Resource, new: &mut Value, old: &Value) {
    normalize(resource, new);
    let metadata = |object: &Value, key: &str| meta::metadata(object).and_then(|metadata| metadata.get(key)).cloned();
    let whole_metadata = match scope(resource, "status") {
        Scope::StatusOnly => {
            let keys: Vec<String> = [&*new, old]
                .into_iter()
                .filter_map(Value::as_object)
                .flat_map(|map| map.keys().cloned())
                .collect();
            for key in keys
                .iter()
                .filter(|key| !matches!(key.as_str(), "kind" | "apiVersion" | "metadata" | "status"))
            {
                keep(new, old, key);
            }
            true
        }
        Scope::Without(paths) => {
            for path in paths {
                match path {
                    ["metadata"] => {}
                    [top] => keep(new, old, top),
                    ["metadata", key] => meta::set(new, key, metadata(old, key).unwrap_or_default()),
                    _ => {}
                }
            }
            paths.iter().any(|path| *path == ["metadata"])
        }
    };
    if whole_metadata {
        let said = ["managedFields", "resourceVersion"].map(|key| (key, metadata(new, key)));
        keep(new, old, "metadata");
        for (key, value) in said {
            meta::set(new, key, value.unwrap_or_default());
        }
    } else {
        keep_metadata(new, old);
    }
    meta::set(new, "generation", metadata(old, "generation").unwrap_or_default());
}

/// Returns the `autoscaling/v1 Scale` of an object, or `None` if the kind has no replicas.
pub fn scale_of(resource: &Resource, object: &Value) -> Option<Value> {
    let paths = resource.scale()?;
    let number = |path: &[String]| find(object, path).and_then(Value::as_i64).unwrap_or(0);
    let selector = match paths.selector.as_deref().and_then(|path| find(object, path)) {
        Some(Value::String(text)) => text.clone(),
        // The labels themselves, as ReplicationControllers have it; a LabelSelector has no texts.
        Some(Value::Object(labels)) if labels.values().all(Value::is_string) => {
            let labels = serde_json::json!({"matchLabels": labels});
            crate::LabelSelector::from_value(&labels)
                .map(|s| s.to_string())
                .unwrap_or_default()
        }
        Some(selector) => crate::LabelSelector::from_value(selector)
            .map(|s| s.to_string())
            .unwrap_or_default(),
        None => String::new(),
    };
    let mut metadata = serde_json::Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta::metadata(object).and_then(|metadata| metadata.get(key)) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let mut status = serde_json::json!({"replicas": number(&paths.status_replicas)});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    Some(serde_json::json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": number(&paths.spec_replicas)}, "status": status,
    }))
}

/// Sets the wanted number of replicas of an object.
pub fn set_replicas(resource: &Resource, object: &mut Value, replicas: i64) {
    let Some(paths) = resource.scale() else { return };
    if let Some((last, parents)) = paths.spec_replicas.split_last() {
        let mut map = meta::map_of(object);
        for key in parents {
            map = meta::map_mut(map, key);
        }
        map.insert(last.clone(), replicas.into());
    }
}

fn find<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Sets kind and apiVersion as the row has them, and the namespace of a cluster-scoped object to none.
fn normalize(resource: &Resource, new: &mut Value) {
    let map = meta::map_of(new);
    map.insert("kind".into(), resource.kind.clone().into());
    map.insert("apiVersion".into(), resource.api_version().into());
    if !resource.namespaced {
        meta::set(new, "namespace", Value::Null);
    }
}

/// Takes the fields of metadata that only the server writes from the stored object.
///
/// A client that sends another uid means another object: that is for the caller to refuse before.
fn keep_metadata(new: &mut Value, old: &Value) {
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        let value = meta::metadata(old)
            .and_then(|metadata| metadata.get(key))
            .cloned()
            .unwrap_or(Value::Null);
        meta::set(new, key, value);
    }
    meta::set(new, "selfLink", Value::Null);
}

/// Takes a top-level field from the stored object.
fn keep(new: &mut Value, old: &Value, key: &str) {
    let map = meta::map_of(new);
    match old.get(key) {
        Some(value) => map.insert(key.to_owned(), value.clone()),
        None => map.remove(key),
    };
}

/// Whether anything but kind, apiVersion, metadata and a status with a subresource of its own differs.
fn differs(resource: &Resource, new: &Value, old: &Value) -> bool {
    let counted = |value: &Value, key: &str| value.get(key).filter(|value| !value.is_null()).cloned();
    let keys = |value: &Value| {
        let keys = value
            .as_object()
            .map(|map| map.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default();
        keys.into_iter().filter(|key| match key.as_str() {
            "kind" | "apiVersion" | "metadata" => false,
            "status" => !resource.has_status,
            _ => true,
        })
    };
    keys(new)
        .chain(keys(old))
        .any(|key| counted(new, &key) != counted(old, &key))
}

#[cfg(test)]
mod tests;
