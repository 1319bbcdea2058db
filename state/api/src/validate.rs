//! What is wrong with an object, in Kubernetes' words and with its field paths.
//!
//! The functions look at defaulted objects of the right types: the schema's type check comes before them.

pub mod admission;
pub mod aggregation;
pub mod autoscaling;
pub mod certificates;
pub mod cluster;
pub mod config;
pub mod container;
pub mod cron_job;
pub mod daemon_set;
pub mod definition;
pub mod ephemeral;
pub mod event;
pub mod field;
mod format;
pub mod ingress;
pub mod job;
pub mod metadata;
pub mod network;
pub mod network_policy;
pub mod persistent;
mod placement;
pub mod pod;
mod pod_network;
pub mod policy;
pub mod probe;
pub mod quota;
pub mod rbac;
pub mod replication;
pub mod resize;
pub mod scheduling;
mod security;
pub mod service_range;
pub mod stateful_set;
pub mod storage;
pub mod volume;
pub mod workload;

use serde_json::Value;

use field::{FieldError, Path};

/// Turns texts about one value into errors.
pub(crate) fn all_invalid(errors: &mut Vec<FieldError>, path: &Path, value: &str, wrong: Vec<String>) {
    errors.extend(wrong.into_iter().map(|detail| FieldError::invalid(path, value, detail)));
}

/// Refuses a negative number, if there is one.
pub(crate) fn non_negative(errors: &mut Vec<FieldError>, path: &Path, value: Option<&Value>) {
    if let Some(number) = value.and_then(Value::as_i64)
        && number < 0
    {
        errors.push(FieldError::invalid(path, number, "must be greater than or equal to 0"));
    }
}

/// Refuses negative numbers among the members of a map.
pub(crate) fn non_negative_all(errors: &mut Vec<FieldError>, path: &Path, map: &Value, keys: &[&str]) {
    for key in keys {
        non_negative(errors, &path.child(key), map.get(*key));
    }
}

/// Returns a member that is there and not null.
pub(crate) fn given<'a>(map: &'a Value, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

/// Refuses a text that is none of the allowed ones; an absent one is required if `required` is set.
pub(crate) fn one_of(errors: &mut Vec<FieldError>, path: &Path, value: &str, allowed: &[&str], required: bool) {
    if value.is_empty() {
        if required {
            errors.push(FieldError::required(path, ""));
        }
    } else if !allowed.contains(&value) {
        errors.push(FieldError::not_supported(path, value, allowed));
    }
}

/// Refuses an absent text, and one that cannot be a segment of a path.
pub(crate) fn required_segment(errors: &mut Vec<FieldError>, path: &Path, value: &str) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        all_invalid(errors, path, value, crate::names::path_segment(value));
    }
}

/// Refuses a change of a field.
pub(crate) fn immutable(errors: &mut Vec<FieldError>, path: &Path, new: Option<&Value>, old: Option<&Value>) {
    let present = |value: Option<&Value>| value.filter(|value| !value.is_null()).cloned();
    if present(new) != present(old) {
        errors.push(FieldError::immutable(path, new.cloned().unwrap_or(Value::Null)));
    }
}

#[cfg(test)]
mod tests;
