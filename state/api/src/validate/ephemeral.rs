//! The rules of containers that are added to a running pod to debug it.

use std::collections::HashSet;

use serde_json::Value;

use super::container::{self, Surroundings};
use super::field::{FieldError, Path};
use crate::meta::{self, at, list_at, str_at};

/// What an ephemeral container can have; all else is for those that a pod is made of.
const FIELDS: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "name",
    "securityContext",
    "stdin",
    "stdinOnce",
    "targetContainerName",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];
const REFUSED: &str = "cannot be set for an Ephemeral Container";

/// Returns what is wrong with a change of a pod's ephemeral containers.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    if meta::annotation(old, "kubernetes.io/config.mirror").is_some() {
        return vec![FieldError::forbidden(
            "",
            "static pods do not support ephemeral containers",
        )];
    }
    let path = Path::new("spec").child("ephemeralContainers");
    let mut errors = Vec::new();
    containers(&mut errors, &path, new);
    let wanted = list_at(new, &["spec", "ephemeralContainers"]);
    for before in list_at(old, &["spec", "ephemeralContainers"]) {
        let name = str_at(before, &["name"]);
        match wanted.iter().find(|wanted| str_at(wanted, &["name"]) == name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(now) if now != before => {
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

fn containers(errors: &mut Vec<FieldError>, path: &Path, pod: &Value) {
    let named = |key: &str| {
        let list = list_at(pod, &["spec", key]).iter();
        list.map(|container| str_at(container, &["name"]))
    };
    let others: HashSet<&str> = named("containers").chain(named("initContainers")).collect();
    let surroundings = Surroundings {
        volumes: list_at(pod, &["spec", "volumes"])
            .iter()
            .map(|volume| str_at(volume, &["name"]))
            .collect(),
        host_network: at(pod, &["spec", "hostNetwork"]) == Some(&Value::Bool(true)),
    };
    let mut seen = others.clone();
    for (index, found) in list_at(pod, &["spec", "ephemeralContainers"]).iter().enumerate() {
        let path = path.index(index);
        container::container(errors, &path, found, &surroundings);
        let name = str_at(found, &["name"]);
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
        let target = str_at(found, &["targetContainerName"]);
        if !target.is_empty() && !others.contains(&target) {
            errors.push(FieldError::not_found(path.child("targetContainerName"), target));
        }
        for (key, value) in found.as_object().into_iter().flatten() {
            if !FIELDS.contains(&key.as_str()) && says_something(value) {
                errors.push(FieldError::forbidden(path.child(key), REFUSED));
            }
        }
        for (index, mount) in list_at(found, &["volumeMounts"]).iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !str_at(mount, &[key]).is_empty() {
                    let path = path.child("volumeMounts").index(index).child(key);
                    errors.push(FieldError::forbidden(path, REFUSED));
                }
            }
        }
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}
