//! What a namespace's labels ask for.

use serde_json::{Map, Value};

use super::{Level, Standard};
use crate::FieldError;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// What happens to pods in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate this are refused.
    pub enforce: Standard,
    /// What violates this is noted in the audit log.
    pub audit: Standard,
    /// Whoever writes what violates this is warned.
    pub warn: Standard,
}

impl Policy {
    /// A namespace without labels.
    pub const PRIVILEGED: Policy = Policy {
        enforce: Standard::PRIVILEGED,
        audit: Standard::PRIVILEGED,
        warn: Standard::PRIVILEGED,
    };

    /// Whether nothing is refused, noted or warned of.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|standard| standard.level == Level::Privileged)
    }
}

/// Reads a namespace's labels. What cannot be read is an error each, and counts as the strictest where it would be
/// enforced and as nothing where it would only be said.
pub fn policy(labels: Option<&Map<String, Value>>) -> (Policy, Vec<FieldError>) {
    let mut policy = Policy::PRIVILEGED;
    let mut errors = Vec::new();
    let Some(labels) = labels else {
        return (policy, errors);
    };
    let text = |key: &str| labels.get(&format!("{PREFIX}{key}")).and_then(Value::as_str);
    let mut invalid = |key: &str, value: &str, why: &str| {
        errors.push(FieldError::invalid(
            format!("metadata.labels[{PREFIX}{key}]"),
            value,
            why,
        ));
    };
    let mut level_is_good = false;
    for (mode, standard, otherwise) in [
        ("enforce", &mut policy.enforce, Level::Restricted),
        ("audit", &mut policy.audit, Level::Privileged),
        ("warn", &mut policy.warn, Level::Privileged),
    ] {
        if let Some(value) = text(mode) {
            let level = level(value);
            if mode == "enforce" {
                level_is_good = level.is_some();
            }
            if level.is_none() {
                invalid(mode, value, "must be one of privileged, baseline, restricted");
            }
            standard.level = level.unwrap_or(otherwise);
        }
        let key = format!("{mode}-version");
        if let Some(value) = text(&key) {
            let version = version(value);
            if version.is_none() {
                invalid(&key, value, "must be \"latest\" or \"v1.x\"");
            }
            standard.version = version.unwrap_or_default();
        }
    }
    // Whoever enforces a level warns of it, too, unless told otherwise: templates are only ever warned of.
    if text("warn").is_none() && level_is_good && policy.enforce.level > policy.warn.level {
        policy.warn.level = policy.enforce.level;
        if text("warn-version").is_none() {
            policy.warn.version = policy.enforce.version;
        }
    }
    (policy, errors)
}

fn level(text: &str) -> Option<Level> {
    [Level::Privileged, Level::Baseline, Level::Restricted]
        .into_iter()
        .find(|level| level.as_str() == text)
}

/// The minor version of `v1.x`, `None` inside for `latest`.
#[expect(clippy::option_option, reason = "unreadable, latest, and a number are three things")]
fn version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    // A version beyond every number that a label can say in Go is unreadable there, too.
    plain.then(|| digits.parse().ok()).flatten().map(Some)
}
