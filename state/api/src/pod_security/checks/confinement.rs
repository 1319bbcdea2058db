//! The rest of the wall: `/proc`, SELinux, sysctls.

use serde_json::Value;

use super::{Pod, Set, containers, plural, quoted, setters, violation};
use crate::meta;
use crate::pod_security::Violation;

/// A `/proc` with nothing hidden.
pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = Set::new();
    let bad = pod.containers_that(|container| {
        let mount = container["securityContext"]["procMount"].as_str();
        let other = mount.filter(|mount| *mount != "Default");
        types.extend(other);
        other.is_some()
    });
    if bad.is_empty() {
        return None;
    }
    violation(
        "procMount",
        format!(
            "{} must not set securityContext.procMount to {}",
            containers(&bad),
            quoted(types)
        ),
    )
}

/// SELinux labels of others than containers.
pub(super) fn selinux_v0(pod: &Pod<'_>) -> Option<Violation> {
    selinux(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

/// As [`selinux_v0`]; a container may have an engine in it.
pub(super) fn selinux_v31(pod: &Pod<'_>) -> Option<Violation> {
    selinux(
        pod,
        &[
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ],
    )
}

fn selinux(pod: &Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let mut types = Set::new();
    let (mut user, mut role) = (false, false);
    let (whole, bad) = pod.contexts_that(|context: &Value| {
        let options = &context["seLinuxOptions"];
        let text = |key: &str| options[key].as_str().unwrap_or_default();
        let other = Some(text("type")).filter(|kind| !allowed.contains(kind));
        types.extend(other);
        let (sets_user, sets_role) = (!text("user").is_empty(), !text("role").is_empty());
        user |= sets_user;
        role |= sets_role;
        other.is_some() || sets_user || sets_role
    });
    let who = setters(whole, &bad)?;
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    violation(
        "seLinuxOptions",
        format!(
            "{who} set forbidden securityContext.seLinuxOptions: {}",
            what.join("; ")
        ),
    )
}

/// The sysctls that reach no further than the pod, by the minor version since which they are known to.
const SAFE: &[(u32, &str)] = &[
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
    (37, "net.ipv4.tcp_slow_start_after_idle"),
    (37, "net.ipv4.tcp_notsent_lowat"),
];

/// Sysctls that reach further than the pod.
pub(super) fn sysctls<const MINOR: u32>(pod: &Pod<'_>) -> Option<Violation> {
    let bad: Vec<&str> = meta::list_at(pod.spec, &["securityContext", "sysctls"])
        .iter()
        .map(|sysctl| meta::str_at(sysctl, &["name"]))
        .filter(|name| !SAFE.iter().any(|(since, safe)| *since <= MINOR && safe == name))
        .collect();
    if bad.is_empty() {
        return None;
    }
    violation("forbidden sysctls", bad.join(", "))
}
