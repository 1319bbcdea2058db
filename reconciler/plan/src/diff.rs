//! What an apply would change in one object.
//!
//! First a walk over what is wanted, which copies nothing: it finds out whether anything differs, or whether the manager has a
//! field that is no longer wanted. Mostly nothing does, and that is the answer. Else the apply is computed (structure permitting)
//! with [`setpoint_api::apply::server_side`], what the server fills in is filled in, and the differences to what is live are the
//! answer. So the answer is what an apply does, and not an opinion of its own.
//!
//! Means the same: quantities of one amount, null and absent, empty maps and lists where the server does not keep them, base64
//! with other line breaks, and a zero value that the manager has applied and the server has left out.
//!
//! Of kinds whose structure is not known, maps are compared key by key; lists item by item where the owners of the fields name
//! keys, else item by item as they stand (what an item has beyond what is wanted counts for nothing), and as a whole where their
//! lengths differ.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use setpoint_api::apply::{self, Merge, Place, Scope};
use setpoint_api::schema::Schema;
use setpoint_api::{meta, strategy};

use crate::equal::{is_hollow, is_zero, same};
use crate::ignore;
use crate::ownership::{self, Fields, Lost, MAX_DEPTH};
use crate::path::{Identity, Step, show};
use crate::policy::Policy;
use crate::structure::{self, Structure};

/// A field that an apply would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field: `spec.template.spec.containers[name=web].image`.
    ///
    /// Of a list whose items only change places it is the list, and the values are what its items are known by.
    pub path: String,
    /// What it is; nothing where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What it will be; nothing where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// Returns what a forced apply of `desired` by the policy's manager would change in `live`, in the order of the paths.
