//! The roles of Kubernetes' own components. Nothing of ours runs as one of them; charts and tools bind to them by name.

use serde_json::Value;

use super::{READ, role, rule};

const EVENTS: &[&str] = &["create", "patch", "update"];

/// The roles, by name.
pub(super) fn cluster_roles() -> Vec<Value> {
    let mut roles = vec![
        role("system:heapster", None, heapster()),
        role(
            "system:kube-aggregator",
            None,
            vec![rule(&[""], &["endpoints", "services"], READ)],
        ),
        role("system:kube-controller-manager", None, controller_manager()),
        role(
            "system:kube-dns",
            None,
            vec![rule(&[""], &["endpoints", "services"], &["list", "watch"])],
        ),
        role("system:kube-scheduler", None, scheduler()),
        role("system:kubelet-api-admin", None, kubelet_admin()),
        role(
            "system:node-bootstrapper",
            None,
            vec![rule(
                &["certificates.k8s.io"],
                &["certificatesigningrequests"],
                &["create", "get", "list", "watch"],
            )],
        ),
        role(
            "system:node-problem-detector",
            None,
            vec![
                rule(&[""], &["nodes"], &["get"]),
                rule(&[""], &["nodes/status"], &["patch"]),
                events(),
            ],
        ),
        role(
            "system:node-proxier",
            None,
            vec![
                rule(&[""], &["endpoints", "services"], &["list", "watch"]),
                rule(&[""], &["nodes"], READ),
                events(),
                rule(&["discovery.k8s.io"], &["endpointslices"], &["list", "watch"]),
            ],
        ),
        role("system:persistent-volume-provisioner", None, provisioner()),
        role("system:volume-scheduler", None, volume_scheduler()),
    ];
    for part in ["nodeclient", "selfnodeclient"] {
        roles.push(role(
            &format!("system:certificates.k8s.io:certificatesigningrequests:{part}"),
            None,
            vec![rule(
                &["certificates.k8s.io"],
                &[&format!("certificatesigningrequests/{part}")],
                &["create"],
            )],
        ));
    }
    for signer in [
        "kube-apiserver-client",
        "kube-apiserver-client-kubelet",
        "kubelet-serving",
        "legacy-unknown",
    ] {
        let name = format!("kubernetes.io/{signer}");
        roles.push(role(
            &format!("system:certificates.k8s.io:{signer}-approver"),
            None,
            vec![named(rule(&["certificates.k8s.io"], &["signers"], &["approve"]), &name)],
        ));
    }
    roles
}

/// Who has these roles: their name, and the users of that name.
pub(super) const BOUND_USERS: &[(&str, &str)] = &[
    ("system:kube-controller-manager", "system:kube-controller-manager"),
    ("system:kube-scheduler", "system:kube-scheduler"),
    ("system:node-proxier", "system:kube-proxy"),
    ("system:volume-scheduler", "system:kube-scheduler"),
];

fn events() -> Value {
    rule(&["", "events.k8s.io"], &["events"], EVENTS)
}

fn named(mut rule: Value, name: &str) -> Value {
    rule["resourceNames"] = vec![name].into();
    rule
}

/// Who asks others who somebody is and what they may.
fn delegation() -> [Value; 2] {
    [
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
    ]
}

/// Who is one of several, and leads while it holds the Lease of this name.
fn leading(name: &str) -> [Value; 2] {
    const GROUP: &[&str] = &["coordination.k8s.io"];
    [
        rule(GROUP, &["leases"], &["create"]),
        named(rule(GROUP, &["leases"], &["get", "update"]), name),
    ]
}

fn heapster() -> Vec<Value> {
    vec![
        rule(&[""], &["events", "namespaces", "nodes", "pods"], READ),
        rule(&["extensions"], &["deployments"], READ),
    ]
}

fn controller_manager() -> Vec<Value> {
    let mut rules = vec![events()];
    rules.extend(leading("kube-controller-manager"));
    rules.extend([
        rule(&[""], &["secrets", "serviceaccounts"], &["create"]),
        rule(&[""], &["secrets"], &["delete"]),
        rule(
            &[""],
            &["configmaps", "namespaces", "secrets", "serviceaccounts"],
            &["get"],
        ),
        rule(&[""], &["secrets", "serviceaccounts"], &["update"]),
    ]);
    rules.extend(delegation());
    rules.extend([
        rule(&["*"], &["*"], &["list", "watch"]),
        rule(&[""], &["serviceaccounts/token"], &["create"]),
    ]);
    rules
}

fn scheduler() -> Vec<Value> {
    let mut rules = vec![events()];
    rules.extend(leading("kube-scheduler"));
    rules.extend([
        rule(&[""], &["nodes"], READ),
        rule(&[""], &["pods"], &["delete", "get", "list", "watch"]),
        rule(&[""], &["bindings", "pods/binding"], &["create"]),
        rule(&[""], &["pods/status"], &["patch", "update"]),
        rule(&[""], &["replicationcontrollers", "services"], READ),
        rule(&["apps", "extensions"], &["replicasets"], READ),
        rule(&["apps"], &["statefulsets"], READ),
        rule(&["policy"], &["poddisruptionbudgets"], READ),
        rule(&[""], &["persistentvolumeclaims", "persistentvolumes"], READ),
    ]);
    rules.extend(delegation());
    rules.extend([
        rule(&["storage.k8s.io"], &["csinodes"], READ),
        rule(&[""], &["namespaces"], READ),
        rule(&["storage.k8s.io"], &["csidrivers"], READ),
        rule(&["storage.k8s.io"], &["csistoragecapacities"], READ),
        rule(&["storage.k8s.io"], &["volumeattachments"], READ),
        rule(
            &["resource.k8s.io"],
            &["deviceclasses", "resourceclaims", "resourceslices"],
            READ,
        ),
        rule(&["resource.k8s.io"], &["resourceclaims/status"], &["patch", "update"]),
    ]);
    rules
}

fn kubelet_admin() -> Vec<Value> {
    vec![
        rule(&[""], &["nodes"], READ),
        rule(&[""], &["nodes"], &["proxy"]),
        rule(
            &[""],
            &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"],
            &["*"],
        ),
        rule(
            &[""],
            &["nodes/checkpoint", "nodes/configz", "nodes/healthz", "nodes/pods"],
            &["*"],
        ),
    ]
}

fn provisioner() -> Vec<Value> {
    vec![
        rule(
            &[""],
            &["persistentvolumes"],
            &["create", "delete", "get", "list", "watch"],
        ),
        rule(&[""], &["persistentvolumeclaims"], &["get", "list", "update", "watch"]),
        rule(&["storage.k8s.io"], &["storageclasses"], READ),
        rule(&[""], &["events"], &["watch"]),
        events(),
    ]
}

fn volume_scheduler() -> Vec<Value> {
    const CHANGE: &[&str] = &["get", "list", "patch", "update", "watch"];
    vec![
        rule(&[""], &["persistentvolumes"], CHANGE),
        rule(&["storage.k8s.io"], &["storageclasses"], READ),
        rule(&[""], &["persistentvolumeclaims"], CHANGE),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_role_is_there() {
        let roles = cluster_roles();
        for (role, _) in BOUND_USERS {
            assert!(roles.iter().any(|there| there["metadata"]["name"] == *role), "{role}");
        }
    }
}
