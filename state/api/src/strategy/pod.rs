//! The parts of a pod that are written by paths of their own: containers to debug it by, and what its containers may use.

use serde_json::Value;

use crate::meta::{self, list_at, str_at};
use crate::scheme::Part;
use crate::validate;

/// `pods/ephemeralcontainers`: adds containers to a running pod.
pub const EPHEMERAL_CONTAINERS: Part = Part {
    name: "ephemeralcontainers",
    prepare: |new, old| {
        let wanted = meta::at(new, &["spec", "ephemeralContainers"]).cloned();
        keep_all(new, old);
        let spec = meta::map_mut(meta::map_of(new), "spec");
        match wanted {
            Some(wanted) => spec.insert("ephemeralContainers".into(), wanted),
            None => spec.remove("ephemeralContainers"),
        };
        crate::default::pod::ephemeral_containers(spec);
    },
    validate: validate::ephemeral::update,
};

/// `pods/resize`: changes the resources of the containers of a running pod.
pub const RESIZE: Part = Part {
    name: "resize",
    prepare: |new, old| {
        let wanted: Vec<(&str, Vec<Value>)> = ["containers", "initContainers"]
            .into_iter()
            .map(|key| (key, list_at(new, &["spec", key]).to_vec()))
            .collect();
        keep_all(new, old);
        let spec = meta::map_mut(meta::map_of(new), "spec");
        for (key, wanted) in wanted {
            for container in spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                let name = str_at(container, &["name"]).to_owned();
                let Some(found) = wanted.iter().find(|wanted| str_at(wanted, &["name"]) == name) else {
                    continue;
                };
                let map = meta::map_of(container);
                for field in ["resources", "resizePolicy"] {
                    match found.get(field) {
                        Some(value) => map.insert(field.to_owned(), value.clone()),
                        None => map.remove(field),
                    };
                }
            }
        }
        crate::default::pod::resources(spec);
    },
    validate: validate::resize::update,
};

/// Takes everything from the old object but the revision that the client has seen and who owns what.
fn keep_all(new: &mut Value, old: &Value) {
    let metadata = meta::metadata(new).cloned().unwrap_or_default();
    *new = old.clone();
    for key in ["managedFields", "resourceVersion", "uid"] {
        let value = metadata.get(key).cloned();
        if let Some(value) = value {
            meta::set(new, key, value);
        }
    }
}
