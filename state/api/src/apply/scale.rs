//! The owners of an object's number of replicas, as the object's Scale shows them, and back.
//!
//! A Scale is a view: who owns `spec.replicas` of it owns the field of the object that holds them, wherever that is.

use serde_json::Value;

use super::fields::Set;
use super::managed::{Entry, Managers};

const API_VERSION: &str = "autoscaling/v1";
const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// Returns the managedFields of an object's Scale: the entries that have the replicas, which are at `path` in the object.
pub fn owners_in_scale(object: &Value, path: &[String]) -> Value {
    let replicas = Set::of_path(path);
    let mut managers = Managers::decode(object).unwrap_or_default();
    managers.0.retain(|entry| !entry.set.intersection(&replicas).is_empty());
    for entry in &mut managers.0 {
        entry.set = Set::of_path(&REPLICAS);
        API_VERSION.clone_into(&mut entry.api_version);
    }
    managers.encode()
}

/// Returns the managedFields of an object after its Scale was written: who has the replicas there has them, and nobody else.
///
/// `object` is the object as it was, `api_version` the one that new entries are written in.
pub fn owners_in_object(object: &Value, scale: &Value, path: &[String], api_version: &str) -> Value {
    let replicas = Set::of_path(path);
    let shown = Set::of_path(&REPLICAS);
    let mut scalers = Managers::decode(scale).unwrap_or_default();
    scalers.0.retain(|entry| !entry.set.intersection(&shown).is_empty());
    let mut managers = Managers::decode(object).unwrap_or_default();
    for entry in &mut managers.0 {
        if entry.set.intersection(&replicas).is_empty() {
            continue;
        }
        let same = |other: &Entry| {
            (&other.manager, other.operation, &other.subresource)
                == (&entry.manager, entry.operation, &entry.subresource)
        };
        match scalers.0.iter().position(same) {
            Some(at) => entry.time = scalers.0.remove(at).time,
            None => entry.set = entry.set.difference(&replicas),
        }
    }
    managers.0.extend(scalers.0.into_iter().map(|entry| Entry {
        api_version: api_version.to_owned(),
        set: replicas.clone(),
        ..entry
    }));
    managers.encode()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, subresource: &str, fields: Value) -> Value {
        let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": "2024-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields});
        if !subresource.is_empty() {
            entry["subresource"] = subresource.into();
        }
        entry
    }

    #[test]
    fn whoever_scales_takes_the_replicas_from_whoever_had_them() {
        let path = ["spec".to_owned(), "replicas".to_owned()];
        let spec = json!({"f:spec": {"f:paused": {}, "f:replicas": {}}});
        let object = json!({"metadata": {"managedFields": [entry("a", "Apply", "", spec), entry("b", "Update", "", json!({"f:spec": {"f:paused": {}}}))]}});
        let shown = owners_in_scale(&object, &path);
        assert_eq!(shown.as_array().map(Vec::len), Some(1));
        assert_eq!(shown[0]["apiVersion"], API_VERSION);
        assert_eq!(shown[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
        let mut scaler = entry("hpa", "Update", "scale", json!({"f:spec": {"f:replicas": {}}}));
        scaler["apiVersion"] = API_VERSION.into();
        let scale = json!({"metadata": {"managedFields": [scaler]}});
        let after = owners_in_object(&object, &scale, &path, "apps/v1");
        assert_eq!(
            after,
            json!([
                entry("a", "Apply", "", json!({"f:spec": {"f:paused": {}}})),
                entry("b", "Update", "", json!({"f:spec": {"f:paused": {}}})),
                entry("hpa", "Update", "scale", json!({"f:spec": {"f:replicas": {}}})),
            ])
        );
        let untouched = json!({"metadata": {"managedFields": shown}});
        assert_eq!(
            owners_in_object(&object, &untouched, &path, "apps/v1"),
            object["metadata"]["managedFields"]
        );
    }
}
