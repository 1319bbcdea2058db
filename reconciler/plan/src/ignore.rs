//! Fields that are left to others, and the object that is sent without them.
//!
//! An apply takes away what its manager alone has and no longer says. So an ignored field is not simply left out: what the
//! manager has of it live is sent as it is live, which changes nothing.

mod parse;

use std::fmt;

use serde_json::{Map, Value};
use setpoint_api::apply::{Merge, Place};
use setpoint_api::meta;

use crate::ownership::{self, Fields};
use crate::path::{Identity, Step};
use crate::policy::Policy;
use crate::secret;
use crate::structure::{self, Structure};

pub use parse::IgnoreError;

/// A field that an app leaves to others: `[KIND[/NAME]:]PATH`.
///
/// Displayed as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignore {
    text: String,
    /// Kind, and group where one was written.
    kind: Option<(String, Option<String>)>,
    name: Option<String>,
    path: Vec<Part>,
}

/// One step of an ignored path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// To a key.
    Key(String),
    /// To the items that have these values under these keys; to all items where there are none.
    Items(Vec<(String, String)>),
    /// To the items of this value.
    Value(String),
}

impl fmt::Display for Ignore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ignore {
    /// Returns whether the rule concerns an object.
    pub fn concerns(&self, object: &Value) -> bool {
        let kind = self.kind.as_ref().is_none_or(|(kind, group)| {
            let (found, _) = meta::group_version(meta::api_version(object));
            kind == meta::kind(object) && group.as_ref().is_none_or(|group| group == found)
        });
        kind && self.name.as_ref().is_none_or(|name| name == meta::name(object))
    }
}

impl Part {
    fn matches(&self, item: &Value) -> bool {
        match self {
            Part::Key(_) => false,
            Part::Items(keys) => keys
                .iter()
                .all(|(key, text)| item.get(key).is_some_and(|value| is_text(value, text))),
            Part::Value(text) => is_text(item, text),
        }
    }
}

fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Number(number) => number.to_string() == text,
        Value::Bool(truth) => text == if *truth { "true" } else { "false" },
        _ => false,
    }
}

/// Returns whether [`body`] leaves an object as it is but for what no comparison looks at.
pub(crate) fn is_sent_as_written(desired: &Value, policy: &Policy) -> bool {
    !secret::has_texts(desired)
        && !asks_for_any_address(desired)
        && !policy.ignore.iter().any(|ignore| ignore.concerns(desired))
}

/// A Service with an empty clusterIP asks for any, as one without does.
fn asks_for_any_address(object: &Value) -> bool {
    meta::kind(object) == "Service"
        && meta::api_version(object) == "v1"
        && object.pointer("/spec/clusterIP").is_some_and(|address| address == "")
}

/// Returns the object to send.
///
/// It is `desired` without nulls, status and what only the server writes; a Secret's stringData is in its data. An ignored field
/// has what the policy's manager owns of it in `live`, and is left out where that is nothing. Without a live object an ignored
/// field stays as desired, since somebody has to begin.
pub fn body(desired: &Value, live: Option<&Value>, policy: &Policy) -> Value {
    let structure = Structure::of(desired);
    let mut out = desired.clone();
    clean(&mut out, &structure);
    if let Some(live) = live {
        let mine = ownership::applied_by(live, &policy.manager);
        for ignore in policy.ignore.iter().filter(|ignore| ignore.concerns(desired)) {
            let at = At {
                place: structure.root(),
                top: Some(&structure),
                mine,
                whole: false,
            };
            keep(at, &ignore.path, &mut out, Some(live));
        }
    }
    out
}

/// Takes out what says nothing and what is not for us to say.
fn clean(object: &mut Value, structure: &Structure) {
    secret::encode_texts(object);
    if asks_for_any_address(object)
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("clusterIP");
    }
    if object.get("status").is_some()
        && structure::status_apart(object)
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace") || !structure::is_bookkeeping(key));
    }
    if let Some(map) = object.as_object_mut() {
        map.retain(|_, value| !value.is_null());
        for (key, value) in map {
            drop_nulls(structure.top(key), value, 0);
        }
    }
}

