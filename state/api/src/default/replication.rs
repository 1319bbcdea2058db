//! Defaults of ReplicationControllers and PodTemplates.

use serde_json::Value;

use super::{fill, pod, spec};
use crate::meta;

/// Fills in a ReplicationController: its selector and its labels are those of its pods, unless it says otherwise.
pub fn controller(controller: &mut Value) {
    let labels = meta::at(controller, &["spec", "template", "metadata", "labels"])
        .and_then(Value::as_object)
        .filter(|labels| !labels.is_empty())
        .cloned();
    if let Some(labels) = labels {
        let empty = |value: Option<&Value>| value.and_then(Value::as_object).is_none_or(serde_json::Map::is_empty);
        if empty(meta::at(controller, &["spec", "selector"])) {
            spec(controller).insert("selector".into(), labels.clone().into());
        }
        if empty(meta::at(controller, &["metadata", "labels"])) {
            meta::set(controller, "labels", labels);
        }
    }
    let spec = spec(controller);
    fill(spec, "replicas", 1);
    if spec.get("template").is_some_and(Value::is_object) {
        pod::template(spec);
    }
}

/// Fills in a PodTemplate.
pub fn template(template: &mut Value) {
    pod::template(meta::map_of(template));
}
