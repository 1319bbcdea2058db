//! The policy for whoever has none, and what no policy may keep.

use super::policy::{AuditLevel, Kinds, Rule};
use crate::request::RequestInfo;

/// Reads that repeat what is known.
const READS: &[&str] = &["get", "list", "watch"];
/// The parts of the cluster that run in this process, and the server itself.
const PARTS: &[&str] = &["system:setpoint", "system:apiserver"];
/// Paths that say nothing of anybody's objects.
const PATHS: &[&str] = &[
    "/",
    "/api*",
    "/healthz*",
    "/livez*",
    "/metrics",
    "/openapi*",
    "/readyz*",
    "/version*",
];
/// The groups in which the parts of the cluster write statuses all the time.
const GROUPS: &[&str] = &["", "apps", "autoscaling", "batch", "policy", "setpoint.dev"];

/// The rules at a level.
pub(super) fn rules(level: AuditLevel) -> Vec<Rule> {
    let strings = |list: &[&str]| -> Vec<String> { list.iter().map(|&item| item.to_owned()).collect() };
    let kinds = |group: &str, resources: &[&str]| Kinds {
        group: group.to_owned(),
        resources: strings(resources),
        ..Kinds::default()
    };
    let statuses = GROUPS.iter().map(|group| kinds(group, &["*/status"])).collect();
    vec![
        Rule {
            paths: strings(PATHS),
            ..Rule::default()
        },
        Rule {
            resources: vec![
                kinds("", &["events"]),
                kinds("events.k8s.io", &["events"]),
                kinds("coordination.k8s.io", &["leases"]),
            ],
            ..Rule::default()
        },
        Rule {
            users: strings(PARTS),
            verbs: strings(READS),
            ..Rule::default()
        },
        Rule {
            users: strings(PARTS),
            resources: statuses,
            ..Rule::default()
        },
        Rule {
            user_groups: strings(&["system:nodes"]),
            verbs: strings(READS),
            ..Rule::default()
        },
        Rule {
            user_groups: strings(&["system:nodes"]),
            resources: vec![kinds("", &["*/status"])],
            ..Rule::default()
        },
        Rule {
            level: level.min(AuditLevel::Metadata),
            resources: vec![
                kinds("", &["configmaps", "secrets", "serviceaccounts/token"]),
                kinds("authentication.k8s.io", &[]),
                kinds("authorization.k8s.io", &[]),
            ],
            ..Rule::default()
        },
        Rule {
            level,
            ..Rule::default()
        },
    ]
}

/// Whether the store keeps sealed what the bodies of this request hold, so that they may not lie in a log in plain.
pub(super) fn is_sealed(info: &RequestInfo) -> bool {
    // What the past shows may be of any kind.
    if !info.is_resource && info.path.starts_with("/setpoint/") {
        return true;
    }
    matches!(
        (&*info.group, &*info.resource, &*info.subresource),
        ("", "secrets", _)
            | ("", "serviceaccounts", "token")
            | ("authentication.k8s.io", _, _)
            | ("setpoint.dev", _, _)
    )
}
