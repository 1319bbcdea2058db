//! The rules of roles and bindings.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::one_of;
use crate::meta::{at, list_at, str_at};
use crate::names;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Returns what is wrong with a Role.
pub fn role(role: &Value) -> Vec<FieldError> {
    rules(role, true)
}

/// Returns what is wrong with a ClusterRole.
pub fn cluster_role(role: &Value) -> Vec<FieldError> {
    let mut errors = rules(role, false);
    let path = Path::new("aggregationRule.clusterRoleSelectors");
    if at(role, &["aggregationRule"]).is_some_and(Value::is_object) {
        let selectors = list_at(role, &["aggregationRule", "clusterRoleSelectors"]);
        if selectors.is_empty() {
            errors.push(FieldError::required(
                &path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            ));
        }
        for (index, selector) in selectors.iter().enumerate() {
            errors.extend(super::metadata::selector(&path.index(index), Some(selector)));
        }
    }
    errors
}

fn rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, rule) in list_at(role, &["rules"]).iter().enumerate() {
        let path = Path::new("rules").index(index);
        let empty = |key: &str| list_at(rule, &[key]).is_empty();
        if empty("verbs") {
            errors.push(FieldError::required(
                path.child("verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !empty("nonResourceURLs") {
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                let value = at(rule, &["nonResourceURLs"]).cloned().unwrap_or(Value::Null);
                errors.push(FieldError::invalid(path.child("nonResourceURLs"), value, detail));
            }
            if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                let value = at(rule, &["nonResourceURLs"]).cloned().unwrap_or(Value::Null);
                errors.push(FieldError::invalid(path.child("nonResourceURLs"), value, detail));
            }
            continue;
        }
        if empty("apiGroups") {
            errors.push(FieldError::required(
                path.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if empty("resources") {
            errors.push(FieldError::required(
                path.child("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    errors
}

/// Returns what is wrong with a RoleBinding.
pub fn role_binding(binding: &Value) -> Vec<FieldError> {
    self::binding(binding, &["Role", "ClusterRole"])
}

/// Returns what is wrong with a ClusterRoleBinding.
pub fn cluster_role_binding(binding: &Value) -> Vec<FieldError> {
    self::binding(binding, &["ClusterRole"])
}

fn binding(binding: &Value, kinds: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("roleRef");
    let text = |key: &str| str_at(binding, &["roleRef", key]);
    if text("apiGroup") != GROUP {
        errors.push(FieldError::not_supported(
            path.child("apiGroup"),
            text("apiGroup"),
            &[GROUP],
        ));
    }
    if !kinds.contains(&text("kind")) {
        errors.push(FieldError::not_supported(path.child("kind"), text("kind"), kinds));
    }
    if text("name").is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    } else {
        super::all_invalid(
            &mut errors,
            &path.child("name"),
            text("name"),
            names::path_segment(text("name")),
        );
    }
    let namespaced = kinds.contains(&"Role");
    for (index, subject) in list_at(binding, &["subjects"]).iter().enumerate() {
        errors.extend(self::subject(&Path::new("subjects").index(index), subject, namespaced));
    }
    errors
}

fn subject(path: &Path, subject: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (kind, name) = (str_at(subject, &["kind"]), str_at(subject, &["name"]));
    let group = str_at(subject, &["apiGroup"]);
    if name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                super::all_invalid(&mut errors, &path.child("name"), name, names::dns_subdomain(name));
            }
            one_of(&mut errors, &path.child("apiGroup"), group, &[""], false);
            if !namespaced && str_at(subject, &["namespace"]).is_empty() {
                errors.push(FieldError::required(path.child("namespace"), ""));
            }
        }
        "User" | "Group" => one_of(&mut errors, &path.child("apiGroup"), group, &[GROUP], false),
        _ => errors.push(FieldError::not_supported(
            path.child("kind"),
            kind,
            &["ServiceAccount", "User", "Group"],
        )),
    }
    errors
}

/// Returns what is wrong with the change of a RoleBinding.
pub fn role_binding_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_role_kept(role_binding(new), new, old)
}

/// Returns what is wrong with the change of a ClusterRoleBinding.
pub fn cluster_role_binding_update(new: &Value, old: &Value) -> Vec<FieldError> {
    with_role_kept(cluster_role_binding(new), new, old)
}

fn with_role_kept(mut errors: Vec<FieldError>, new: &Value, old: &Value) -> Vec<FieldError> {
    let role = |value: &Value| value.get("roleRef").cloned().unwrap_or(Value::Null);
    if role(new) != role(old) {
        errors.push(FieldError::invalid("roleRef", role(new), "cannot change roleRef"));
    }
    errors
}
