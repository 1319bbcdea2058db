//! Strategic merge patches: partial objects whose lists of objects merge by a key.
//!
//! Which lists merge, and by what, the schema says (`patchStrategy`, `patchMergeKey`). A patch can hold directives:
//!
//! * `$patch: replace` or `delete` in an object or as an item of a merged list;
//! * `$retainKeys`: which keys of the object stay;
//! * `$deleteFromPrimitiveList/<field>`: values to take out of a merged list of scalars;
//! * `$setElementOrder/<field>`: the order of a merged list.

mod order;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use self::order::{Identity, Key, enforce_order};
use super::PatchError;
use crate::apply::{go_type, go_value};
use crate::schema::{Patch, Schema, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";

/// Applies a strategic merge patch to a document of the schema's kind.
///
/// Errors: directives that are none or do not fit, items without their merge key.
pub fn apply(schema: &Schema, document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::malformed("invalid JSON document"));
    };
    let original = document.as_object().cloned().unwrap_or_default();
    Ok(Value::Object(merge_object(schema, original, patch)?))
}

fn unknown_directive(directive: &Value, map: &Map<String, Value>) -> PatchError {
    let map = go_value(&Value::Object(map.clone()));
    PatchError::Unmergeable(format!("unknown patch type: {} in map: {map}", go_value(directive)))
}

fn wrong_type(wanted: &str, found: &Value) -> PatchError {
    PatchError::Unmergeable(format!("expected a {wanted}, but received a {}", go_type(found)))
}

fn merge_object(
    schema: &Schema,
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(PATCH) {
        None => {}
        Some(directive) => match directive.as_str() {
            Some("replace") => return replacement(schema, patch),
            Some("delete") => return Ok(Map::new()),
            // As Kubernetes has it, "merge" too: merging is what happens without a directive.
            _ => return Err(unknown_directive(directive, patch)),
        },
    }
    retain_keys(&mut original, patch)?;
    let orders = set_orders(patch)?;
    for (field, list) in deletions(patch)? {
        if let Some(Value::Array(items)) = original.get_mut(field) {
            let gone: HashSet<&Value> = list.iter().collect();
            items.retain(|item| !gone.contains(item));
        }
    }
    for (key, value) in patch {
        if key.starts_with('$') && is_directive(key) {
            continue;
        }
        if value.is_null() {
            original.remove(key);
            continue;
        }
        let below = schema.below(key);
        let inner = below.as_ref().map_or(Schema::any(), |below| below.schema);
        let strategy = below.as_ref().and_then(|below| below.field).map(|field| &field.patch);
        let order = orders.get(key.as_str()).copied();
        if let (Some(order), Value::Array(items)) = (order, value) {
            check_order(strategy, items, order)?;
        }
        let existing = original.remove(key);
        let before = order.and_then(|_| existing.clone());
        if let Some(mut merged) = merge_value(inner, strategy, existing, value)? {
            if let (Some(order), Value::Array(items)) = (order, &mut merged) {
                *items = ordered(strategy, std::mem::take(items), order, before.as_ref());
            }
            original.insert(key.clone(), merged);
        }
    }
    // An order alone moves what is there.
    for (field, order) in orders {
        if patch.contains_key(field) {
            continue;
        }
        let strategy = schema
            .below(field)
            .and_then(|below| below.field.map(|field| field.patch.clone()));
        if let Some(Value::Array(items)) = original.get_mut(field) {
            let before = Value::Array(items.clone());
            *items = ordered(strategy.as_ref(), std::mem::take(items), order, Some(&before));
        }
    }
    Ok(original)
}

fn ordered(strategy: Option<&Patch>, merged: Vec<Value>, order: &[Value], before: Option<&Value>) -> Vec<Value> {
    let identity = Identity::new(strategy.and_then(|strategy| strategy.merge_key.as_deref()));
    let before = before.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    enforce_order(&identity, merged, order, before)
}

/// The items of a patch come in the order that it asks for, and each is named there.
fn check_order(strategy: Option<&Patch>, items: &[Value], order: &[Value]) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let identity = Identity::new(strategy.and_then(|strategy| strategy.merge_key.as_deref()));
    let mut rest = order.iter();
    let plain = items.iter().filter(|item| item.get(PATCH).is_none());
    for item in plain {
        let key = identity.key(item);
        if key.is_none() || !rest.any(|wanted| identity.key(wanted) == key) {
            let (items, order) = (go_value(&items.into()), go_value(&order.into()));
            return Err(PatchError::Unmergeable(format!(
                "The order in patch list:\n{items}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER)
}

/// The object that a `$patch: replace` puts in place.
fn replacement(schema: &Schema, patch: &Map<String, Value>) -> Result<Map<String, Value>, PatchError> {
    let mut plain = patch.clone();
    plain.remove(PATCH);
    merge_object(schema, Map::new(), &plain)
}

fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(list) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys: Option<HashSet<&str>> = list
        .as_array()
        .and_then(|list| list.iter().map(Value::as_str).collect());
    let Some(keys) = keys else {
        return Err(PatchError::malformed(BAD_RETAIN_KEYS));
    };
    for (key, value) in patch {
        if !is_directive(key) && !value.is_null() && !keys.contains(key.as_str()) {
            return Err(PatchError::malformed(BAD_RETAIN_KEYS));
        }
    }
    original.retain(|key, _| keys.contains(key.as_str()));
    Ok(())
}

type Lists<'a> = HashMap<&'a str, &'a [Value]>;

fn lists<'a>(patch: &'a Map<String, Value>, prefix: &str) -> Result<Lists<'a>, PatchError> {
    let mut out = HashMap::new();
    for (key, value) in patch {
        let Some(field) = key.strip_prefix(prefix) else {
            continue;
        };
        let Value::Array(list) = value else {
            return Err(wrong_type("[]interface {}", value));
        };
        out.insert(field, list.as_slice());
    }
    Ok(out)
}

fn deletions(patch: &Map<String, Value>) -> Result<Lists<'_>, PatchError> {
    lists(patch, DELETE_FROM)
}

