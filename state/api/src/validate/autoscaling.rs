//! The rules of HorizontalPodAutoscalers, over their v2 form: faults of a v1 object are named where v2 has the field.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, non_negative, one_of};
use crate::convert::autoscaling::as_v2;
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::names;
use crate::quantity::Quantity;

/// The longest period of a scaling policy, in seconds.
const LONGEST_PERIOD: i64 = 1800;
/// The longest stabilization window, in seconds.
const LONGEST_WINDOW: i64 = 3600;
/// The types of metrics, with the field that describes each.
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// Returns what is wrong with a new v2 object.
pub fn create(object: &Value) -> Vec<FieldError> {
    spec(object, None)
}

/// Returns what is wrong with the change of a v2 object.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    spec(new, Some(old))
}

/// Returns what is wrong with the change of a v2 object's status.
pub fn status(new: &Value, _: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    for key in ["currentReplicas", "desiredReplicas"] {
        non_negative(&mut errors, &path.child(key), at(new, &["status", key]));
    }
    errors
}

/// Returns what is wrong with a new v1 object.
pub fn create_v1(object: &Value) -> Vec<FieldError> {
    create(&as_v2(object))
}

/// Returns what is wrong with the change of a v1 object.
pub fn update_v1(new: &Value, old: &Value) -> Vec<FieldError> {
    update(&as_v2(new), &as_v2(old))
}

fn spec(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    let lower = |object: &Value| int_at(object, &["spec", "minReplicas"]);
    // An autoscaler that goes to zero is let be; a new one may not.
    let least = i64::from(old.and_then(lower) != Some(0));
    let (min, max) = (lower(object), int_at(object, &["spec", "maxReplicas"]).unwrap_or(0));
    if let Some(min) = min
        && min < least
    {
        let detail = format!("must be greater than or equal to {least}");
        errors.push(FieldError::invalid(path.child("minReplicas"), min, detail));
    }
    if max < 1 {
        errors.push(FieldError::invalid(
            path.child("maxReplicas"),
            max,
            "must be greater than 0",
        ));
    }
    if min.is_some_and(|min| max < min) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(path.child("maxReplicas"), max, detail));
    }
    let target = at(object, &["spec", "scaleTargetRef"]).unwrap_or(&Value::Null);
    let target_path = path.child("scaleTargetRef");
    reference(&mut errors, &target_path, target);
    let unchanged = old.is_some_and(|old| {
        let before = |key: &str| str_at(old, &["spec", "scaleTargetRef", key]);
        before("kind") == str_at(target, &["kind"]) && before("apiVersion") == str_at(target, &["apiVersion"])
    });
    if !unchanged {
        let core = str_at(target, &["kind"]) == "ReplicationController";
        api_version(
            &mut errors,
            &target_path.child("apiVersion"),
            str_at(target, &["apiVersion"]),
            core,
        );
    }
    let metrics = list_at(object, &["spec", "metrics"]);
    for (index, found) in metrics.iter().enumerate() {
        metric(&mut errors, &path.child("metrics").index(index), found);
    }
    let beyond_pods = |metric: &Value| matches!(str_at(metric, &["type"]), "Object" | "External");
    if min == Some(0) && !metrics.iter().any(beyond_pods) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(path.child("metrics"), detail));
    }
    for key in ["scaleUp", "scaleDown"] {
        if let Some(found) = at(object, &["spec", "behavior", key]).filter(|rules| rules.is_object()) {
            rules(&mut errors, &path.child("behavior").child(key), found);
        }
    }
    errors
}

fn reference(errors: &mut Vec<FieldError>, path: &Path, reference: &Value) {
    for key in ["kind", "name"] {
        match str_at(reference, &[key]) {
            "" => errors.push(FieldError::required(path.child(key), "")),
            text => all_invalid(errors, &path.child(key), text, names::path_segment(text)),
        }
    }
}

fn api_version(errors: &mut Vec<FieldError>, path: &Path, text: &str, core: bool) {
    if text.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {text}");
        errors.push(FieldError::invalid(path, text, detail));
    } else if !core && meta::group_version(text).0.is_empty() {
        errors.push(FieldError::invalid(path, text, "apiVersion must specify API group"));
    }
}

fn metric(errors: &mut Vec<FieldError>, path: &Path, metric: &Value) {
    let kind = str_at(metric, &["type"]);
    let mut types: Vec<&str> = SOURCES.iter().map(|(kind, _)| *kind).collect();
    types.sort_unstable();
    if kind.is_empty() {
        errors.push(FieldError::required(
            path.child("type"),
            "must specify a metric source type",
        ));
    }
    let expected = SOURCES.iter().find(|(found, _)| *found == kind).map(|(_, key)| *key);
    if expected.is_none() {
        errors.push(FieldError::not_supported(path.child("type"), kind, &types));
    }
    let present: Vec<&str> = SOURCES
        .iter()
        .map(|(_, key)| *key)
        .filter(|key| metric.get(*key).is_some_and(Value::is_object))
        .collect();
    if let Some(first) = present.first() {
        source(
            errors,
            &path.child(first),
            first,
            metric.get(*first).unwrap_or(&Value::Null),
        );
    }
    if let Some(expected) = expected.filter(|expected| !present.contains(expected)) {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(path.child(expected), detail));
    }
    if present.len() != 1 {
        for other in present.iter().filter(|key| Some(**key) != expected) {
            let detail = "must populate the given metric source only";
            errors.push(FieldError::forbidden(path.child(other), detail));
        }
    }
}

