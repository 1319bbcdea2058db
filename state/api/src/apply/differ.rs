//! Which fields an object has, and which differ between two.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{PathElement, Set};
use super::node::{Form, Node, identify};
use crate::schema::ListMerge;

/// How a new object differs from an old one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What the new object says that the old one did not.
    pub fn changed(&self) -> Set {
        self.added.union(&self.modified)
    }

    fn insert_below(&mut self, element: &PathElement, below: Comparison) {
        self.added.insert_below(element.clone(), below.added);
        self.modified.insert_below(element.clone(), below.modified);
        self.removed.insert_below(element.clone(), below.removed);
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Returns the fields that an object says something about.
pub(super) fn field_set(node: &Node<'_>, value: &Value) -> Set {
    let mut out = Set::default();
    match (node.form(value), value) {
        (Form::Map, Value::Object(map)) => {
            for (key, value) in map {
                let child = node.child(key);
                let element = PathElement::field(key);
                let leaf = matches!(child.node.form(value), Form::Leaf);
                let empty_map = value.as_object().is_some_and(serde_json::Map::is_empty);
                if leaf || empty_map || value.is_null() || !child.named {
                    out.insert(element.clone());
                }
                if !leaf {
                    out.insert_below(element, field_set(&child.node, value));
                }
            }
        }
        (Form::List(merge), Value::Array(items)) => {
            let inner = node.items();
            for (element, items) in grouped(merge, items) {
                out.insert(element.clone());
                // Of items that stand twice, none is looked into.
                if let ([item], false) = (&items[..], matches!(inner.form(items[0]), Form::Leaf)) {
                    out.insert_below(element, field_set(&inner, item));
                }
            }
        }
        _ => {}
    }
    out
}

fn grouped<'a>(merge: &ListMerge, items: &'a [Value]) -> BTreeMap<PathElement, Vec<&'a Value>> {
    let mut out: BTreeMap<PathElement, Vec<&Value>> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        out.entry(identify(merge, index, item)).or_default().push(item);
    }
    out
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Compares two values of one place.
pub(super) fn compare(node: &Node<'_>, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    compare_below(node, old, new, [old.is_some(), new.is_some()])
}

/// Compares two values; `there` says of each whether Go has it even if it is absent: a struct by value in a struct that is there.
fn compare_below(node: &Node<'_>, old: Option<&Value>, new: Option<&Value>, there: [bool; 2]) -> Comparison {
    let mut out = Comparison::default();
    match node.form_of_both(old, new) {
        Form::Leaf => {}
        Form::Map => {
            let old = old.and_then(Value::as_object);
            let new = new.and_then(Value::as_object);
            let later = new
                .into_iter()
                .flatten()
                .filter(|(key, _)| old.is_none_or(|old| !old.contains_key(*key)));
            for (key, _) in old.into_iter().flatten().chain(later) {
                let child = node.child(key);
                let (before, after) = (old.and_then(|old| old.get(key)), new.and_then(|new| new.get(key)));
                let there = there.map(|there| there && child.by_value);
                compare_at(PathElement::field(key), &child.node, there, before, after, &mut out);
            }
        }
        Form::List(merge) => {
            let (old, new) = (grouped(merge, items(old)), grouped(merge, items(new)));
            let inner = node.items();
            let never = [false, false];
            for (element, before) in &old {
                match (&before[..], new.get(element).map(Vec::as_slice)) {
                    ([before], Some([after])) => {
                        compare_at(element.clone(), &inner, never, Some(before), Some(after), &mut out)
                    }
                    ([before], None) => compare_at(element.clone(), &inner, never, Some(before), None, &mut out),
                    (_, None) => out.removed.insert(element.clone()),
                    (before, Some(after)) if before != after => out.modified.insert(element.clone()),
                    _ => {}
                }
            }
            for (element, after) in new.iter().filter(|(element, _)| !old.contains_key(element)) {
                match &after[..] {
                    [after] => compare_at(element.clone(), &inner, never, None, Some(after), &mut out),
                    _ => out.added.insert(element.clone()),
                }
            }
        }
    }
    out
}

fn compare_at(
    element: PathElement,
    node: &Node<'_>,
    there: [bool; 2],
    old: Option<&Value>,
    new: Option<&Value>,
    out: &mut Comparison,
) {
    let there = [there[0] || old.is_some(), there[1] || new.is_some()];
    let both_empty = old.is_none_or(is_empty) && new.is_none_or(is_empty);
    if both_empty || matches!(node.form_of_both(old, new), Form::Leaf) {
        match (old, new) {
            (None, Some(new)) if there[0] && is_empty(new) => {}
            (Some(old), None) if there[1] && is_empty(old) => {}
            (None, Some(_)) => out.added.insert(element),
            (Some(_), None) => out.removed.insert(element),
            (Some(old), Some(new)) if old != new => out.modified.insert(element),
            _ => {}
        }
        return;
    }
    out.insert_below(&element, compare_below(node, old, new, there));
    if !there[0] {
        out.added.insert(element);
    } else if !there[1] {
        out.removed.insert(element);
    }
}
