//! What an apply would change.
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::Policy;

/// A field that an apply would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field: `spec.template.spec.containers[name=web].image`.
    pub path: String,
    /// What it is; nothing where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What it will be; nothing where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// Returns what a forced apply of `desired` by the policy's manager would change in `live`, in the order of the paths.
pub fn changes(desired: &Value, live: &Value, policy: &Policy) -> Vec<FieldChange> {
    let _ = (desired, live, policy);
    Vec::new()
}
