//! CustomResourceDefinitions: their names are accepted or not when they are written, and they outlive their objects.

use serde_json::{Map, Value, json};
use setpoint_api::validate::{definition, field::FieldError};
use setpoint_api::{Status, meta};

use super::{Removal, Scene, Strategy};
use crate::crd::{self, FINALIZER, RESOURCE};
use crate::registry::{DeleteOptions, mark};

pub(crate) struct Definitions;

impl Strategy for Definitions {
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

    fn update(&self, scene: &Scene<'_>, new: &mut Value, _: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        complete_names(new);
        check(new)?;
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
        Ok(())
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

/// Accepts the names unless another kind has them; an accepted definition is established at once.
fn accept(scene: &Scene<'_>, object: &mut Value) {
    let text = |path: &[&str]| meta::str_at(object, path).to_owned();
    let (group, kind, plural) = (
        text(&["spec", "group"]),
        text(&["spec", "names", "kind"]),
        text(&["spec", "names", "plural"]),
    );
    let taken_by_row = scene.scheme.resources().iter().any(|row| {
        row.group == group && ((row.kind == kind && row.plural != plural) || (row.plural == plural && !row.custom))
    });
    let taken_by_definition = scene
        .cache
        .list(RESOURCE, None)
        .iter()
        .map(|stored| stored.value())
        .any(|other| {
            meta::name(&other) != meta::name(object)
                && meta::str_at(&other, &["spec", "group"]) == group
                && meta::str_at(&other, &["status", "acceptedNames", "kind"]) == kind
        });
    let names = meta::at(object, &["spec", "names"])
        .cloned()
        .unwrap_or_else(|| json!({}));
    let since = meta::format_time(scene.now);
    if taken_by_row || taken_by_definition {
        let message = format!("{kind:?} is already in use");
        set_condition(object, "NamesAccepted", false, "KindConflict", &message, &since);
        set_condition(
            object,
            "Established",
            false,
            "NotAccepted",
            "not all names are accepted",
            &since,
        );
        return;
    }
    let status = meta::map_mut(meta::map_of(object), "status");
    status.insert("acceptedNames".into(), names);
    set_condition(
        object,
        "NamesAccepted",
        true,
        "NoConflicts",
        "no conflicts found",
        &since,
    );
    set_condition(
        object,
        "Established",
        true,
        "InitialNamesAccepted",
        "the initial names have been accepted",
        &since,
    );
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
        if meta::str_at(condition, &["status"]) == text {
            return;
        }
        let map = meta::map_of(condition);
        let changes: Map<String, Value> = [
            ("status", text),
            ("reason", reason),
            ("message", message),
            ("lastTransitionTime", since),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
        map.extend(changes);
        return;
    }
    conditions.push(json!({
        "type": name, "status": text, "reason": reason, "message": message, "lastTransitionTime": since,
    }));
}
