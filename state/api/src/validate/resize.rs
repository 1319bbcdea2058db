//! The rules of changing what the containers of a running pod may use.

use serde_json::{Map, Value};

use super::container::{self, Surroundings};
use super::field::{FieldError, Path};
use crate::meta::{self, at, list_at, str_at};
use crate::strategy::kinds::qos_class;

/// Returns what is wrong with a resize of a pod.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    if meta::annotation(old, "kubernetes.io/config.mirror").is_some() {
        return vec![FieldError::forbidden("", "static pods cannot be resized")];
    }
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if qos_class(old) != qos_class(new) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, qos_class(new), detail));
    }
    if !is_supported(old) {
        errors.push(FieldError::forbidden(
            &path,
            "Pod running on node without support for resize",
        ));
    }
    let surroundings = Surroundings {
        volumes: list_at(new, &["spec", "volumes"])
            .iter()
            .map(|volume| str_at(volume, &["name"]))
            .collect(),
        host_network: at(new, &["spec", "hostNetwork"]) == Some(&Value::Bool(true)),
    };
    for key in ["containers", "initContainers"] {
        let before = list_at(old, &["spec", key]);
        for (index, (now, before)) in list_at(new, &["spec", key]).iter().zip(before).enumerate() {
            if now == before {
                continue;
            }
            let path = path.child(key).index(index);
            container::container(&mut errors, &path, now, &surroundings);
            changed(&mut errors, &path.child("resources"), now, before);
            let sidecar = str_at(now, &["restartPolicy"]) == "Always";
            if key == "initContainers" && !sidecar {
                let detail = "resources for non-sidecar init containers are immutable";
                errors.push(FieldError::forbidden(path.child("resources"), detail));
            }
        }
    }
    errors
}

/// A node that resizes tells what its running containers may use.
fn is_supported(pod: &Value) -> bool {
    list_at(pod, &["status", "containerStatuses"])
        .iter()
        .find(|status| at(status, &["state", "running"]).is_some_and(Value::is_object))
        .is_none_or(|status| at(status, &["resources"]).is_some_and(Value::is_object))
}

fn changed(errors: &mut Vec<FieldError>, path: &Path, now: &Value, before: &Value) {
    let none = Map::new();
    for (kind, removed) in [
        ("requests", "resource requests cannot be removed"),
        ("limits", "resource limits cannot be removed"),
    ] {
        let amounts = |container: &'_ Value| -> Map<String, Value> {
            let found = at(container, &["resources", kind]).and_then(Value::as_object);
            found.unwrap_or(&none).clone()
        };
        let (now, before) = (amounts(now), amounts(before));
        if before.keys().any(|name| !now.contains_key(name)) {
            errors.push(FieldError::forbidden(path.child(kind), removed));
        }
        let fixed = |name: &&String| !matches!(name.as_str(), "cpu" | "memory");
        if now
            .keys()
            .chain(before.keys())
            .filter(fixed)
            .any(|name| now.get(name) != before.get(name))
        {
            let detail = "only cpu and memory resources are mutable";
            errors.push(FieldError::forbidden("spec", detail));
        }
    }
}
