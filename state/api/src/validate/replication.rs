//! The rules of ReplicationControllers and PodTemplates.

use serde_json::{Map, Value};

use super::field::{FieldError, Path};
use super::{non_negative, pod};
use crate::meta::{at, str_at};

/// Returns what is wrong with a PodTemplate.
pub fn pod_template(object: &Value) -> Vec<FieldError> {
    let template = at(object, &["template"]).unwrap_or(&Value::Null);
    pod::any_template(&Path::new("template"), template)
}

/// Returns what is wrong with a ReplicationController.
pub fn controller(object: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    non_negative(
        &mut errors,
        &path.child("minReadySeconds"),
        at(object, &["spec", "minReadySeconds"]),
    );
    let none = Map::new();
    let selector = at(object, &["spec", "selector"])
        .and_then(Value::as_object)
        .unwrap_or(&none);
    if selector.is_empty() {
        errors.push(FieldError::required(path.child("selector"), ""));
    }
    non_negative(&mut errors, &path.child("replicas"), at(object, &["spec", "replicas"]));
    let path = path.child("template");
    let Some(template) = at(object, &["spec", "template"]).filter(|template| template.is_object()) else {
        errors.push(FieldError::required(path, ""));
        return errors;
    };
    let labels = at(template, &["metadata", "labels"]).and_then(Value::as_object);
    let matches = selector
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    if !matches {
        let value = labels.map_or(Value::Null, |labels| Value::Object(labels.clone()));
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            path.child("metadata").child("labels"),
            value,
            detail,
        ));
    }
    errors.extend(pod::any_template(&path, template));
    let spec = path.child("spec");
    let policy = str_at(template, &["spec", "restartPolicy"]);
    if !matches!(policy, "" | "Always") {
        errors.push(FieldError::not_supported(
            spec.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if at(template, &["spec", "activeDeadlineSeconds"]).is_some_and(|deadline| !deadline.is_null()) {
        let detail = "activeDeadlineSeconds in ReplicationController is not Supported";
        errors.push(FieldError::forbidden(spec.child("activeDeadlineSeconds"), detail));
    }
    errors
}

/// Returns what is wrong with a ReplicationController's status.
pub fn controller_status(object: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let number = |key: &str| crate::meta::int_at(object, &["status", key]).unwrap_or(0);
    let mut errors = Vec::new();
    let counts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    for key in ["replicas", "observedGeneration"].iter().chain(&counts) {
        non_negative(&mut errors, &path.child(key), at(object, &["status", key]));
    }
    let mut most = |key: &str, other: &str| {
        if number(key) > number(other) {
            let detail = match other {
                "replicas" => "cannot be greater than status.replicas",
                _ => "cannot be greater than readyReplicas",
            };
            errors.push(FieldError::invalid(path.child(key), number(key), detail));
        }
    };
    for key in counts {
        most(key, "replicas");
    }
    most("availableReplicas", "readyReplicas");
    errors
}
