//! What is kept of which requests: a `Policy` of `audit.k8s.io/v1`. The first rule that fits decides; what none fits is not kept.

use serde::Deserialize;

use super::standard;
use crate::request::{RequestInfo, UserInfo};

/// How much is kept of a request, from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum AuditLevel {
    /// Nothing.
    #[default]
    None,
    /// Who, what and when, without bodies.
    Metadata,
    /// That, and what was sent.
    Request,
    /// That, and what was answered.
    RequestResponse,
}

impl AuditLevel {
    /// The level as events name it.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditLevel::None => "None",
            AuditLevel::Metadata => "Metadata",
            AuditLevel::Request => "Request",
            AuditLevel::RequestResponse => "RequestResponse",
        }
    }
}

impl std::str::FromStr for AuditLevel {
    type Err = AuditPolicyError;

    fn from_str(text: &str) -> Result<AuditLevel, AuditPolicyError> {
        [
            AuditLevel::None,
            AuditLevel::Metadata,
            AuditLevel::Request,
            AuditLevel::RequestResponse,
        ]
        .into_iter()
        .find(|level| level.as_str() == text)
        .ok_or_else(|| AuditPolicyError::Level(text.to_owned()))
    }
}

/// A moment in the life of a request at which an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditPolicyError {
    /// It is no policy.
    #[error("it is no Policy of audit.k8s.io/v1: {0}")]
    Form(String),
    /// It is something else.
    #[error("it is a {kind:?} of {version:?}, not a \"Policy\" of \"audit.k8s.io/v1\"")]
    Kind {
        /// Its `kind`.
        kind: String,
        /// Its `apiVersion`.
        version: String,
    },
    /// It would keep nothing, which nobody needs a file for.
    #[error("it has no rules; use the level None to keep nothing")]
    Empty,
    /// A rule cannot be meant.
    #[error("rules[{rule}]: {why}")]
    Rule {
        /// Its place, from 0.
        rule: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// There is no such level.
    #[error("there is no level {0:?}; there are None, Metadata, Request and RequestResponse")]
    Level(String),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde::de::IgnoredAny,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

/// Kinds of one group, as rules name them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kinds {
    #[serde(default)]
    pub(super) group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/status`, `*`; empty is all.
    #[serde(default)]
    pub(super) resources: Vec<String>,
    #[serde(default)]
    pub(super) resource_names: Vec<String>,
}

/// Which requests, and how much of them. Lists that are empty hold nobody back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) level: AuditLevel,
    #[serde(default)]
    pub(super) users: Vec<String>,
    #[serde(default)]
    pub(super) user_groups: Vec<String>,
    #[serde(default)]
    pub(super) verbs: Vec<String>,
    #[serde(default)]
    pub(super) resources: Vec<Kinds>,
    #[serde(default)]
    pub(super) namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    pub(super) paths: Vec<String>,
    #[serde(default)]
    pub(super) omit_stages: Vec<Stage>,
    #[serde(default)]
    pub(super) omit_managed_fields: Option<bool>,
}

/// What is kept of which requests.
#[derive(Clone, Debug)]
pub struct AuditPolicy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

/// What a policy says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) level: AuditLevel,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl AuditPolicy {
    /// The policy for whoever has none: requests at this level, without those that only repeat what is known (health,
    /// discovery, heartbeats, Events, the reads of the cluster's own parts), ConfigMaps and reviews never with bodies.
    pub fn standard(level: AuditLevel) -> AuditPolicy {
        AuditPolicy {
            rules: standard::rules(level),
            omit_stages: vec![Stage::RequestReceived],
            omit_managed_fields: true,
        }
    }

    /// Reads a policy from YAML or JSON.
    pub fn parse(text: &str) -> Result<AuditPolicy, AuditPolicyError> {
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| AuditPolicyError::Form(error.to_string()))?;
        if document.kind != "Policy" || document.api_version != "audit.k8s.io/v1" {
            return Err(AuditPolicyError::Kind {
                kind: document.kind,
                version: document.api_version,
            });
        }
        if document.rules.is_empty() {
            return Err(AuditPolicyError::Empty);
        }
        for (rule, found) in document.rules.iter().enumerate() {
            let of_objects = !found.resources.is_empty() || !found.namespaces.is_empty();
            let wrong = if of_objects && !found.paths.is_empty() {
                Some("it cannot apply to both regular resources and non-resource URLs")
            } else if found.paths.iter().any(|path| !is_pattern(path)) {
                Some("a nonResourceURL is \"*\", or begins with '/' and has a '*' at its end only")
            } else if found
                .resources
                .iter()
                .any(|kinds| kinds.resources.is_empty() && !kinds.resource_names.is_empty())
            {
                Some("using resourceNames requires at least one resource")
            } else {
                None
            };
            if let Some(why) = wrong {
                return Err(AuditPolicyError::Rule { rule, why });
            }
        }
        Ok(AuditPolicy {
            rules: document.rules,
            omit_stages: document.omit_stages,
            omit_managed_fields: document.omit_managed_fields,
        })
    }

    /// What is kept of a request.
    pub(super) fn decide(&self, info: &RequestInfo, user: &UserInfo) -> Decision {
        let rule = self.rules.iter().find(|rule| rule.fits(info, user));
        let level = rule.map_or(AuditLevel::None, |rule| rule.level);
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(rule.iter().flat_map(|rule| rule.omit_stages.iter().copied()));
        Decision {
            level: if standard::is_sealed(info) {
                level.min(AuditLevel::Metadata)
            } else {
                level
            },
            omit_stages,
            omit_managed_fields: rule
                .and_then(|rule| rule.omit_managed_fields)
                .unwrap_or(self.omit_managed_fields),
        }
    }
}

fn is_pattern(path: &str) -> bool {
    let stars = path.matches('*').count();
    path == "*" || (path.starts_with('/') && (stars == 0 || (stars == 1 && path.ends_with('*'))))
}

impl Rule {
    fn fits(&self, info: &RequestInfo, user: &UserInfo) -> bool {
        let has = |list: &[String], item: &str| list.iter().any(|other| other == item);
        if !self.users.is_empty() && !has(&self.users, &user.name) {
            return false;
        }
        if !self.user_groups.is_empty() && !user.groups.iter().any(|group| has(&self.user_groups, group)) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, &info.verb) {
            return false;
        }
        if !self.resources.is_empty() || !self.namespaces.is_empty() {
            let namespace = info.namespace.as_deref().unwrap_or_default();
            return info.is_resource
                && (self.namespaces.is_empty() || has(&self.namespaces, namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|kinds| kinds.fits(info)));
        }
        if !self.paths.is_empty() {
            return !info.is_resource
                && self.paths.iter().any(|pattern| match pattern.strip_suffix('*') {
                    Some(prefix) => info.path.starts_with(prefix),
                    None => *pattern == info.path,
                });
        }
        true
    }
}

impl Kinds {
    fn fits(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let name = info.name.as_deref().unwrap_or_default();
        if !self.resource_names.is_empty() && !self.resource_names.iter().any(|other| other == name) {
            return false;
        }
        let whole = info.resource_path();
        self.resources.iter().any(|pattern| {
            pattern == "*"
                || *pattern == whole
                || (!info.subresource.is_empty() && pattern.strip_prefix("*/") == Some(&info.subresource))
                || pattern.strip_suffix("/*") == Some(&info.resource)
        })
    }
}
