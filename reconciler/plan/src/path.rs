//! Paths to fields while two objects are walked, and how people read them: `spec.template.spec.containers[name=web].image`.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value};
use setpoint_api::apply::Keys;

/// What the items of a list are known by.
#[derive(Clone)]
pub(crate) enum Identity<'a> {
    /// Keys that the structure names.
    Keys(Keys<'a>),
    /// Keys that the owners of the fields name, where the structure is not known.
    Names(Arc<[String]>),
    /// The whole value.
    Value,
}

impl Identity<'_> {
    /// Returns whether two items are the same one.
    pub fn same(&self, a: &Value, b: &Value) -> bool {
        match self {
            Identity::Keys(keys) => keys.same(a, b),
            Identity::Names(names) => names.iter().all(|name| a.get(name) == b.get(name)),
            Identity::Value => a == b,
        }
    }

    /// Returns what an item is known by: its only key, all its keys, or itself.
    pub fn of(&self, item: &Value) -> Value {
        let keys = self.keys(item);
        match (self, &keys[..]) {
            (Identity::Value, _) => item.clone(),
            (_, [(_, only)]) => (*only).clone(),
            _ => keys
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    fn keys<'b>(&'b self, item: &'b Value) -> Vec<(&'b str, &'b Value)> {
        match self {
            Identity::Keys(keys) => keys
                .iter()
                .filter_map(|(name, default)| Some((name, item.get(name).or(default)?)))
                .collect(),
            Identity::Names(names) => names
                .iter()
                .filter_map(|name| Some((name.as_str(), item.get(name)?)))
                .collect(),
            Identity::Value => Vec::new(),
        }
    }

    /// Returns whether a label names an item.
    pub fn is_at(&self, label: &Label<'_>, item: &Value) -> bool {
        let default = |name: &str| match self {
            Identity::Keys(known) => known
                .iter()
                .find(|(known, _)| *known == name)
                .and_then(|(_, default)| default),
            _ => None,
        };
        match label {
            Label::Name(name, text) => {
                let value = item.get(*name).or_else(|| default(name));
                value.and_then(Value::as_str) == Some(*text)
            }
            Label::Keys(keys) => keys
                .iter()
                .all(|(name, value)| item.get(name).or_else(|| default(name)) == Some(value)),
            Label::Value(value) => value == item,
        }
    }
}

/// What `fieldsV1` calls an item of a list: `k:{…}` or `v:…`.
pub(crate) enum Label<'a> {
    /// By one key, which is a plain text: what most are.
    Name(&'a str, &'a str),
    /// By its keys.
    Keys(Map<String, Value>),
    /// By its value.
    Value(Value),
}

impl<'a> Label<'a> {
    /// Reads a step of `fieldsV1`; nothing where it does not lead to an item by what that is.
    pub fn parse(step: &'a str) -> Option<Label<'a>> {
        if let Some(text) = step.strip_prefix("k:") {
            let inside = text.strip_prefix("{\"").and_then(|text| text.strip_suffix("\"}"));
            if let Some((name, value)) = inside.and_then(|text| text.split_once("\":\""))
                && !name.contains(['"', '\\'])
                && !value.contains(['"', '\\'])
            {
                return Some(Label::Name(name, value));
            }
            return serde_json::from_str(text).ok().map(Label::Keys);
        }
        serde_json::from_str(step.strip_prefix("v:")?).ok().map(Label::Value)
    }
}

/// One step of a path.
#[derive(Clone)]
pub(crate) enum Step<'a> {
    /// To a key of an object.
    Key(&'a str),
    /// To an item of a list by what it is known by.
    Item(&'a Value, Identity<'a>),
    /// To an item of a list by its place.
    Index(usize),
}

/// Writes a path as people read it.
pub(crate) fn show(path: &[Step<'_>]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Key(key) => show_key(&mut out, key),
            Step::Index(index) => {
                // Writing to a text cannot fail.
                write!(out, "[{index}]").unwrap_or_default();
            }
            Step::Item(item, Identity::Value) => {
                out.push_str("[=");
                show_value(&mut out, item);
                out.push(']');
            }
            Step::Item(item, identity) => {
                out.push('[');
                for (at, (name, value)) in identity.keys(item).into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(name);
                    out.push('=');
                    show_value(&mut out, value);
                }
                out.push(']');
            }
        }
    }
    out
}

/// Writes a key: after a dot where it can be read back so, else in brackets and quotes.
pub(crate) fn show_key(out: &mut String, key: &str) {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
    if !key.is_empty() && key.chars().all(plain) {
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(key);
    } else {
        out.push('[');
        show_quoted(out, key);
        out.push(']');
    }
}

fn show_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => {
            let plain = |c: char| !c.is_control() && !matches!(c, ']' | ',' | '=' | '"' | '\\');
            if !text.is_empty() && text.chars().all(plain) {
                out.push_str(text);
            } else {
                show_quoted(out, text);
            }
        }
        other => out.push_str(&other.to_string()),
    }
}

pub(crate) fn show_quoted(out: &mut String, text: &str) {
    out.push_str(&Value::from(text).to_string());
}
