//! `autoscaling/v1 HorizontalPodAutoscaler` and the `autoscaling/v2` form that it is stored in.
//!
//! v1 knows one metric, the utilization of cpu. The others, the behavior, and the status of metrics and conditions stand in annotations of
//! the v1 form, as Kubernetes writes them: JSON of v1's own metric types, and of a behavior whose keys begin with capitals.

use serde_json::{Map, Value, json};

use super::{put, take};
use crate::meta::{self, int_at, str_at};
use crate::scheme::Conversion;

/// Between v1 and v2.
pub const HORIZONTAL_POD_AUTOSCALER: Conversion = Conversion {
    from_stored: to_v1,
    to_stored: to_v2,
};

/// The utilization of cpu that is aimed at where nothing is said, in percent.
pub const DEFAULT_UTILIZATION: i64 = 80;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ANNOTATIONS: [&str; 4] = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

/// A field in v1 and the keys that lead to it in v2.
type Pair = (&'static str, &'static [&'static str]);

/// What a source of metrics is called, and how the fields of its spec and of its status correspond.
struct Source {
    key: &'static str,
    spec: &'static [Pair],
    status: &'static [Pair],
}

const SOURCES: &[Source] = &[
    Source {
        key: "object",
        spec: &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("averageValue", &["target", "averageValue"]),
        ],
        status: &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("averageValue", &["current", "averageValue"]),
        ],
    },
    Source {
        key: "pods",
        spec: &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        status: &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    },
    Source {
        key: "resource",
        spec: RESOURCE_SPEC,
        status: RESOURCE_STATUS,
    },
    Source {
        key: "containerResource",
        spec: RESOURCE_SPEC,
        status: RESOURCE_STATUS,
    },
    Source {
        key: "external",
        spec: &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        status: &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    },
];

const RESOURCE_SPEC: &[Pair] = &[
    ("targetAverageUtilization", &["target", "averageUtilization"]),
    ("targetAverageValue", &["target", "averageValue"]),
];
const RESOURCE_STATUS: &[Pair] = &[
    ("currentAverageUtilization", &["current", "averageUtilization"]),
    ("currentAverageValue", &["current", "averageValue"]),
];

/// Whether a metric is the one that v1 has a field for.
fn is_cpu(metric: &Value) -> bool {
    str_at(metric, &["type"]) == "Resource" && str_at(metric, &["resource", "name"]) == "cpu"
}

fn to_v1(object: &mut Value) {
    drop_annotations(object);
    let mut kept: Vec<(&str, Value)> = Vec::new();
    if let Some(Value::Object(spec)) = meta::map_of(object).get_mut("spec") {
        let metrics = list(spec.remove("metrics"));
        let utilization = |metric: &Value| int_at(metric, &["resource", "target", "averageUtilization"]);
        if let Some(percent) = metrics.iter().find(|metric| is_cpu(metric)).and_then(utilization) {
            spec.insert("targetCPUUtilizationPercentage".into(), percent.into());
        }
        let others: Vec<Value> = metrics
            .into_iter()
            .filter(|metric| !is_cpu(metric) || utilization(metric).is_none())
            .map(|metric| metric_to_v1(metric, |source| source.spec))
            .collect();
        if !others.is_empty() {
            kept.push((METRICS, others.into()));
        }
        if let Some(behavior) = spec.remove("behavior").filter(Value::is_object) {
            kept.push((BEHAVIOR, with_keys(behavior, |letter| letter.to_ascii_uppercase())));
        }
    }
    if let Some(Value::Object(status)) = meta::map_of(object).get_mut("status") {
        let metrics = list(status.remove("currentMetrics"));
        let mut current = metrics
            .iter()
            .filter(|metric| is_cpu(metric))
            .filter_map(|metric| int_at(metric, &["resource", "current", "averageUtilization"]));
        if let Some(percent) = current.next_back() {
            status.insert("currentCPUUtilizationPercentage".into(), percent.into());
        }
        if !metrics.is_empty() {
            let metrics = metrics
                .into_iter()
                .map(|metric| metric_to_v1(metric, |source| source.status));
            kept.push((CURRENT_METRICS, metrics.collect()));
        }
        let conditions = list(status.remove("conditions"));
        if !conditions.is_empty() {
            kept.push((CONDITIONS, conditions.into()));
        }
    }
    for (key, value) in kept {
        meta::set_annotation(object, key, &value.to_string());
    }
}

