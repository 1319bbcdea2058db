//! Defaults of RBAC bindings.

use serde_json::{Map, Value};

use super::{each, fill_text, inside};
use crate::meta;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Fills in a RoleBinding or ClusterRoleBinding.
pub fn binding(binding: &mut Value) {
    let binding = meta::map_of(binding);
    inside(binding, "roleRef", |role| fill_text(role, "apiGroup", GROUP));
    each(binding, "subjects", |subject: &mut Map<String, Value>| {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            fill_text(subject, "apiGroup", GROUP);
        }
    });
}
