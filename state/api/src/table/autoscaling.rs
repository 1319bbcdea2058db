//! The rows of HorizontalPodAutoscalers: both versions show the v2 form.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, columns};
use crate::convert::autoscaling::as_v2;
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::quantity::canonicalize;

/// How many metrics are listed before "more".
const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

const COLUMNS: &str = "Name|string|0|Name must be unique within a namespace.
Reference|string|0|What is scaled.
Targets|string|0|The metrics, as they are and as they should be.
MinPods|string|0|The least number of pods.
MaxPods|string|0|The greatest number of pods.
Replicas|string|0|The number of pods that there are.
Age|string|0|How long ago the object was created.";

/// Returns the columns and the row of `autoscaling/v2 HorizontalPodAutoscaler`s.
pub(crate) fn horizontal_pod_autoscaler() -> (Vec<Column>, Row) {
    (columns(COLUMNS), Row::Builtin(row))
}

/// Returns the columns and the row of `autoscaling/v1 HorizontalPodAutoscaler`s.
pub(crate) fn horizontal_pod_autoscaler_v1() -> (Vec<Column>, Row) {
    (columns(COLUMNS), Row::Builtin(|object, now| row(&as_v2(object), now)))
}

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let target = |key: &str| str_at(object, &["spec", "scaleTargetRef", key]);
    let number = |path: &[&str]| int_at(object, path).unwrap_or(0);
    let least = int_at(object, &["spec", "minReplicas"]).map_or_else(|| "<unset>".to_owned(), |min| min.to_string());
    vec![
        meta::name(object).into(),
        format!("{}/{}", target("kind"), target("name")).into(),
        metrics(object).into(),
        least.into(),
        number(&["spec", "maxReplicas"]).into(),
        number(&["status", "currentReplicas"]).into(),
        age(object, now),
    ]
}

fn metrics(object: &Value) -> String {
    let specs = list_at(object, &["spec", "metrics"]);
    let statuses = list_at(object, &["status", "currentMetrics"]);
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<String> = specs
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(index, spec)| metric(spec, statuses.get(index).unwrap_or(&Value::Null)))
        .collect();
    let shown = shown.join(", ");
    match specs.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// `cpu: 12%/80%`, `3/10 (avg)`.
fn metric(spec: &Value, status: &Value) -> String {
    let (key, names_resource, per_pod) = match str_at(spec, &["type"]) {
        "External" => ("external", false, true),
        "Object" => ("object", false, true),
        "Pods" => ("pods", false, false),
        "Resource" => ("resource", true, false),
        "ContainerResource" => ("containerResource", true, false),
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = |field: &str| amount(at(spec, &[key, "target", field]));
    let found = |field: &str| amount(at(status, &[key, "current", field])).unwrap_or_else(|| UNKNOWN.to_owned());
    let text = match (wanted("averageValue"), names_resource) {
        (Some(target), _) => {
            let suffix = if per_pod { " (avg)" } else { "" };
            format!("{}/{target}{suffix}", found("averageValue"))
        }
        (None, true) => {
            let current = int_at(status, &[key, "current", "averageUtilization"]);
            let current = current.map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent}%"));
            let target = int_at(spec, &[key, "target", "averageUtilization"]);
            let target = target.map_or_else(|| "<auto>".to_owned(), |percent| format!("{percent}%"));
            format!("{current}/{target}")
        }
        (None, false) => format!("{}/{}", found("value"), wanted("value").unwrap_or_default()),
    };
    match names_resource {
        true => format!("{}: {text}", str_at(spec, &[key, "name"])),
        false => text,
    }
}

/// A quantity as Kubernetes writes it.
fn amount(value: Option<&Value>) -> Option<String> {
    let mut value = value.filter(|value| !value.is_null())?.clone();
    canonicalize(&mut value);
    value.as_str().map(str::to_owned)
}