fn to_v2(object: &mut Value) {
    let kept = |key: &str| {
        let text = meta::annotation(object, key)?;
        serde_json::from_str::<Value>(text).ok()
    };
    let (metrics, current) = (list(kept(METRICS)), list(kept(CURRENT_METRICS)));
    let (conditions, behavior) = (list(kept(CONDITIONS)), kept(BEHAVIOR).filter(Value::is_object));
    drop_annotations(object);
    let map = meta::map_of(object);
    if let Some(Value::Object(spec)) = map.get_mut("spec") {
        let mut metrics: Vec<Value> = metrics
            .into_iter()
            .map(|metric| metric_to_v2(metric, |source| source.spec, "target"))
            .collect();
        let percent = take(spec, &["targetCPUUtilizationPercentage"]);
        if let Some(percent) = percent.or_else(|| metrics.is_empty().then(|| DEFAULT_UTILIZATION.into())) {
            metrics.push(cpu(
                "target",
                json!({"type": "Utilization", "averageUtilization": percent}),
            ));
        }
        spec.insert("metrics".into(), metrics.into());
        if let Some(behavior) = behavior {
            spec.insert(
                "behavior".into(),
                with_keys(behavior, |letter| letter.to_ascii_lowercase()),
            );
        }
    }
    if !current.is_empty() || !conditions.is_empty() {
        meta::map_mut(map, "status");
    }
    if let Some(Value::Object(status)) = map.get_mut("status") {
        let percent = take(status, &["currentCPUUtilizationPercentage"]);
        // What the annotation says is more than the number.
        let current: Vec<Value> = match (current.is_empty(), percent) {
            (true, Some(percent)) => vec![cpu("current", json!({"averageUtilization": percent}))],
            _ => current
                .into_iter()
                .map(|metric| metric_to_v2(metric, |source| source.status, ""))
                .collect(),
        };
        for (key, value) in [("currentMetrics", current), ("conditions", conditions)] {
            if !value.is_empty() {
                status.insert(key.into(), value.into());
            }
        }
    }
}

fn cpu(key: &str, amount: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", key: amount}})
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn drop_annotations(object: &mut Value) {
    if meta::annotations(object).is_none() {
        return;
    }
    let metadata = meta::metadata_mut(object);
    let annotations = meta::map_mut(metadata, "annotations");
    let before = annotations.len();
    annotations.retain(|key, _| !ANNOTATIONS.contains(&key.as_str()));
    if annotations.is_empty() && before > 0 {
        metadata.remove("annotations");
    }
}

fn metric_to_v1(mut metric: Value, pairs: fn(&Source) -> &'static [Pair]) -> Value {
    for source in SOURCES {
        let Some(Value::Object(found)) = metric.get_mut(source.key) else {
            continue;
        };
        // Taken first, all of them: `target` is an object in v1, and the amount in v2.
        let taken: Vec<_> = pairs(source)
            .iter()
            .map(|(name, path)| (name, take(found, path)))
            .collect();
        found.remove("target");
        found.remove("current");
        for (name, value) in taken {
            if let Some(value) = value {
                found.insert((*name).to_owned(), value);
            }
        }
    }
    metric
}

fn metric_to_v2(mut metric: Value, pairs: fn(&Source) -> &'static [Pair], target: &str) -> Value {
    for source in SOURCES {
        let Some(Value::Object(found)) = metric.get_mut(source.key) else {
            continue;
        };
        let taken: Vec<_> = pairs(source)
            .iter()
            .map(|(name, path)| (path, take(found, &[name])))
            .collect();
        for (path, value) in taken {
            // Kubernetes writes a quantity that is not set as 0.
            let unset = path.last() == Some(&"value") && value.as_ref().and_then(Value::as_str) == Some("0");
            if let Some(value) = value.filter(|_| !unset) {
                put(found, path, value);
            }
        }
        if let Some(Value::Object(target)) = found.get_mut(target) {
            let kind = ["averageUtilization", "averageValue", "value"]
                .into_iter()
                .zip(["Utilization", "AverageValue", "Value"])
                .find(|(key, _)| target.contains_key(*key));
            if let Some((_, kind)) = kind {
                target.insert("type".into(), kind.into());
            }
        }
    }
    metric
}

/// Writes the first letter of every key in another way.
fn with_keys(value: Value, letter: fn(&char) -> char) -> Value {
    match value {
        Value::Object(map) => {
            let renamed = map.into_iter().map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().map(|first| letter(&first));
                (first.into_iter().chain(letters).collect(), with_keys(value, letter))
            });
            Value::Object(renamed.collect::<Map<String, Value>>())
        }
        Value::Array(items) => items.into_iter().map(|item| with_keys(item, letter)).collect(),
        other => other,
    }
}

/// Returns the v2 form of a v1 object, for what looks at both in the same way.
pub fn as_v2(object: &Value) -> Value {
    let mut object = object.clone();
    to_v2(&mut object);
    object
}

/// Keeps in a changed v1 object what its annotations say of the status: that is written through the status subresource only.
pub fn keep_status(new: &mut Value, old: &Value) {
    for key in [CURRENT_METRICS, CONDITIONS] {
        match meta::annotation(old, key) {
            Some(text) => meta::set_annotation(new, key, text),
            None if meta::annotation(new, key).is_some() => {
                meta::map_mut(meta::metadata_mut(new), "annotations").remove(key);
            }
            None => {}
        }
    }
}
