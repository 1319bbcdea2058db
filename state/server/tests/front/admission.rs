//! Pod Security: what a namespace's labels take, refuse and warn of.

use crate::cluster::{Cluster, kubectl, kubectls};

const PLAIN: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain"},
    "spec": {"containers": [{"name": "x", "image": "image"}]}}"#;
const HOST: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host"},
    "spec": {"hostNetwork": true, "containers": [{"name": "x", "image": "image"}]}}"#;
const DEPLOYMENT: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
    "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "x", "image": "image"}]}}}}"#;
/// What restricted says of a pod that says nothing, after the name of the level.
const EVERYTHING: &str = "allowPrivilegeEscalation != false (container \"x\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"x\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"x\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"x\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";

#[tokio::test]
async fn a_namespace_refuses_what_its_level_forbids_and_warns_of_templates() {
    let cluster = Cluster::start().await;
    let config = cluster.kubeconfig("root", &["system:masters"]);
    let programs = kubectls();
    let program = programs.first().expect("a kubectl");
    let run = async |args: &[&str], stdin: &str| kubectl(program, &config, args, stdin).await;
    let label = async |what: &str| run(&["label", "--overwrite", "namespace", "shop", what], "").await;
    assert!(run(&["create", "namespace", "shop"], "").await.0);
    let create = ["create", "-n", "shop", "-f", "-"];
    for pod in [PLAIN, HOST] {
        let (good, _, err) = run(&create, pod).await;
        assert!(good && err.is_empty(), "{err}");
    }

    let (good, _, err) = label("pod-security.kubernetes.io/enforce=strict").await;
    assert!(!good);
    assert!(
        err.contains("metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"),
        "{err}"
    );

    let (good, _, err) = label("pod-security.kubernetes.io/enforce=baseline").await;
    assert!(good, "{err}");
    assert_eq!(
        err,
        "Warning: existing pods in namespace \"shop\" violate the new PodSecurity enforce level \"baseline:latest\"\nWarning: host: host namespaces\n"
    );
    let another = HOST.replace("\"host\"", "\"another\"");
    let (good, _, err) = run(&create, &another).await;
    assert!(!good);
    assert!(
        err.contains("pods \"another\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"),
        "{err}"
    );
    // What is there stays, and may be changed in what has no weight.
    assert!(run(&["label", "-n", "shop", "pod", "host", "a=b"], "").await.0);
    let (good, _, err) = run(&["set", "image", "-n", "shop", "pod/host", "x=other"], "").await;
    assert!(!good && err.contains("violates PodSecurity"), "{err}");

    let with_host_pid = DEPLOYMENT.replace("\"containers\"", "\"hostPID\": true, \"containers\"");
    let (good, _, err) = run(&create, &with_host_pid).await;
    assert!(good, "a template is only warned of: {err}");
    assert_eq!(
        err,
        "Warning: would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)\n"
    );

    let (good, _, err) = label("pod-security.kubernetes.io/enforce=restricted").await;
    assert!(good, "{err}");
    assert!(
        err.ends_with("Warning: host: host namespaces, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile\nWarning: plain: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile\n"),
        "{err}"
    );
    let second = PLAIN.replace("\"plain\"", "\"second\"");
    let (good, _, err) = run(&create, &second).await;
    assert!(!good);
    let wanted = format!("pods \"second\" is forbidden: violates PodSecurity \"restricted:latest\": {EVERYTHING}");
    assert!(err.contains(&wanted), "{err}");
    let second = DEPLOYMENT.replace("\"web\"", "\"second\"");
    let (good, _, err) = run(&["create", "-n", "shop", "--dry-run=server", "-f", "-"], &second).await;
    assert!(good, "{err}");
    assert_eq!(
        err,
        format!("Warning: would violate PodSecurity \"restricted:latest\": {EVERYTHING}\n")
    );

    let (good, _, err) = label("pod-security.kubernetes.io/enforce=privileged").await;
    assert!(good && err.is_empty(), "{err}");
    assert!(run(&create, &another).await.0);
}
