//! Rights that a container has beyond its user's.

use serde_json::Value;

use super::{Pod, Set, containers, quoted, violation};
use crate::meta;
use crate::pod_security::Violation;

/// What containers are given by default.
const DEFAULT: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Containers that may do all that the host may.
pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.containers_that(|container| container["securityContext"]["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    violation(
        "privileged",
        format!("{} must not set securityContext.privileged=true", containers(&bad)),
    )
}

/// Programs that get more rights than whoever starts them.
pub(super) fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.containers_that(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    violation(
        "allowPrivilegeEscalation != false",
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers(&bad)
        ),
    )
}

/// Capabilities beyond those that containers are given by default.
pub(super) fn added_capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let (bad, added) = adding_others_than(pod, DEFAULT);
    if bad.is_empty() {
        return None;
    }
    violation("non-default capabilities", must_not_add(&bad, &added))
}

/// Capabilities at all, but for the one to serve low ports.
pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let keeping = pod.containers_that(|container| !list(container, "drop").iter().any(|name| name == "ALL"));
    let (adding, added) = adding_others_than(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    if !adding.is_empty() {
        details.push(must_not_add(&adding, &added));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

fn adding_others_than<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, Set<'a>) {
    let mut added = Set::new();
    let bad = pod.containers_that(|container| {
        let others: Vec<&str> = list(container, "add")
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| !allowed.contains(name))
            .collect();
        let any = !others.is_empty();
        added.extend(others);
        any
    });
    (bad, added)
}

fn must_not_add(names: &[&str], added: &Set<'_>) -> String {
    format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(names),
        quoted(added)
    )
}

fn list<'a>(container: &'a Value, key: &str) -> &'a [Value] {
    meta::list_at(container, &["securityContext", "capabilities", key])
}
