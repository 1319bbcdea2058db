//! The rules of Events: few for those of the old recorders, more for those that carry an `eventTime`, and strict ones for
//! events.k8s.io/v1. All look at the core form, whose field names Kubernetes' messages have too.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, immutable};
use crate::convert::events::EVENT;
use crate::meta::{self, at, int_at, str_at};
use crate::names;

/// The longest reportingInstance, action and reason, in bytes.
const LONGEST_WORD: usize = 128;
/// The longest message, in bytes.
const LONGEST_MESSAGE: usize = 1024;

/// Returns what is wrong with a new or changed core Event.
pub fn core(event: &Value) -> Vec<FieldError> {
    legacy(event, "reportingComponent")
}

/// Returns what is wrong with a new `events.k8s.io/v1` Event.
pub fn create(event: &Value) -> Vec<FieldError> {
    let event = &as_core(event);
    let mut errors = legacy(event, "reportingController");
    errors.extend(series(event));
    let unset = |errors: &mut Vec<FieldError>, key: &str| {
        errors.push(FieldError::invalid(key, "", "needs to be unset"));
    };
    if str_at(event, &["eventTime"]).is_empty() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = str_at(event, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    for key in ["firstTimestamp", "lastTimestamp"] {
        if !str_at(event, &[key]).is_empty() {
            unset(&mut errors, key);
        }
    }
    if int_at(event, &["count"]).unwrap_or(0) != 0 {
        unset(&mut errors, "count");
    }
    if ["component", "host"]
        .iter()
        .any(|key| !str_at(event, &["source", key]).is_empty())
    {
        unset(&mut errors, "source");
    }
    errors
}

/// Returns what is wrong with the change of an `events.k8s.io/v1` Event: only its series may change.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (new, old) = (&as_core(new), &as_core(old));
    let mut errors = legacy(new, "reportingController");
    if new.get("series") != old.get("series") {
        errors.extend(series(new));
    }
    for (key, name) in [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        immutable(&mut errors, &Path::new(name), said(new, key), said(old, key));
    }
    errors
}

/// A field that says something: Go's clients send what is empty, too.
fn said<'a>(event: &'a Value, key: &str) -> Option<&'a Value> {
    event.get(key).filter(|value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        _ => true,
    })
}

fn as_core(event: &Value) -> Value {
    let mut event = event.clone();
    (EVENT.to_stored)(&mut event);
    event
}

fn series(event: &Value) -> Vec<FieldError> {
    let Some(series) = event.get("series").filter(|series| series.is_object()) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    if int_at(series, &["count"]).unwrap_or(0) < 2 {
        errors.push(FieldError::invalid("series.count", "", "should be at least 2"));
    }
    if str_at(series, &["lastObservedTime"]).is_empty() {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
    errors
}

/// The rules of every Event; `controller` is what the version calls the one who reports.
fn legacy(event: &Value, controller: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (own, involved) = (meta::namespace(event), str_at(event, &["involvedObject", "namespace"]));
    let timed = at(event, &["eventTime"]).is_some_and(|time| !time.is_null());
    // Events about cluster-scoped objects live in "default"; newer ones in "kube-system", too.
    let matching = match (timed, involved) {
        (false, "") => matches!(own, "" | "default"),
        (false, involved) => own == involved,
        (true, "") => matches!(own, "default" | "kube-system"),
        (true, _) => true,
    };
    if !matching {
        let detail = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", involved, detail));
    }
    if timed {
        let reporter = str_at(event, &["reportingComponent"]);
        if reporter.is_empty() {
            errors.push(FieldError::required(controller, ""));
        }
        all_invalid(
            &mut errors,
            &Path::new(controller),
            reporter,
            names::qualified_name(reporter),
        );
        // Kubernetes' own misspelling.
        for (key, path) in [
            ("reportingInstance", "repotingIntance"),
            ("action", "action"),
            ("reason", "reason"),
        ] {
            let text = str_at(event, &[key]);
            if text.is_empty() {
                errors.push(FieldError::required(key, ""));
            }
            if text.len() > LONGEST_WORD {
                let detail = format!("can have at most {LONGEST_WORD} characters");
                errors.push(FieldError::invalid(path, "", detail));
            }
        }
        if str_at(event, &["message"]).len() > LONGEST_MESSAGE {
            let detail = format!("can have at most {LONGEST_MESSAGE} characters");
            errors.push(FieldError::invalid("message", "", detail));
        }
    }
    errors
}
