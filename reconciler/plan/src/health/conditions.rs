//! Conditions, and kinds that have nothing but those.

use serde_json::Value;
use setpoint_api::meta;

use super::{Health, UNOBSERVED, brief, is_unobserved};

/// A condition of a status.
#[derive(Clone, Copy)]
pub(super) struct Condition<'a> {
    /// `True`, `False` or `Unknown`.
    pub status: &'a str,
    /// The machine-readable cause.
    pub reason: &'a str,
    /// The cause in words.
    pub message: &'a str,
}

impl Condition<'_> {
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    pub fn is_false(&self) -> bool {
        self.status == "False"
    }

    /// Says why: the message, else the reason, else what the caller knows.
    pub fn why(&self, otherwise: &str) -> String {
        match (self.message, self.reason) {
            ("", "") => otherwise.to_owned(),
            ("", reason) => brief(reason),
            (message, _) => brief(message),
        }
    }
}

/// Returns a condition of an object's status.
pub(super) fn condition<'a>(object: &'a Value, name: &str) -> Option<Condition<'a>> {
    let text = |condition: &'a Value, key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default();
    let found = meta::list_at(object, &["status", "conditions"])
        .iter()
        .find(|condition| text(condition, "type") == name)?;
    Some(Condition {
        status: text(found, "status"),
        reason: text(found, "reason"),
        message: text(found, "message"),
    })
}

/// Judges any object by the conditions that controllers agree on.
///
/// Without any it is as it should be: most kinds only say something.
pub(super) fn any(object: &Value) -> Health {
    let observed = meta::int_at(object, &["status", "observedGeneration"]);
    if observed.is_some() && is_unobserved(object) {
        return Health::progressing(UNOBSERVED);
    }
    if let Some(stalled) = condition(object, "Stalled").filter(Condition::is_true) {
        return Health::degraded(stalled.why("it is stalled"));
    }
    if let Some(reconciling) = condition(object, "Reconciling").filter(Condition::is_true) {
        return Health::progressing(reconciling.why("it is being reconciled"));
    }
    for name in ["Ready", "Available", "Healthy"] {
        let Some(condition) = condition(object, name) else {
            continue;
        };
        return if condition.is_true() {
            Health::healthy("")
        } else {
            Health::progressing(condition.why(&format!("its condition {name} is {}", condition.status)))
        };
    }
    Health::healthy("")
}
