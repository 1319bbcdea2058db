//! The audit log, as real clients fill it.

use serde_json::Value;
use setpoint_server::{AuditLevel, AuditPolicy};

use crate::cluster::{Cluster, kubectl, kubectls};

async fn events(cluster: &Cluster) -> Vec<Value> {
    cluster.api.flush_audit().await;
    let text = std::fs::read_to_string(cluster.dir.path().join("audit/audit.log")).expect("a log");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line is an event"))
        .collect()
}

fn find<'a>(events: &'a [Value], verb: &str, resource: &str, subresource: &str) -> &'a Value {
    events
        .iter()
        .find(|event| {
            let about = &event["objectRef"];
            event["verb"] == verb
                && about["resource"] == resource
                && about["subresource"].as_str().unwrap_or_default() == subresource
        })
        .unwrap_or_else(|| panic!("no event of {verb} {resource}/{subresource} in {events:#?}"))
}

#[tokio::test]
async fn everything_that_is_asked_for_is_in_the_log_with_its_outcome() {
    let policy = AuditPolicy::standard(AuditLevel::Metadata);
    let cluster = Cluster::start_audited(Vec::new(), Some(policy))
        .await
        .expect("a server");
    let root = cluster.kubeconfig("root", &["system:masters"]);
    let ann = cluster.kubeconfig("ann", &[]);
    let programs = kubectls();
    let program = programs.first().expect("a kubectl");
    let secret = ["create", "secret", "generic", "hidden", "--from-literal=word=xyzzy"];
    assert!(kubectl(program, &root, &secret, "").await.0);
    assert!(!kubectl(program, &ann, &["delete", "secret", "hidden"], "").await.0);
    assert!(
        kubectl(
            program,
            &root,
            &["get", "pods", "--as=ann", "--as-group=system:masters"],
            ""
        )
        .await
        .0
    );
    let patch = [
        "patch",
        "secret",
        "hidden",
        "--type=merge",
        "-p",
        r#"{"data":{"word":5}}"#,
    ];
    assert!(!kubectl(program, &root, &patch, "").await.0);
    let watch = ["get", "namespaces", "--watch", "--request-timeout=1s"];
    kubectl(program, &root, &watch, "").await;
    assert!(kubectl(program, &root, &["get", "--raw", "/healthz"], "").await.0);

    let events = events(&cluster).await;
    let text = serde_json::to_string(&events).expect("JSON");
    assert!(
        !text.contains("xyzzy") && !text.contains("eHl6enk"),
        "no secret is in the log"
    );
    assert!(!text.contains("/healthz"));
    let created = find(&events, "create", "secrets", "");
    assert_eq!(created["user"]["username"], "root");
    assert_eq!(created["level"], "Metadata");
    assert_eq!(created["stage"], "ResponseComplete");
    assert_eq!(created["responseStatus"]["code"], 201);
    assert_eq!(created["objectRef"]["name"], "hidden");
    assert_eq!(created["sourceIPs"][0], "127.0.0.1");
    assert!(
        created["userAgent"]
            .as_str()
            .is_some_and(|agent| agent.starts_with("kubectl"))
    );
    assert_eq!(created["annotations"]["authorization.k8s.io/decision"], "allow");
    let refused = find(&events, "delete", "secrets", "");
    assert_eq!(refused["user"]["username"], "ann");
    assert_eq!(refused["objectRef"]["name"], "hidden");
    assert_eq!(refused["responseStatus"]["reason"], "Forbidden");
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    let acted = find(&events, "list", "pods", "");
    assert_eq!(acted["user"]["username"], "root");
    assert_eq!(acted["impersonatedUser"]["username"], "ann");
    let stages: Vec<&str> = events
        .iter()
        .filter(|event| event["verb"] == "watch" && event["objectRef"]["resource"] == "namespaces")
        .filter_map(|event| event["stage"].as_str())
        .collect();
    assert!(stages.contains(&"ResponseStarted"), "{stages:?}");
}

#[tokio::test]
async fn bodies_are_kept_where_the_policy_asks_for_them() {
    let policy = AuditPolicy::standard(AuditLevel::RequestResponse);
    let cluster = Cluster::start_audited(Vec::new(), Some(policy))
        .await
        .expect("a server");
    let root = cluster.kubeconfig("root", &["system:masters"]);
    let programs = kubectls();
    let program = programs.first().expect("a kubectl");
    let run = async |args: &[&str], stdin: &str| {
        let (good, out, err) = kubectl(program, &root, args, stdin).await;
        assert!(good, "{args:?}: {out}{err}");
    };
    // This one is sent as protobuf.
    run(&["create", "deployment", "web", "--image=image", "--replicas=0"], "").await;
    run(&["create", "configmap", "plain", "--from-literal=word=xyzzy"], "").await;
    run(
        &[
            "label",
            "namespace",
            "default",
            "pod-security.kubernetes.io/audit=restricted",
        ],
        "",
    )
    .await;
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
        "spec": {"hostNetwork": true, "containers": [{"name": "x", "image": "image"}]}}"#;
    run(&["create", "-f", "-"], pod).await;
    run(&["get", "deployments"], "").await;

    let events = events(&cluster).await;
    let created = find(&events, "create", "deployments", "");
    assert_eq!(
        created["requestObject"]["spec"]["template"]["spec"]["containers"][0]["image"],
        "image"
    );
    assert_eq!(created["responseObject"]["metadata"]["name"], "web");
    assert_eq!(created["objectRef"]["name"], "web");
    assert!(created["responseObject"]["metadata"]["managedFields"].is_null());
    let patched = find(&events, "patch", "namespaces", "");
    assert_eq!(
        patched["requestObject"]["metadata"]["labels"]["pod-security.kubernetes.io/audit"],
        "restricted"
    );
    let map = find(&events, "create", "configmaps", "");
    assert!(map["requestObject"].is_null() && map["responseObject"].is_null());
    let pod = find(&events, "create", "pods", "");
    let violations = &pod["annotations"]["pod-security.kubernetes.io/audit-violations"];
    let violations = violations.as_str().expect("an annotation");
    assert!(
        violations.starts_with("would violate PodSecurity \"restricted:latest\": host namespaces (hostNetwork=true)"),
        "{violations}"
    );
    let listed = find(&events, "list", "deployments", "");
    assert_eq!(listed["responseObject"]["kind"], "Table");
}
