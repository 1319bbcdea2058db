//! CustomResourceDefinitions: their names are accepted or not when they are written, and they outlive their objects.

use std::collections::HashSet;

use serde_json::{Value, json};
use setpoint_api::validate::{definition, field::FieldError};
use setpoint_api::{Status, meta};
use tokio::sync::Mutex;

use super::{Removal, Scene, Strategy};
use crate::crd::{self, FINALIZER, RESOURCE};
use crate::registry::{DeleteOptions, mark};

#[derive(Default)]
pub(crate) struct Definitions {
    /// Two definitions that want one name at the same moment must see each other.
    exclusive: Mutex<()>,
}

impl Strategy for Definitions {
    fn exclusive(&self) -> Option<&Mutex<()>> {
        Some(&self.exclusive)
    }

    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        complete_names(object);
        check(object)?;
        let mut finalizers: Vec<Value> = meta::finalizers(object).map(Into::into).collect();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        meta::set(object, "finalizers", finalizers);
        let stored: Vec<Value> = storage_version(object).into_iter().collect();
        meta::map_of(object).insert("status".into(), json!({"storedVersions": stored}));
        accept(scene, object);
        Ok(())
    }

    fn update(&self, _: &Scene<'_>, new: &mut Value, _: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        complete_names(new);
        check(new)
    }

    fn settle(&self, scene: &Scene<'_>, new: &mut Value) {
        if let Some(version) = storage_version(new) {
            let status = meta::map_mut(meta::map_of(new), "status");
            let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
            if let Some(stored) = stored.as_array_mut()
                && !stored.contains(&version)
            {
                stored.push(version);
            }
        }
        accept(scene, new);
    }

    fn delete(&self, scene: &Scene<'_>, object: &mut Value, _: &DeleteOptions) -> Result<Removal, Status> {
        if meta::finalizers(object).any(|finalizer| finalizer == FINALIZER) && !meta::is_being_deleted(object) {
            mark(object, scene.now, 0);
            let since = meta::format_time(scene.now);
            let message = "CustomResource deletion is in progress";
            set_condition(
                object,
                "Terminating",
                true,
                "InstanceDeletionInProgress",
                message,
                &since,
            );
        }
        Ok(Removal::Now)
    }
}

fn complete_names(object: &mut Value) {
    let spec = meta::map_mut(meta::map_of(object), "spec");
    let names = meta::map_mut(spec, "names");
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !kind.is_empty() {
        names.entry("singular").or_insert_with(|| kind.to_lowercase().into());
        names.entry("listKind").or_insert_with(|| format!("{kind}List").into());
    }
    spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
}

fn storage_version(object: &Value) -> Option<Value> {
    let versions = meta::list_at(object, &["spec", "versions"]);
    versions
        .iter()
        .find(|version| version.get("storage") == Some(&Value::Bool(true)))?
        .get("name")
        .cloned()
}

/// What this server cannot serve is refused; what is wrong with a definition otherwise is told by its validation.
fn check(object: &Value) -> Result<(), Status> {
    let Err(why) = crd::rows(object) else { return Ok(()) };
    if !definition::create(object).is_empty() {
        return Ok(());
    }
    let error = FieldError::invalid("spec.versions", Value::Null, why);
    Err(Status::invalid(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        meta::name(object),
        &[error],
    ))
}

/// The names that other kinds of a group have: of resources, and of kinds.
#[derive(Default)]
struct Taken {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

impl Taken {
    /// Finds the names that the group's other kinds have, whether they are built in or accepted definitions.
    fn of(scene: &Scene<'_>, object: &Value, group: &str) -> Taken {
        let mut taken = Taken::default();
        for row in scene.scheme.resources() {
            if row.group == group && !row.custom {
                taken.resources.extend([row.plural.clone(), row.singular.clone()]);
                taken.resources.extend(row.short_names.iter().cloned());
                taken.kinds.extend([row.kind.clone(), row.list_kind.clone()]);
            }
        }
        let others = scene.cache.list(RESOURCE, None);
        for other in others.iter().map(|stored| stored.value()) {
            if meta::name(&other) == meta::name(object) || meta::str_at(&other, &["spec", "group"]) != group {
                continue;
            }
            let name = |key: &str| meta::str_at(&other, &["status", "acceptedNames", key]).to_owned();
            taken.resources.extend([name("plural"), name("singular")]);
            let short = meta::list_at(&other, &["status", "acceptedNames", "shortNames"]);
            taken
                .resources
                .extend(short.iter().filter_map(Value::as_str).map(str::to_owned));
            taken.kinds.extend([name("kind"), name("listKind")]);
        }
        taken
    }