fn set_orders(patch: &Map<String, Value>) -> Result<Lists<'_>, PatchError> {
    lists(patch, SET_ORDER)
}

/// Merges the value of one key; nothing comes of an object that was not there and deletes itself.
fn merge_value(
    schema: &Schema,
    strategy: Option<&Patch>,
    existing: Option<Value>,
    patch: &Value,
) -> Result<Option<Value>, PatchError> {
    match patch {
        Value::Object(patch) => {
            if matches!(patch.get(PATCH), Some(Value::String(directive)) if directive == "delete") {
                // As Kubernetes has it, the object stays, empty.
                return Ok(existing.map(|_| Value::Object(Map::new())));
            }
            if matches!(schema.kind, Type::Opaque) {
                return Ok(Some(Value::Object(patch.clone())));
            }
            let original = match existing {
                Some(Value::Object(original)) if !strategy.is_some_and(|strategy| strategy.replace) => original,
                _ => Map::new(),
            };
            Ok(Some(Value::Object(merge_object(schema, original, patch)?)))
        }
        Value::Array(items) if strategy.is_some_and(|strategy| strategy.merge) => {
            let original = match existing {
                Some(Value::Array(original)) => original,
                _ => Vec::new(),
            };
            let merge_key = strategy.and_then(|strategy| strategy.merge_key.as_deref());
            Ok(Some(Value::Array(merge_list(schema, merge_key, original, items)?)))
        }
        Value::Array(items) => Ok(Some(Value::Array(plain_items(schema, items)?))),
        scalar => Ok(Some(scalar.clone())),
    }
}

/// The items of a list that replaces another, free of directives.
fn plain_items(schema: &Schema, items: &[Value]) -> Result<Vec<Value>, PatchError> {
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::Object(map) if map.contains_key(PATCH) => match map.get(PATCH).and_then(Value::as_str) {
                Some("replace" | "merge") if map.len() == 1 => {}
                Some("delete") => {}
                _ => out.push(Value::Object(merge_object(schema.items(), Map::new(), map)?)),
            },
            other => out.push(other.clone()),
        }
    }
    Ok(out)
}

fn merge_list(
    schema: &Schema,
    merge_key: Option<&str>,
    original: Vec<Value>,
    patch: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let identity = Identity::new(merge_key);
    let Some(merge_key) = merge_key else {
        let mut seen = HashSet::new();
        let all = original.iter().chain(patch);
        let merged = all.filter(|item| seen.insert(*item)).cloned().collect();
        return Ok(enforce_order(&identity, merged, patch, &original));
    };
    let mut deleted = HashSet::new();
    let mut additions: Vec<&Map<String, Value>> = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Value::Object(map) = item else {
            return Err(wrong_type("map[string]interface {}", item));
        };
        match map.get(PATCH) {
            None => additions.push(map),
            Some(directive) => match directive.as_str() {
                Some("replace") => replace = true,
                Some("delete") => {
                    deleted.insert(Key(required_key(map, merge_key)?));
                }
                Some("merge") => {
                    let why = "merging lists cannot yet be specified in the patch";
                    return Err(PatchError::Unmergeable(why.to_owned()));
                }
                _ => return Err(unknown_directive(directive, map)),
            },
        }
    }
    if replace {
        // What is put in place of the list stays as it is, also where two items have one key: a node of two families has two addresses
        // of one type.
        let whole = |item: &Map<String, Value>| merge_object(schema.items(), Map::new(), item).map(Value::Object);
        return additions.into_iter().map(whole).collect();
    }
    let stays = |item: &&Value| identity.key(item).is_none_or(|key| !deleted.contains(&key));
    let kept: Vec<&Value> = original.iter().filter(stays).collect();
    let mut places = identity.places(kept.iter().copied());
    let mut merged: Vec<Value> = kept.into_iter().cloned().collect();
    let mut order: Vec<Value> = Vec::with_capacity(additions.len());
    for addition in additions {
        let key = required_key(addition, merge_key)?;
        let mut plain = addition.clone();
        plain.remove(PATCH);
        match places.get(&Key(key)).copied() {
            Some(at) => {
                let existing = match merged[at].take() {
                    Value::Object(map) => map,
                    _ => Map::new(),
                };
                merged[at] = Value::Object(merge_object(schema.items(), existing, &plain)?);
            }
            None => {
                places.insert(Key(key), merged.len());
                merged.push(Value::Object(merge_object(schema.items(), Map::new(), &plain)?));
            }
        }
        order.push(Value::Object(Map::from_iter([(merge_key.to_owned(), key.clone())])));
    }
    Ok(enforce_order(&identity, merged, &order, &original))
}

fn required_key<'a>(map: &'a Map<String, Value>, merge_key: &str) -> Result<&'a Value, PatchError> {
    map.get(merge_key).filter(|key| !key.is_null()).ok_or_else(|| {
        let item = go_value(&Value::Object(map.clone()));
        PatchError::Unmergeable(format!("map: {item} does not contain declared merge key: {merge_key}"))
    })
}
