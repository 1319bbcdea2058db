//! The rules of Deployments and ReplicaSets, and those of selectors and templates that all workloads share.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{given, immutable, non_negative_all};
use crate::LabelSelector;
use crate::meta::{at, int_at, str_at};

/// Returns what is wrong with a ReplicaSet.
pub fn replica_set(object: &Value) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let mut errors = Vec::new();
    non_negative_all(&mut errors, &spec, spec_of(object), &["replicas", "minReadySeconds"]);
    selector(&mut errors, &spec, object, "deployment");
    template(&mut errors, &spec, object);
    errors
}

/// Returns what is wrong with the change of a ReplicaSet.
pub fn replica_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_selector_kept(replica_set(new), new, old)
}

/// Returns what is wrong with the change of a ReplicaSet's status.
pub fn replica_set_status(new: &Value, _: &Value) -> Vec<FieldError> {
    const COUNTS: &[&str] = &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ];
    const BOUNDED: &[&str] = &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    let mut errors = status_counts(new, COUNTS, BOUNDED);
    available_of_ready(&mut errors, new, "cannot be greater than readyReplicas");
    errors
}

/// Returns what is wrong with a Deployment.
pub fn deployment(object: &Value) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let mut errors = Vec::new();
    non_negative_all(&mut errors, &spec, spec_of(object), &["replicas"]);
    selector(&mut errors, &spec, object, "deployment");
    template(&mut errors, &spec, object);
    strategy(&mut errors, &spec.child("strategy"), object);
    let counts = ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"];
    non_negative_all(&mut errors, &spec, spec_of(object), &counts);
    let number = |key: &str| int_at(object, &["spec", key]);
    if let Some(deadline) = number("progressDeadlineSeconds")
        && deadline <= number("minReadySeconds").unwrap_or(0)
    {
        let detail = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid(
            spec.child("progressDeadlineSeconds"),
            deadline,
            detail,
        ));
    }
    errors
}

/// Returns what is wrong with the change of a Deployment.
pub fn deployment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_selector_kept(deployment(new), new, old)
}

/// Returns what is wrong with the change of a Deployment's status.
pub fn deployment_status(new: &Value, old: &Value) -> Vec<FieldError> {
    const COUNTS: &[&str] = &[
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "collisionCount",
    ];
    const BOUNDED: &[&str] = &["updatedReplicas", "readyReplicas", "availableReplicas"];
    let mut errors = status_counts(new, COUNTS, BOUNDED);
    available_of_ready(&mut errors, new, "cannot be greater than readyReplicas");
    collisions_only_grow(&mut errors, new, old);
    errors
}

/// Returns the spec, or null.
pub(super) fn spec_of(object: &Value) -> &Value {
    at(object, &["spec"]).unwrap_or(&Value::Null)
}

/// Refuses negative numbers in a status, and numbers of replicas beyond the number of all.
pub(super) fn status_counts(object: &Value, counts: &[&str], bounded: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("status");
    let status = at(object, &["status"]).unwrap_or(&Value::Null);
    non_negative_all(&mut errors, &path, status, counts);
    let number = |key: &str| int_at(status, &[key]).unwrap_or(0);
    for key in bounded {
        if number(key) > number("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(path.child(key), number(key), detail));
        }
    }
    errors
}

/// Refuses more available replicas than ready ones.
pub(super) fn available_of_ready(errors: &mut Vec<FieldError>, object: &Value, detail: &str) {
    let number = |key: &str| int_at(object, &["status", key]).unwrap_or(0);
    if number("availableReplicas") > number("readyReplicas") {
        let path = Path::new("status.availableReplicas");
        errors.push(FieldError::invalid(path, number("availableReplicas"), detail));
    }
}

/// Refuses a count of collisions that falls.
pub(super) fn collisions_only_grow(errors: &mut Vec<FieldError>, new: &Value, old: &Value) {
    let count = |object: &Value| int_at(object, &["status", "collisionCount"]);
    if let Some(before) = count(old)
        && count(new).is_none_or(|now| now < before)
    {
        let path = Path::new("status.collisionCount");
        errors.push(FieldError::invalid(
            path,
            count(new).unwrap_or(0),
            "cannot be decremented",
        ));
    }
}

/// Adds that the selector may not change.
pub(super) fn with_selector_kept(mut errors: Vec<FieldError>, new: &Value, old: &Value) -> Vec<FieldError> {
    let selector = |value: &'_ Value| at(value, &["spec", "selector"]).cloned();
    immutable(
        &mut errors,
        &Path::new("spec.selector"),
        selector(new).as_ref(),
        selector(old).as_ref(),
    );
    errors
}

