use serde_json::{Value, json};

use super::rules::uncovered;
use super::*;

fn index(cluster_roles: Vec<Value>, roles: Vec<Value>, cluster: Vec<Value>, inside: Vec<Value>) -> Index {
    Index::build(&Sources {
        cluster_roles,
        roles,
        cluster_bindings: cluster,
        bindings: inside,
    })
}

fn bootstrapped(more: Vec<Value>) -> Index {
    let mut sources = Sources::default();
    for object in bootstrap_objects().into_iter().chain(more) {
        match object["kind"].as_str() {
            Some("ClusterRole") => sources.cluster_roles.push(object),
            Some("Role") => sources.roles.push(object),
            Some("ClusterRoleBinding") => sources.cluster_bindings.push(object),
            _ => sources.bindings.push(object),
        }
    }
    Index::build(&sources)
}

fn bind(kind: &str, role: &str, namespace: &str, subject: Value) -> Value {
    json!({
        "kind": if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" },
        "metadata": {"name": "b", "namespace": namespace},
        "roleRef": {"kind": kind, "name": role},
        "subjects": [subject],
    })
}

fn wants<'a>(verb: &'a str, group: &'a str, resource: &'a str, namespace: &'a str) -> Attributes<'a> {
    Attributes {
        verb,
        group,
        resource,
        namespace,
        ..Attributes::default()
    }
}

#[test]
fn a_binding_in_a_namespace_holds_there_only() {
    let bindings = vec![bind(
        "ClusterRole",
        "edit",
        "team",
        json!({"kind": "User", "name": "ann"}),
    )];
    let index = bootstrapped(bindings);
    let ann = UserInfo::new("ann", &[]);
    assert!(index.allows(&ann, &wants("create", "apps", "deployments", "team")));
    // `view` is a part of `edit` by aggregation.
    assert!(index.allows(&ann, &wants("list", "", "pods", "team")));
    assert!(!index.allows(&ann, &wants("list", "", "pods", "other")));
    assert!(!index.allows(&ann, &wants("list", "", "pods", "")));
    assert!(!index.allows(&ann, &wants("create", "rbac.authorization.k8s.io", "roles", "team")));
    assert!(!index.allows(&UserInfo::new("bob", &[]), &wants("list", "", "pods", "team")));
}

#[test]
fn apps_are_seen_by_viewers_and_moved_along_by_editors_and_changed_by_neither() {
    let bindings = [("view", "vera"), ("edit", "ed"), ("admin", "ada")]
        .map(|(role, user)| bind("ClusterRole", role, "team", json!({"kind": "User", "name": user})));
    let index = bootstrapped(bindings.to_vec());
    let allowed = |user: &str, verb: &str, subresource: &str| {
        let attributes = Attributes {
            subresource,
            ..wants(verb, "setpoint.dev", "apps", "team")
        };
        index.allows(&UserInfo::new(user, &[]), &attributes)
    };
    for user in ["vera", "ed", "ada"] {
        assert!(allowed(user, "list", "") && allowed(user, "get", "history") && allowed(user, "get", "diff"));
        for verb in ["create", "update", "patch", "delete"] {
            assert!(!allowed(user, verb, ""), "{user} may {verb}");
        }
    }
    for subresource in ["sync", "rollback", "resume"] {
        assert!(!allowed("vera", "create", subresource));
        assert!(allowed("ed", "create", subresource) && allowed("ada", "create", subresource));
    }
    for (verb, subresource) in [("get", "rendered"), ("create", "plan"), ("create", "chart")] {
        assert!(!allowed("ed", verb, subresource) && !allowed("ada", verb, subresource));
    }
}

#[test]
fn a_label_on_a_custom_role_adds_to_view() {
    let extra = json!({
        "kind": "ClusterRole",
        "metadata": {"name": "widgets-view", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}],
    });
    let binding = bind("ClusterRole", "view", "", json!({"kind": "Group", "name": "staff"}));
    let index = bootstrapped(vec![extra, binding]);
    let user = UserInfo::new("ann", &["staff"]);
    assert!(index.allows(&user, &wants("get", "example.com", "widgets", "any")));
    assert!(!index.allows(&user, &wants("delete", "example.com", "widgets", "any")));
    assert!(!index.allows(&user, &wants("get", "", "secrets", "any")));
}

