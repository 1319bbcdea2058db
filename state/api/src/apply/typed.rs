//! Whether a configuration can be merged at all: every field is known, has the form that the schema gives it, and every item of
//! a merged list can be told from the others.
//!
//! The words are those of structured merge diff, which prints values as Go does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::fields::{PathElement, Set};
use super::node::{Form, Node, identify};
use crate::schema::{ListMerge, Object, Type};

/// At most so many faults are told of one configuration.
const MOST: usize = 100;

/// Returns what is wrong with a configuration, as one text; nothing where nothing is.
pub(super) fn fault(root: &Node<'_>, configuration: &Value) -> Option<String> {
    let mut found = Vec::new();
    check(root, configuration, &mut String::new(), &mut found);
    match found.len() {
        0 | 1 => found.pop(),
        _ => Some(format!("errors:\n  {}", found.join("\n  "))),
    }
}

fn check(node: &Node<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    if found.len() >= MOST || value.is_null() {
        return;
    }
    let length = path.len();
    match (&node.schema.kind, value) {
        (Type::Object(_) | Type::Map(_), Value::Object(map)) => {
            for (key, child) in map {
                path.push('.');
                path.push_str(key);
                if node.schema.below(key).is_some() {
                    check(&node.child(key).node, child, path, found);
                } else {
                    found.push(format!("{path}: field not declared in schema"));
                }
                path.truncate(length);
            }
        }
        (Type::List(_), Value::Array(items)) => match node.form(value) {
            Form::List(merge) => check_items(node, merge, items, path, found),
            _ => {
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    check(&node.items(), item, path, found);
                    path.truncate(length);
                }
            }
        },
        (kind, value) => {
            if let Some(why) = mismatch(kind, value) {
                found.push(format!("{path}: {why}"));
            }
        }
    }
}

fn check_items(node: &Node<'_>, merge: &ListMerge, items: &[Value], path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        if let ListMerge::Keys(keys) = merge {
            if !item.is_object() {
                let what = if item.is_null() { "nil" } else { "non-map" };
                found.push(format!(
                    "{path}: element {index}: associative list with keys may not have {what} elements"
                ));
                continue;
            }
            let lacking = keys
                .iter()
                .find(|key| item.get(&*key.name).is_none() && key.default.is_none());
            if let Some(key) = lacking {
                found.push(format!(
                    "{path}: element {index}: associative list with keys has an element that omits key field \"{}\" (and doesn't have default value)",
                    key.name
                ));
                continue;
            }
        }
        let element = identify(merge, index, item);
        let text = text_of(&element);
        if !seen.insert(element) {
            found.push(format!("{path}: duplicate entries for key {text}"));
            continue;
        }
        path.push_str(&text);
        check(&node.items(), item, path, found);
        path.truncate(length);
    }
}

fn text_of(element: &PathElement) -> String {
    let mut set = Set::default();
    set.insert(element.clone());
    set.paths().concat()
}

/// Says why a value has not the form of its type.
fn mismatch(kind: &Type, value: &Value) -> Option<String> {
    match (kind, value) {
        (Type::Any | Type::Opaque | Type::Object(Object { untyped: true, .. }), _)
        | (Type::String(_), Value::String(_))
        | (Type::Integer(_) | Type::Number, Value::Number(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::IntOrString | Type::Quantity, Value::String(_) | Value::Number(_) | Value::Bool(_)) => None,
        (Type::Object(_) | Type::Map(_), _) => Some(format!("expected map, got &{{{}}}", go_value(value))),
        (Type::List(_), _) => Some(format!("expected list, got &{{{}}}", go_value(value))),
        (Type::String(_), _) => Some(format!("expected string, got {}", go_syntax(value))),
        (Type::Integer(_) | Type::Number, _) => {
            Some(format!("expected numeric (int or float), got {}", go_type(value)))
        }
        (Type::Boolean, _) => Some(format!("expected boolean, got {}", go_type(value))),
        (Type::IntOrString | Type::Quantity, _) => Some(format!("expected any scalar, got {}", go_value(value))),
    }
}

/// The type of a decoded value, as Go's `%T`.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Prints a value as Go's `%v` does, as many of Kubernetes' messages have it: `map[a:1 b:[x y]]`.
pub fn go_value(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Bool(_) | Value::Number(_) => drop(write!(out, "{value}")),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write_value(item, out);
            }
            out.push(']');
        }
    }
}

/// A value as Go's `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let mut entries: Vec<String> = map
                .iter()
                .map(|(key, item)| format!("{key:?}:{}", go_syntax(item)))
                .collect();
            entries.sort_unstable();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
    }
}
