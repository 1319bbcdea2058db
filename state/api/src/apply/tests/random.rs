//! Random objects of a kind, made from its structure.

use serde_json::{Map, Value, json};

use super::super::node::{Form, Node, identify};
use crate::schema::{Format, ListMerge, Schema, Type};

/// Objects do not nest deeper.
const DEEPEST: usize = 7;

/// A generator of numbers: the tests hand the seed in.
pub(super) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    /// A number below another one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).expect("a small number")]
    }
}

/// Makes an object of a kind with a few fields of it; what a strategy alone decides on is left out.
pub(super) fn object(schema: &Schema, api_version: &str, kind: &str, dice: &mut Dice) -> Value {
    let mut out = json!({"apiVersion": api_version, "kind": kind});
    let metadata = json!({"name": "x", "namespace": "n"});
    if let Type::Object(object) = &schema.kind {
        for field in &object.fields {
            if !matches!(&*field.name, "apiVersion" | "kind" | "metadata" | "status") && dice.below(8) > 0 {
                out[&*field.name] = value(&Node::root(schema).child(&field.name).node, dice, 1);
            }
        }
    }
    out["metadata"] = metadata;
    for key in ["labels", "annotations"] {
        if dice.below(2) == 0 {
            out["metadata"][key] = map(dice, |dice| dice.pick(&["", "1", "2"]).into());
        }
    }
    if dice.below(3) == 0 {
        out["metadata"]["finalizers"] = json!([dice.pick(&["e.com/a", "e.com/b"])]);
    }
    drop_empty(&mut out);
    out
}

fn map(dice: &mut Dice, mut value: impl FnMut(&mut Dice) -> Value) -> Value {
    let mut out = Map::new();
    for _ in 0..dice.below(4) {
        out.insert(dice.pick(&["a", "b", "c", "d.e/f"]).to_owned(), value(dice));
    }
    Value::Object(out)
}

fn value(node: &Node<'_>, dice: &mut Dice, depth: usize) -> Value {
    match &node.schema.kind {
        Type::Object(object) => {
            let mut out = Map::new();
            if depth < DEEPEST {
                let chance = 1 + object.fields.len() as u64 / 3;
                for field in &object.fields {
                    if dice.below(chance) == 0 {
                        out.insert(
                            field.name.to_string(),
                            value(&node.child(&field.name).node, dice, depth + 1),
                        );
                    }
                }
            }
            Value::Object(out)
        }
        Type::Map(inner) => map(dice, |dice| value(&Node::root(inner.values.get()), dice, depth + 1)),
        Type::List(list) => {
            let count = if depth < DEEPEST { dice.below(4) } else { 0 };
            let mut items: Vec<Value> = Vec::new();
            for _ in 0..count {
                let mut item = value(&node.items(), dice, depth + 1);
                if let (ListMerge::Keys(keys), Value::Object(map)) = (&list.merge, &mut item) {
                    for key in keys {
                        let below = node.items().child(&key.name).node;
                        map.insert(key.name.to_string(), name(below.schema, dice));
                    }
                }
                let index = items.len();
                let taken = items
                    .iter()
                    .enumerate()
                    .any(|(at, known)| identify(&list.merge, at, known) == identify(&list.merge, index, &item));
                if !taken {
                    items.push(item);
                }
            }
            items.into()
        }
        _ => scalar(node.schema, dice),
    }
}

/// What an item is known by: never empty, for what is empty is left out, and is then another item.
fn name(schema: &Schema, dice: &mut Dice) -> Value {
    match &schema.kind {
        Type::Integer(_) => (1 + dice.below(3)).into(),
        _ => dice.pick(&["a", "b", "c"]).into(),
    }
}

fn scalar(schema: &Schema, dice: &mut Dice) -> Value {
    match &schema.kind {
        Type::String(Format::Byte) => dice.pick(&["YQ==", "Yg=="]).into(),
        Type::String(Format::DateTime) => "2024-01-01T00:00:00Z".into(),
        Type::String(Format::MicroTime) => "2024-01-01T00:00:00.000000Z".into(),
        Type::String(Format::Text) => dice.pick(&["a", "b", "c", ""]).into(),
        Type::Integer(_) | Type::Number => dice.below(4).into(),
        Type::Boolean => (dice.below(2) == 0).into(),
        Type::IntOrString => [json!(1), json!("x")][usize::from(dice.below(2) == 0)].clone(),
        Type::Quantity => dice.pick(&["1", "1000m", "1Gi", "0"]).into(),
        Type::Any => json!({"k": dice.below(3)}),
        _ => json!({}),
    }
}

/// Takes empty maps and lists out: who owns them is a matter of its own.
pub(super) fn drop_empty(value: &mut Value) {
    let empty = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|_, child| !empty(child));
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// Splits an object in two that have no field in common but what names items; together they are the whole.
pub(super) fn split(node: &Node<'_>, whole: &Value, dice: &mut Dice) -> [Value; 2] {
    let mut parts = match (node.form(whole), whole) {
        (Form::Map, Value::Object(map)) => {
            let mut parts = [Map::new(), Map::new()];
            for (key, child) in map {
                let both = split(&node.child(key).node, child, dice);
                for (part, child) in parts.iter_mut().zip(both) {
                    if !child.is_null() {
                        part.insert(key.clone(), child);
                    }
                }
            }
            parts.map(Value::Object)
        }
        (Form::List(merge), Value::Array(items)) => {
            let mut parts = [Vec::new(), Vec::new()];
            for item in items {
                let mut both = split(&node.items(), item, dice);
                if let ListMerge::Keys(keys) = merge {
                    for part in both.iter_mut().filter(|part| part.is_object()) {
                        for key in keys {
                            if let Some(value) = item.get(&*key.name) {
                                part[&*key.name] = value.clone();
                            }
                        }
                    }
                }
                for (part, item) in parts.iter_mut().zip(both) {
                    if !item.is_null() {
                        part.push(item);
                    }
                }
            }
            parts.map(Value::Array)
        }
        _ => {
            let mut parts = [Value::Null, Value::Null];
            parts[usize::from(dice.below(2) == 0)] = whole.clone();
            return parts;
        }
    };
    for part in &mut parts {
        if part.as_object().is_some_and(Map::is_empty) || part.as_array().is_some_and(Vec::is_empty) {
            *part = Value::Null;
        }
    }
    parts
}

/// Sorts the items of merged lists, of which the order says who came first.
pub(super) fn sort(node: &Node<'_>, value: &mut Value) {
    let form = node.form(value);
    match (form, value) {
        (Form::Map, Value::Object(map)) => {
            for (key, child) in map.iter_mut() {
                sort(&node.child(key).node, child);
            }
        }
        (Form::List(_), Value::Array(items)) => {
            items.iter_mut().for_each(|item| sort(&node.items(), item));
            items.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}
