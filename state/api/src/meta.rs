//! Reading and writing the metadata of an object held as JSON.
//!
//! The readers never fail: what is absent or of the wrong type reads as empty, since the type check of the schema has
//! refused wrong types before anything else looks at an object.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Returns the object's `metadata`, if it is a map.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// Returns the object's `metadata` for writing; makes it (and the object) a map if it is none.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    map_mut(map_of(object), "metadata")
}

/// Returns `value` as a map, replacing anything else by an empty one.
pub fn map_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // The line above made it a map.
        _ => unreachable!("a value that was just made a map"),
    }
}

/// Returns the map under `key`, making it if there is none.
pub fn map_mut<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    map_of(map.entry(key).or_insert_with(|| Value::Object(Map::new())))
}

/// Returns the string under `metadata.key`, or "".
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    metadata(object)
        .and_then(|m| m.get(key))
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// Returns the string at a path of map keys, or "".
pub fn str_at<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or("")
}

/// Returns the integer at a path of map keys.
pub fn int_at(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// Returns the list at a path of map keys, or an empty one.
pub fn list_at<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns whether maps and lists nest deeper than `levels`; a map or list of scalars is one level.
///
/// JSON that nests deeper than 127 levels cannot be read again.
pub fn nests_deeper(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(items), Some(left)) => items.iter().any(|inner| nests_deeper(inner, left)),
        (Value::Object(map), Some(left)) => map.values().any(|inner| nests_deeper(inner, left)),
        (inner, left) => left.is_none() && (inner.is_array() || inner.is_object()),
    }
}

/// Returns the value at a path of map keys.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Returns the object's kind, or "".
pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or("")
}

/// Returns the object's apiVersion, or "".
pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or("")
}

/// Splits an apiVersion into group ("" for core) and version.
pub fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Returns `metadata.name`, or "".
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// Returns `metadata.generateName`, or "".
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// Returns `metadata.namespace`, or "".
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// Returns `metadata.uid`, or "".
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// Returns `metadata.resourceVersion`, or "".
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// Returns `metadata.generation`, or 0.
pub fn generation(object: &Value) -> i64 {
    int_at(object, &["metadata", "generation"]).unwrap_or(0)
}

/// Returns `metadata.labels`, if there are any.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("labels")?.as_object()
}

/// Returns the value of a label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// Returns `metadata.annotations`, if there are any.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("annotations")?.as_object()
}

/// Returns the value of an annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// Sets a label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    map_mut(metadata_mut(object), "labels").insert(key.to_owned(), value.into());
}

/// Sets an annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    map_mut(metadata_mut(object), "annotations").insert(key.to_owned(), value.into());
}

/// Sets a field of `metadata`; a null value removes it.
pub fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    match value.into() {
        Value::Null => {
            metadata_mut(object).remove(key);
        }
        value => {
            metadata_mut(object).insert(key.to_owned(), value);
        }
    }
}

/// Returns when the object was created.
pub fn creation_timestamp(object: &Value) -> Option<Timestamp> {
    parse_time(text(object, "creationTimestamp"))
}

/// Returns when the object was asked to go (with its grace period added), if it was.
pub fn deletion_timestamp(object: &Value) -> Option<Timestamp> {
    parse_time(text(object, "deletionTimestamp"))
}

/// Returns whether the object was asked to go.
pub fn is_being_deleted(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Returns `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period(object: &Value) -> Option<i64> {
    int_at(object, &["metadata", "deletionGracePeriodSeconds"])
}

/// Returns the finalizers that still hold the object.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list_at(object, &["metadata", "finalizers"])
        .iter()
        .filter_map(Value::as_str)
}

/// Returns `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    list_at(object, &["metadata", "ownerReferences"])
}

/// Returns the owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Parses an RFC 3339 time; "" and anything else gives `None`.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    if text.is_empty() { None } else { text.parse().ok() }
}

/// Formats a time as `metav1.Time` does: whole seconds, UTC.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats a time as `metav1.MicroTime` does: six digits of fraction, UTC.
pub fn format_micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_metadata_reads_as_empty_and_can_be_written() {
        let mut object = json!({});
        assert_eq!(name(&object), "");
        assert_eq!(finalizers(&object).count(), 0);
        set_label(&mut object, "app", "web");
        set(&mut object, "name", "web");
        assert_eq!(label(&object, "app"), Some("web"));
        set(&mut object, "name", Value::Null);
        assert_eq!(object, json!({"metadata": {"labels": {"app": "web"}}}));
    }

    #[test]
    fn times_are_written_as_kubernetes_writes_them() {
        let time: Timestamp = "2024-02-29T01:02:03.004005006Z".parse().unwrap();
        assert_eq!(format_time(time), "2024-02-29T01:02:03Z");
        assert_eq!(format_micro_time(time), "2024-02-29T01:02:03.004005Z");
    }
}
