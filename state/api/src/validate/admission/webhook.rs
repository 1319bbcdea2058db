//! The rules of MutatingWebhookConfigurations and ValidatingWebhookConfigurations.

use std::collections::HashSet;

use serde_json::Value;

use super::{match_conditions, rule, supported, texts};
use crate::meta::{at, int_at, list_at, str_at};
use crate::names;
use crate::validate::field::{FieldError, Path};
use crate::validate::{all_invalid, format, given, metadata};

const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const ALL_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];

/// What an old object got away with, its successor may keep.
#[derive(Clone, Copy)]
struct Strictness {
    side_effects: bool,
    review_versions: bool,
    unique_names: bool,
}

impl Strictness {
    const FULL: Strictness = Strictness {
        side_effects: true,
        review_versions: true,
        unique_names: true,
    };

    fn after(old: &Value) -> Strictness {
        let hooks = list_at(old, &["webhooks"]);
        let mut seen = HashSet::new();
        Strictness {
            side_effects: hooks
                .iter()
                .all(|hook| SIDE_EFFECTS.contains(&str_at(hook, &["sideEffects"]))),
            review_versions: hooks.iter().all(|hook| {
                let versions = texts(hook, "admissionReviewVersions");
                versions.is_empty() || versions.iter().any(|version| REVIEW_VERSIONS.contains(version))
            }),
            unique_names: hooks.iter().all(|hook| seen.insert(str_at(hook, &["name"]))),
        }
    }
}

/// Returns what is wrong with a new MutatingWebhookConfiguration.
pub fn mutating_create(object: &Value) -> Vec<FieldError> {
    webhooks(object, true, Strictness::FULL)
}

/// Returns what is wrong with the change of a MutatingWebhookConfiguration.
pub fn mutating_update(new: &Value, old: &Value) -> Vec<FieldError> {
    webhooks(new, true, Strictness::after(old))
}

/// Returns what is wrong with a new ValidatingWebhookConfiguration.
pub fn validating_create(object: &Value) -> Vec<FieldError> {
    webhooks(object, false, Strictness::FULL)
}

/// Returns what is wrong with the change of a ValidatingWebhookConfiguration.
pub fn validating_update(new: &Value, old: &Value) -> Vec<FieldError> {
    webhooks(new, false, Strictness::after(old))
}

fn webhooks(object: &Value, mutating: bool, strictness: Strictness) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (index, hook) in list_at(object, &["webhooks"]).iter().enumerate() {
        let path = Path::new("webhooks").index(index);
        webhook(&mut errors, &path, hook, mutating, strictness);
        let versions = texts(hook, "admissionReviewVersions");
        review_versions(&mut errors, &path, &versions, strictness.review_versions);
        let name = str_at(hook, &["name"]);
        if strictness.unique_names && !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
    }
    errors
}

fn webhook(errors: &mut Vec<FieldError>, path: &Path, hook: &Value, mutating: bool, strictness: Strictness) {
    format::fully_qualified_name(errors, &path.child("name"), str_at(hook, &["name"]));
    for (index, found) in list_at(hook, &["rules"]).iter().enumerate() {
        rule(errors, &path.child("rules").index(index), found);
    }
    supported(errors, path, hook, "failurePolicy", &["Fail", "Ignore"]);
    supported(errors, path, hook, "matchPolicy", &["Equivalent", "Exact"]);
    let allowed = if strictness.side_effects {
        SIDE_EFFECTS
    } else {
        ALL_SIDE_EFFECTS
    };
    if given(hook, "sideEffects").is_none() {
        let detail = format!("must specify one of {}", allowed.join(", "));
        errors.push(FieldError::required(path.child("sideEffects"), detail));
    }
    supported(errors, path, hook, "sideEffects", allowed);
    if let Some(seconds) = int_at(hook, &["timeoutSeconds"])
        && !(1..=30).contains(&seconds)
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(path.child("timeoutSeconds"), seconds, detail));
    }
    for key in ["namespaceSelector", "objectSelector"] {
        errors.extend(metadata::selector(&path.child(key), given(hook, key)));
    }
    if mutating {
        supported(errors, path, hook, "reinvocationPolicy", &["IfNeeded", "Never"]);
    }
    client(errors, &path.child("clientConfig"), hook);
    let conditions = list_at(hook, &["matchConditions"]);
    match_conditions(errors, &path.child("matchConditions"), conditions);
}

fn client(errors: &mut Vec<FieldError>, path: &Path, hook: &Value) {
    let config = at(hook, &["clientConfig"]).unwrap_or(&Value::Null);
    match (given(config, "url"), given(config, "service")) {
        (Some(url), None) => format::webhook_url(errors, &path.child("url"), url.as_str().unwrap_or("")),
        (None, Some(found)) => service(errors, &path.child("service"), found),
        _ => {
            let detail = "exactly one of url or service is required";
            errors.push(FieldError::required(path, detail));
        }
    }
}

fn service(errors: &mut Vec<FieldError>, path: &Path, service: &Value) {
    for key in ["name", "namespace"] {
        if str_at(service, &[key]).is_empty() {
            errors.push(FieldError::required(path.child(key), ""));
        }
    }
    let port = int_at(service, &["port"]).unwrap_or(0);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(path.child("port"), port, detail));
    }
    let text = str_at(service, &["path"]);
    if text.is_empty() || text == "/" {
        return;
    }
    let path = path.child("path");
    let Some(below) = text.strip_prefix('/') else {
        errors.push(FieldError::invalid(path, text, "must start with a '/'"));
        return;
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    for (index, step) in below.split('/').enumerate() {
        if step.is_empty() {
            let detail = format!("segment[{index}] may not be empty");
            errors.push(FieldError::invalid(&path, text, detail));
            continue;
        }
        let wrong = names::dns_subdomain(step).into_iter();
        let details = wrong.map(|detail| format!("segment[{index}]: {detail}"));
        all_invalid(errors, &path, text, details.collect());
    }
}

fn review_versions(errors: &mut Vec<FieldError>, path: &Path, versions: &[&str], require_known: bool) {
    let path = path.child("admissionReviewVersions");
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        errors.push(FieldError::required(path, format!("must specify one of {known}")));
        return;
    }
    let mut seen = HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if !seen.insert(version) {
            errors.push(FieldError::invalid(path, *version, "duplicate version"));
            continue;
        }
        all_invalid(errors, &path, version, names::dns1035_label(version));
    }
    if require_known && !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let detail = format!("must include at least one of {known}");
        errors.push(FieldError::invalid(path, versions.to_vec(), detail));
    }
}
