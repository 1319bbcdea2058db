//! What a pod shares with its host.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Pod, Set, containers, plural, quoted, setters, violation};
use crate::meta;
use crate::pod_security::Violation;

/// The host's namespaces.
pub(super) fn namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|key| pod.spec[*key] == true)
        .map(|key| format!("{key}=true"))
        .collect();
    if shared.is_empty() {
        return None;
    }
    violation("host namespaces", shared.join(", "))
}

/// Ports of the host.
pub(super) fn ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let bad = pod.containers_that(|container| {
        let taken: Vec<String> = meta::list_at(container, &["ports"])
            .iter()
            .filter_map(|port| port["hostPort"].as_i64())
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        let any = !taken.is_empty();
        ports.extend(taken);
        any
    });
    if bad.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", bad.len());
    let what = plural("hostPort", "hostPorts", ports.len());
    let list: Vec<String> = ports.into_iter().collect();
    violation(
        "hostPort",
        format!("{} {uses} {what} {}", containers(&bad), list.join(", ")),
    )
}

/// Probes and hooks that reach elsewhere than into the pod: they are sent from the host.
pub(super) fn probes(pod: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: [[&str; 2]; 5] = [
        ["livenessProbe", ""],
        ["readinessProbe", ""],
        ["startupProbe", ""],
        ["lifecycle", "postStart"],
        ["lifecycle", "preStop"],
    ];
    let mut hosts = Set::new();
    let bad: Set<'_> = pod
        .containers_that(|container| {
            let found: Vec<&str> = HANDLERS
                .iter()
                .map(|[key, part]| {
                    if part.is_empty() {
                        &container[*key]
                    } else {
                        &container[*key][*part]
                    }
                })
                .flat_map(|handler| [&handler["httpGet"], &handler["tcpSocket"]])
                .filter_map(|action| action["host"].as_str())
                .filter(|host| !host.is_empty())
                .collect();
            let any = !found.is_empty();
            hosts.extend(found);
            any
        })
        .into_iter()
        .collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    violation(
        "probe or lifecycle host",
        format!("{} {uses} {what} {}", containers(&names), quoted(hosts)),
    )
}

/// Processes of the host, on Windows.
pub(super) fn windows_process(pod: &Pod<'_>) -> Option<Violation> {
    let (whole, bad) = pod.contexts_that(|context: &Value| context["windowsOptions"]["hostProcess"] == true);
    let who = setters(whole, &bad)?;
    violation(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
