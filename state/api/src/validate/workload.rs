//! The rules of Deployments and ReplicaSets.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{immutable, non_negative, one_of};
use crate::LabelSelector;
use crate::meta::{at, int_at, str_at};

/// Returns what is wrong with a ReplicaSet.
pub fn replica_set(object: &Value) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let mut errors = Vec::new();
    for key in ["replicas", "minReadySeconds"] {
        non_negative(&mut errors, &spec.child(key), at(object, &["spec", key]));
    }
    selector_and_template(&mut errors, &spec, object);
    errors
}

/// Returns what is wrong with the change of a ReplicaSet.
pub fn replica_set_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_selector_kept(replica_set(new), new, old)
}

/// Returns what is wrong with a Deployment.
pub fn deployment(object: &Value) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let mut errors = Vec::new();
    let counts = [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ];
    for key in counts {
        non_negative(&mut errors, &spec.child(key), at(object, &["spec", key]));
    }
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
    strategy(&mut errors, &spec.child("strategy"), object);
    selector_and_template(&mut errors, &spec, object);
    errors
}

/// Returns what is wrong with the change of a Deployment.
pub fn deployment_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_selector_kept(deployment(new), new, old)
}

fn with_selector_kept(mut errors: Vec<FieldError>, new: &Value, old: &Value) -> Vec<FieldError> {
    let selector = |value: &'_ Value| at(value, &["spec", "selector"]).cloned();
    immutable(
        &mut errors,
        &Path::new("spec.selector"),
        selector(new).as_ref(),
        selector(old).as_ref(),
    );
    errors
}

fn selector_and_template(errors: &mut Vec<FieldError>, spec: &Path, object: &Value) {
    let path = spec.child("selector");
    let selector = at(object, &["spec", "selector"]).filter(|selector| selector.is_object());
    let wrong = super::metadata::selector(&path, selector);
    let usable = wrong.is_empty();
    errors.extend(wrong);
    let parsed = selector.filter(|_| usable).map(LabelSelector::from_value);
    let mismatch = || {
        let labels = at(object, &["spec", "template", "metadata", "labels"]).and_then(Value::as_object);
        FieldError::invalid(
            spec.child("template").child("metadata").child("labels"),
            labels.map_or(Value::Null, |labels| Value::Object(labels.clone())),
            "`selector` does not match template `labels`",
        )
    };
    match parsed {
        None if selector.is_none() => {
            errors.push(FieldError::required(&path, ""));
            // No selector is one that matches nothing.
            errors.push(mismatch());
        }
        Some(Ok(parsed)) if parsed.is_everything() => {
            errors.push(FieldError::invalid(
                &path,
                selector.cloned().unwrap_or(Value::Null),
                "empty selector is invalid for deployment",
            ));
        }
        Some(Ok(parsed)) => {
            let labels = at(object, &["spec", "template", "metadata", "labels"]).and_then(Value::as_object);
            if !parsed.matches(labels) {
                errors.push(mismatch());
            }
        }
        Some(Err(error)) => {
            errors.push(FieldError::invalid(
                &path,
                selector.cloned().unwrap_or(Value::Null),
                error.0,
            ));
        }
        None => {}
    }
    let template = spec.child("template");
    match at(object, &["spec", "template"]).filter(|template| template.is_object()) {
        Some(found) => errors.extend(super::pod::template(&template, found)),
        None => errors.push(FieldError::required(template, "")),
    }
}

fn strategy(errors: &mut Vec<FieldError>, path: &Path, object: &Value) {
    let ty = str_at(object, &["spec", "strategy", "type"]);
    one_of(errors, &path.child("type"), ty, &["Recreate", "RollingUpdate"], true);
    let rolling = at(object, &["spec", "strategy", "rollingUpdate"]).filter(|rolling| !rolling.is_null());
    let path = path.child("rollingUpdate");
    if ty == "Recreate" {
        if rolling.is_some() {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(path, detail));
        }
        return;
    }
    let Some(rolling) = rolling else { return };
    let mut zero = 0;
    for key in ["maxUnavailable", "maxSurge"] {
        let value = at(rolling, &[key]).cloned().unwrap_or(Value::from(0));
        match int_or_percent(&value) {
            Ok(number) => {
                zero += usize::from(number == 0);
                let is_percent = value.is_string();
                if key == "maxUnavailable" && is_percent && number > 100 {
                    errors.push(FieldError::invalid(
                        path.child(key),
                        value,
                        "must not be greater than 100%",
                    ));
                }
            }
            Err(detail) => errors.push(FieldError::invalid(path.child(key), value, detail)),
        }
    }
    if zero == 2 {
        let value = at(rolling, &["maxUnavailable"]).cloned().unwrap_or(Value::from(0));
        errors.push(FieldError::invalid(
            path.child("maxUnavailable"),
            value,
            "may not be 0 when `maxSurge` is 0",
        ));
    }
}

/// Reads a number or a percentage.
fn int_or_percent(value: &Value) -> Result<i64, &'static str> {
    const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').ok_or(PERCENT)?;
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(PERCENT);
            }
            digits.parse().map_err(|_| PERCENT)
        }
        other => match other.as_i64() {
            Some(number) if number >= 0 => Ok(number),
            _ => Err("must be greater than or equal to 0"),
        },
    }
}
