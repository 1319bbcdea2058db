//! The Pod Security Standards: which pods a namespace takes, by the labels that it carries. Pure.
//!
//! `policy` reads the labels, `checks` is the table of what each level forbids, by the version of Kubernetes in which it
//! began to; [`evaluate`] runs the checks of a level over a pod or a pod's template. Texts, order and versions are those of
//! `k8s.io/pod-security-admission` as of 1.37: people search for them.

mod checks;
mod policy;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub use policy::{Policy, policy};

/// The newest version that has rules of its own; a later one, and `latest`, mean the same.
pub const NEWEST: u32 = 37;

/// How strict a namespace is, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Anything goes.
    Privileged,
    /// Nothing that is known to break out.
    Baseline,
    /// Only what is hardened.
    Restricted,
}

impl Level {
    /// The level as labels name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// A level as a version of Kubernetes understood it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    /// The minor version of `v1.x`; `None` is `latest`.
    pub version: Option<u32>,
}

impl Standard {
    /// Anything goes.
    pub const PRIVILEGED: Standard = Standard {
        level: Level::Privileged,
        version: None,
    };
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.as_str()),
            None => write!(f, "{}:latest", self.level.as_str()),
        }
    }
}

/// Something in a pod that a level forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What kind of thing, as short as can be.
    pub reason: String,
    /// Where, and what to do; may be empty.
    pub detail: String,
}

/// What a standard forbids in a pod, or in a pod's template (both have `metadata` and `spec`); empty when it takes it.
pub fn evaluate(standard: Standard, pod: &Value) -> Vec<Violation> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let minor = standard.version.map_or(NEWEST, |minor| minor.min(NEWEST));
    let pod = checks::Pod::new(pod);
    checks::at(standard.level, minor)
        .filter_map(|check| check(&pod))
        .collect()
}

/// All reasons, as a namespace's warning lists them.
pub fn reasons(violations: &[Violation]) -> String {
    let reasons: Vec<&str> = violations.iter().map(|violation| &*violation.reason).collect();
    reasons.join(", ")
}

/// All reasons with their details, as a pod's refusal lists them.
pub fn details(violations: &[Violation]) -> String {
    let texts: Vec<String> = violations
        .iter()
        .map(|Violation { reason, detail }| {
            if detail.is_empty() {
                reason.clone()
            } else {
                format!("{reason} ({detail})")
            }
        })
        .collect();
    texts.join(", ")
}
