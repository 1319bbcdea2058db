//! Field ownership (`metadata.managedFields`) and server-side apply.
//!
//! Every field of an object has managers: whoever applied it (operation `Apply`) or wrote it in another way (`Update`). An
//! apply merges what it says into the live object, takes away what its manager alone had applied before and no longer says,
//! and conflicts where it would change what another manager has. The rules are those of Kubernetes' structured merge diff.
//!
//! * [`server_side`] answers an apply, [`track_update`] keeps the owners in every other write.
//! * [`fields`]: sets of paths, and their form in `fieldsV1`.
//! * [`Place`]: how values merge, for comparing objects without applying anything.
//!
//! Invariants: nobody owns the bookkeeping of `metadata` (name, uid, resourceVersion, …); an entry without fields is gone;
//! an entry's time moves only when its fields or the object did.

pub mod fields;

mod differ;
mod last_applied;
mod managed;
mod merger;
mod node;
mod place;
mod scale;
#[cfg(test)]
mod tests;
mod typed;
mod versions;

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use self::differ::{compare, field_set};
use self::fields::{PathElement, Set};
use self::managed::{Entry, Managers, Operation};
use self::node::Node;
use self::versions::{Comparisons, spoken};
use crate::Status;
use crate::schema::Schema;
use crate::status::Cause;

pub use self::place::{Keys, Merge, Place, Sort};
pub use self::scale::{owners_in_object, owners_in_scale};
pub(crate) use self::typed::go_type;
pub use self::typed::go_value;
pub use self::versions::{OtherVersion, SameForm, Versions};

/// The manager of everything in an object that had no owners before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, through what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The apiVersion that the writer spoke.
    pub api_version: &'a str,
    /// The subresource, or "" for the object itself.
    pub subresource: &'a str,
    /// The time of the write.
    pub now: Timestamp,
    /// Which part of the object this path writes.
    pub scope: Scope<'a>,
}

/// Which part of an object a path writes; the rest is as it was, whatever a client says, and nobody comes to own it by that.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// All but what these keys lead to.
    Without(&'a [&'a [&'a str]]),
    /// The status alone.
    StatusOnly,
}

/// A field that an apply would change though another manager has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager as messages name it: `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// The field: `.spec.replicas`.
    pub path: String,
}

/// Why an apply was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Other managers have fields that would change.
    Conflicts(Vec<Conflict>),
    /// What was applied cannot be: the reason.
    Invalid(String),
    /// What was applied does not have the kind's structure. Kubernetes calls this a fault of its own.
    Untyped(String),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conflicts = match self {
            ApplyError::Invalid(why) | ApplyError::Untyped(why) => return f.write_str(why),
            ApplyError::Conflicts(conflicts) => conflicts,
        };
        if let [only] = &conflicts[..] {
            return write!(
                f,
                "Apply failed with 1 conflict: conflict with {}: {}",
                only.manager, only.path
            );
        }
        write!(f, "Apply failed with {} conflicts: ", conflicts.len())?;
        let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
        managers.sort_unstable();
        managers.dedup();
        for (index, manager) in managers.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}conflicts with {manager}:")?;
            for conflict in conflicts.iter().filter(|conflict| conflict.manager == **manager) {
                write!(f, "\n- {}", conflict.path)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {}

impl ApplyError {
    /// Returns the answer for the client: 409 with a cause per conflict, 400, or 500 without a reason.
    pub fn status(&self) -> Status {
        match self {
            ApplyError::Invalid(why) => Status::bad_request(why.clone()),
            ApplyError::Untyped(why) => Status::new(500, "", why.clone()),
            ApplyError::Conflicts(conflicts) => {
                let causes = conflicts.iter().map(|conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.manager),
                    field: conflict.path.clone(),
                });
                Status::new(409, "Conflict", self.to_string()).with_causes(causes.collect())
            }
        }
    }
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Status {
        error.status()
    }
}

