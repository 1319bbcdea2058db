//! What operators do less often: replacing, pruning, draining, waiting, granting; and what is not served yet.

use crate::harness::{World, demo_yaml, items, text};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: NAME, labels: { set: s } }\ndata: { a: '1' }\n";

fn maps(names: &[&str]) -> String {
    let maps: Vec<String> = names.iter().map(|name| MAP.replace("NAME", name)).collect();
    maps.join("---\n")
}

#[test]
fn lists_are_selected_sorted_and_shaped() {
    let world = World::start();
    world.apply(&maps(&["b", "a", "c"]));
    world.kubectl(&["label", "configmap", "a", "tier=gold"]);
    let names = |args: &[&str]| {
        let shape = [
            "get",
            "configmaps",
            "--no-headers",
            "-o",
            "custom-columns=N:.metadata.name",
        ];
        world
            .kubectl(&[&shape, args].concat())
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names(&["-l", "set in (s),!tier"]), "b c");
    assert_eq!(names(&["-l", "tier=gold"]), "a");
    assert_eq!(
        names(&["-l", "set", "--chunk-size=1", "--sort-by=.metadata.name"]),
        "a b c"
    );
    assert_eq!(names(&["--field-selector=metadata.name=b"]), "b");
    let wrong = world.kubectl_fails(&["get", "configmaps", "--field-selector=data.a=1"]);
    assert!(wrong.contains("\"data.a\" is not a known field selector"), "{wrong}");
    let wrong = world.kubectl_fails(&["get", "configmaps", "-l", "a b"]);
    assert!(
        wrong.contains("unable to parse requirement: found 'b', expected: in"),
        "{wrong}"
    );
    let endpoints = world.kubectl_output(&["get", "endpoints"]);
    assert!(
        text(&endpoints.stderr).contains("Warning: v1 Endpoints is deprecated in v1.33+"),
        "{}",
        text(&endpoints.stderr)
    );
    assert!(world.kubectl(&["cluster-info"]).contains("control plane"));
    assert!(
        world
            .kubectl(&["get", "--raw", "/readyz?verbose"])
            .contains("readyz check passed")
    );
}