/// Drops nulls where they are no values of their own.
fn drop_nulls(place: Place<'_>, value: &mut Value, depth: usize) {
    if place.is_anything() || depth > ownership::MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !value.is_null() || place.child(key).is_anything());
            for (key, value) in map {
                drop_nulls(place.child(key), value, depth + 1);
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| drop_nulls(place.items(), item, depth + 1)),
        _ => {}
    }
}

/// Where in both objects the keeping of a field is.
#[derive(Clone, Copy)]
struct At<'a> {
    place: Place<'a>,
    /// Set at the top, where the structure knows more than the place.
    top: Option<&'a Structure>,
    /// What the manager has here.
    mine: Option<&'a Fields>,
    /// Whether this is part of something that merges as a whole: then others cannot have a part of it.
    whole: bool,
}

impl<'a> At<'a> {
    fn key(self, key: &str, live: Option<&Value>) -> At<'a> {
        At {
            place: self
                .top
                .map_or_else(|| self.place.child(key), |structure| structure.top(key)),
            top: None,
            mine: self.mine.and_then(|mine| ownership::below(mine, &Step::Key(key))),
            whole: self.is_whole(live),
        }
    }

    fn is_whole(self, live: Option<&Value>) -> bool {
        self.whole || live.is_some_and(|live| self.top.is_none() && matches!(self.place.merge(live), Merge::Whole))
    }

    fn identity(self, list: &Value) -> Option<Identity<'a>> {
        match self.place.merge(list) {
            Merge::Keys(keys) => Some(Identity::Keys(keys)),
            Merge::Set => Some(Identity::Value),
            _ => self.mine.and_then(ownership::identity),
        }
    }

    /// What of a live value here is sent.
    fn part(self, live: &Value) -> Option<Value> {
        if self.whole {
            return Some(live.clone());
        }
        self.mine.and_then(|mine| ownership::part(self.place, mine, live))
    }
}

/// Puts into `body` what is kept of an ignored field.
fn keep(at: At<'_>, path: &[Part], body: &mut Value, live: Option<&Value>) {
    match path {
        [] => {}
        [Part::Key(key), rest @ ..] => {
            let Value::Object(map) = body else { return };
            let below = at.key(key, live);
            let live = live.and_then(|live| live.get(key)).filter(|live| !live.is_null());
            if rest.is_empty() {
                match live.and_then(|live| below.part(live)) {
                    Some(part) => map.insert(key.clone(), part),
                    None => map.remove(key),
                };
                return;
            }
            match map.get_mut(key) {
                Some(child) => {
                    let had = !is_empty(child);
                    keep(below, rest, child, live);
                    if had && is_empty(child) {
                        map.remove(key);
                    }
                }
                // What leads to a kept field is made, but for items of lists: whoever drops an item drops all of it.
                None if live.is_some() && matches!(rest.first(), Some(Part::Key(_))) => {
                    let mut child = Value::Object(Map::new());
                    keep(below, rest, &mut child, live);
                    if !is_empty(&child) {
                        map.insert(key.clone(), child);
                    }
                }
                None => {}
            }
        }
        [part, rest @ ..] => keep_items(at, part, rest, body, live),
    }
}

fn keep_items(at: At<'_>, part: &Part, rest: &[Part], body: &mut Value, live: Option<&Value>) {
    let live_list = live.and_then(Value::as_array);
    let identity = at.identity(live.unwrap_or(body));
    let Value::Array(items) = body else { return };
    let inner = |item: &Value| At {
        place: at.place.items(),
        top: None,
        mine: match (&identity, at.mine) {
            (Some(identity), Some(mine)) => ownership::below(mine, &Step::Item(item, identity.clone())),
            _ => None,
        },
        whole: at.whole || identity.is_none(),
    };
    let find = |item: &Value| -> Option<&Value> {
        live_list?.iter().find(|live| match &identity {
            Some(identity) => identity.same(item, live),
            None => part.matches(live),
        })
    };
    if !rest.is_empty() {
        for item in items.iter_mut().filter(|item| part.matches(item)) {
            let (at, live) = (inner(item), find(item));
            keep(at, rest, item, live);
        }
        return;
    }
    items.retain(|item| !part.matches(item));
    for live in live_list.into_iter().flatten().filter(|item| part.matches(item)) {
        items.extend(inner(live).part(live));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
