//! Merges what was applied into what is there, and takes fields out again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::fields::{PathElement, Set};
use super::node::{Form, Node, identify};
use crate::schema::ListMerge;

/// Merges a configuration into a live object; where both say something, the configuration wins.
pub(super) fn merge(node: &Node<'_>, live: &Value, applied: &Value) -> Value {
    merge_values(node, Some(live), Some(applied)).unwrap_or(Value::Null)
}

fn merge_values(node: &Node<'_>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let (live_value, applied_value) = match (live, applied) {
        (None, other) | (other, None) => return other.cloned(),
        (Some(live), Some(applied)) => (live, applied),
    };
    match node.form_of_both(live, applied) {
        Form::Map => match (live_value, applied_value) {
            (Value::Object(live), Value::Object(applied)) => {
                let mut out = Map::with_capacity(live.len().max(applied.len()));
                for (key, value) in live {
                    if let Some(merged) = merge_values(&node.child(key).node, Some(value), applied.get(key)) {
                        out.insert(key.clone(), merged);
                    }
                }
                for (key, value) in applied {
                    if !live.contains_key(key) {
                        out.insert(key.clone(), value.clone());
                    }
                }
                Some(Value::Object(out))
            }
            // A null takes nothing away from an object that others may have a part in.
            (live @ Value::Object(_), _) => Some(live.clone()),
            (_, applied) => Some(applied.clone()),
        },
        Form::List(kind) => match (live_value, applied_value) {
            (Value::Array(live), Value::Array(applied)) => Some(Value::Array(merge_lists(node, kind, live, applied))),
            (live @ Value::Array(_), _) => Some(live.clone()),
            (_, applied) => Some(applied.clone()),
        },
        Form::Leaf => Some(applied_value.clone()),
    }
}

/// Merges two lists: items that both have come in the order of the configuration, the others keep their place beside them.
fn merge_lists(node: &Node<'_>, kind: &ListMerge, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let inner = node.items();
    let identities = |items: &[Value]| -> Vec<PathElement> {
        items
            .iter()
            .enumerate()
            .map(|(index, item)| identify(kind, index, item))
            .collect()
    };
    let (left, right) = (identities(live), identities(applied));
    let mut live_by: BTreeMap<&PathElement, Option<&Value>> = BTreeMap::new();
    for (element, item) in left.iter().zip(live) {
        // Of an item that stands twice it cannot be said which one is meant: the configuration's replaces both.
        live_by
            .entry(element)
            .and_modify(|known| *known = None)
            .or_insert(Some(item));
    }
    let applied_by: BTreeMap<&PathElement, &Value> = right.iter().zip(applied).collect();
    let mut shared: VecDeque<&PathElement> = right.iter().filter(|element| live_by.contains_key(element)).collect();
    let mut next_shared = shared.pop_front();
    let mut done: BTreeSet<&PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let take = |element: &PathElement, out: &mut Vec<Value>| {
        let live = live_by.get(element).copied().flatten();
        out.extend(merge_values(&inner, live, applied_by.get(element).copied()));
    };
    let (mut at_live, mut at_applied) = (0, 0);
    while at_live < left.len() || at_applied < right.len() {
        if at_live < left.len() && at_applied < right.len() {
            let element = &left[at_live];
            if *element == right[at_applied] {
                done.insert(element);
                take(element, &mut out);
                at_live += 1;
                at_applied += 1;
                next_shared = shared.pop_front();
                continue;
            }
            if applied_by.contains_key(element) && next_shared.is_some_and(|next| next != element) {
                // Both have it, but it comes later.
                at_live += 1;
                continue;
            }
        }
        if at_live < left.len() {
            let element = &left[at_live];
            if !applied_by.contains_key(element) {
                out.push(live[at_live].clone());
                at_live += 1;
                continue;
            }
            if done.contains(element) {
                at_live += 1;
            }
        }
        if at_applied < right.len() {
            let element = &right[at_applied];
            done.insert(element);
            take(element, &mut out);
            at_applied += 1;
            if next_shared == Some(element) {
                next_shared = shared.pop_front();
            }
        }
    }
    out
}

/// Returns a value without the fields of a set; what becomes empty by that goes too.
pub(super) fn remove(node: &Node<'_>, value: &Value, gone: &Set) -> Value {
    remove_below(node, value, gone).unwrap_or_else(|| Value::Object(Map::new()))
}

fn remove_below(node: &Node<'_>, value: &Value, gone: &Set) -> Option<Value> {
    match (node.form(value), value) {
        (Form::Map, Value::Object(map)) if !map.is_empty() => {
            let mut out = Map::with_capacity(map.len());
            for (key, value) in map {
                let element = PathElement::field(key);
                if gone.members.contains(&element) {
                    continue;
                }
                match gone.children.get(&element) {
                    None => {
                        out.insert(key.clone(), value.clone());
                    }
                    Some(below) => {
                        if let Some(rest) = remove_below(&node.child(key).node, value, below) {
                            out.insert(key.clone(), rest);
                        }
                    }
                }
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        (Form::List(kind), Value::Array(items)) if !items.is_empty() => {
            let inner = node.items();
            let mut out = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let element = identify(kind, index, item);
                if gone.members.contains(&element) {
                    continue;
                }
                match gone.children.get(&element) {
                    None => out.push(item.clone()),
                    Some(below) => out.extend(remove_below(&inner, item, below)),
                }
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        _ => Some(value.clone()),
    }
}
