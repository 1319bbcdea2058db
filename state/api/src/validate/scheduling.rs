//! The rules of PriorityClasses and RuntimeClasses.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, given, immutable, metadata};
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::names;
use crate::quantity::Quantity;

/// The highest priority of a class that is not the system's.
pub const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;

/// A PriorityClass that every cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemPriority {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: i64,
    /// What it is for.
    pub description: &'static str,
}

/// The PriorityClasses that every cluster has.
pub const SYSTEM_PRIORITIES: [SystemPriority; 2] = [
    SystemPriority {
        name: "system-node-critical",
        value: 2 * HIGHEST_USER_PRIORITY + 1000,
        description: "Used for system critical pods that must not be moved from their current node.",
    },
    SystemPriority {
        name: "system-cluster-critical",
        value: 2 * HIGHEST_USER_PRIORITY,
        description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    },
];

/// Returns what is wrong with a new PriorityClass.
pub fn priority_class(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, value) = (meta::name(object), int_at(object, &["value"]).unwrap_or(0));
    if name.starts_with("system-") {
        if let Some(error) = system_error(name, value, object) {
            let detail =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {error}");
            errors.push(FieldError::forbidden("metadata.name", detail));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        errors.push(FieldError::forbidden("value", detail));
    }
    if given(object, "preemptionPolicy").is_some() {
        let policy = str_at(object, &["preemptionPolicy"]);
        let path = Path::new("preemptionPolicy");
        match policy {
            "PreemptLowerPriority" | "Never" => {}
            "" => errors.push(FieldError::required(path, "")),
            _ => {
                let supported = ["Never", "PreemptLowerPriority"];
                errors.push(FieldError::not_supported(path, policy, &supported));
            }
        }
    }
    errors
}

fn system_error(name: &str, value: i64, object: &Value) -> Option<String> {
    let Some(known) = SYSTEM_PRIORITIES.iter().find(|known| known.name == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if known.value != value {
        return Some(format!("value of {name} PriorityClass must be {}", known.value));
    }
    let default = at(object, &["globalDefault"]) == Some(&Value::Bool(true));
    default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

/// Returns what is wrong with the change of a PriorityClass.
pub fn priority_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let value = |object: &Value| int_at(object, &["value"]).unwrap_or(0);
    if value(new) != value(old) {
        errors.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    immutable(
        &mut errors,
        &Path::new("preemptionPolicy"),
        new.get("preemptionPolicy"),
        old.get("preemptionPolicy"),
    );
    errors
}

/// Returns what is wrong with a new RuntimeClass.
pub fn runtime_class(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let handler = str_at(object, &["handler"]);
    all_invalid(&mut errors, &Path::new("handler"), handler, names::dns_label(handler));
    let overhead = at(object, &["overhead", "podFixed"]).and_then(Value::as_object);
    for (name, amount) in overhead.into_iter().flatten() {
        let path = Path::new("overhead.podFixed").key(name);
        all_invalid(&mut errors, &path, name, names::qualified_name(name));
        match Quantity::from_value(amount) {
            Ok(quantity) if quantity.is_negative() => {
                let detail = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(path, amount.clone(), detail));
            }
            Ok(_) => {}
            Err(error) => errors.push(FieldError::invalid(path, amount.clone(), error.to_string())),
        }
    }
    let path = Path::new("scheduling");
    let selector = at(object, &["scheduling", "nodeSelector"]);
    errors.extend(metadata::labels(&path.child("nodeSelector"), selector));
    let tolerations = list_at(object, &["scheduling", "tolerations"]);
    let path = path.child("tolerations");
    super::pod::tolerations(&mut errors, &path, tolerations);
    let mut seen = HashSet::new();
    for (index, toleration) in tolerations.iter().enumerate() {
        if !seen.insert(toleration) {
            errors.push(FieldError::duplicate(path.index(index), toleration.clone()));
        }
    }
    errors
}

/// Returns what is wrong with the change of a RuntimeClass.
pub fn runtime_class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    immutable(
        &mut errors,
        &Path::new("handler"),
        new.get("handler"),
        old.get("handler"),
    );
    errors
}
