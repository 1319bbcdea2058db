//! The rules of PodDisruptionBudgets.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{metadata, non_negative, one_of};
use crate::meta::{at, list_at, str_at};
use crate::names;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// Returns what is wrong with a PodDisruptionBudget.
pub fn budget(object: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let field = |key: &str| at(object, &["spec", key]).filter(|value| !value.is_null());
    let mut errors = Vec::new();
    if field("minAvailable").is_some() && field("maxUnavailable").is_some() {
        let spec = object.get("spec").cloned().unwrap_or(Value::Null);
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(&path, spec, detail));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = field(key) {
            errors.extend(number_or_percent(&path.child(key), value));
        }
    }
    errors.extend(metadata::selector(&path.child("selector"), field("selector")));
    one_of(
        &mut errors,
        &path.child("unhealthyPodEvictionPolicy"),
        str_at(object, &["spec", "unhealthyPodEvictionPolicy"]),
        &["AlwaysAllow", "IfHealthyBudget"],
        false,
    );
    errors
}

/// Refuses what is neither a number of pods nor a share of at most all of them.
fn number_or_percent(path: &Path, value: &Value) -> Option<FieldError> {
    let invalid = |detail: &str| Some(FieldError::invalid(path, value.clone(), detail));
    let Some(text) = value.as_str() else {
        return match value.as_i64() {
            Some(number) if number >= 0 => None,
            _ => invalid("must be greater than or equal to 0"),
        };
    };
    let digits = text.strip_suffix('%').unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return invalid(PERCENT);
    }
    match digits.parse::<u32>() {
        Ok(0..=100) => None,
        _ => invalid("must not be greater than 100%"),
    }
}

/// Returns what is wrong with a budget's status.
pub fn status(object: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = conditions(&path.child("conditions"), list_at(object, &["status", "conditions"]));
    for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        non_negative(&mut errors, &path.child(key), at(object, &["status", key]));
    }
    errors
}

/// Returns what is wrong with a list of `meta/v1 Condition`s.
fn conditions(path: &Path, conditions: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = str_at(condition, &["type"]);
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(path.child("type"), kind));
        }
        super::all_invalid(&mut errors, &path.child("type"), kind, names::qualified_name(kind));
        let status = str_at(condition, &["status"]);
        if !matches!(status, "True" | "False" | "Unknown") {
            errors.push(FieldError::not_supported(
                path.child("status"),
                status,
                &["False", "True", "Unknown"],
            ));
        }
        non_negative(
            &mut errors,
            &path.child("observedGeneration"),
            condition.get("observedGeneration"),
        );
        if str_at(condition, &["lastTransitionTime"]).is_empty() {
            errors.push(FieldError::required(path.child("lastTransitionTime"), "must be set"));
        }
        if str_at(condition, &["reason"]).is_empty() {
            errors.push(FieldError::required(path.child("reason"), "must be set"));
        }
    }
    errors
}
