//! kubectl's commands on the kinds that are served.

#[path = "kubectl/operations.rs"]
mod operations;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{World, items, text};

#[test]
fn get_in_every_form() {
    let world = World::start();
    world.demo("web", 1);
    let pod = world.ready_pods("app=web", 1).remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let table = world.kubectl(&["get", "pods"]);
    assert!(
        table.starts_with("NAME ") && table.contains("READY") && table.contains("1/1"),
        "{table}"
    );
    assert!(table.contains("Running"), "{table}");
    let wide = world.kubectl(&["get", "pods", "-o", "wide"]);
    assert!(
        wide.contains("NODE") && wide.contains(pod["status"]["podIP"].as_str().unwrap()),
        "{wide}"
    );
    assert!(world.kubectl(&["get", "pod", name, "-o", "yaml"]).contains("kind: Pod"));
    assert_eq!(
        world.kubectl(&["get", "pod", name, "-o", "name"]).trim(),
        format!("pod/{name}")
    );
    assert_eq!(
        world.kubectl(&["get", "pod", name, "-o", "jsonpath={.spec.containers[0].name}"]),
        "app"
    );
    assert!(world.kubectl(&["get", "all"]).contains("deployment.apps/web"));
    assert!(
        world
            .kubectl(&["get", "pods", "-A", "--show-labels"])
            .contains("app=web")
    );
    assert!(
        world
            .kubectl(&["get", "deploy,rs,svc,endpointslices,events"])
            .contains("service/web")
    );
    assert!(
        world
            .kubectl_fails(&["get", "pod", "nosuch"])
            .contains(r#"pods "nosuch" not found"#)
    );
    assert!(
        world
            .kubectl_fails(&["get", "nosuchkind"])
            .contains("doesn't have a resource type")
    );
}

#[test]
fn get_watch_sees_what_changes() {
    let world = World::start();
    world.kubectl(&["create", "configmap", "one"]);
    let mut child = world
        .kubectl_command(&["get", "configmaps", "-w", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = |wanted: &str| lines.by_ref().any(|line| line.unwrap().ends_with(wanted));
    assert!(until("/one"));
    world.kubectl(&["create", "configmap", "two"]);
    assert!(until("/two"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn create_apply_diff_patch_edit_label_annotate_delete() {
    let world = World::start();
    world.kubectl(&["create", "configmap", "c", "--from-literal=a=1"]);
    assert!(
        world
            .kubectl_fails(&["create", "configmap", "c"])
            .contains("already exists")
    );
    world.kubectl(&["create", "secret", "generic", "s", "--from-literal=password=hunter2"]);
    world.kubectl(&["create", "serviceaccount", "robot"]);
    world.kubectl(&["create", "namespace", "other"]);
    world.kubectl(&[
        "create",
        "deployment",
        "d",
        "--image=setpoint.dev/demo:v1",
        "--replicas=0",
    ]);
    world.kubectl(&["expose", "deployment", "d", "--port=80", "--target-port=8080"]);

    let v1 = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: m }\ndata: { a: '1', b: '2' }\n";
    let v2 = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: m }\ndata: { a: '1', c: '3' }\n";
    assert!(world.apply(v1).contains("created"));
    assert!(world.apply(v1).contains("unchanged"));
    let file = world.file("m.yaml", v2);
    let diff = world.kubectl_output(&["diff", "-f", file.to_str().unwrap()]);
    assert_eq!(diff.status.code(), Some(1), "{}", text(&diff.stderr));
    assert!(text(&diff.stdout).contains("+  c: \"3\""), "{}", text(&diff.stdout));
    assert!(world.apply(v2).contains("configured"));
    assert_eq!(
        world.get(&["configmap", "m"]).unwrap()["data"],
        serde_json::json!({"a": "1", "c": "3"})
    );

    let server_side = ["apply", "--server-side", "--field-manager=first", "-f", "-"];
    let ssa = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: ssa }\ndata: { a: '1', b: '2' }\n";
    world.kubectl_with(&server_side, ssa);
    world.kubectl_with(&server_side, &ssa.replace(", b: '2'", ""));
    assert_eq!(
        world.get(&["configmap", "ssa"]).unwrap()["data"],
        serde_json::json!({"a": "1"})
    );
    let file = world.file("ssa.yaml", &ssa.replace("a: '1'", "a: 'other'"));
    let path = file.to_str().unwrap();
    let conflict = world.kubectl_fails(&["apply", "--server-side", "--field-manager=second", "-f", path]);
    assert!(
        conflict.contains(r#"conflict with "first""#) && conflict.contains(".data.a"),
        "{conflict}"
    );
    world.kubectl(&[
        "apply",
        "--server-side",
        "--field-manager=second",
        "--force-conflicts",
        "-f",
        path,
    ]);

    world.kubectl(&[
        "patch",
        "configmap",
        "m",
        "--type=merge",
        "-p",
        r#"{"data":{"a":null,"d":"4"}}"#,
    ]);
    world.kubectl(&[
        "patch",
        "configmap",
        "m",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/data/d","value":"5"}]"#,
    ]);
    world.kubectl(&[
        "patch",
        "deployment",
        "d",
        "-p",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"demo","env":[{"name":"A","value":"b"}]}]}}}}"#,
    ]);
    let containers = world.get(&["deployment", "d"]).unwrap()["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(containers[0]["image"], "setpoint.dev/demo:v1");
    assert_eq!(containers[0]["env"][0]["name"], "A");
    world.kubectl(&["label", "configmap", "m", "tier=gold"]);
    world.kubectl(&["annotate", "configmap", "m", "why=because"]);
    assert!(
        world
            .kubectl_fails(&["label", "configmap", "m", "tier=silver"])
            .contains("--overwrite")
    );
    assert!(
        world
            .kubectl(&["get", "configmap", "-l", "tier=gold", "-o", "name"])
            .contains("/m")
    );
    let output = world
        .kubectl_command(&["edit", "configmap", "m"])
        .env("KUBE_EDITOR", "sed -i s/because/edited/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let m = world.get(&["configmap", "m"]).unwrap();
    assert_eq!(m["metadata"]["annotations"]["why"], "edited");
    assert_eq!(m["data"], serde_json::json!({"c": "3", "d": "5"}));
    world.kubectl(&["delete", "configmap", "m"]);
    assert_eq!(world.get(&["configmap", "m"]), None);
    world.kubectl(&["delete", "namespace", "other", "--timeout=60s"]);
    assert_eq!(world.get(&["namespace", "other"]), None);
}

#[test]
fn describe_events_explain_and_api_resources() {
    let world = World::start();
    world.demo("web", 1);
    let pod = world.ready_pods("app=web", 1).remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let pod = world.kubectl(&["describe", "pod", name]);
    for part in ["setpoint.dev/demo:v1", "Scheduled", "Started", "Ready", "http-get"] {
        assert!(pod.contains(part), "no {part} in {pod}");
    }
    let deployment = world.kubectl(&["describe", "deployment", "web"]);
    assert!(
        deployment.contains("ScalingReplicaSet") && deployment.contains("MinimumReplicasAvailable"),
        "{deployment}"
    );
    assert!(world.kubectl(&["describe", "service", "web"]).contains("Endpoints"));
    assert!(world.kubectl(&["describe", "node"]).contains("Allocatable"));
    assert!(world.kubectl(&["events"]).contains("Started"));
    let resources = world.kubectl(&["api-resources"]);
    for kind in [
        "pods",
        "deployments",
        "endpointslices",
        "clusterroles",
        "apps.*setpoint.dev",
    ] {
        let found = resources
            .lines()
            .any(|line| kind.split(".*").all(|part| line.contains(part)));
        assert!(found, "no {kind} in {resources}");
    }
    let explained = world.kubectl(&["explain", "deployment.spec.strategy.rollingUpdate"]);
    assert!(
        explained.contains("maxSurge") && explained.contains("IntOrString"),
        "{explained}"
    );
    assert!(
        world
            .kubectl(&["explain", "app.spec", "--api-version=setpoint.dev/v1alpha1"])
            .contains("repository")
    );
}

#[test]
fn scale_rollout_set_image_and_wait() {
    let world = World::start();
    world.demo("web", 1);
    world.kubectl(&["scale", "deployment/web", "--replicas=3"]);
    world.ready_pods("app=web", 3);
    world.kubectl(&["set", "image", "deployment/web", "app=setpoint.dev/demo:v2"]);
    let status = world.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert!(status.contains("successfully rolled out"), "{status}");
    let history = world.kubectl(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("1 ") && history.contains("2 "), "{history}");
    world.kubectl(&["rollout", "undo", "deployment/web"]);
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let image = |world: &World| {
        world.get(&["deployment", "web"]).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    assert_eq!(image(&world), "setpoint.dev/demo:v1");
    let before = world.ready_pods("app=web", 3);
    world.kubectl(&["rollout", "restart", "deployment/web"]);
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let after = world.ready_pods("app=web", 3);
    let uid = |pods: &[Value]| pods.iter().map(|p| p["metadata"]["uid"].clone()).collect::<Vec<_>>();
    assert!(
        uid(&after).iter().all(|id| !uid(&before).contains(id)),
        "restart replaced no pod"
    );
    world.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=60s"]);
    world.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=60s"]);
    world.kubectl(&["rollout", "pause", "deployment/web"]);
    world.kubectl(&["set", "image", "deployment/web", "app=setpoint.dev/demo:v2"]);
    world.until(&["deployment", "web"], "observed while paused", |d| {
        d["status"]["observedGeneration"] == d["metadata"]["generation"]
    });
    assert_eq!(world.ready_pods("app=web", 3).len(), 3);
    assert_eq!(
        items(&world.get(&["rs", "-l", "app=web"]).unwrap()).len(),
        3,
        "a paused deployment rolled out"
    );
    world.kubectl(&["rollout", "resume", "deployment/web"]);
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
}

#[test]
fn logs_and_exec() {
    let world = World::start();
    world.demo("web", 1);
    let pod = world.ready_pods("app=web", 1).remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    assert!(world.kubectl(&["logs", name]).contains("demo v1 listens"));
    assert!(
        world
            .kubectl(&["logs", "deployment/web", "--timestamps", "--tail=1"])
            .starts_with("20")
    );
    assert!(
        world
            .kubectl_fails(&["logs", name, "--previous"])
            .contains("previous terminated container")
    );
    assert!(world.kubectl_fails(&["logs", name, "-c", "nosuch"]).contains("nosuch"));
    // Follow until the container ends.
    let mut follower = world
        .kubectl_command(&["logs", "-f", name])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap());
    let mut said = String::new();
    // The pod must not be gone before it is followed.
    lines.read_line(&mut said).unwrap();
    world.kubectl(&["delete", "pod", name]);
    lines.read_to_string(&mut said).unwrap();
    follower.wait().unwrap();
    assert!(
        said.contains("demo v1 listens") && said.contains("demo stops"),
        "{said}"
    );

    let pod = world.ready_pods("app=web", 1).remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let page = world.kubectl(&[
        "exec",
        name,
        "--",
        "/setpoint",
        "__demo",
        "--get",
        "http://127.0.0.1:8080/",
    ]);
    assert!(
        page.contains("version: v1") && page.contains(&format!("host: {name}")),
        "{page}"
    );
    let failed = world.kubectl_output(&[
        "exec",
        name,
        "--",
        "/setpoint",
        "__demo",
        "--get",
        "http://127.0.0.1:8080/no",
    ]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    let missing = world.kubectl_fails(&["exec", name, "--", "/nosuch"]);
    assert!(missing.contains("nosuch"), "{missing}");
    // With a terminal: `script` gives kubectl one.
    let inner = format!(
        "{} exec -it {name} -- /setpoint --version",
        crate::harness::kubectl_path().display()
    );
    let mut command = std::process::Command::new("script");
    command
        .args(["-qec", &inner, "/dev/null"])
        .env("KUBECONFIG", world.data_dir().join("kubeconfig"));
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("script is installed by .ci/install");
    assert!(
        text(&output.stdout).contains("setpoint 0."),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn roles_decide_what_a_user_may_do() {
    let world = World::start();
    assert_eq!(world.kubectl(&["auth", "can-i", "delete", "pods"]).trim(), "yes");
    world.kubectl(&["create", "serviceaccount", "robot"]);
    world.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
    world.kubectl(&[
        "create",
        "rolebinding",
        "robots",
        "--role=reader",
        "--serviceaccount=default:robot",
    ]);
    let robot = "--as=system:serviceaccount:default:robot";
    assert_eq!(world.kubectl(&["auth", "can-i", "list", "pods", robot]).trim(), "yes");
    assert!(
        world
            .kubectl_output(&["auth", "can-i", "delete", "pods", robot])
            .status
            .code()
            == Some(1)
    );
    assert!(world.kubectl(&["auth", "can-i", "--list", robot]).contains("pods"));
    world.kubectl(&["get", "pods", robot]);
    let refused = world.kubectl_fails(&["get", "secrets", robot]);
    assert!(
        refused.contains("is forbidden") && refused.contains("cannot list resource \"secrets\""),
        "{refused}"
    );
    let token = world.kubectl(&["create", "token", "robot"]);
    let token = format!("--token={}", token.trim());
    let server = format!("--server={}", world.announced["api"].as_str().unwrap());
    let ca = world.data_dir().join("pki/ca.crt");
    let ca = format!("--certificate-authority={}", ca.display());
    let bare = ["--kubeconfig=/dev/null", server.as_str(), ca.as_str(), token.as_str()];
    world.kubectl(&[&["get", "pods"], bare.as_slice()].concat());
    assert!(
        world
            .kubectl_fails(&[&["get", "secrets"], bare.as_slice()].concat())
            .contains("forbidden")
    );
}

#[test]
fn mistakes_get_kubernetes_own_answers() {
    let world = World::start();
    let invalid = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: Bad_Name }\nspec:\n  selector: { matchLabels: { a: b } }\n  template: { metadata: { labels: { a: c } }, spec: { containers: [{ name: x, image: app }] } }\n";
    let file = world.file("invalid.yaml", invalid);
    let error = world.kubectl_fails(&["apply", "-f", file.to_str().unwrap()]);
    assert!(
        error.contains("is invalid") && error.contains("metadata.name"),
        "{error}"
    );
    assert!(error.contains("`selector` does not match template `labels`"), "{error}");
    let unknown = "apiVersion: v1\nkind: Pod\nmetadata: { name: x }\nspec: { containers: [{ name: x, image: app, imagee: z }] }\n";
    let file = world.file("unknown.yaml", unknown);
    let error = world.kubectl_fails(&["apply", "-f", file.to_str().unwrap()]);
    assert!(error.contains("unknown field \"spec.containers[0].imagee\""), "{error}");
    let error = world.kubectl_fails(&["-n", "nosuch", "create", "configmap", "x"]);
    assert!(error.contains("namespaces \"nosuch\" not found"), "{error}");
    // What this node does not do is refused in words, never dropped.
    let refused = "apiVersion: v1\nkind: Pod\nmetadata: { name: x }\nspec:\n  containers: [{ name: x, image: app, volumeDevices: [{ name: v, devicePath: /dev/x }] }]\n  volumes: [{ name: v, persistentVolumeClaim: { claimName: c } }]\n";
    let file = world.file("refused.yaml", refused);
    let error = world.kubectl_fails(&["apply", "-f", file.to_str().unwrap()]);
    assert!(
        error.contains("volumeDevices") || error.contains("persistentVolumeClaim"),
        "{error}"
    );
    let gadget = "apiVersion: example.com/v1\nkind: Gadget\nmetadata: { name: x }\n";
    let file = world.file("gadget.yaml", gadget);
    let error = world.kubectl_fails(&["apply", "-f", file.to_str().unwrap()]);
    assert!(error.contains("no matches for kind \"Gadget\""), "{error}");
}

#[test]
fn a_custom_resource_is_served_as_soon_as_it_is_defined() {
    let world = World::start();
    world.apply(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.example.com }
spec:
  group: example.com
  scope: Namespaced
  names: { kind: Widget, plural: widgets, singular: widget, shortNames: [wd] }
  versions:
    - name: v1
      served: true
      storage: true
      subresources: { status: {} }
      additionalPrinterColumns: [{ name: Size, type: integer, jsonPath: .spec.size }]
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [size]
              properties: { size: { type: integer, minimum: 1 }, color: { type: string, default: red } }
            status: { type: object, x-kubernetes-preserve-unknown-fields: true }
",
    );
    world.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/widgets.example.com",
        "--timeout=60s",
    ]);
    world.apply("apiVersion: example.com/v1\nkind: Widget\nmetadata: { name: w }\nspec: { size: 3 }\n");
    assert_eq!(world.get(&["widget", "w"]).unwrap()["spec"]["color"], "red");
    assert!(world.kubectl(&["get", "wd"]).contains("SIZE"));
    let bad = world.file(
        "bad.yaml",
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: { name: b }\nspec: { size: 0 }\n",
    );
    let error = world.kubectl_fails(&["apply", "-f", bad.to_str().unwrap()]);
    assert!(
        error.contains("spec.size") && error.contains("greater than or equal to 1"),
        "{error}"
    );
    world.kubectl(&["delete", "crd", "widgets.example.com", "--timeout=60s"]);
    assert!(!world.kubectl_output(&["get", "widgets"]).status.success());
}