/// Returns the manager of a client that names none: its user agent up to the first slash.
pub fn manager_from_user_agent(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// Applies a configuration to the live object, or to nothing, and returns the object as it should be, with its owners.
///
/// An apply through the status subresource reads and changes `status` only; one of the object itself leaves it alone where
/// `status` stands apart.
///
/// Errors: conflicts unless `force` is set; a configuration that has managedFields, unknown fields or items without keys.
pub fn server_side(
    schema: &Schema,
    live: Option<&Value>,
    applied: &Value,
    force: bool,
    writer: &Writer<'_>,
) -> Result<Value, ApplyError> {
    server_side_among(schema, live, applied, force, writer, &SameForm)
}

/// As [`server_side`], for a kind whose versions differ in form: each manager's fields are those of the version that it spoke.
///
/// `live`, `applied` and the result are in the writer's version, whose structure is `schema`.
pub fn server_side_among(
    schema: &Schema,
    live: Option<&Value>,
    applied: &Value,
    force: bool,
    writer: &Writer<'_>,
    versions: &dyn Versions,
) -> Result<Value, ApplyError> {
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|found| !found.is_null())
    {
        return Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()));
    }
    let root = Node::root(schema);
    let configuration = writer.visible(applied);
    check_configuration(&root, &configuration)?;
    match apply_once(&root, live, &configuration, force, writer, versions) {
        Err(ApplyError::Conflicts(conflicts)) => {
            // What kubectl applied on the client's side before, its server-side apply may take over.
            let allowed = match live {
                Some(live) if writer.manager == last_applied::MANAGER => last_applied::unchanged_since(&root, live),
                _ => return Err(ApplyError::Conflicts(conflicts)),
            };
            let paths = allowed.paths();
            let rest: Vec<Conflict> = conflicts
                .into_iter()
                .filter(|conflict| !paths.contains(&conflict.path))
                .collect();
            if rest.is_empty() {
                apply_once(&root, live, &configuration, true, writer, versions)
            } else {
                Err(ApplyError::Conflicts(rest))
            }
        }
        other => other,
    }
    .map(|mut object| {
        if writer.manager == last_applied::MANAGER {
            last_applied::refresh(&mut object, applied);
        }
        object
    })
}

/// Refuses what cannot be merged: unknown fields, wrong types, and items of which nobody can say which they are.
fn check_configuration(root: &Node<'_>, configuration: &Value) -> Result<(), ApplyError> {
    match typed::fault(root, configuration) {
        None => Ok(()),
        Some(fault) => Err(ApplyError::Untyped(format!(
            "failed to create typed patch object ({}): {fault}",
            described(configuration)
        ))),
    }
}

/// An object as the messages of apply name it: `namespace/name; group/version, Kind=Kind`.
pub fn described(object: &Value) -> String {
    let text = |path: &[&str]| crate::meta::str_at(object, path);
    format!(
        "{}/{}; {}, Kind={}",
        text(&["metadata", "namespace"]),
        text(&["metadata", "name"]),
        text(&["apiVersion"]),
        text(&["kind"])
    )
}

fn apply_once(
    root: &Node<'_>,
    live: Option<&Value>,
    configuration: &Value,
    force: bool,
    writer: &Writer<'_>,
    versions: &dyn Versions,
) -> Result<Value, ApplyError> {
    let nothing = Value::Object(Map::new());
    let before = live.unwrap_or(&nothing);
    let mut managers = Managers::decode(before).unwrap_or_default();
    if managers.is_empty() && live.is_some() {
        managers.0.push(before_first_apply(root, before, writer));
    }
    let said = field_set(root, configuration);
    let mut set = said.clone();
    writer.strip(&mut set);
    let mine = managers.0.iter().position(|entry| entry.is_apply_of(writer));
    let last = mine.map(|at| managers.0.remove(at));
    let entry = Entry {
        manager: writer.name().to_owned(),
        operation: Operation::Apply,
        api_version: writer.api_version.to_owned(),
        subresource: writer.subresource.to_owned(),
        time: Some(managed::time(writer.now)),
        set,
    };
    let merged = merger::merge(root, before, configuration);
    let merged = match &last {
        Some(last) => withdraw(root, merged, last, &said, &managers, versions),
        None => merged,
    };
    let comparisons = Comparisons::new(root, (before, &merged), &managers, versions, |comparison| {
        writer.filter(comparison);
    });
    let mut conflicts = Vec::new();
    for other in &mut managers.0 {
        let comparison = comparisons.of(other);
        let contested = other.set.intersection(&comparison.changed());
        for path in contested.paths() {
            conflicts.push(Conflict {
                manager: other.describe(),
                path,
            });
        }
        other.set = other.set.difference(&contested).difference(&comparison.removed);
    }
    if !force && !conflicts.is_empty() {
        conflicts.sort_by(|a, b| (&a.manager, &a.path).cmp(&(&b.manager, &b.path)));
        return Err(ApplyError::Conflicts(conflicts));
    }
    let entry = match last {
        // Said again, and nothing came of it: the entry stays as it was, its time too.
        Some(last) if last.set == entry.set && last.api_version == entry.api_version && comparisons.own().is_same() => {
            last
        }
        _ => entry,
    };
    managers.0.push(entry);
    let mut out = merged;
    managers.encode_into(&mut out);
    Ok(out)
}