#[test]
fn service_accounts_names_subresources_and_paths_are_told_apart() {
    let role = json!({
        "metadata": {"name": "r", "namespace": "team"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get", "list"]},
            {"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["*"]},
        ],
    });
    let binding = bind("Role", "r", "team", json!({"kind": "ServiceAccount", "name": "robot"}));
    let index = index(vec![], vec![role], vec![], vec![binding]);
    let robot = UserInfo::service_account("team", "robot", "u");
    let mut log = wants("get", "", "pods", "team");
    assert!(!index.allows(&robot, &log));
    log.subresource = "log";
    assert!(index.allows(&robot, &log));
    let mut one = wants("get", "", "configmaps", "team");
    one.name = "one";
    assert!(index.allows(&robot, &one));
    one.name = "two";
    assert!(!index.allows(&robot, &one));
    assert!(!index.allows(&robot, &wants("list", "", "configmaps", "team")));
    let mut scale = wants("update", "apps", "deployments", "team");
    assert!(!index.allows(&robot, &scale));
    scale.subresource = "scale";
    assert!(index.allows(&robot, &scale));
}

#[test]
fn everybody_known_may_discover_and_ask_about_themselves() {
    let index = bootstrapped(vec![]);
    let ann = UserInfo::new("ann", &[]);
    let path = |path| Attributes {
        verb: "get",
        path: Some(path),
        ..Attributes::default()
    };
    for good in ["/api", "/apis/apps/v1", "/openapi/v3/api/v1", "/version"] {
        assert!(index.allows(&ann, &path(good)), "{good}");
    }
    assert!(!index.allows(&ann, &path("/metrics")));
    assert!(index.allows(
        &ann,
        &wants("create", "authorization.k8s.io", "selfsubjectaccessreviews", "")
    ));
    assert!(!index.allows(&ann, &wants("create", "authentication.k8s.io", "tokenreviews", "")));
}

#[test]
fn what_is_granted_must_be_covered() {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| {
        Rule::read(&json!({
            "apiGroups": groups, "resources": resources, "verbs": verbs,
        }))
    };
    let held = [
        rule(&[""], &["pods", "*/scale"], &["get", "list"]),
        rule(&["apps"], &["*"], &["*"]),
    ];
    assert!(
        uncovered(&held, &[rule(&[""], &["pods"], &["list"])])
            .expect("few")
            .is_empty()
    );
    assert!(
        uncovered(&held, &[rule(&["apps"], &["deployments/status"], &["patch"])])
            .expect("few")
            .is_empty()
    );
    assert!(
        uncovered(&held, &[rule(&[""], &["things/scale"], &["get"])])
            .expect("few")
            .is_empty()
    );
    assert_eq!(
        uncovered(&held, &[rule(&["", "apps"], &["pods"], &["get", "delete"])])
            .expect("few")
            .len(),
        1
    );
    assert_eq!(uncovered(&held, &[rule(&["*"], &["*"], &["*"])]).expect("few").len(), 1);
    let mut named = rule(&[""], &["pods"], &["get"]);
    named.names = vec!["x".to_owned()];
    assert!(uncovered(&held, std::slice::from_ref(&named)).expect("few").is_empty());
    assert_eq!(
        uncovered(&[named], &[rule(&[""], &["pods"], &["get"])])
            .expect("few")
            .len(),
        1
    );
}

#[test]
fn refusals_read_as_on_kubernetes() {
    let user = UserInfo::new("ann", &[]);
    let mut pods = wants("list", "", "pods", "default");
    assert_eq!(
        forbidden(&user, &pods, "").message,
        "pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    pods.namespace = "";
    pods.verb = "get";
    pods.subresource = "log";
    pods.name = "x";
    assert_eq!(
        forbidden(&user, &pods, "").message,
        "pods \"x\" is forbidden: User \"ann\" cannot get resource \"pods/log\" in API group \"\" at the cluster scope"
    );
    let path = Attributes {
        verb: "get",
        path: Some("/metrics"),
        ..Attributes::default()
    };
    assert_eq!(
        forbidden(&user, &path, "").message,
        "forbidden: User \"ann\" cannot get path \"/metrics\""
    );
}

#[test]
fn the_roles_of_a_namespace_know_every_kind_that_lives_in_one() {
    // As on Kubernetes: what grants rights is for admins, what holds secrets for editors, and some kinds are for nobody but the system.
    const NOT_FOR_VIEWERS: &[&str] = &["secrets", "rolebindings", "roles", "leases"];
    const FOR_THE_SYSTEM: &[&str] = &[
        "controllerrevisions",
        "csistoragecapacities",
        "endpoints",
        "endpointslices",
        "limitranges",
        "podcertificaterequests",
        "podtemplates",
        "resourcequotas",
    ];
    let to = |role: &str| {
        let roles = bootstrap_objects();
        let found = roles
            .iter()
            .find(|object| object["kind"] == "ClusterRole" && object["metadata"]["name"] == role);
        found.expect("a role")["rules"].as_array().expect("rules").clone()
    };
    let grants = |rules: &[Value], verb: &str, group: &str, plural: &str| {
        let has = |rule: &Value, key: &str, word: &str| {
            rule[key]
                .as_array()
                .is_some_and(|list| list.iter().any(|entry| entry == word))
        };
        rules
            .iter()
            .any(|rule| has(rule, "verbs", verb) && has(rule, "apiGroups", group) && has(rule, "resources", plural))
    };
    let (view, edit, admin) = (to("view"), to("edit"), to("admin"));
    for row in setpoint_api::Scheme::builtin().resources() {
        if !row.namespaced || !row.allows("list") {
            continue;
        }
        let plural = row.plural.as_str();
        let seen = grants(&view, "list", &row.group, plural);
        assert_eq!(
            seen,
            !NOT_FOR_VIEWERS.contains(&plural)
                && !matches!(
                    plural,
                    "podtemplates" | "csistoragecapacities" | "podcertificaterequests"
                ),
            "view and {plural}"
        );
        if row.allows("create") && !FOR_THE_SYSTEM.contains(&plural) {
            let editor = if plural.starts_with("role") { &admin } else { &edit };
            assert!(
                grants(editor, "create", &row.group, plural),
                "who creates {plural} of {:?}",
                row.group
            );
            assert!(grants(&admin, "delete", &row.group, plural), "admin and {plural}");
        }
    }
}

#[test]
fn a_rule_of_more_combinations_than_can_be_checked_is_told_so() {
    let many = |letter: &str| -> Vec<String> { (0..1000).map(|number| format!("{letter}{number}")).collect() };
    let large = Rule {
        verbs: many("v"),
        groups: many("g"),
        resources: many("r"),
        ..Rule::default()
    };
    assert_eq!(uncovered(&[], std::slice::from_ref(&large)), Err(super::rules::TooMany));
    let everything = Rule::read(&json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
    assert_eq!(uncovered(&[everything], &[large]), Ok(Vec::new()), "held as a whole");
}

#[test]
fn a_reason_names_the_binding_the_role_and_the_subject() {
    let account = json!({"kind": "ServiceAccount", "name": "robot"});
    let bindings = vec![
        bind("ClusterRole", "view", "team", account),
        bind("ClusterRole", "view", "", json!({"kind": "Group", "name": "staff"})),
    ];
    let index = bootstrapped(bindings);
    let robot = UserInfo::service_account("team", "robot", "u");
    assert_eq!(
        index.granted_by(&robot, &wants("list", "", "pods", "team")),
        Some("RoleBinding \"b/team\" of ClusterRole \"view\" to ServiceAccount \"robot/team\"")
    );
    assert_eq!(
        index.granted_by(&UserInfo::new("ann", &["staff"]), &wants("list", "", "pods", "any")),
        Some("ClusterRoleBinding \"b\" of ClusterRole \"view\" to Group \"staff\"")
    );
    assert_eq!(index.granted_by(&robot, &wants("list", "", "pods", "other")), None);
}

#[test]
fn aggregated_roles_come_to_the_rules_of_all_that_they_select() {
    let objects = bootstrap_objects();
    let roles: Vec<Value> = objects
        .into_iter()
        .filter(|object| object["kind"] == "ClusterRole")
        .collect();
    assert!(
        super::aggregation::outdated(&roles).is_empty(),
        "they are born complete"
    );
    let mut more = roles.clone();
    more.push(json!({
        "kind": "ClusterRole",
        "metadata": {"name": "widgets", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}],
    }));
    let names: Vec<&str> = super::aggregation::outdated(&more)
        .into_iter()
        .map(|(role, rules)| {
            let widgets = |rule: &Value| rule["resources"] == json!(["widgets"]);
            assert_eq!(
                rules
                    .as_array()
                    .expect("rules")
                    .iter()
                    .filter(|rule| widgets(rule))
                    .count(),
                1
            );
            role["metadata"]["name"].as_str().expect("a name")
        })
        .collect();
    assert_eq!(names, ["admin", "edit", "view"]);
}