fn source(errors: &mut Vec<FieldError>, path: &Path, key: &str, source: &Value) {
    let has = |field: &str| at(source, &["target", field]).is_some_and(|value| !value.is_null());
    let target = path.child("target");
    match key {
        "resource" | "containerResource" => {
            if str_at(source, &["name"]).is_empty() {
                errors.push(FieldError::required(path.child("name"), "must specify a resource name"));
            }
            if key == "containerResource" {
                match str_at(source, &["container"]) {
                    "" => errors.push(FieldError::required(
                        path.child("container"),
                        "must specify a container",
                    )),
                    name => all_invalid(errors, &path.child("container"), name, names::dns_label(name)),
                }
            }
            amount(errors, &target, source);
            match (has("averageUtilization"), has("averageValue")) {
                (false, false) => errors.push(FieldError::required(
                    target.child("averageUtilization"),
                    "must set either a target raw value or a target utilization",
                )),
                (true, true) => errors.push(FieldError::forbidden(
                    target.child("averageValue"),
                    "may not set both a target raw value and a target utilization",
                )),
                _ => {}
            }
            return;
        }
        "object" => {
            let described = at(source, &["describedObject"]).unwrap_or(&Value::Null);
            reference(errors, &path.child("describedObject"), described);
            let version = str_at(described, &["apiVersion"]);
            api_version(
                errors,
                &path.child("describedObject").child("apiVersion"),
                version,
                true,
            );
        }
        _ => {}
    }
    let name = path.child("metric").child("name");
    match str_at(source, &["metric", "name"]) {
        "" => errors.push(FieldError::required(name, "must specify a metric name")),
        text => all_invalid(errors, &name, text, names::path_segment(text)),
    }
    amount(errors, &target, source);
    let either = has("value") || has("averageValue");
    match key {
        "object" if !either => errors.push(FieldError::required(
            target.child("averageValue"),
            "must set either a target value or averageValue",
        )),
        "external" if !either => errors.push(FieldError::required(
            target.child("averageValue"),
            "must set either a target value for metric or a per-pod target",
        )),
        "external" if has("value") && has("averageValue") => errors.push(FieldError::forbidden(
            target.child("value"),
            "may not set both a target value for metric and a per-pod target",
        )),
        "pods" if !has("averageValue") => errors.push(FieldError::required(
            target.child("averageValue"),
            "must specify a positive target averageValue",
        )),
        _ => {}
    }
}

/// Checks the target of a metric.
fn amount(errors: &mut Vec<FieldError>, path: &Path, source: &Value) {
    let kind = str_at(source, &["target", "type"]);
    if kind.is_empty() {
        errors.push(FieldError::required(
            path.child("type"),
            "must specify a metric target type",
        ));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(path.child("type"), kind, detail));
    }
    for key in ["value", "averageValue"] {
        let value = at(source, &["target", key]).filter(|value| !value.is_null());
        let positive = |value: &Value| {
            Quantity::from_value(value).is_ok_and(|quantity| !quantity.is_zero() && !quantity.is_negative())
        };
        if let Some(value) = value.filter(|value| !positive(value)) {
            errors.push(FieldError::invalid(path.child(key), value.clone(), "must be positive"));
        }
    }
    if let Some(percent) = int_at(source, &["target", "averageUtilization"])
        && percent < 1
    {
        let path = path.child("averageUtilization");
        errors.push(FieldError::invalid(path, percent, "must be greater than 0"));
    }
}

fn rules(errors: &mut Vec<FieldError>, path: &Path, rules: &Value) {
    let window = path.child("stabilizationWindowSeconds");
    match int_at(rules, &["stabilizationWindowSeconds"]) {
        Some(seconds) if seconds < 0 => {
            errors.push(FieldError::invalid(
                window,
                seconds,
                "must be greater than or equal to zero",
            ));
        }
        Some(seconds) if seconds > LONGEST_WINDOW => {
            let detail = format!("must be less than or equal to {LONGEST_WINDOW}");
            errors.push(FieldError::invalid(window, seconds, detail));
        }
        _ => {}
    }
    let select = str_at(rules, &["selectPolicy"]);
    one_of(
        errors,
        &path.child("selectPolicy"),
        select,
        &["Disabled", "Max", "Min"],
        false,
    );
    if let Some(tolerance) = at(rules, &["tolerance"]).filter(|value| !value.is_null())
        && Quantity::from_value(tolerance).is_ok_and(|quantity| quantity.is_negative())
    {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path.child("tolerance"), tolerance.clone(), detail));
    }
    let policies = list_at(rules, &["policies"]);
    let path = path.child("policies");
    if policies.is_empty() {
        errors.push(FieldError::required(&path, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = path.index(index);
        let kind = str_at(policy, &["type"]);
        if !matches!(kind, "Pods" | "Percent") {
            errors.push(FieldError::not_supported(
                path.child("type"),
                kind,
                &["Percent", "Pods"],
            ));
        }
        let number = |key: &str| int_at(policy, &[key]).unwrap_or(0);
        for key in ["value", "periodSeconds"] {
            if number(key) <= 0 {
                errors.push(FieldError::invalid(
                    path.child(key),
                    number(key),
                    "must be greater than zero",
                ));
            }
        }
        if number("periodSeconds") > LONGEST_PERIOD {
            let detail = format!("must be less than or equal to {LONGEST_PERIOD}");
            errors.push(FieldError::invalid(
                path.child("periodSeconds"),
                number("periodSeconds"),
                detail,
            ));
        }
    }
}