fn before_first_apply(root: &Node<'_>, live: &Value, writer: &Writer<'_>) -> Entry {
    let empty = Value::Object(Map::new());
    let mut set = compare(root, Some(&empty), Some(live)).changed();
    writer.strip_bookkeeping(&mut set);
    Entry {
        manager: BEFORE_FIRST_APPLY.to_owned(),
        operation: Operation::Update,
        api_version: writer.api_version.to_owned(),
        subresource: String::new(),
        time: Some(managed::time(writer.now)),
        set,
    }
}

/// Takes out of a merged object what its manager applied before, says no more, and nobody else has.
fn withdraw(
    root: &Node<'_>,
    merged: Value,
    last: &Entry,
    said: &Set,
    others: &Managers,
    versions: &dyn Versions,
) -> Value {
    // What it applied it said in a version of its own time.
    let before = versions.other(&last.api_version);
    let mut pruned = within(root, before.as_ref(), &merged, |root, merged| {
        merger::remove(root, merged, &last.set.with_named_fields(root))
    });
    // What somebody has comes back, and with it all that leads there.
    let same = |version: &&str| versions.other(version).is_none();
    let mine = spoken(others)
        .into_iter()
        .filter(same)
        .fold(said.clone(), |all, version| all.union(&owned(others, version)));
    pruned = give_back(root, &merged, &pruned, &mine);
    for version in spoken(others) {
        if let Some(other) = versions.other(version) {
            let root = Node::root(&other.schema);
            let back = give_back(
                &root,
                &other.seen(&merged),
                &other.seen(&pruned),
                &owned(others, version),
            );
            pruned = other.returned(back);
        }
    }
    // What the manager never applied stays, even where it hung below what goes.
    let left = before
        .as_ref()
        .map_or_else(|| pruned.clone(), |version| version.seen(&pruned));
    within(root, before.as_ref(), &merged, |root, merged| {
        let kept = field_set(root, &left).with_named_fields(root);
        let all = field_set(root, merged).with_named_fields(root);
        let gone = all.difference(&kept).intersection(&last.set.with_named_fields(root));
        merger::remove(root, merged, &gone)
    })
}

