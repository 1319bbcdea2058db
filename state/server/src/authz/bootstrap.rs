//! The roles and bindings that every cluster has from its first start.
//!
//! The names, labels and rules are Kubernetes' (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go`), for the groups
//! that are served here. They are brought up to date at every start, see `reconcile`.

mod components;

use serde_json::{Value, json};
use setpoint_api::meta;

use super::aggregation;

const GROUP: &str = "rbac.authorization.k8s.io";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// All objects to seed, roles first.
pub(crate) fn objects() -> Vec<Value> {
    let mut roles = cluster_roles();
    roles.extend(components::cluster_roles());
    fill_aggregated(&mut roles);
    roles.extend(bindings());
    roles.extend(namespaced());
    roles
}

fn cluster_roles() -> Vec<Value> {
    let everything = vec![rule(&["*"], &["*"], &["*"]), paths(&["*"], &["*"])];
    vec![
        role("cluster-admin", None, everything),
        aggregated("admin", None, "admin"),
        aggregated("edit", Some("admin"), "edit"),
        aggregated("view", Some("edit"), "view"),
        role("system:aggregate-to-admin", Some("admin"), admin_rules()),
        role("system:aggregate-to-edit", Some("edit"), edit_rules()),
        role("system:aggregate-to-view", Some("view"), view_rules()),
        role("setpoint:aggregate-to-edit", Some("edit"), app_edit_rules()),
        role("setpoint:aggregate-to-view", Some("view"), app_view_rules()),
        role(
            "system:discovery",
            None,
            vec![paths(
                &[
                    "/api",
                    "/api/*",
                    "/apis",
                    "/apis/*",
                    "/healthz",
                    "/livez",
                    "/openapi",
                    "/openapi/*",
                    "/readyz",
                    "/version",
                    "/version/",
                ],
                &["get"],
            )],
        ),
        role(
            "system:public-info-viewer",
            None,
            vec![paths(
                &["/healthz", "/livez", "/readyz", "/version", "/version/"],
                &["get"],
            )],
        ),
        role(
            "system:basic-user",
            None,
            vec![
                rule(
                    &["authorization.k8s.io"],
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                    &["create"],
                ),
                rule(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
            ],
        ),
        role(
            "system:monitoring",
            None,
            vec![paths(
                &[
                    "/healthz",
                    "/healthz/*",
                    "/livez",
                    "/livez/*",
                    "/metrics",
                    "/metrics/slis",
                    "/readyz",
                    "/readyz/*",
                ],
                &["get"],
            )],
        ),
        role(
            "system:service-account-issuer-discovery",
            None,
            vec![paths(
                &["/.well-known/openid-configuration", "/openid/v1/jwks"],
                &["get"],
            )],
        ),
        role(
            "system:auth-delegator",
            None,
            vec![
                rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
                rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
            ],
        ),
        role("system:node", None, node_rules()),
    ]
}

fn view_rules() -> Vec<Value> {
    vec![
        rule(
            &[""],
            &[
                "bindings",
                "configmaps",
                "endpoints",
                "events",
                "limitranges",
                "namespaces",
                "namespaces/status",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "pods/log",
                "pods/status",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "replicationcontrollers/status",
                "resourcequotas",
                "resourcequotas/status",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            READ,
        ),
        rule(&["discovery.k8s.io"], &["endpointslices"], READ),
        rule(&["events.k8s.io"], &["events"], READ),
        rule(
            &["apps"],
            &[
                "controllerrevisions",
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "statefulsets",
                "statefulsets/scale",
                "statefulsets/status",
            ],
            READ,
        ),
        rule(
            &["autoscaling"],
            &["horizontalpodautoscalers", "horizontalpodautoscalers/status"],
            READ,
        ),
        rule(
            &["batch"],
            &["cronjobs", "cronjobs/status", "jobs", "jobs/status"],
            READ,
        ),
        rule(
            &["policy"],
            &["poddisruptionbudgets", "poddisruptionbudgets/status"],
            READ,
        ),
        rule(
            &["networking.k8s.io"],
            &["ingresses", "ingresses/status", "networkpolicies"],
            READ,
        ),
        rule(&["metrics.k8s.io"], &["pods", "nodes"], READ),
    ]
}

fn edit_rules() -> Vec<Value> {
    vec![
        rule(
            &[""],
            &[
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/proxy",
                "secrets",
                "services/proxy",
            ],
            READ,
        ),
        rule(&[""], &["serviceaccounts"], &["impersonate"]),
        rule(
            &[""],
            &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"],
            WRITE,
        ),
        rule(&[""], &["pods/eviction"], &["create"]),
        rule(
            &[""],
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
            WRITE,
        ),
        rule(&[""], &["serviceaccounts/token"], &["create"]),
        rule(&["events.k8s.io"], &["events"], WRITE),
        rule(
            &["apps"],
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
            WRITE,
        ),
        rule(&["autoscaling"], &["horizontalpodautoscalers"], WRITE),
        rule(&["batch"], &["cronjobs", "jobs"], WRITE),
        rule(&["policy"], &["poddisruptionbudgets"], WRITE),
        rule(&["networking.k8s.io"], &["ingresses", "networkpolicies"], WRITE),
        rule(&["coordination.k8s.io"], &["leases"], ALL),
    ]
}

fn admin_rules() -> Vec<Value> {
    vec![
        rule(&["authorization.k8s.io"], &["localsubjectaccessreviews"], &["create"]),
        rule(&["rbac.authorization.k8s.io"], &["rolebindings", "roles"], ALL),
    ]
}

fn node_rules() -> Vec<Value> {
    vec![
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(
            &["authorization.k8s.io"],
            &["localsubjectaccessreviews", "subjectaccessreviews"],
            &["create"],
        ),
        rule(&[""], &["services", "namespaces"], READ),
        rule(
            &[""],
            &["nodes"],
            &["create", "delete", "get", "list", "patch", "update", "watch"],
        ),
        rule(&[""], &["nodes/status"], &["patch", "update"]),
        rule(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"]),
        rule(&[""], &["pods"], &["create", "delete", "get", "list", "watch"]),
        rule(&[""], &["pods/status"], &["get", "patch", "update"]),
        rule(&[""], &["pods/eviction"], &["create"]),
        rule(&[""], &["configmaps", "secrets"], READ),
        rule(&[""], &["persistentvolumeclaims", "persistentvolumes"], &["get"]),
        rule(&[""], &["serviceaccounts"], &["get"]),
        rule(&[""], &["serviceaccounts/token"], &["create"]),
        rule(&["discovery.k8s.io"], &["endpointslices"], READ),
        rule(
            &["coordination.k8s.io"],
            &["leases"],
            &["create", "delete", "get", "patch", "update"],
        ),
    ]
}

/// Who may see a namespace's objects may see the apps that they come from. Roles of their own, so that a cluster that was
/// made before there were apps gets them, too.
fn app_view_rules() -> Vec<Value> {
    vec![
        rule(
            &["setpoint.dev"],
            &["apps", "apps/status", "repositories", "repositories/status"],
            READ,
        ),
        rule(&["setpoint.dev"], &["apps/diff", "apps/history"], &["get"]),
    ]
}

/// Who may edit a namespace's objects may have an app do what git says, or once said. Not change what git says, nor try out
/// what it could say: an app reads and writes with more rights than they have. Nor see it rendered: secrets are part of it.
fn app_edit_rules() -> Vec<Value> {
    vec![rule(
        &["setpoint.dev"],
        &["apps/resume", "apps/rollback", "apps/sync"],
        &["create"],
    )]
}

fn bindings() -> Vec<Value> {
    const MASTERS: &str = crate::request::MASTERS;
    const KNOWN: &str = crate::request::AUTHENTICATED;
    const UNKNOWN: &str = crate::request::UNAUTHENTICATED;
    let group = |name: &str| json!({"apiGroup": GROUP, "kind": "Group", "name": name});
    let user = |name: &str| json!({"apiGroup": GROUP, "kind": "User", "name": name});
    let groups = [
        ("cluster-admin", &[MASTERS][..]),
        ("system:discovery", &[KNOWN]),
        ("system:basic-user", &[KNOWN]),
        ("system:public-info-viewer", &[KNOWN, UNKNOWN]),
        ("system:monitoring", &["system:monitoring"]),
        ("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
        // Nobody: what a node may is not decided by its role alone.
        ("system:node", &[]),
    ]
    .map(|(role, groups)| (role, groups.iter().copied().map(group).collect::<Vec<Value>>()));
    let users = components::BOUND_USERS
        .iter()
        .map(|(role, name)| (*role, vec![user(name)]));
    let dns = json!({"kind": "ServiceAccount", "name": "kube-dns", "namespace": "kube-system"});
    groups
        .into_iter()
        .chain(users)
        .chain([("system:kube-dns", vec![dns])])
        .map(|(name, subjects)| {
            let mut rest = json!({"roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}});
            if !subjects.is_empty() {
                rest["subjects"] = subjects.into();
            }
            object("ClusterRoleBinding", name, None, rest)
        })
        .collect()
}

fn namespaced() -> Vec<Value> {
    let mut role = object(
        "Role",
        "extension-apiserver-authentication-reader",
        None,
        json!({"rules": [{
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["extension-apiserver-authentication"],
            "verbs": READ,
        }]}),
    );
    role["metadata"]["namespace"] = "kube-system".into();
    vec![role]
}

/// Writes into each aggregated role the rules that it comes to, as Kubernetes' controller does.
fn fill_aggregated(roles: &mut [Value]) {
    let filled: Vec<(String, Value)> = aggregation::outdated(roles)
        .into_iter()
        .map(|(role, rules)| (meta::name(role).to_owned(), rules))
        .collect();
    for (name, rules) in filled {
        if let Some(role) = roles.iter_mut().find(|role| meta::name(role) == name) {
            role["rules"] = rules;
        }
    }
}

fn role(name: &str, aggregate_to: Option<&str>, rules: Vec<Value>) -> Value {
    object("ClusterRole", name, aggregate_to, json!({"rules": rules}))
}

fn aggregated(name: &str, aggregate_to: Option<&str>, from: &str) -> Value {
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{from}");
    let selector = json!([{"matchLabels": {label: "true"}}]);
    object(
        "ClusterRole",
        name,
        aggregate_to,
        json!({"aggregationRule": {"clusterRoleSelectors": selector}, "rules": []}),
    )
}

fn object(kind: &str, name: &str, aggregate_to: Option<&str>, rest: Value) -> Value {
    let mut object = json!({
        "kind": kind,
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {
            "name": name,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        },
    });
    if let Some(other) = aggregate_to {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{other}");
        object["metadata"]["labels"][label] = "true".into();
    }
    if let Value::Object(rest) = rest {
        for (key, value) in rest {
            object[key] = value;
        }
    }
    object
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn paths(paths: &[&str], verbs: &[&str]) -> Value {
    json!({"nonResourceURLs": paths, "verbs": verbs})
}
