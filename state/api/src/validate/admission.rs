//! The rules of admission webhooks and policies. What their CEL expressions say is not looked at: they are stored, not run.

mod policy;
mod webhook;

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, given};
use crate::meta::{list_at, str_at};
use crate::names;

pub use policy::{mutating_binding, mutating_policy, validating_binding, validating_policy, validating_policy_status};
pub use webhook::{mutating_create, mutating_update, validating_create, validating_update};

const MOST_CONDITIONS: usize = 64;
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// Returns the texts of a list.
fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    list_at(value, &[key]).iter().filter_map(Value::as_str).collect()
}

/// Refuses a word that is there and none of some.
fn supported(errors: &mut Vec<FieldError>, path: &Path, value: &Value, key: &str, allowed: &[&str]) {
    if let Some(found) = given(value, key).and_then(Value::as_str)
        && !allowed.contains(&found)
    {
        errors.push(FieldError::not_supported(path.child(key), found, allowed));
    }
}

/// Refuses a list in which `*` is not alone.
fn lonely_star(errors: &mut Vec<FieldError>, path: &Path, rule: &Value, key: &str, what: &str) {
    let found = texts(rule, key);
    if found.len() > 1 && found.contains(&"*") {
        let shown = rule.get(key).cloned().unwrap_or(Value::Null);
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(path.child(key), shown, detail));
    }
}

/// Which requests a webhook or policy is about.
fn rule(errors: &mut Vec<FieldError>, path: &Path, rule: &Value) {
    let require = |errors: &mut Vec<FieldError>, key: &str| {
        if list_at(rule, &[key]).is_empty() {
            errors.push(FieldError::required(path.child(key), ""));
        }
    };
    require(errors, "operations");
    lonely_star(errors, path, rule, "operations", "operations");
    for (index, operation) in texts(rule, "operations").into_iter().enumerate() {
        if !OPERATIONS.contains(&operation) {
            let path = path.child("operations").index(index);
            errors.push(FieldError::not_supported(path, operation, OPERATIONS));
        }
    }
    require(errors, "apiGroups");
    lonely_star(errors, path, rule, "apiGroups", "API groups");
    require(errors, "apiVersions");
    lonely_star(errors, path, rule, "apiVersions", "API versions");
    for (index, version) in texts(rule, "apiVersions").into_iter().enumerate() {
        if version.is_empty() {
            errors.push(FieldError::required(path.child("apiVersions").index(index), ""));
        }
    }
    require(errors, "resources");
    resources(errors, &path.child("resources"), rule);
    supported(errors, path, rule, "scope", &["*", "Cluster", "Namespaced"]);
}

fn resources(errors: &mut Vec<FieldError>, path: &Path, rule: &Value) {
    let found = texts(rule, "resources");
    let (mut any_sub, mut any_resource): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    // As on Kubernetes, the last one without a subresource decides.
    let mut plain = false;
    for (index, text) in found.iter().enumerate() {
        let path = path.index(index);
        if text.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            plain = *text != "*";
            continue;
        };
        if any_sub.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(FieldError::invalid(&path, *text, detail));
        }
        if any_resource.contains(&sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            errors.push(FieldError::invalid(&path, *text, detail));
        }
        if sub == "*" {
            any_sub.push(resource);
        }
        if resource == "*" {
            any_resource.push(sub);
        }
    }
    let shown = || rule.get("resources").cloned().unwrap_or(Value::Null);
    if found.len() > 1 && found.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, shown(), detail));
    }
    if found.contains(&"*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, shown(), detail));
    }
}

fn match_conditions(errors: &mut Vec<FieldError>, path: &Path, conditions: &[Value]) {
    if conditions.len() > MOST_CONDITIONS {
        errors.push(FieldError::too_many(path, conditions.len(), MOST_CONDITIONS));
    }
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let name = str_at(condition, &["name"]);
        if str_at(condition, &["expression"]).trim().is_empty() {
            errors.push(FieldError::required(path.child("expression"), ""));
        }
        if name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
            continue;
        }
        all_invalid(errors, &path.child("name"), name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
    }
}