/// Does something to an object in another version, where there is one.
fn within(
    root: &Node<'_>,
    version: Option<&OtherVersion>,
    object: &Value,
    change: impl Fn(&Node<'_>, &Value) -> Value,
) -> Value {
    match version {
        None => change(root, object),
        Some(version) => version.returned(change(&Node::root(&version.schema), &version.seen(object))),
    }
}

/// Returns what was pruned with what is owned given back to it.
fn give_back(root: &Node<'_>, merged: &Value, pruned: &Value, owned: &Set) -> Value {
    let owned = owned.with_named_fields(root);
    let all = field_set(root, merged).with_named_fields(root);
    let kept = field_set(root, pruned).with_named_fields(root).union(&owned);
    merger::remove(root, merged, &all.difference(&kept))
}

/// Returns what the managers have that spoke a version.
fn owned(managers: &Managers, version: &str) -> Set {
    let spoke = managers.0.iter().filter(|entry| entry.api_version == version);
    spoke.fold(Set::default(), |all, entry| all.union(&entry.set))
}

/// Sets the owners of an object that was created or changed by anything but an apply.
///
/// `old` is the object as it was, or nothing on create. The new object's own managedFields count, as a client may edit them; a
/// single empty entry resets them. An object that has no owners does not come to have some by an update.
pub fn track_update(schema: &Schema, old: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    track_update_among(schema, old, new, writer, &SameForm);
}

/// As [`track_update`], for a kind whose versions differ in form; `old` and `new` are in the writer's version.
pub fn track_update_among(
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    writer: &Writer<'_>,
    versions: &dyn Versions,
) {
    let root = Node::root(schema);
    let said = new.pointer("/metadata/managedFields").cloned();
    let reset = writer.subresource.is_empty() && said.as_ref().is_some_and(managed::is_reset);
    let mut managers = Managers::default();
    if !reset {
        if writer.subresource.is_empty() {
            managers = Managers::decode(new).unwrap_or_default();
        }
        if managers.is_empty() {
            managers = old.and_then(Managers::decode).unwrap_or_default();
        }
    }
    if managers.is_empty() && old.is_some() {
        Managers::default().encode_into(new);
        return;
    }
    let empty = Value::Object(Map::new());
    let comparisons = Comparisons::new(&root, (old.unwrap_or(&empty), new), &managers, versions, |comparison| {
        writer.filter(comparison);
    });
    for entry in &mut managers.0 {
        let comparison = comparisons.of(entry);
        writer.strip_bookkeeping(&mut entry.set);
        entry.set = entry
            .set
            .difference(&comparison.changed())
            .difference(&comparison.removed);
    }
    let changed = comparisons.own().changed();
    if !changed.is_empty() {
        let time = managed::time(writer.now);
        match managers.0.iter_mut().find(|entry| entry.is_update_of(writer)) {
            Some(entry) => {
                entry.set = entry.set.union(&changed);
                entry.time = Some(time);
            }
            None => managers.0.push(Entry {
                manager: writer.name().to_owned(),
                operation: Operation::Update,
                api_version: writer.api_version.to_owned(),
                subresource: writer.subresource.to_owned(),
                time: Some(time),
                set: changed,
            }),
        }
    }
    managers.cap();
    managers.encode_into(new);
}

impl Writer<'_> {
    fn name(&self) -> &str {
        if self.manager.is_empty() {
            "unknown"
        } else {
            self.manager
        }
    }

    /// The part of a configuration that this write can change.
    fn visible(&self, applied: &Value) -> Value {
        let mut out = applied.clone();
        let Value::Object(map) = &mut out else { return out };
        if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
            // Exported objects carry these; they are the server's.
            metadata.retain(|key, _| {
                !matches!(
                    key.as_str(),
                    "creationTimestamp" | "deletionTimestamp" | "generation" | "managedFields" | "selfLink"
                )
            });
        }
        match self.scope {
            Scope::StatusOnly => {
                map.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
                if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
                    metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "uid" | "resourceVersion"));
                }
            }
            Scope::Without(paths) => paths.iter().for_each(|path| take_out(map, path)),
        }
        out
    }

    /// Keeps of a set what this write can own.
    fn strip(&self, set: &mut Set) {
        match self.scope {
            Scope::StatusOnly => {
                let status = PathElement::field("status");
                set.retain_top(|element| *element == status);
            }
            Scope::Without(paths) => paths.iter().for_each(|path| set.remove_path(path)),
        }
        self.strip_bookkeeping(set);
    }

    /// Takes out what nobody owns.
    fn strip_bookkeeping(&self, set: &mut Set) {
        const METADATA: [&str; 9] = [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ];
        set.remove_top(&PathElement::field("apiVersion"));
        set.remove_top(&PathElement::field("kind"));
        let metadata = PathElement::field("metadata");
        set.members.remove(&metadata);
        if let Some(inner) = set.children.get_mut(&metadata) {
            for name in METADATA {
                inner.remove_top(&PathElement::field(name));
            }
            if inner.is_empty() {
                set.children.remove(&metadata);
            }
        }
    }
}

/// Takes the field out that some keys lead to.
fn take_out(map: &mut Map<String, Value>, path: &[&str]) {
    match path {
        [] => {}
        [last] => drop(map.remove(*last)),
        [first, rest @ ..] => {
            if let Some(Value::Object(below)) = map.get_mut(*first) {
                take_out(below, rest);
            }
        }
    }
}