    /// Returns the names that can be accepted, and the last conflict, as its reason and message.
    fn accept(&self, wanted: &Value, accepted: &Value) -> (Value, Option<(&'static str, String)>) {
        let mut names = accepted.clone();
        let mut conflict = None;
        let in_use = |name: &str| format!("{name:?} is already in use");
        let rows = [
            ("plural", "PluralConflict", &self.resources),
            ("singular", "SingularConflict", &self.resources),
            ("shortNames", "ShortNamesConflict", &self.resources),
            ("kind", "KindConflict", &self.kinds),
            ("listKind", "ListKindConflict", &self.kinds),
        ];
        for (key, reason, taken) in rows {
            let asked: Vec<&str> = match wanted.get(key) {
                Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
                Some(Value::String(name)) => vec![name],
                _ => Vec::new(),
            };
            let held = |name: &str| match accepted.get(key) {
                Some(Value::Array(list)) => list.iter().any(|known| known == name),
                Some(known) => known == name,
                None => false,
            };
            let wrong: Vec<String> = asked
                .iter()
                .filter(|name| !held(name) && taken.contains(**name))
                .map(|name| in_use(name))
                .collect();
            match (wrong.is_empty(), wanted.get(key)) {
                (true, Some(name)) => {
                    meta::map_of(&mut names).insert(key.to_owned(), name.clone());
                }
                (true, None) => {
                    meta::map_of(&mut names).remove(key);
                }
                (false, _) if wrong.len() == 1 => conflict = Some((reason, wrong.concat())),
                (false, _) => conflict = Some((reason, format!("[{}]", wrong.join(", ")))),
            }
        }
        match wanted.get("categories") {
            Some(categories) => meta::map_of(&mut names).insert("categories".to_owned(), categories.clone()),
            None => meta::map_of(&mut names).remove("categories"),
        };
        (names, conflict)
    }
}

/// Accepts the names that no other kind of the group has; once all are, the definition is established, and stays so.
fn accept(scene: &Scene<'_>, object: &mut Value) {
    let group = meta::str_at(object, &["spec", "group"]).to_owned();
    let names = |path: &[&str]| meta::at(object, path).cloned().unwrap_or_else(|| json!({}));
    let (wanted, accepted) = (names(&["spec", "names"]), names(&["status", "acceptedNames"]));
    let (names, conflict) = Taken::of(scene, object, &group).accept(&wanted, &accepted);
    let since = meta::format_time(scene.now);
    meta::map_mut(meta::map_of(object), "status").insert("acceptedNames".into(), names);
    let established = crd::has_condition(object, "Established");
    match conflict {
        Some((reason, message)) => {
            set_condition(object, "NamesAccepted", false, reason, &message, &since);
            if !established {
                let message = "not all names are accepted";
                set_condition(object, "Established", false, "NotAccepted", message, &since);
            }
        }
        None => {
            let message = "no conflicts found";
            set_condition(object, "NamesAccepted", true, "NoConflicts", message, &since);
            if !established {
                let message = "the initial names have been accepted";
                set_condition(object, "Established", true, "InitialNamesAccepted", message, &since);
            }
        }
    }
}

/// Sets a condition; its time moves only when its status does.
fn set_condition(object: &mut Value, name: &str, holds: bool, reason: &str, message: &str, since: &str) {
    let status = meta::map_mut(meta::map_of(object), "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let text = if holds { "True" } else { "False" };
    let found = conditions
        .iter_mut()
        .find(|condition| meta::str_at(condition, &["type"]) == name);
    if let Some(condition) = found {
        let changed = meta::str_at(condition, &["status"]) != text;
        let map = meta::map_of(condition);
        let mut changes = vec![("status", text), ("reason", reason), ("message", message)];
        if changed {
            changes.push(("lastTransitionTime", since));
        }
        map.extend(changes.into_iter().map(|(key, value)| (key.to_owned(), value.into())));
        return;
    }
    conditions.push(json!({
        "type": name, "status": text, "reason": reason, "message": message, "lastTransitionTime": since,
    }));
}
