//! The rules of a pod's volumes and of their mounts.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, one_of, persistent};
use crate::meta::{at, int_at, list_at, str_at};
use crate::names;
use crate::quantity::Quantity;

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
];

/// Checks the volumes and returns their names.
pub(super) fn volumes<'a>(errors: &mut Vec<FieldError>, path: &Path, volumes: &'a [Value]) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name = str_at(volume, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        } else {
            all_invalid(errors, &path.child("name"), name, names::dns_label(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| *key != "name" && !value.is_null())
            .map(|(key, _)| key)
            .collect();
        match sources.as_slice() {
            [] => errors.push(FieldError::required(&path, "must specify a volume type")),
            [one] => source(errors, &path.child(one), one, volume),
            [_, more @ ..] => {
                for key in more {
                    errors.push(FieldError::forbidden(
                        path.child(key),
                        "may not specify more than 1 volume type",
                    ));
                }
            }
        }
    }
    seen
}

fn source(errors: &mut Vec<FieldError>, path: &Path, key: &str, volume: &Value) {
    let Some(source) = volume.get(key) else { return };
    match key {
        "hostPath" => host_path(errors, path, source),
        "secret" => {
            if str_at(source, &["secretName"]).is_empty() {
                errors.push(FieldError::required(path.child("secretName"), ""));
            }
            items(errors, path, source);
        }
        "configMap" => {
            if str_at(source, &["name"]).is_empty() {
                errors.push(FieldError::required(path.child("name"), ""));
            }
            items(errors, path, source);
        }
        "persistentVolumeClaim" if str_at(source, &["claimName"]).is_empty() => {
            errors.push(FieldError::required(path.child("claimName"), ""));
        }
        "ephemeral" => {
            let path = path.child("volumeClaimTemplate");
            match at(source, &["volumeClaimTemplate"]).filter(|template| template.is_object()) {
                None => errors.push(FieldError::required(path, "")),
                Some(template) => {
                    let spec = at(template, &["spec"]).unwrap_or(&Value::Null);
                    persistent::claim_spec(errors, &path.child("spec"), spec);
                }
            }
        }
        "emptyDir" => {
            if let Some(limit) = at(source, &["sizeLimit"]).filter(|limit| !limit.is_null())
                && !Quantity::from_value(limit).is_ok_and(|quantity| !quantity.is_negative())
            {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::invalid(path.child("sizeLimit"), limit.clone(), detail));
            }
        }
        _ => {}
    }
    mode(errors, &path.child("defaultMode"), int_at(source, &["defaultMode"]));
}

/// Checks a directory or file of the node.
pub(super) fn host_path(errors: &mut Vec<FieldError>, path: &Path, source: &Value) {
    let host_path = str_at(source, &["path"]);
    if host_path.is_empty() {
        errors.push(FieldError::required(path.child("path"), ""));
    } else if has_backsteps(host_path) {
        errors.push(FieldError::invalid(
            path.child("path"),
            host_path,
            "must not contain '..'",
        ));
    }
    let kind = str_at(source, &["type"]);
    one_of(errors, &path.child("type"), kind, HOST_PATH_TYPES, false);
}

fn mode(errors: &mut Vec<FieldError>, path: &Path, mode: Option<i64>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, mode, detail));
    }
}

fn items(errors: &mut Vec<FieldError>, path: &Path, source: &Value) {
    for (index, item) in list_at(source, &["items"]).iter().enumerate() {
        let path = path.child("items").index(index);
        if str_at(item, &["key"]).is_empty() {
            errors.push(FieldError::required(path.child("key"), ""));
        }
        let file = str_at(item, &["path"]);
        if file.is_empty() {
            errors.push(FieldError::required(path.child("path"), ""));
        } else if file.starts_with('/') {
            errors.push(FieldError::invalid(path.child("path"), file, "must be a relative path"));
        } else if has_backsteps(file) {
            errors.push(FieldError::invalid(path.child("path"), file, "must not contain '..'"));
        }
        mode(errors, &path.child("mode"), int_at(item, &["mode"]));
    }
}

/// Whether a path goes up somewhere.
pub(super) fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// Checks the mounts of a container against the pod's volumes.
pub(super) fn mounts(errors: &mut Vec<FieldError>, path: &Path, container: &Value, volumes: &HashSet<&str>) {
    let mut seen = HashSet::new();
    for (index, mount) in list_at(container, &["volumeMounts"]).iter().enumerate() {
        let path = path.child("volumeMounts").index(index);
        let (name, mount_path) = (str_at(mount, &["name"]), str_at(mount, &["mountPath"]));
        if name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        } else if !volumes.contains(&name) {
            errors.push(FieldError::not_found(path.child("name"), name));
        }
        if mount_path.is_empty() {
            errors.push(FieldError::required(path.child("mountPath"), ""));
        } else if !seen.insert(mount_path) {
            errors.push(FieldError::invalid(
                path.child("mountPath"),
                mount_path,
                "must be unique",
            ));
        }
        for key in ["subPath", "subPathExpr"] {
            let sub_path = str_at(mount, &[key]);
            if sub_path.starts_with('/') {
                errors.push(FieldError::invalid(
                    path.child(key),
                    sub_path,
                    "must be a relative path",
                ));
            } else if has_backsteps(sub_path) {
                errors.push(FieldError::invalid(path.child(key), sub_path, "must not contain '..'"));
            }
        }
        let sub_path_expr = str_at(mount, &["subPathExpr"]);
        if !sub_path_expr.is_empty() && !str_at(mount, &["subPath"]).is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(path.child("subPathExpr"), sub_path_expr, detail));
        }
        propagation(errors, &path, container, mount);
    }
}

/// Checks which way later mounts travel, and what read-only means for them.
fn propagation(errors: &mut Vec<FieldError>, path: &Path, container: &Value, mount: &Value) {
    let wanted = str_at(mount, &["mountPropagation"]);
    let propagations = ["Bidirectional", "HostToContainer", "None"];
    let at_path = path.child("mountPropagation");
    one_of(errors, &at_path, wanted, &propagations, false);
    let privileged = at(container, &["securityContext", "privileged"]).and_then(Value::as_bool);
    if wanted == "Bidirectional" && privileged != Some(true) {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(at_path, detail));
    }
    let at_path = path.child("recursiveReadOnly");
    let recursive = str_at(mount, &["recursiveReadOnly"]);
    one_of(
        errors,
        &at_path,
        recursive,
        &["Disabled", "Enabled", "IfPossible"],
        false,
    );
    if !matches!(recursive, "Enabled" | "IfPossible") {
        return;
    }
    if at(mount, &["readOnly"]).and_then(Value::as_bool) != Some(true) {
        let detail = "may only be specified when readOnly is true";
        errors.push(FieldError::forbidden(&at_path, detail));
    }
    if !matches!(wanted, "" | "None") {
        let detail = "may only be specified when mountPropagation is None or not specified";
        errors.push(FieldError::forbidden(&at_path, detail));
    }
}
