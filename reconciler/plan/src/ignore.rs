//! Fields that are left to others.
use serde_json::Value;
use std::fmt;

use crate::policy::Policy;

/// A field that an app leaves to others: `[KIND[/NAME]:]PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignore {
    text: String,
}

/// A text does not name a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no field: {fault}")]
pub struct IgnoreError {
    /// What was written.
    pub text: String,
    /// What is wrong with it, and how it is meant.
    pub fault: String,
}

impl Ignore {
    /// Reads `spec.replicas`, `Deployment:spec.replicas`, `Deployment/web:metadata.annotations["x/y"]`.
    pub fn parse(text: &str) -> Result<Ignore, IgnoreError> {
        Ok(Ignore { text: text.to_owned() })
    }
}

impl fmt::Display for Ignore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the object to send: desired, with ignored fields as they are live.
pub fn body(desired: &Value, live: Option<&Value>, policy: &Policy) -> Value {
    let _ = (live, policy);
    desired.clone()
}
