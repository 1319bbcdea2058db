//! Who has which fields of a live object, read from `metadata.managedFields` in the form in which it stands there.

use serde_json::{Map, Value};
use setpoint_api::apply::{Merge, Place};

use crate::path::{Identity, Label, Step};

/// The fields of one manager.
pub(crate) type Fields = Map<String, Value>;

/// Deeper than this nothing is looked at; objects nest less deep.
pub(crate) const MAX_DEPTH: usize = 200;

fn entries(live: &Value) -> impl Iterator<Item = (&str, bool, &Fields)> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let applied = text("operation") == "Apply" && text("subresource").is_empty();
        Some((text("manager"), applied, entry.get("fieldsV1")?.as_object()?))
    })
}

/// Returns what a manager has by applying it.
pub(crate) fn applied_by<'a>(live: &'a Value, manager: &str) -> Option<&'a Fields> {
    entries(live)
        .find(|(name, applied, _)| *applied && *name == manager)
        .map(|(_, _, fields)| fields)
}

/// Returns what everybody else has.
pub(crate) fn others<'a>(live: &'a Value, manager: &str) -> Vec<&'a Fields> {
    entries(live)
        .filter(|(name, applied, _)| !(*applied && *name == manager))
        .map(|(_, _, fields)| fields)
        .collect()
}

/// Returns what is had below a step.
pub(crate) fn below<'a>(fields: &'a Fields, step: &Step<'_>) -> Option<&'a Fields> {
    let found = match step {
        Step::Key(key) => fields.get(&field(key)),
        Step::Item(item, identity) => fields
            .iter()
            .find(|(step, _)| Label::parse(step).is_some_and(|label| identity.is_at(&label, item)))
            .map(|(_, below)| below),
        Step::Index(_) => None,
    };
    found.and_then(Value::as_object)
}

/// Returns what is had below a path, or nothing where nothing is had there.
pub(crate) fn at<'a>(fields: &'a Fields, path: &[Step<'_>]) -> Option<&'a Fields> {
    path.iter().try_fold(fields, |fields, step| below(fields, step))
}

/// Writes the step to a key as `fieldsV1` has it.
pub(crate) fn field(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 2);
    out.push_str("f:");
    out.push_str(key);
    out
}

/// Returns what the items of a list of unknown structure are known by, going by the steps below it.
pub(crate) fn identity(fields: &Fields) -> Option<Identity<'static>> {
    fields.keys().find_map(|step| {
        if let Some(text) = step.strip_prefix("k:") {
            let keys: Map<String, Value> = serde_json::from_str(text).ok()?;
            return Some(Identity::Names(keys.into_iter().map(|(name, _)| name).collect()));
        }
        step.starts_with("v:").then_some(Identity::Value)
    })
}

/// Looks for fields that a manager has, that are there, and that it no longer wants.
pub(crate) struct Lost<'a, 'f> {
    /// Where the search is.
    path: Vec<Step<'a>>,
    /// Called with each; answers whether to go on.
    found: &'f mut dyn FnMut(&[Step<'a>], &'a Value) -> bool,
}

impl<'a, 'f> Lost<'a, 'f> {
    /// Starts a search.
    pub fn new(found: &'f mut dyn FnMut(&[Step<'a>], &'a Value) -> bool) -> Lost<'a, 'f> {
        Lost {
            path: Vec::new(),
            found,
        }
    }

    /// Searches below a place; `others` are what other managers have there. Answers whether to go on.
    pub fn search(
        &mut self,
        place: Place<'a>,
        mine: &'a Fields,
        others: &[&'a Fields],
        want: Option<&Value>,
        have: &'a Value,
    ) -> bool {
        if self.path.len() > MAX_DEPTH {
            return true;
        }
        for (text, below) in mine {
            let Some(below) = below.as_object() else { continue };
            let (step, place, want, have) = if let Some(key) = text.strip_prefix("f:") {
                let want = want.and_then(|want| want.get(key)).filter(|want| !want.is_null());
                if below.is_empty() && want.is_some() {
                    continue;
                }
                let Some(have) = have.get(key).filter(|have| !have.is_null()) else {
                    continue;
                };
                (Step::Key(key), place.child(key), want, have)
            } else if let Some(label) = Label::parse(text) {
                let identity = match place.merge(have) {
                    Merge::Keys(keys) => Identity::Keys(keys),
                    Merge::Set => Identity::Value,
                    _ if place.is_anything() => match identity(mine) {
                        Some(identity) => identity,
                        None => continue,
                    },
                    _ => continue,
                };
                let item = |list: &'a Value| list.as_array()?.iter().find(|item| identity.is_at(&label, item));
                let Some(have) = item(have) else { continue };
                let wanted = want.and_then(Value::as_array);
                let want = wanted.and_then(|items| items.iter().find(|item| identity.same(item, have)));
                (Step::Item(have, identity), place.items(), want, have)
            } else {
                continue;
            };
            let theirs: Vec<&Fields> = others
                .iter()
                .filter_map(|fields| fields.get(text)?.as_object())
                .collect();
            self.path.push(step);
            let itself = below.is_empty() || below.contains_key(".");
            let go_on = if want.is_none() && itself && theirs.is_empty() {
                (self.found)(&self.path, have)
            } else {
                below.is_empty() || self.search(place, below, &theirs, want, have)
            };
            self.path.pop();
            if !go_on {
                return false;
            }
        }
        true
    }
}

/// Returns the part of a live value that a manager has, or nothing where it has nothing of it.
pub(crate) fn part(place: Place<'_>, mine: &Fields, live: &Value) -> Option<Value> {
    part_at(place, mine, live, 0)
}

fn part_at(place: Place<'_>, mine: &Fields, live: &Value, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return Some(live.clone());
    }
    let itself = mine.is_empty() || mine.contains_key(".");
    match (place.merge(live), live) {
        (Merge::Fields, Value::Object(map)) => {
            let mut out = Map::new();
            for (key, value) in map {
                if let Some(below) = mine.get(&field(key)).and_then(Value::as_object)
                    && let Some(part) = part_at(place.child(key), below, value, depth + 1)
                {
                    out.insert(key.clone(), part);
                }
            }
            (itself || !out.is_empty()).then_some(Value::Object(out))
        }
        (merge, Value::Array(items)) => {
            let identity = match merge {
                Merge::Keys(keys) => Identity::Keys(keys),
                Merge::Set => Identity::Value,
                _ => match identity(mine) {
                    Some(identity) if place.is_anything() => identity,
                    _ => return Some(live.clone()),
                },
            };
            let mut out = Vec::new();
            for item in items {
                let step = Step::Item(item, identity.clone());
                let Some(below) = below(mine, &step) else { continue };
                let mut part = part_at(place.items(), below, item, depth + 1);
                if let (Some(Value::Object(part)), Value::Object(item)) = (&mut part, item) {
                    // An item is nothing without what it is known by.
                    for (key, value) in item {
                        let is_key = match &identity {
                            Identity::Keys(keys) => keys.iter().any(|(name, _)| name == key),
                            Identity::Names(names) => names.iter().any(|name| name == key),
                            Identity::Value => false,
                        };
                        if is_key {
                            part.insert(key.clone(), value.clone());
                        }
                    }
                }
                out.extend(part);
            }
            (itself || !out.is_empty()).then_some(Value::Array(out))
        }
        _ => Some(live.clone()),
    }
}
