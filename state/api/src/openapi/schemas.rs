//! The schemas in the documents: the generated ones as Kubernetes publishes them, and those of custom kinds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::CustomSchemas;
use crate::Resource;
use crate::schema::extensions::{Facts, Table};
use crate::schema::{generate, kinds};

const PREFIX: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Returns the schemas of some rows and of all that they refer to, by name.
pub(super) fn of_rows(rows: &[&Resource], custom: &CustomSchemas<'_>) -> Map<String, Value> {
    // What is referred to beside the rows' own kinds: subresources' kinds, and those of every API.
    let mut wanted: BTreeSet<(&str, &str, &str)> = BTreeSet::from([("", "v1", "DeleteOptions"), ("", "v1", "Status")]);
    for row in rows {
        if !row.custom {
            wanted.insert((&row.group, &row.version, &row.kind));
        }
        wanted.extend(
            row.subresources
                .iter()
                .map(|sub| (sub.group.as_str(), sub.version.as_str(), sub.kind.as_str())),
        );
    }
    if rows.iter().any(|row| row.custom) {
        // A small kind that brings ObjectMeta along.
        wanted.insert(("", "v1", "ConfigMap"));
    }
    let found: Vec<_> = kinds()
        .iter()
        .filter(|kind| wanted.contains(&(kind.group, kind.version, kind.kind)))
        .collect();
    let generated = generate(found.iter().copied());
    let table = Table::read();
    let mut out = Map::new();
    for (name, schema) in generated {
        let schema = published(&name, schema, &table);
        out.insert(name, schema);
    }
    let mut versions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for kind in &found {
        let gvk = json!({"group": kind.group, "kind": kind.kind, "version": kind.version});
        versions.entry((kind.definition)()).or_default().push(gvk);
    }
    for (name, list) in versions {
        if let Some(Value::Object(schema)) = out.get_mut(&name) {
            schema.insert("x-kubernetes-group-version-kind".into(), Value::Array(list));
            let required = schema.get_mut("required").and_then(Value::as_array_mut);
            if let Some(required) = required {
                // The generated types hold metadata by value; the API does not ask for it.
                required.retain(|name| name != "metadata");
                if required.is_empty() {
                    schema.remove("required");
                }
            }
        }
    }
    if rows.iter().any(|row| row.custom) && !rows.iter().any(|row| row.group.is_empty() && row.kind == "ConfigMap") {
        out.remove("io.k8s.api.core.v1.ConfigMap");
    }
    for row in rows {
        let name = definition_name(row);
        if row.custom {
            out.insert(name.clone(), custom_kind(row, custom(row)));
        }
        if row.allows("list") && out.contains_key(&name) {
            out.insert(format!("{name}List"), list_of(row, &name));
        }
    }
    if out.keys().any(|name| name.ends_with("List")) {
        out.entry(format!("{META}.ListMeta")).or_insert_with(list_meta);
    }
    out.insert(
        format!("{META}.Patch"),
        json!({"description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.", "type": "object"}),
    );
    out
}

/// Returns the name of a row's schema: `io.k8s.api.apps.v1.Deployment`, `com.example.v1.Widget`.
pub(super) fn definition_name(row: &Resource) -> String {
    named(&row.group, &row.version, &row.kind)
}

/// Returns whether a kind has a schema in the documents.
pub(super) fn is_described(group: &str, version: &str, kind: &str) -> bool {
    kinds()
        .iter()
        .any(|row| row.group == group && row.version == version && row.kind == kind)
}

/// Returns the name of a kind's schema.
pub(super) fn named(group: &str, version: &str, kind: &str) -> String {
    let known = kinds()
        .iter()
        .find(|row| row.group == group && row.version == version && row.kind == kind);
    match known {
        Some(row) => (row.definition)(),
        None => {
            let mut labels: Vec<&str> = group.split('.').collect();
            labels.reverse();
            format!("{}.{version}.{kind}", labels.join("."))
        }
    }
}

/// A generated schema as Kubernetes publishes it.
fn published(name: &str, mut schema: Value, table: &Table) -> Value {
    match name {
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
            return with_description(
                &schema,
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            );
        }
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
            return with_description(&schema, json!({"oneOf": [{"type": "string"}, {"type": "number"}]}));
        }
        _ => {}
    }
    if name.ends_with(".JSON") || name.contains(".JSONSchemaPropsOr") {
        return with_description(&schema, json!({}));
    }
    insert_facts(&mut schema, table.facts(name, "-"));
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, schema) in properties {
            insert_facts(schema, table.facts(name, field));
        }
    }
    normalize(&mut schema);
    schema
}

fn with_description(from: &Value, mut schema: Value) -> Value {
    if let (Some(description), Some(map)) = (from.get("description"), schema.as_object_mut()) {
        map.insert("description".into(), description.clone());
    }
    schema
}