///
/// Fields that the policy leaves to others do not count, nor does who owns a field.
pub fn changes(desired: &Value, live: &Value, policy: &Policy) -> Vec<FieldChange> {
    let structure = Structure::of(desired);
    let wanted = if ignore::is_sent_as_written(desired, policy) {
        Cow::Borrowed(desired)
    } else {
        Cow::Owned(ignore::body(desired, Some(live), policy))
    };
    let mine = ownership::applied_by(live, &policy.manager);
    let mut found = Walk::new(&structure, Mode::Wanted, mine).compare(&wanted, live);
    if found.is_empty() && !mine.is_some_and(|mine| loses(&structure, mine, &wanted, live)) {
        return found;
    }
    if let Some(schema) = structure.known()
        && let Some((before, after)) = applied(schema, desired, live, policy)
    {
        let walk = Walk::new(&structure, Mode::Whole, mine);
        found = walk.compare(&after, &before);
    } else if let Some(mine) = mine {
        // Of an unknown structure, or refused by it: the API will say why.
        let others = ownership::others(live, &policy.manager);
        let mut note = |path: &[Step<'_>], value: &Value| {
            found.push(FieldChange {
                path: show(path),
                from: Some(value.clone()),
                to: None,
            });
            true
        };
        search(&structure, mine, &others, &wanted, live, &mut note);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Returns how an object differs after a write from what it was before: every field, also of its status, but for the revision and the
/// bookkeeping of who owns what.
pub(crate) fn written(before: &Value, after: &Value) -> Vec<FieldChange> {
    let structure = Structure::of(after);
    let mut found = Walk::new(&structure, Mode::Written, None).compare(after, before);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Returns the live object and what an apply would make of it, both as the server would fill them in; nothing if the
/// configuration is refused.
fn applied(schema: &Schema, desired: &Value, live: &Value, policy: &Policy) -> Option<(Value, Value)> {
    let row = structure::row(desired);
    let body = ignore::body(desired, Some(live), policy);
    let writer = apply::Writer {
        manager: &policy.manager,
        api_version: meta::api_version(desired),
        subresource: "",
        // Only the owners carry it, and they are not compared.
        now: Timestamp::UNIX_EPOCH,
        scope: row
            .as_ref()
            .map_or(Scope::Without(&[&["status"]]), |row| strategy::scope(row, "")),
    };
    let mut after = apply::server_side(schema, Some(live), &body, true, &writer).ok()?;
    let mut before = live.clone();
    for object in [&mut before, &mut after] {
        schema.prune(object);
        if let Some(row) = &row {
            row.default(object);
        }
    }
    Some((before, after))
}

fn loses(structure: &Structure, mine: &Fields, wanted: &Value, live: &Value) -> bool {
    let mut any = false;
    search(structure, mine, &[], wanted, live, &mut |_, _| {
        any = true;
        false
    });
    any
}

fn search<'a>(
    structure: &'a Structure,
    mine: &'a Fields,
    others: &[&'a Fields],
    wanted: &Value,
    live: &'a Value,
    found: &mut dyn FnMut(&[Step<'a>], &'a Value) -> bool,
) {
    // Only metadata of an unknown kind has a structure, and its lists are few: the steps below them say what they are known by.
    Lost::new(found).search(structure.root(), mine, others, Some(wanted), live);
}

/// What differs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// What is wanted and is not so.
    Wanted,
    /// Also what is there and not wanted.
    Whole,
    /// Also what an apply does not change.
    Written,
}

struct Walk<'a> {
    structure: &'a Structure,
    mode: Mode,
    mine: Option<&'a Fields>,
    path: Vec<Step<'a>>,
    found: Vec<FieldChange>,
}

impl<'a> Walk<'a> {
    fn new(structure: &'a Structure, mode: Mode, mine: Option<&'a Fields>) -> Walk<'a> {
        Walk {
            structure,
            mode,
            mine,
            path: Vec::with_capacity(12),
            found: Vec::new(),
        }
    }

    fn compare(mut self, want: &'a Value, have: &'a Value) -> Vec<FieldChange> {
        if let (Value::Object(want), Value::Object(have)) = (want, have) {
            self.fields(self.structure.root(), want, have);
        }
        self.found
    }

    fn differ(&mut self, have: Option<&Value>, want: Option<&Value>) {
        self.found.push(FieldChange {
            path: show(&self.path),
            from: have.cloned(),
            to: want.cloned(),
        });
    }

    fn is_mine(&self) -> bool {
        self.mine.is_some_and(|mine| ownership::at(mine, &self.path).is_some())
    }

    /// Whether a key is none that an apply changes.
    fn is_skipped(&self, key: &str, want: &Map<String, Value>) -> bool {
        match &self.path[..] {
            [Step::Key("metadata")] if self.mode == Mode::Written => {
                matches!(key, "managedFields" | "resourceVersion" | "generation")
            }
            [] if self.mode == Mode::Written => false,
            [] if key == "status" => {
                let text = |key: &str| want.get(key).and_then(Value::as_str).unwrap_or_default().into();
                let identity: Map<String, Value> = ["apiVersion", "kind"]
                    .map(|key| (key.to_owned(), text(key)))
                    .into_iter()
                    .collect();
                structure::status_apart(&Value::Object(identity))
            }
            [] => matches!(key, "apiVersion" | "kind"),
            [Step::Key("metadata")] => structure::is_bookkeeping(key),
            _ => false,
        }
    }

    fn child(&self, place: Place<'a>, key: &str) -> Place<'a> {
        if self.path.is_empty() {
            self.structure.top(key)
        } else {
            place.child(key)
        }
    }

    fn fields(&mut self, place: Place<'a>, want: &'a Map<String, Value>, have: &'a Map<String, Value>) {
        for (key, wanted) in want {
            // Null is as good as absent.
            if wanted.is_null() || self.is_skipped(key, want) {
                continue;
            }
            let child = self.child(place, key);
            self.path.push(Step::Key(key));
            match have.get(key).filter(|have| !have.is_null()) {
                Some(have) => self.values(child, wanted, have),
                None if is_hollow(child, wanted) => {}
                None if is_zero(wanted) && child.is_field() && (self.is_mine() || (key == "value" && wanted == "")) => {
                }
                None => self.differ(None, Some(wanted)),
            }
            self.path.pop();
        }
        if self.mode == Mode::Wanted {
            return;
        }
        for (key, found) in have {
            if want.get(key).is_some_and(|wanted| !wanted.is_null()) || self.is_skipped(key, want) {
                continue;
            }
            let child = self.child(place, key);
            if !is_hollow(child, found) {
                self.path.push(Step::Key(key));
                self.differ(Some(found), None);
                self.path.pop();
            }
        }
    }

    fn values(&mut self, place: Place<'a>, want: &'a Value, have: &'a Value) {
        if self.path.len() > MAX_DEPTH {
            if want != have {
                self.differ(Some(have), Some(want));
            }
            return;
        }
        match (place.merge_of(want, have), want, have) {
            (Merge::Fields, Value::Object(want), Value::Object(have)) => self.fields(place, want, have),
            (Merge::Keys(keys), Value::Array(want), Value::Array(have)) => {
                self.items(place, &Identity::Keys(keys), want, have);
            }
            (Merge::Set, Value::Array(want), Value::Array(have)) => self.items(place, &Identity::Value, want, have),
            (_, Value::Array(wanted), Value::Array(found))
                if place.is_anything() && self.structure.known().is_none() =>
            {
                let below = self.mine.and_then(|mine| ownership::at(mine, &self.path));
                if let Some(identity) = below.and_then(ownership::identity) {
                    self.items(place, &identity, wanted, found);
                } else if wanted.len() == found.len() {
                    for (index, (want, have)) in wanted.iter().zip(found).enumerate() {
                        self.path.push(Step::Index(index));
                        self.values(place.items(), want, have);
                        self.path.pop();
                    }
                } else {
                    self.differ(Some(have), Some(want));
                }
            }
            _ => {
                let equal = same(place, want, have, false)
                    // Part of a whole, so the whole tells whether it is as it was applied.
                    || (self.mode == Mode::Wanted && same(place, want, have, true) && self.is_mine());
                if !equal {
                    self.differ(Some(have), Some(want));
                }
            }
        }
    }

    fn items(&mut self, place: Place<'a>, identity: &Identity<'a>, want: &'a [Value], have: &'a [Value]) {
        let inner = place.items();
        let mut matched = vec![false; have.len()];
        let (mut next, mut in_order) = (0, true);
        for wanted in want {
            let is_it = |found: &Value| identity.same(wanted, found);
            // Mostly it is the next one.
            let at = match have.get(next) {
                Some(found) if is_it(found) => Some(next),
                _ => have.iter().position(is_it),
            };
            self.path.push(Step::Item(wanted, identity.clone()));
            match at {
                Some(at) => {
                    in_order &= at >= next;
                    next = at + 1;
                    matched[at] = true;
                    if !matches!(identity, Identity::Value) {
                        self.values(inner, wanted, &have[at]);
                    }
                }
                None => self.differ(None, Some(wanted)),
            }
            self.path.pop();
        }
        for (found, _) in have.iter().zip(&matched).filter(|(_, matched)| !**matched) {
            let twice = want.iter().any(|wanted| identity.same(wanted, found));
            if twice || self.mode != Mode::Wanted {
                self.path.push(Step::Item(found, identity.clone()));
                self.differ(Some(found), None);
                self.path.pop();
            }
        }
        if !in_order {
            let both = |list: &[Value], other: &[Value]| -> Value {
                list.iter()
                    .filter(|item| other.iter().any(|other| identity.same(item, other)))
                    .map(|item| identity.of(item))
                    .collect()
            };
            let (from, to) = (both(have, want), both(want, have));
            self.differ(Some(&from), Some(&to));
        }
    }
}

#[cfg(test)]
mod tests;
