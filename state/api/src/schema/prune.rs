//! Drops what a schema does not know, and fills in what it has defaults for.

use serde_json::Value;

use super::{Format, Schema, Type};

/// Drops unknown fields, and nulls where a null means that nothing was said.
pub(super) fn prune(schema: &Schema, value: &mut Value) {
    match (&schema.kind, value) {
        (Type::Object(_), Value::Object(map)) => {
            map.retain(|key, child| match schema.below(key) {
                None => false,
                Some(below) if child.is_null() && below.field.is_some() && !below.schema.nullable => false,
                Some(below) => {
                    prune(below.schema, child);
                    true
                }
            });
        }
        (Type::Map(inner), Value::Object(map)) => {
            let values = inner.values.get();
            // As of a field, a null of a custom kind's map says nothing.
            map.retain(|_, child| !(child.is_null() && values.custom && !values.nullable && values.default.is_none()));
            for child in map.values_mut() {
                element(values, child);
            }
        }
        (Type::List(inner), Value::Array(items)) => {
            for item in items {
                element(inner.items.get(), item);
            }
        }
        _ => {}
    }
}

/// A null in a list or map is the zero value of its type, as in Go; of custom kinds, Go knows no types.
fn element(schema: &Schema, value: &mut Value) {
    if value.is_null() && !schema.nullable && !schema.custom {
        let zero = match &schema.kind {
            Type::String(Format::Text) => Some(Value::from("")),
            Type::Integer(_) => Some(Value::from(0)),
            Type::Boolean => Some(Value::from(false)),
            Type::Object(_) => Some(Value::Object(serde_json::Map::new())),
            _ => None,
        };
        if let Some(zero) = zero {
            *value = zero;
        }
        return;
    }
    prune(schema, value);
}

/// Fills in defaults from the outside in: a default can have fields with defaults of their own.
pub(super) fn apply_defaults(schema: &Schema, value: &mut Value) {
    match (&schema.kind, value) {
        (Type::Object(object), Value::Object(map)) => {
            for field in &object.fields {
                let below = field.schema.get();
                let absent = match map.get(&*field.name) {
                    None => true,
                    Some(found) => found.is_null() && !below.nullable,
                };
                if let Some(default) = below.default.as_ref().filter(|_| absent) {
                    map.insert(field.name.to_string(), default.clone());
                }
                if let Some(child) = map.get_mut(&*field.name) {
                    apply_defaults(below, child);
                }
            }
        }
        (Type::Map(inner), Value::Object(map)) => default_elements(inner.values.get(), map.values_mut()),
        (Type::List(inner), Value::Array(items)) => default_elements(inner.items.get(), items.iter_mut()),
        _ => {}
    }
}

fn default_elements<'a>(schema: &Schema, elements: impl Iterator<Item = &'a mut Value>) {
    for element in elements {
        if let Some(default) = schema
            .default
            .as_ref()
            .filter(|_| element.is_null() && !schema.nullable)
        {
            *element = default.clone();
        }
        apply_defaults(schema, element);
    }
}
