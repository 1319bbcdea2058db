//! The rules of ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, immutable};
use crate::meta::{at, str_at};
use crate::names;

/// The most bytes in all entries of a ConfigMap or Secret.
const MAX_SIZE: usize = 1024 * 1024;

fn entries<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    let map = object.get(key).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(key, value)| (key, value.as_str().unwrap_or("")))
}

/// Returns what is wrong with a ConfigMap.
pub fn config_map(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        let path = Path::new("data").key(key);
        all_invalid(&mut errors, &path, key, names::config_key(key));
        if at(object, &["binaryData", key]).is_some() {
            errors.push(FieldError::invalid(
                path,
                key.as_str(),
                "duplicate of key present in binaryData",
            ));
        }
        size += value.len();
    }
    for (key, value) in entries(object, "binaryData") {
        let path = Path::new("binaryData").key(key);
        all_invalid(&mut errors, &path, key, names::config_key(key));
        size += decoded(&mut errors, &path, value);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long("", MAX_SIZE));
    }
    errors
}

/// Returns the size of what a base64 text holds.
fn decoded(errors: &mut Vec<FieldError>, path: &Path, value: &str) -> usize {
    match STANDARD.decode(value) {
        Ok(bytes) => bytes.len(),
        Err(error) => {
            errors.push(FieldError::invalid(
                path,
                "<binary>",
                format!("illegal base64 data: {error}"),
            ));
            0
        }
    }
}

/// Returns what is wrong with the change of a ConfigMap.
pub fn config_map_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = config_map(new);
    frozen(&mut errors, new, old, &["data", "binaryData"]);
    errors
}

/// Refuses changes of an object that was declared immutable.
fn frozen(errors: &mut Vec<FieldError>, new: &Value, old: &Value, keys: &[&str]) {
    let is_set = |value: &Value| value.get("immutable") == Some(&Value::Bool(true));
    if !is_set(old) {
        return;
    }
    if !is_set(new) {
        errors.push(FieldError::forbidden(
            "immutable",
            "field is immutable when `immutable` is set",
        ));
    }
    for key in keys {
        let content = |value: &Value| value.get(*key).filter(|value| !value.is_null()).cloned();
        if content(new) != content(old) {
            errors.push(FieldError::forbidden(
                *key,
                "field is immutable when `immutable` is set",
            ));
        }
    }
}

/// Returns what is wrong with a Secret.
pub fn secret(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        let path = Path::new("data").key(key);
        all_invalid(&mut errors, &path, key, names::config_key(key));
        size += decoded(&mut errors, &path, value);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long("data", MAX_SIZE));
    }
    let needs = |errors: &mut Vec<FieldError>, key: &str| {
        if at(object, &["data", key]).is_none() {
            errors.push(FieldError::required(Path::new("data").key(key), ""));
        }
    };
    match str_at(object, &["type"]) {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if crate::meta::annotation(object, key).is_none_or(str::is_empty) {
                errors.push(FieldError::required(Path::new("metadata.annotations").key(key), ""));
            }
        }
        "kubernetes.io/dockercfg" => json_entry(&mut errors, object, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json_entry(&mut errors, object, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if at(object, &["data", "username"]).is_none() => needs(&mut errors, "password"),
        "kubernetes.io/ssh-auth" => needs(&mut errors, "ssh-privatekey"),
        "kubernetes.io/tls" => {
            needs(&mut errors, "tls.crt");
            needs(&mut errors, "tls.key");
        }
        _ => {}
    }
    errors
}

fn json_entry(errors: &mut Vec<FieldError>, object: &Value, key: &str) {
    let path = Path::new("data").key(key);
    let Some(text) = at(object, &["data", key]).and_then(Value::as_str) else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let parsed = STANDARD
        .decode(text)
        .ok()
        .map(|bytes| serde_json::from_slice::<Value>(&bytes));
    if let Some(Err(error)) = parsed {
        errors.push(FieldError::invalid(
            path,
            "<secret contents redacted>",
            error.to_string(),
        ));
    }
}

/// Returns what is wrong with the change of a Secret.
pub fn secret_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = secret(new);
    immutable(&mut errors, &Path::new("type"), new.get("type"), old.get("type"));
    frozen(&mut errors, new, old, &["data"]);
    errors
}