#[test]
fn replace_prune_and_delete_in_every_form() {
    let world = World::start();
    let web = world.file("web.yaml", &demo_yaml("web", 0));
    let web = web.to_str().unwrap();
    world.kubectl(&["create", "-f", web]);
    let address = world.cluster_ip("web");
    let replaced = world.kubectl(&["replace", "-f", web]);
    assert!(replaced.contains("service/web replaced"), "{replaced}");
    assert_eq!(world.cluster_ip("web"), address);
    world.kubectl(&["replace", "--force", "-f", web]);
    world.kubectl(&[
        "patch",
        "deployment",
        "web",
        "--subresource=scale",
        "--type=merge",
        "-p",
        r#"{"spec":{"replicas":1}}"#,
    ]);
    let table = world.kubectl(&["get", "deployment", "web", "--subresource=scale"]);
    assert!(table.contains("DESIRED") && table.contains("AVAILABLE"), "{table}");
    let failed = world.kubectl_fails(&["scale", "deployment/web", "--replicas=2", "--current-replicas=7"]);
    assert!(failed.contains("Expected replicas to be 7"), "{failed}");
    world.kubectl(&["delete", "deployment", "web", "--cascade=orphan"]);
    assert_eq!(items(&world.get(&["rs", "-l", "app=web"]).unwrap()).len(), 1);
    world.kubectl(&["delete", "rs", "-l", "app=web", "--cascade=foreground", "--timeout=60s"]);
    assert!(items(&world.get(&["pods", "-l", "app=web"]).unwrap()).is_empty());

    let prune = [
        "apply",
        "--prune",
        "-l",
        "set=s",
        "--prune-allowlist=core/v1/ConfigMap",
        "-f",
        "-",
    ];
    world.kubectl_with(&prune, &maps(&["a", "b"]));
    let pruned = world.kubectl_with(&prune, &maps(&["a"]));
    assert!(pruned.contains("configmap/b pruned"), "{pruned}");
    world.kubectl(&["label", "configmap", "a", "set=t", "--overwrite"]);
    world.kubectl(&["annotate", "configmap", "--all", "why=x"]);
    world.kubectl(&["label", "configmap", "a", "set-"]);
    assert!(
        world.get(&["configmap", "a"]).unwrap()["metadata"]
            .get("labels")
            .is_none()
    );
    let rename = world.kubectl_fails(&["patch", "configmap", "a", "-p", r#"{"metadata":{"name":"z"}}"#]);
    assert!(rename.contains("does not match the name on the URL"), "{rename}");
    let test = r#"[{"op":"test","path":"/data/a","value":"7"}]"#;
    let refused = world.kubectl_fails(&["patch", "configmap", "a", "--type=json", "-p", test]);
    assert!(refused.contains("The request is invalid"), "{refused}");
    let kept = world.kubectl(&["delete", "configmaps", "--all", "--dry-run=server"]);
    assert!(kept.contains("server dry run"), "{kept}");
    world.kubectl(&["delete", "configmaps", "--field-selector=metadata.name=a"]);
    assert_eq!(world.get(&["configmap", "a"]), None);
    assert!(
        world
            .kubectl_fails(&["delete", "namespace", "default"])
            .contains("may not be deleted")
    );
}

#[test]
fn a_node_is_cordoned_tainted_and_drained() {
    let world = World::start();
    world.demo("web", 1);
    let node = world.get(&["nodes"]).unwrap()["items"][0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    world.kubectl(&["cordon", &node]);
    assert!(world.kubectl(&["get", "nodes"]).contains("SchedulingDisabled"));
    world.kubectl(&["uncordon", &node]);
    world.kubectl(&["taint", "node", &node, "a=b:NoSchedule"]);
    assert!(
        world
            .kubectl_fails(&["taint", "node", &node, "a=b:NoSchedule"])
            .contains("already has")
    );
    world.kubectl(&["taint", "node", &node, "a-"]);
    world.kubectl(&["run", "bare", "--image=setpoint.dev/demo:v1", "--restart=Never"]);
    assert!(world.kubectl_fails(&["drain", &node]).contains("declare no controller"));
    let drained = world.kubectl(&["drain", &node, "--force", "--timeout=80s"]);
    assert!(
        drained.contains("evicting pod default/web") && drained.contains("drained"),
        "{drained}"
    );
    world.until(&["pods", "-l", "app=web"], "a pod that waits for a node", |list| {
        items(list).iter().any(|pod| pod["status"]["phase"] == "Pending")
    });
    world.kubectl(&["uncordon", &node]);
    world.ready_pods("app=web", 1);
}

#[test]
fn a_pod_that_is_run_with_a_client_shows_all_that_it_says() {
    let world = World::start();
    // A program that is over before its client comes is as good as one that is not: several, so that both happen.
    for round in 0..5 {
        let name = format!("once-{round}");
        let command = ["--command", "--", "/setpoint", "--version"];
        let image = "--image=setpoint.dev/demo:v1";
        let run = ["run", &name, image, "--rm", "-i", "--restart=Never"];
        let said = world.kubectl(&[run.as_slice(), &command].concat());
        assert!(said.contains("setpoint 0."), "{said}");
        assert!(world.get(&["pod", &name]).is_none());
    }
}

#[test]
fn waiting_granting_and_what_nothing_attends_to() {
    let world = World::start();
    world.demo("web", 1);
    world.kubectl(&[
        "wait",
        "--for=jsonpath={.status.readyReplicas}=1",
        "deployment/web",
        "--timeout=60s",
    ]);
    world.kubectl(&["create", "configmap", "gone"]);
    let mut waiting = world
        .kubectl_command(&["wait", "--for=delete", "configmap/gone", "--timeout=60s"])
        .spawn()
        .unwrap();
    world.kubectl(&["delete", "configmap", "gone"]);
    assert!(waiting.wait().unwrap().success());
    let failed = world.kubectl_fails(&["wait", "--for=condition=None", "deployment/web", "--timeout=1s"]);
    assert!(failed.contains("timed out waiting for the condition"), "{failed}");

    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: { name: r }\nrules: [{ apiGroups: [''], resources: [pods], verbs: [get] }]\n";
    let reconciled = world.kubectl_with(&["auth", "reconcile", "-f", "-"], role);
    assert!(
        reconciled.contains("clusterrole.rbac.authorization.k8s.io/r reconciled"),
        "{reconciled}"
    );
    world.kubectl(&["create", "clusterrolebinding", "ann", "--clusterrole=r", "--user=ann"]);
    assert!(
        world
            .kubectl(&["auth", "can-i", "get", "pods", "--as=ann"])
            .contains("yes")
    );
    assert!(world.kubectl(&["auth", "whoami", "--as=ann"]).contains("ann"));
    let pod = world.ready_pods("app=web", 1).remove(0);
    let pod = pod["metadata"]["name"].as_str().unwrap();
    let events = world.kubectl(&["events", "--for", &format!("pod/{pod}"), "--types=Normal"]);
    assert!(
        events.contains("Scheduled") && !events.contains("ScalingReplicaSet"),
        "{events}"
    );
    let bound = [
        "create",
        "token",
        "default",
        "--bound-object-kind=Pod",
        "--bound-object-name",
    ];
    world.kubectl(&[&bound[..], &[pod]].concat());
    let failed = world.kubectl_fails(&[&bound[..], &["none"]].concat());
    assert!(failed.contains(r#"pods "none" not found"#), "{failed}");

    let failed = world.kubectl_fails(&["exec", pod, "--", "/none"]);
    assert!(failed.contains("/none") && !failed.contains("upgrade"), "{failed}");
    assert!(
        world
            .kubectl_fails(&["cp", &format!("{pod}:/etc/hosts"), "/dev/null"])
            .contains("tar")
    );
    for unattended in [
        &["autoscale", "deployment", "web", "--max=2"][..],
        &["create", "quota", "q"],
    ] {
        let made = world.kubectl_output(unattended);
        assert!(made.status.success(), "{}", text(&made.stderr));
        assert!(text(&made.stderr).contains("Warning:"), "{unattended:?}");
    }
}
