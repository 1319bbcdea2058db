//! Checks an object as Kubernetes' decoder does: unknown fields for strict requests, and wrong types, in its words.

use serde_json::{Number, Value};

use super::{Format, Schema, Type, format};

/// Returns the message of the 400 that a strict request with these faults gets.
pub fn strict_message(object: &Value, faults: &[String]) -> String {
    cannot_be_handled(object, &strict_text(faults))
}

/// Returns these faults as the error of a strict decoder.
pub fn strict_text(faults: &[String]) -> String {
    format!("strict decoding error: {}", faults.join(", "))
}

fn cannot_be_handled(object: &Value, why: &str) -> String {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    let version = api_version.rsplit('/').next().unwrap_or_default();
    format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}")
}

/// Returns the paths that the schema does not know, as `unknown field "spec.foo"`.
pub(super) fn unknown_fields(schema: &Schema, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(schema, value, &mut String::new(), &mut found);
    found
}

fn walk(schema: &Schema, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(map) => {
            if !matches!(schema.kind, Type::Object(_) | Type::Map(_)) {
                return;
            }
            for (key, child) in map {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(key);
                match schema.below(key) {
                    None => found.push(format!("unknown field \"{path}\"")),
                    Some(below) => walk(below.schema, child, path, found),
                }
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            if !matches!(schema.kind, Type::List(_)) {
                return;
            }
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(schema.items(), item, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Checks that every value could be decoded.
pub(super) fn check_types(schema: &Schema, value: &Value) -> Result<(), String> {
    let checked = if schema.custom {
        match (schema.below("metadata"), value.get("metadata")) {
            (Some(below), Some(metadata)) => {
                let mut at = At {
                    owner: "",
                    path: vec!["metadata"],
                };
                check(below.schema, metadata, &mut at)
            }
            _ => Ok(()),
        }
    } else {
        check(
            schema,
            value,
            &mut At {
                owner: "",
                path: Vec::new(),
            },
        )
    };
    checked.map_err(|why| cannot_be_handled(value, &why))
}

/// Where the decoder is: the struct and the keys that led here.
struct At<'a> {
    owner: &'a str,
    path: Vec<&'a str>,
}

impl At<'_> {
    fn cannot(&self, found: &str, wanted: &str) -> String {
        if self.path.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
        }
        let owner = self.owner.rsplit('.').next().unwrap_or_default();
        format!(
            "json: cannot unmarshal {found} into Go struct field {owner}.{} of type {wanted}",
            self.path.join(".")
        )
    }
}

fn check<'a>(schema: &'a Schema, value: &'a Value, at: &mut At<'a>) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    match (&schema.kind, value) {
        (Type::Any | Type::Opaque, _) => Ok(()),
        (Type::Object(object), Value::Object(map)) => {
            let owner = std::mem::replace(&mut at.owner, &object.name);
            for (key, child) in map {
                let Some(field) = object.field(key) else { continue };
                at.path.push(key);
                check(field.schema.get(), child, at)?;
                at.path.pop();
            }
            at.owner = owner;
            Ok(())
        }
        (Type::Map(inner), Value::Object(map)) => {
            map.values().try_for_each(|child| check(inner.values.get(), child, at))
        }
        (Type::List(inner), Value::Array(items)) => {
            items.iter().try_for_each(|item| check(inner.items.get(), item, at))
        }
        (Type::String(Format::DateTime), Value::String(text)) => {
            if format::is_date_time(text) {
                return Ok(());
            }
            Err(format!(
                "parsing time {quoted} as \"2006-01-02T15:04:05Z07:00\": cannot parse {quoted} as \"2006\"",
                quoted = Value::from(text.as_str())
            ))
        }
        (Type::String(Format::MicroTime), Value::String(text)) => match format::micro_time_fault(text) {
            None => Ok(()),
            Some((rest, wanted)) => Err(format!(
                "parsing time {text:?} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {rest:?} as {wanted:?}"
            )),
        },
        (Type::String(Format::Byte), Value::String(text)) => match format::base64_fault(text) {
            None => Ok(()),
            Some(offset) => Err(format!("illegal base64 data at input byte {offset}")),
        },
        (Type::String(Format::Text), Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_)) => Ok(()),
        (Type::Integer(bits), Value::Number(number)) => {
            if fits(*bits, number) {
                Ok(())
            } else {
                Err(at.cannot(&format!("number {number}"), &go_type(schema)))
            }
        }
        (Type::IntOrString, Value::String(_)) => Ok(()),
        (Type::IntOrString, Value::Number(number)) => {
            if fits(32, number) {
                Ok(())
            } else {
                Err(at.cannot(&format!("number {number}"), "int32"))
            }
        }
        (Type::Quantity, Value::Number(_)) => Ok(()),
        (Type::Quantity, Value::String(text)) => check_quantity(text),
        _ => Err(at.cannot(found(value), &go_type(schema))),
    }
}

fn check_quantity(text: &str) -> Result<(), String> {
    const FORM: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    if text.parse::<crate::Quantity>().is_ok() {
        Ok(())
    } else {
        Err(FORM.to_owned())
    }
}

fn fits(bits: u8, number: &Number) -> bool {
    match number.as_i64() {
        Some(number) => bits != 32 || i32::try_from(number).is_ok(),
        None => false,
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Returns the type as Go prints it.
fn go_type(schema: &Schema) -> String {
    match &schema.kind {
        Type::Object(object) => object.name.to_string(),
        Type::Map(map) => format!("map[string]{}", go_type(map.values.get())),
        Type::List(list) => {
            format!("[]{}", go_type(list.items.get()))
        }
        Type::String(Format::Text) => "string".to_owned(),
        Type::String(Format::Byte) => "[]uint8".to_owned(),
        Type::String(Format::DateTime) => "v1.Time".to_owned(),
        Type::String(Format::MicroTime) => "v1.MicroTime".to_owned(),
        Type::Integer(32) => "int32".to_owned(),
        Type::Integer(_) => "int64".to_owned(),
        Type::Number => "float64".to_owned(),
        Type::Boolean => "bool".to_owned(),
        Type::IntOrString => "intstr.IntOrString".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        Type::Any | Type::Opaque => "interface {}".to_owned(),
    }
}
