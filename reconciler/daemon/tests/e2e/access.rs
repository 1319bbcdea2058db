//! Who has access, from outside and from inside: users, nodes, tokens, and certificates over time.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{World, kubectl_path, text, wait_for};

#[path = "access/clock.rs"]
mod clock;

fn json(world: &World, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["-o", "json"]);
    let output = world.setpoint(&all);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs kubectl with another kubeconfig.
fn kubectl_as(world: &World, kubeconfig: &Path, args: &[&str]) -> Output {
    world
        .kubectl_command(args)
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap()
}

#[test]
fn a_user_works_with_their_kubeconfig_until_they_are_removed() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start();
    world.kubectl(&["create", "namespace", "shop"]);
    let file = world.folder().join("ann.kubeconfig");
    let path = file.to_str().unwrap();
    let made = json(
        &world,
        &[
            "user",
            "add",
            "ann@example.com",
            "--group",
            "team",
            "--cluster-role",
            "edit",
            "--namespace",
            "shop",
            "--expires",
            "30d",
            "--file",
            path,
        ],
    );
    assert_eq!(made["groups"][0], "team");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let who = kubectl_as(&world, &file, &["auth", "whoami", "-o", "json"]);
    let who: Value = serde_json::from_slice(&who.stdout).unwrap();
    assert_eq!(who["status"]["userInfo"]["username"], "ann@example.com");
    assert_eq!(who["status"]["userInfo"]["groups"][0], "team");
    let inside = kubectl_as(
        &world,
        &file,
        &["-n", "shop", "create", "configmap", "a", "--from-literal=b=c"],
    );
    assert!(inside.status.success(), "{}", text(&inside.stderr));
    let outside = kubectl_as(&world, &file, &["get", "configmaps"]);
    assert!(
        text(&outside.stderr).contains("ann@example.com"),
        "{}",
        text(&outside.stderr)
    );
    let again = world.setpoint(&["user", "add", "ann@example.com"]);
    assert!(text(&again.stderr).contains("user remove"), "{}", text(&again.stderr));
    let nowhere = world.setpoint(&["user", "add", "bob", "--cluster-role", "nosuch"]);
    assert!(text(&nowhere.stderr).contains("nosuch"), "{}", text(&nowhere.stderr));

    let token = json(&world, &["user", "token", "ann@example.com", "--expires", "1d"]);
    let by_token = |arguments: &[&str]| {
        let bearer = format!("--token={}", token["token"].as_str().unwrap());
        let server = format!("--server={}", server_of(&world));
        let authority = format!(
            "--certificate-authority={}",
            world.data_dir().join("pki/ca.crt").display()
        );
        let mut all = vec![bearer.as_str(), server.as_str(), authority.as_str()];
        all.extend(arguments);
        // Without the administrator's kubeconfig, whose certificate would come first.
        kubectl_as(&world, Path::new("/dev/null"), &all)
    };
    let inside = by_token(&["-n", "shop", "get", "configmap", "a", "-o", "name"]);
    assert_eq!(text(&inside.stdout).trim(), "configmap/a", "{}", text(&inside.stderr));
    let listed = json(&world, &["user", "list"]);
    assert_eq!(listed["users"][0]["name"], "ann@example.com");
    assert_eq!(listed["users"][0]["tokens"][0]["id"], token["id"]);
    let shown = text(&world.setpoint(&["user", "list"]).stdout);
    assert!(
        shown.contains("ann@example.com") && shown.contains("CERTIFICATE UNTIL"),
        "{shown}"
    );
    assert!(!shown.contains(token["token"].as_str().unwrap()));
    let kept = world.kubectl(&["get", "secrets", "-n", "kube-system", "-o", "yaml"]);
    assert!(
        !kept.contains(token["token"].as_str().unwrap()),
        "only digests are kept"
    );
    json(
        &world,
        &[
            "user",
            "token",
            "ann@example.com",
            "--remove",
            token["id"].as_str().unwrap(),
        ],
    );
    assert!(text(&by_token(&["get", "pods"]).stderr).contains("Unauthorized"));

    json(&world, &["user", "remove", "ann@example.com"]);
    let refused = kubectl_as(&world, &file, &["-n", "shop", "get", "configmaps"]);
    assert!(
        text(&refused.stderr).contains("Unauthorized"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(
        world.get(&["rolebindings", "-n", "shop"]).unwrap()["items"],
        serde_json::json!([])
    );
    let gone = world.setpoint(&["user", "remove", "ann@example.com"]);
    assert_eq!(gone.status.code(), Some(1));
}

/// Asks for something in the namespace `default` at the instance's socket.
fn by_socket(world: &World, args: &[&str], path: &str) -> Value {
    let output = Command::new("curl")
        .args(["--silent", "--unix-socket"])
        .arg(format!("/run/setpoint-{}/api.sock", world.id()))
        .args(args)
        .arg(format!("http://localhost/api/v1/namespaces/default/{path}"))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn server_of(world: &World) -> String {
    world.kubectl(&[
        "config",
        "view",
        "--minify",
        "-o",
        "jsonpath={.clusters[0].cluster.server}",
    ])
}

#[test]
fn the_nodes_agent_has_the_rights_of_its_node_and_no_more() {
    let world = World::start();
    let nodes = world.get(&["nodes"]).unwrap();
    let node = nodes["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.kubectl(&["create", "secret", "generic", "used", "--from-literal=word=first"]);
    world.kubectl(&["create", "secret", "generic", "other", "--from-literal=word=hidden"]);
    let user = format!("--as=system:node:{node}");
    let may = |verb: &str, what: &str| {
        let output = world.kubectl_output(&["auth", "can-i", verb, what, &user, "--as-group=system:nodes"]);
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(may("get", "secret/used"), "no");
    world.apply(
        "
apiVersion: v1
kind: Pod
metadata: { name: reader, labels: { app: reader } }
spec:
  containers:
    - name: app
      image: setpoint.dev/demo:v1
      volumeMounts: [{ name: word, mountPath: /word }]
  volumes:
    - name: word
      projected:
        sources:
          - secret: { name: used }
          - serviceAccountToken: { path: token, expirationSeconds: 600 }
",
    );
    let pods = world.ready_pods("app=reader", 1);
    assert_eq!(may("get", "secret/used"), "yes");
    assert_eq!(may("get", "secret/other"), "no");
    assert_eq!(may("list", "secrets"), "no");
    assert_eq!(may("delete", "deployments"), "no");
    // What the agent wrote, it wrote as its node, and the pod's files came through it.
    let shown = world.get(&["pod", "reader", "--show-managed-fields"]).unwrap();
    let managers = shown["metadata"]["managedFields"].to_string();
    assert!(managers.contains(&format!("system:node:{node}")), "{managers}");
    let root = format!("/proc/{}/root/word", world.pid_of(&pods[0]));
    let read = |name: &str| std::fs::read_to_string(Path::new(&root).join(name)).unwrap();
    assert_eq!(read("word"), "first");
    // It hears of changes of what its pods refer to.
    world.apply("apiVersion: v1\nkind: Secret\nmetadata: { name: used }\nstringData: { word: second }\n");
    wait_for("the new word in the pod", || (read("word") == "second").then_some(()));

    // The pod's token is good for the API, and dies with the pod.
    let token = read("token");
    let review = |token: &str| {
        let asked = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
        });
        let answer = world.kubectl_with(&["create", "-o", "json", "-f", "-"], &asked.to_string());
        serde_json::from_str::<Value>(&answer).unwrap()["status"].clone()
    };
    let status = review(&token);
    assert_eq!(
        status["user"]["username"], "system:serviceaccount:default:default",
        "{status}"
    );
    assert_eq!(
        status["user"]["extra"]["authentication.kubernetes.io/pod-name"][0],
        "reader"
    );
    world.kubectl(&["delete", "pod", "reader", "--now"]);
    assert!(review(&token)["error"].as_str().unwrap().contains("invalidated"));
}

#[test]
fn certificates_renew_themselves_in_the_running_daemon_and_the_authority_with_an_overlap() {
    let clock = clock::Clock::new();
    let mut world = World::prepare();
    clock.start(&mut world);
    world.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
    let file = |name: &str| std::fs::read_to_string(world.data_dir().join(name)).unwrap();
    // By the socket: kubectl does not live by this clock.
    let root_ca = || {
        let map = by_socket(&world, &[], "configmaps/kube-root-ca.crt");
        map["data"]["ca.crt"].as_str().unwrap_or_default().to_owned()
    };
    let blocks = |pem: &str| pem.matches("BEGIN CERTIFICATE").count();
    let first = (file("pki/serving.crt"), file("pki/ca.crt"), file("kubeconfig"));
    // kubectl watches from before until after: the connection outlives every renewal.
    let mut watch = world
        .kubectl_command(&["get", "configmaps", "--watch", "-o", "name"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();

    clock.forward_days(300);
    wait_for("a new serving certificate", || {
        (file("pki/serving.crt") != first.0).then_some(())
    });
    wait_for("a new kubeconfig", || (file("kubeconfig") != first.2).then_some(()));
    assert_eq!(file("pki/ca.crt"), first.1);
    clock.forward_days(2200);
    wait_for("the next authority in the namespaces", || {
        (blocks(&root_ca()) == 2).then_some(())
    });
    assert_eq!(file("pki/ca.crt"), first.1, "it is known before it signs");
    let known = file("kubeconfig");
    clock.forward_days(700);
    wait_for("the next authority to sign", || {
        (file("pki/ca.crt") != first.1).then_some(())
    });
    assert!(
        root_ca().contains(first.1.trim()),
        "the one before is trusted until its end"
    );
    // Who has the kubeconfig of the time in between knows the authority that signs now.
    let known: Value = serde_saphyr::from_str(&known).unwrap();
    let bundle = known["clusters"][0]["cluster"]["certificate-authority-data"]
        .as_str()
        .unwrap();
    let bundle = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, bundle).unwrap();
    let bundle = world.file("between.crt", &text(&bundle));
    let old = world.file("first.crt", &first.1);
    let server = known["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    let trusts = |authorities: &Path| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--noproxy", "*", "--cacert"])
            .arg(authorities);
        curl.arg(format!("{server}/version")).envs(clock.environment());
        curl.output().unwrap().status.success()
    };
    assert!(trusts(&bundle));
    assert!(!trusts(&old), "another authority signs now");
    let map = r#"{"metadata": {"name": "after"}}"#;
    let made = by_socket(
        &world,
        &["-H", "content-type: application/json", "-d", map],
        "configmaps",
    );
    assert_eq!(made["metadata"]["name"], "after", "{made}");
    let seen = std::io::BufReader::new(watch.stdout.take().unwrap());
    let found = std::io::BufRead::lines(seen)
        .map_while(Result::ok)
        .any(|line| line.ends_with("/after"));
    assert!(found, "the watch from before ended");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_pod_asks_the_api_as_its_account_and_may_what_that_may() {
    let world = World::start();
    world.kubectl(&["create", "serviceaccount", "reader"]);
    let rights = ["--clusterrole=view", "--serviceaccount=default:reader"];
    world.kubectl(&[&["create", "rolebinding", "reader"], &rights[..]].concat());
    let ask = |name: &str, account: &str| {
        world.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  serviceAccountName: {account}
  restartPolicy: Never
  containers:
    - name: kubectl
      image: setpoint.dev/demo:v1
      command: [/kubectl, get, pods, -o, name]
      volumeMounts: [{{ name: kubectl, mountPath: /kubectl }}]
  volumes: [{{ name: kubectl, hostPath: {{ path: {}, type: File }} }}]
",
            kubectl_path().display()
        ));
        world.until(&["pod", name], "its end", |pod| {
            matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        });
        world.kubectl(&["logs", name])
    };
    assert_eq!(ask("one", "reader"), "pod/one\n");
    let refused = ask("two", "default");
    assert!(
        refused.contains("User \"system:serviceaccount:default:default\" cannot list resource \"pods\""),
        "{refused}"
    );
}
