//! The rules of DaemonSets.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::workload::{self, amount, at_most_all, int_or_percent, spec_of};
use super::{given, non_negative_all, pod};
use crate::LabelSelector;
use crate::meta::{at, str_at};

/// Returns what is wrong with a new DaemonSet.
pub fn create(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (path, spec) = (Path::new("spec"), spec_of(object));
    let selector = spec.get("selector").filter(|selector| selector.is_object());
    errors.extend(super::metadata::selector(&path.child("selector"), selector));
    let parsed = selector.map(LabelSelector::from_value);
    let matches = match &parsed {
        // No selector is one that matches nothing; a malformed one has been refused.
        None => false,
        Some(Ok(parsed)) => parsed.matches(workload::template_labels(object)),
        Some(Err(_)) => true,
    };
    if !matches {
        workload::mismatch(&mut errors, &path, object);
    }
    if let (Some(selector), Some(Ok(parsed))) = (selector, &parsed)
        && parsed.is_everything()
    {
        let detail = "empty selector is invalid for daemonset";
        errors.push(FieldError::invalid(path.child("selector"), selector.clone(), detail));
    }
    let template = spec.get("template").unwrap_or(&Value::Null);
    errors.extend(pod::any_template(&path.child("template"), template));
    pod::restarts_always(&mut errors, &path.child("template"), template, "DaemonSet");
    non_negative_all(&mut errors, &path, spec, &["minReadySeconds"]);
    update_strategy(&mut errors, &path.child("updateStrategy"), spec);
    non_negative_all(&mut errors, &path, spec, &["revisionHistoryLimit"]);
    errors
}

/// Returns what is wrong with the change of a DaemonSet.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    workload::with_selector_kept(create(new), new, old)
}

/// Returns what is wrong with the change of a DaemonSet's status.
pub fn status(new: &Value, old: &Value) -> Vec<FieldError> {
    const COUNTS: &[&str] = &[
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    let mut errors = Vec::new();
    let status = at(new, &["status"]).unwrap_or(&Value::Null);
    non_negative_all(&mut errors, &Path::new("status"), status, COUNTS);
    workload::collisions_only_grow(&mut errors, new, old);
    errors
}

fn update_strategy(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    match str_at(strategy, &["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => match given(strategy, "rollingUpdate") {
            Some(rolling) => rolling_update(errors, &path.child("rollingUpdate"), rolling),
            None => errors.push(FieldError::required(path.child("rollingUpdate"), "")),
        },
        _ => errors.push(FieldError::not_supported(
            path,
            strategy.clone(),
            &["OnDelete", "RollingUpdate"],
        )),
    }
}

fn rolling_update(errors: &mut Vec<FieldError>, path: &Path, rolling: &Value) {
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    for check in [int_or_percent, at_most_all] {
        check(errors, &path.child("maxUnavailable"), unavailable);
        check(errors, &path.child("maxSurge"), surge);
    }
    match (amount(unavailable) != 0, amount(surge) != 0) {
        (true, true) => errors.push(FieldError::invalid(
            path.child("maxSurge"),
            surge.cloned().unwrap_or(Value::Null),
            "may not be set when maxUnavailable is non-zero",
        )),
        (false, false) => errors.push(FieldError::required(
            path.child("maxUnavailable"),
            "cannot be 0 when maxSurge is 0",
        )),
        _ => {}
    }
}
