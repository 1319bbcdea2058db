//! What expressions see of a structural schema: types, and limits for what a rule can cost.

use std::sync::Arc;

use serde_json::Value;
use setpoint_cel::{Declaration, Field, Merge, Record};

use super::text;

/// Returns whether values of a schema are whole objects.
pub(crate) fn is_embedded(schema: &Value) -> bool {
    schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true))
}

/// Declares what a schema describes, or nothing where expressions may not see it.
///
/// `root` says that it is a whole object: its kind, apiVersion and name are always there.
pub(crate) fn declaration(schema: &Value, root: bool) -> Option<Declaration> {
    declared(schema, root, "self")
}

fn declared(schema: &Value, root: bool, name: &str) -> Option<Declaration> {
    let limit = |key: &str| {
        schema
            .get(key)
            .and_then(Value::as_i64)
            .map(|limit| u64::try_from(limit).unwrap_or(0))
    };
    let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
    let nullable = flag("nullable");
    if flag("x-kubernetes-int-or-string") {
        return Some(Declaration::int_or_string(limit("maxLength")).nullable(nullable));
    }
    let kind = if root { "object" } else { text(schema, "type") };
    let found = match kind {
        "array" => {
            let items = schema.get("items").filter(|items| items.is_object())?;
            let items = declared(items, is_embedded(items), &format!("{name}.@idx"))?;
            Declaration::list(Arc::new(items), merge(schema), limit("maxItems"))
        }
        "object" => object(schema, root, name, limit("maxProperties"))?,
        "string" => match text(schema, "format") {
            "byte" => Declaration::bytes(limit("maxLength")),
            "duration" => Declaration::duration(),
            "date" => Declaration::date(),
            "date-time" => Declaration::date_time(),
            _ => match (limit("maxLength"), schema.get("enum").and_then(Value::as_array)) {
                (None, Some(words)) if !words.is_empty() => Declaration::words(words.iter().filter_map(Value::as_str)),
                (most, _) => Declaration::string(most),
            },
        },
        "boolean" => Declaration::bool(),
        "number" => Declaration::double(),
        "integer" => Declaration::int(),
        _ => return None,
    };
    Some(found.nullable(nullable))
}

fn object(schema: &Value, root: bool, name: &str, most: Option<u64>) -> Option<Declaration> {
    let values = schema
        .get("additionalProperties")
        .filter(|values| values.is_object() && !root);
    if let Some(values) = values {
        let values = declared(values, is_embedded(values), &format!("{name}.@elem"))?;
        return Some(Declaration::map(Arc::new(values), most));
    }
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut fields = Vec::new();
    for (property, below) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if root && OWN.contains(&property.as_str()) {
            continue;
        }
        let Some(declaration) = declared(below, is_embedded(below), &format!("{name}.{property}")) else {
            continue;
        };
        fields.push(Field {
            property: property.as_str().into(),
            declaration: Arc::new(declaration),
            required: required.contains(&property.as_str()) && below.get("default").is_none(),
        });
    }
    if root {
        fields.extend(bookkeeping(name, &required));
    }
    Some(Declaration::object(Record::new(name, fields)))
}

const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The fields of whole objects; of metadata, expressions see the names alone.
fn bookkeeping(name: &str, required: &[&str]) -> Vec<Field> {
    let field = |property: &str, declaration: Declaration| Field {
        property: property.into(),
        declaration: Arc::new(declaration),
        required: required.contains(&property),
    };
    let names = ["name", "generateName"].map(|property| Field {
        property: property.into(),
        declaration: Arc::new(Declaration::string(None)),
        required: false,
    });
    let metadata = Declaration::object(Record::new(format!("{name}.metadata"), names));
    vec![
        field("apiVersion", Declaration::string(None)),
        field("kind", Declaration::string(None)),
        field("metadata", metadata),
    ]
}

fn merge(schema: &Value) -> Merge {
    match text(schema, "x-kubernetes-list-type") {
        "set" => Merge::Set,
        "map" => {
            let keys = super::keys(schema).unwrap_or_default();
            // Expressions write the keys as they write the fields.
            let escaped = keys
                .into_iter()
                .map(|key| setpoint_cel::escape(&key).map_or(key, Into::into));
            Merge::Keys(escaped.collect())
        }
        _ => Merge::Atomic,
    }
}
