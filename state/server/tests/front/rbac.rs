//! Who may do what, as real clients see it.

use std::path::Path;

use serde_json::Value;

use crate::SOON;
use crate::cluster::{Cluster, kubectl, kubectls};

/// Runs kubectl until its output says what is wanted.
async fn until(program: &Path, config: &Path, args: &[&str], wanted: &str) {
    let found = async {
        loop {
            let (_, out, _) = kubectl(program, config, args, "").await;
            if out.contains(wanted) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, found).await.expect("it comes to say so");
}

#[tokio::test]
async fn a_role_with_a_label_becomes_a_part_of_view_edit_and_admin() {
    let cluster = Cluster::start().await;
    let config = cluster.kubeconfig("root", &["system:masters"]);
    let programs = kubectls();
    let program = programs.first().expect("a kubectl");
    let run = async |args: &[&str], stdin: &str| {
        let (good, out, err) = kubectl(program, &config, args, stdin).await;
        assert!(good, "{args:?}: {out}{err}");
        out
    };
    let role = r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "widgets",
        "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}]}"#;
    run(&["create", "-f", "-"], role).await;
    for name in ["view", "edit", "admin"] {
        until(
            program,
            &config,
            &["describe", "clusterrole", name],
            "widgets.example.com",
        )
        .await;
    }
    let all = run(
        &["get", "clusterrole", "view", "--show-managed-fields", "-o", "json"],
        "",
    )
    .await;
    let view: Value = serde_json::from_str(&all).expect("JSON");
    let managers: Vec<&str> = view["metadata"]["managedFields"]
        .as_array()
        .expect("managers")
        .iter()
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    assert!(managers.contains(&"clusterrole-aggregation-controller"), "{managers:?}");
    // What it selects no more it has no more, and what others write into it goes.
    run(
        &[
            "label",
            "clusterrole",
            "widgets",
            "rbac.authorization.k8s.io/aggregate-to-view-",
        ],
        "",
    )
    .await;
    let gone = async {
        loop {
            let out = run(&["describe", "clusterrole", "admin"], "").await;
            if !out.contains("widgets") {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("it goes");
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have_and_is_told_what_that_is() {
    let cluster = Cluster::start().await;
    let root = cluster.kubeconfig("root", &["system:masters"]);
    let ann = cluster.kubeconfig("ann", &["staff"]);
    let programs = kubectls();
    let program = programs.first().expect("a kubectl");
    let run = async |config: &Path, args: &[&str]| kubectl(program, config, args, "").await;
    let good = run(
        &root,
        &[
            "create",
            "clusterrole",
            "granter",
            "--verb=*",
            "--resource=clusterroles.rbac.authorization.k8s.io",
        ],
    )
    .await;
    assert!(good.0, "{good:?}");
    // All verbs are also `escalate` and `bind`: she gets the ordinary ones only.
    let verbs = "--verb=create,update,patch,get,list,delete";
    let resources = "--resource=clusterroles.rbac.authorization.k8s.io,clusterrolebindings.rbac.authorization.k8s.io";
    assert!(run(&root, &["delete", "clusterrole", "granter"]).await.0);
    assert!(
        run(&root, &["create", "clusterrole", "granter", verbs, resources])
            .await
            .0
    );
    assert!(
        run(
            &root,
            &[
                "create",
                "clusterrolebinding",
                "granter",
                "--clusterrole=granter",
                "--user=ann"
            ]
        )
        .await
        .0
    );

    let (good, _, err) = run(
        &ann,
        &["create", "clusterrole", "more", "--verb=get,list", "--resource=secrets"],
    )
    .await;
    assert!(!good);
    assert!(
        err.contains("clusterroles.rbac.authorization.k8s.io \"more\" is forbidden: user \"ann\" (groups=[\"staff\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}\n"),
        "{err}"
    );
    let (good, _, err) = run(
        &ann,
        &[
            "create",
            "clusterrolebinding",
            "more",
            "--clusterrole=cluster-admin",
            "--user=ann",
        ],
    )
    .await;
    assert!(!good);
    assert!(
        err.contains("not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}\n"),
        "{err}"
    );
    let aggregating = ["create", "clusterrole", "all", "--aggregation-rule=a=b"];
    let (good, _, err) = run(&ann, &aggregating).await;
    assert!(
        !good && err.contains("must have cluster-admin privileges to use the aggregationRule"),
        "{err}"
    );
    assert!(run(&root, &aggregating).await.0);
    let (good, _, err) = run(
        &ann,
        &[
            "create",
            "clusterrole",
            "less",
            "--verb=get",
            "--resource=clusterroles.rbac.authorization.k8s.io",
        ],
    )
    .await;
    assert!(good, "{err}");
}

#[tokio::test]
async fn reviews_say_why_and_list_what_may_be_done() {
    let cluster = Cluster::start().await;
    let root = cluster.kubeconfig("root", &["system:masters"]);
    let ann = cluster.kubeconfig("ann", &[]);
    let programs = kubectls();
    let program = programs.first().expect("a kubectl");
    let made = kubectl(
        program,
        &root,
        &["create", "rolebinding", "seer", "--clusterrole=view", "--user=ann"],
        "",
    )
    .await;
    assert!(made.0, "{made:?}");
    let review = r#"{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "ann",
        "resourceAttributes": {"namespace": "default", "verb": "list", "resource": "pods"}}}"#;
    let (good, out, err) = kubectl(program, &root, &["create", "-o", "json", "-f", "-"], review).await;
    assert!(good, "{err}");
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(
        answer["status"]["reason"],
        "RBAC: allowed by RoleBinding \"seer/default\" of ClusterRole \"view\" to User \"ann\""
    );
    let (good, out, err) = kubectl(program, &ann, &["auth", "can-i", "--list"], "").await;
    assert!(good, "{err}");
    for wanted in [
        "selfsubjectrulesreviews.authorization.k8s.io",
        "configmaps",
        "[/healthz]",
    ] {
        assert!(out.contains(wanted), "{wanted}: {out}");
    }
    let (_, out, _) = kubectl(program, &ann, &["auth", "can-i", "get", "/metrics"], "").await;
    assert_eq!(out.trim(), "no");
    let (_, out, _) = kubectl(program, &ann, &["auth", "can-i", "get", "pods/log"], "").await;
    assert_eq!(out.trim(), "yes");
}

#[tokio::test]
async fn who_is_not_known_sees_health_and_version_and_nothing_else() {
    let cluster = Cluster::start().await;
    for (path, wanted) in [
        ("/healthz", "200"),
        ("/livez?verbose", "200"),
        ("/readyz", "200"),
        ("/version", "200"),
        ("/livez/ping", "401"),
        ("/metrics", "401"),
        ("/api", "401"),
        ("/openapi/v3", "401"),
        ("/api/v1/namespaces", "401"),
        ("/.well-known/openid-configuration", "401"),
    ] {
        let url = format!("{}{path}", cluster.url());
        let asked = tokio::process::Command::new("curl")
            .args([
                "-k",
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--max-time",
                "20",
                &url,
            ])
            .output()
            .await
            .expect("curl");
        assert_eq!(String::from_utf8_lossy(&asked.stdout), wanted, "{path}");
    }
}
