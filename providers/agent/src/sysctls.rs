//! Which kernel parameters a pod may set: the safe ones, and those that the node's configuration lets through. Pure.

use k8s_openapi::api::core::v1::PodSpec;

/// What a pod can set without harm to others (the kubelet's list).
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Writes a name with dots, whichever separator comes first in it.
pub fn with_dots(name: &str) -> String {
    if name.find(['/', '.']).is_none_or(|first| name[first..].starts_with('.')) {
        return name.to_owned();
    }
    name.chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect()
}

/// Returns why a pod is not run, in the kubelet's words; `allowed` are names, or prefixes that end with `*`.
pub fn refused(spec: &PodSpec, allowed: &[String]) -> Option<String> {
    let on_host = |namespace: &str| match namespace {
        "net" => spec.host_network == Some(true),
        _ => spec.host_ipc == Some(true),
    };
    let security = spec.security_context.as_ref()?;
    security.sysctls.iter().flatten().find_map(|sysctl| {
        let name = with_dots(&sysctl.name);
        let listed = allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        });
        if !listed && !SAFE.contains(&name.as_str()) {
            return Some(format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        let namespace = if name.starts_with("net.") { "net" } else { "ipc" };
        on_host(namespace).then(|| format!("forbidden sysctl: {name:?} not allowed with host {namespace} enabled"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(name: &str, on_host: bool) -> PodSpec {
        let sysctls = json!([{"name": name, "value": "1"}]);
        let spec = json!({"containers": [], "hostNetwork": on_host, "securityContext": {"sysctls": sysctls}});
        serde_json::from_value(spec).expect("a spec")
    }

    #[test]
    fn safe_ones_and_what_the_node_lets_through_may_be_set() {
        let allowed = ["kernel.msg*".to_owned()];
        assert_eq!(refused(&spec("net.ipv4.ip_unprivileged_port_start", false), &[]), None);
        assert_eq!(refused(&spec("net/ipv4/tcp_syncookies", false), &[]), None);
        assert_eq!(
            refused(&spec("kernel.msgmax", false), &[]).as_deref(),
            Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted")
        );
        assert_eq!(refused(&spec("kernel.msgmax", false), &allowed), None);
        assert_eq!(
            refused(&spec("net.ipv4.tcp_syncookies", true), &[]).as_deref(),
            Some("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled")
        );
    }

    #[test]
    fn names_may_have_slashes() {
        assert_eq!(with_dots("net/ipv4/conf/eth0.1/x"), "net.ipv4.conf.eth0/1.x");
        assert_eq!(with_dots("net.ipv4.conf.eth0/1.x"), "net.ipv4.conf.eth0/1.x");
        assert_eq!(with_dots("kernel.shm_rmid_forced"), "kernel.shm_rmid_forced");
    }
}