fn insert_facts(schema: &mut Value, facts: Facts) {
    let Some(map) = schema.as_object_mut() else { return };
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            map.insert(key.to_owned(), value.into());
        }
    };
    put("x-kubernetes-list-type", facts.list_type);
    put("x-kubernetes-map-type", facts.map_type);
    put("x-kubernetes-patch-strategy", facts.patch_strategy);
    put("x-kubernetes-patch-merge-key", facts.patch_key);
    if !facts.list_keys.is_empty() {
        map.insert(
            "x-kubernetes-list-map-keys".into(),
            facts.list_keys.split(',').map(Value::from).collect(),
        );
    }
}

/// Makes every `type` one string, as clients want it, and drops what OpenAPI 3.0 does not know.
fn normalize(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get("type") {
                let only = types.iter().find(|kind| **kind != "null").cloned();
                map.insert("type".into(), only.unwrap_or_else(|| "object".into()));
            }
            // A reference with a description beside it goes into an allOf.
            if map.len() > 1
                && map.get("$ref").is_some_and(Value::is_string)
                && let Some(reference) = map.remove("$ref")
            {
                map.insert("allOf".into(), json!([{"$ref": reference}]));
            }
            each_below(map, normalize);
        }
        Value::Array(items) => items.iter_mut().for_each(normalize),
        _ => {}
    }
}

/// Visits what may be a schema below a schema: the names of properties are no keywords, and values are no schemas.
fn each_below(map: &mut Map<String, Value>, visit: fn(&mut Value)) {
    for (key, child) in map {
        match (key.as_str(), child) {
            ("default" | "enum" | "example", _) => {}
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(visit),
            (_, child) => visit(child),
        }
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("{PREFIX}{name}")})
}

fn type_fields() -> Map<String, Value> {
    let mut out = Map::new();
    let api_version = "APIVersion defines the versioned schema of this representation of an object.";
    out.insert(
        "apiVersion".into(),
        json!({"description": api_version, "type": "string"}),
    );
    let kind = "Kind is a string value representing the REST resource this object represents.";
    out.insert("kind".into(), json!({"description": kind, "type": "string"}));
    out
}

fn custom_kind(row: &Resource, schema: Option<Value>) -> Value {
    let mut schema = schema.unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let Some(map) = schema.as_object_mut() else {
        return json!({"type": "object"});
    };
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.extend(type_fields());
        let description = "Standard object's metadata.";
        properties.insert(
            "metadata".into(),
            json!({"description": description, "allOf": [reference(&format!("{META}.ObjectMeta"))]}),
        );
    }
    map.insert(
        "x-kubernetes-group-version-kind".into(),
        json!([{"group": row.group, "kind": row.kind, "version": row.version}]),
    );
    schema
}

fn list_of(row: &Resource, name: &str) -> Value {
    let mut properties = type_fields();
    let description = format!("List of {}.", row.plural);
    properties.insert(
        "items".into(),
        json!({"description": description, "type": "array", "items": reference(name)}),
    );
    let description = "Standard list metadata.";
    properties.insert(
        "metadata".into(),
        json!({"description": description, "allOf": [reference(&format!("{META}.ListMeta"))]}),
    );
    json!({
        "description": format!("{} is a list of {}", row.list_kind, row.kind),
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": [{"group": row.group, "kind": row.list_kind, "version": row.version}],
    })
}

fn list_meta() -> Value {
    json!({
        "description": "ListMeta describes metadata that lists have.",
        "type": "object",
        "properties": {
            "continue": {"type": "string", "description": "A token for the next part of the list, if there is more."},
            "remainingItemCount": {"type": "integer", "format": "int64", "description": "How many items follow, if that is known."},
            "resourceVersion": {"type": "string", "description": "The server's version of the list."},
            "selfLink": {"type": "string", "description": "Deprecated and empty."},
        },
    })
}

/// Turns a schema into its OpenAPI 2.0 form.
pub(super) fn to_v2(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(all)) = map.get("allOf")
                && let [Value::Object(only)] = &all[..]
                && only.contains_key("$ref")
            {
                let only = only.clone();
                map.remove("allOf");
                map.extend(only);
            }
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replacen(PREFIX, "#/definitions/", 1);
            }
            for key in ["oneOf", "anyOf", "not", "nullable"] {
                // The integer-or-string types are strings there; the rest has no counterpart.
                if map.get(key).is_some_and(|found| !found.is_object() || key == "not")
                    && map.remove(key).is_some()
                    && key == "oneOf"
                {
                    map.entry("type").or_insert_with(|| "string".into());
                }
            }
            each_below(map, to_v2);
        }
        Value::Array(items) => items.iter_mut().for_each(to_v2),
        _ => {}
    }
}