/// Refuses a selector that is missing, malformed or empty (`kind` is what the message calls the workload), or that does not match the
/// labels of the template.
pub(super) fn selector(errors: &mut Vec<FieldError>, spec: &Path, object: &Value, kind: &str) {
    let path = spec.child("selector");
    let Some(selector) = at(object, &["spec", "selector"]).filter(|selector| selector.is_object()) else {
        errors.push(FieldError::required(&path, ""));
        // No selector is one that matches nothing.
        mismatch(errors, spec, object);
        return;
    };
    let wrong = super::metadata::selector(&path, Some(selector));
    let usable = wrong.is_empty();
    errors.extend(wrong);
    match LabelSelector::from_value(selector) {
        _ if !usable => {}
        Ok(parsed) if parsed.is_everything() => {
            let detail = format!("empty selector is invalid for {kind}");
            errors.push(FieldError::invalid(&path, selector.clone(), detail));
        }
        Ok(parsed) => {
            if !parsed.matches(template_labels(object)) {
                mismatch(errors, spec, object);
            }
        }
        Err(error) => errors.push(FieldError::invalid(&path, selector.clone(), error.0)),
    }
}

/// Refuses labels of a template that the selector does not match.
pub(super) fn mismatch(errors: &mut Vec<FieldError>, spec: &Path, object: &Value) {
    let labels = template_labels(object).map_or(Value::Null, |labels| Value::Object(labels.clone()));
    let path = spec.child("template").child("metadata").child("labels");
    errors.push(FieldError::invalid(
        path,
        labels,
        "`selector` does not match template `labels`",
    ));
}

/// Returns the labels of the template.
pub(super) fn template_labels(object: &Value) -> Option<&serde_json::Map<String, Value>> {
    at(object, &["spec", "template", "metadata", "labels"]).and_then(Value::as_object)
}

fn template(errors: &mut Vec<FieldError>, spec: &Path, object: &Value) {
    let path = spec.child("template");
    match at(object, &["spec", "template"]).filter(|template| template.is_object()) {
        Some(found) => errors.extend(super::pod::template(&path, found)),
        None => errors.push(FieldError::required(path, "")),
    }
}

fn strategy(errors: &mut Vec<FieldError>, path: &Path, object: &Value) {
    let strategy = at(object, &["spec", "strategy"]).unwrap_or(&Value::Null);
    let rolling = given(strategy, "rollingUpdate");
    let path_of_rolling = path.child("rollingUpdate");
    match str_at(strategy, &["type"]) {
        "Recreate" => {
            if rolling.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden(path_of_rolling, detail));
            }
        }
        "RollingUpdate" => match rolling {
            Some(rolling) => rolling_update(errors, &path_of_rolling, rolling),
            None => {
                let detail = "this should be defaulted and never be nil";
                errors.push(FieldError::required(path_of_rolling, detail));
            }
        },
        _ => errors.push(FieldError::not_supported(
            path,
            strategy.clone(),
            &["Recreate", "RollingUpdate"],
        )),
    }
}

fn rolling_update(errors: &mut Vec<FieldError>, path: &Path, rolling: &Value) {
    for key in ["maxUnavailable", "maxSurge"] {
        int_or_percent(errors, &path.child(key), rolling.get(key));
    }
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    if amount(unavailable) == 0 && amount(surge) == 0 {
        errors.push(FieldError::invalid(
            path.child("maxUnavailable"),
            unavailable.cloned().unwrap_or(Value::from(0)),
            "may not be 0 when `maxSurge` is 0",
        ));
    }
    at_most_all(errors, &path.child("maxUnavailable"), unavailable);
}

/// Refuses what is neither a number from 0 nor a percentage; what is absent is 0.
pub(super) fn int_or_percent(errors: &mut Vec<FieldError>, path: &Path, value: Option<&Value>) {
    const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
    match value {
        Some(Value::String(text)) if percent(text).is_none() => {
            errors.push(FieldError::invalid(path, text.as_str(), PERCENT));
        }
        Some(Value::Number(number)) if number.as_i64().is_none_or(|number| number < 0) => {
            let detail = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(path, Value::Number(number.clone()), detail));
        }
        _ => {}
    }
}

/// Refuses a percentage above 100.
pub(super) fn at_most_all(errors: &mut Vec<FieldError>, path: &Path, value: Option<&Value>) {
    if let Some(Value::String(text)) = value
        && percent(text).is_some_and(|percent| percent > 100)
    {
        errors.push(FieldError::invalid(
            path,
            text.as_str(),
            "must not be greater than 100%",
        ));
    }
}

/// Returns the number or the percentage; 0 for anything else.
pub(super) fn amount(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::String(text)) => percent(text).unwrap_or(0),
        Some(value) => value.as_i64().unwrap_or(0),
        None => 0,
    }
}

fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // More than fits is more than all.
    plain.then(|| digits.parse().unwrap_or(i64::MAX))
}
