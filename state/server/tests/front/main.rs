//! The front of the API from outside: in process with a kube client, and over TLS and the unix socket with kubectl.

mod access;
mod admission;
mod audit;
mod cluster;
mod documents;
mod fairness;
mod kinds;
mod rbac;
mod registered;
mod rights;
mod streams;
mod subresources;
mod timemachine;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cluster::{Cluster, kubectl, kubectls};
use futures::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use setpoint_server::UserInfo;

/// What a test waits for comes within this time or not at all.
const SOON: Duration = Duration::from_secs(20);

fn client(cluster: &Cluster, user: UserInfo) -> kube::Client {
    kube::Client::new(cluster.api.as_user(user), "default")
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

async fn create_pod(cluster: &Cluster, name: &str) {
    let pods: Api<Pod> = Api::default_namespaced(client(cluster, UserInfo::system("test")));
    let pod = object(json!({
        "metadata": {"name": name},
        "spec": {"nodeName": "box", "containers": [{"name": "main", "image": "image"}]},
    }));
    pods.create(&PostParams::default(), &pod).await.expect("a pod");
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    pods.patch_status(name, &PatchParams::default(), &running)
        .await
        .expect("running");
}

#[tokio::test]
async fn a_kube_client_in_process_lists_watches_patches_and_applies() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster, UserInfo::system("test")));
    let before = maps.list(&ListParams::default()).await.expect("a list");
    let version = before.metadata.resource_version.expect("a version");
    let mut changes = maps
        .watch(&WatchParams::default(), &version)
        .await
        .expect("a watch")
        .boxed();
    let map = object(json!({"metadata": {"name": "one"}, "data": {"a": "1"}}));
    maps.create(&PostParams::default(), &map).await.expect("created");
    let patch = Patch::Merge(json!({"data": {"b": "2"}}));
    maps.patch("one", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"c": "3"}}));
    let applied = maps
        .patch("one", &PatchParams::apply("test"), &apply)
        .await
        .expect("applied");
    assert_eq!(applied.data.expect("data").len(), 3);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = tokio::time::timeout(SOON, changes.try_next()).await.expect("in time");
        match event.expect("no error").expect("an event") {
            WatchEvent::Added(_) => seen.push("added"),
            WatchEvent::Modified(_) => seen.push("modified"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["added", "modified", "modified"]);
}

#[tokio::test]
async fn an_ordinary_user_is_refused_and_the_refusal_says_what() {
    let cluster = Cluster::start().await;
    let pods: Api<Pod> = Api::default_namespaced(client(&cluster, UserInfo::new("ann", &[])));
    let error = pods.list(&ListParams::default()).await.expect_err("no right");
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        "pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let cluster = Cluster::start().await;
    let admin = client(&cluster, UserInfo::system("test"));
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::default_namespaced(admin);
    let binding = |name: &str, role: &str, user: &str| {
        object(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
    };
    let made = bindings
        .create(&PostParams::default(), &binding("ann", "admin", "ann"))
        .await;
    made.expect("a master may");
    let ann = client(&cluster, UserInfo::new("ann", &[]));
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::default_namespaced(ann);
    let made = bindings
        .create(&PostParams::default(), &binding("bob", "view", "bob"))
        .await;
    made.expect("ann has what view has");
    let refused = bindings
        .create(&PostParams::default(), &binding("all", "cluster-admin", "ann"))
        .await;
    let kube::Error::Api(status) = refused.expect_err("more than ann has") else {
        panic!()
    };
    assert_eq!(status.code, 403);
    assert!(
        status
            .message
            .contains("attempting to grant RBAC permissions not currently held"),
        "{}",
        status.message
    );
}

/// Sends a request over the unix socket and returns the code and the body.
async fn over_socket(path: &Path, uri: &str) -> (u16, String) {
    let stream = tokio::net::UnixStream::connect(path).await.expect("a socket");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    let driving = tokio::spawn(connection);
    let request = http::Request::get(uri)
        .header("host", "x")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    drop(sender);
    driving.await.expect("no panic").expect("a clean end");
    (code, String::from_utf8(body.to_vec()).expect("text"))
}

async fn socket_is_open(cluster: &Cluster) {
    let open = async {
        while tokio::net::UnixStream::connect(cluster.socket()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, open).await.expect("the socket opens");
}

#[tokio::test]
async fn the_unix_socket_knows_its_peer_and_unknown_paths_are_statuses() {
    let cluster = Cluster::start().await;
    socket_is_open(&cluster).await;
    let socket = cluster.socket();
    let (code, body) = over_socket(&socket, "/api/v1/namespaces").await;
    assert_eq!(code, 200, "{body}");
    for uri in ["/nothing", "/api/v1/nothing", "/apis/none.example.com/v1/things"] {
        let (code, body) = over_socket(&socket, uri).await;
        let status: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(code, 404, "{uri}");
        assert_eq!(status["kind"], "Status", "{uri}");
        assert_eq!(
            status["message"], "the server could not find the requested resource",
            "{uri}"
        );
    }
    let (code, body) = over_socket(&socket, "/metrics").await;
    assert_eq!(code, 200);
    assert!(body.contains("apiserver_request_total{"), "{body}");
    let (code, body) = over_socket(&socket, "/readyz?verbose").await;
    assert_eq!(code, 200);
    assert!(body.contains("[+]ping ok"), "{body}");
}

#[tokio::test]
async fn a_shutdown_ends_watches_cleanly_and_removes_the_socket() {
    let cluster = Cluster::start().await;
    socket_is_open(&cluster).await;
    let socket = cluster.socket();
    let stream = tokio::net::UnixStream::connect(&socket).await.expect("a socket");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    let driving = tokio::spawn(connection);
    let request = http::Request::get("/api/v1/namespaces?watch=true")
        .header("host", "x")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let watch = sender.send_request(request).await.expect("an answer");
    assert_eq!(watch.status(), 200);
    tokio::time::timeout(SOON, cluster.stop()).await.expect("it stops");
    watch.into_body().collect().await.expect("a clean end");
    assert!(!socket.exists());
    drop(driving);
}

#[tokio::test]
async fn a_token_works_until_its_account_is_gone() {
    let cluster = Cluster::start().await;
    let admin = client(&cluster, UserInfo::system("test"));
    let accounts: Api<ServiceAccount> = Api::default_namespaced(admin);
    let account = object(json!({"metadata": {"name": "robot"}}));
    accounts
        .create(&PostParams::default(), &account)
        .await
        .expect("an account");
    let wanted: TokenRequest = object(json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 3600}}));
    let made = accounts
        .create_token_request("robot", &PostParams::default(), &wanted)
        .await
        .expect("a token");
    let token = made.status.expect("a status").token.expect("a token");
    for program in kubectls() {
        let config = cluster.kubeconfig_with_token("robot", &token);
        let (_, out, err) = kubectl(&program, &config, &["auth", "can-i", "get", "pods"], "").await;
        assert_eq!(out.trim(), "no", "{err}");
        let wrong = cluster.kubeconfig_with_token("nobody", "not.a.token");
        let (good, _, err) = kubectl(&program, &wrong, &["get", "namespaces"], "").await;
        assert!(!good && err.contains("Unauthorized"), "{err}");
    }
    accounts.delete("robot", &Default::default()).await.expect("deleted");
    for program in kubectls() {
        let config = cluster.kubeconfig_with_token("robot", &token);
        let (good, _, err) = kubectl(&program, &config, &["auth", "can-i", "get", "pods"], "").await;
        assert!(!good && err.contains("Unauthorized"), "{err}");
    }
}

#[tokio::test]
async fn kubectl_discovers_creates_explains_and_asks() {
    let cluster = Cluster::start().await;
    let admin = cluster.kubeconfig("root", &["system:masters"]);
    let ann = cluster.kubeconfig("ann", &[]);
    for (number, program) in kubectls().iter().enumerate() {
        let run = async |config: &Path, args: &[&str], stdin: &str| {
            let (good, out, err) = kubectl(program, config, args, stdin).await;
            assert!(good, "{program:?} {args:?}: {out}{err}");
            out
        };
        let name = format!("n{number}");
        let out = run(&admin, &["api-resources"], "").await;
        for kind in ["Deployment", "CustomResourceDefinition", "RoleBinding"] {
            assert!(out.contains(kind), "{out}");
        }
        assert!(run(&admin, &["api-versions"], "").await.contains("apps/v1"));
        run(&admin, &["create", "namespace", &name], "").await;
        assert!(run(&admin, &["get", "ns"], "").await.contains(&name));
        let manifest =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: {name}}}\ndata: {{a: b}}\n");
        assert!(run(&admin, &["apply", "-f", "-"], &manifest).await.contains("created"));
        assert!(
            run(&admin, &["apply", "-f", "-"], &manifest)
                .await
                .contains("unchanged")
        );
        assert!(
            run(
                &admin,
                &["apply", "--server-side", "--force-conflicts", "-f", "-"],
                &manifest
            )
            .await
            .contains("serverside-applied")
        );
        assert!(
            run(&admin, &["explain", "deployment.spec.replicas"], "")
                .await
                .contains("FIELD")
        );
        assert_eq!(
            run(&admin, &["auth", "can-i", "delete", "nodes"], "").await.trim(),
            "yes"
        );
        let rules = run(&ann, &["auth", "can-i", "--list"], "").await;
        assert!(rules.contains("selfsubjectaccessreviews"), "{rules}");
        let (good, out, err) = kubectl(program, &ann, &["auth", "whoami"], "").await;
        // kubectl 1.27 knows only the alpha and beta forms of this, which Kubernetes has dropped too.
        assert!(
            (good && out.contains("ann")) || err.contains("v1beta1 API"),
            "{out}{err}"
        );
        let (good, _, err) = kubectl(program, &ann, &["get", "pods"], "").await;
        assert!(
            !good && err.contains("User \"ann\" cannot list resource \"pods\""),
            "{err}"
        );
        // The rights of another are asked for by impersonation, which the administrator may.
        let (_, out, err) = kubectl(program, &admin, &["auth", "can-i", "get", "pods", "--as", "ann"], "").await;
        assert_eq!(out.trim(), "no", "{err}");
        let (good, _, err) = kubectl(program, &ann, &["get", "ns", "--as", "root"], "").await;
        assert!(!good && err.contains("cannot impersonate resource \"users\""), "{err}");
        assert!(
            run(&admin, &["get", "--raw", "/version"], "")
                .await
                .contains("setpoint")
        );
        assert!(run(&admin, &["version"], "").await.contains("v1.37.0+setpoint"));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn kubectl_reads_logs_and_runs_commands() {
    let cluster = Cluster::start().await;
    create_pod(&cluster, "web").await;
    let admin = cluster.kubeconfig("root", &["system:masters"]);
    for program in kubectls() {
        let run = async |args: &[&str], stdin: &str| kubectl(&program, &admin, args, stdin).await;
        let (good, out, err) = run(&["logs", "web", "--tail=3"], "").await;
        assert!(
            good && out == "box default web main tail=Some(3)\n",
            "{program:?} {out}{err}"
        );
        let (good, _, err) = run(&["logs", "web", "--previous"], "").await;
        assert!(
            !good && err.contains("previous terminated container \"main\" in pod \"web\" not found"),
            "{err}"
        );
        let (good, _, err) = run(&["logs", "web", "-c", "none"], "").await;
        assert!(
            !good && err.contains("container none is not valid for pod web"),
            "{err}"
        );
        let big = "0123456789abcdef".repeat(40_000);
        let (good, out, err) = run(&["exec", "-i", "web", "--", "cat"], &big).await;
        assert!(
            good && out == big,
            "{program:?}: {} bytes came back of {}: {err}",
            out.len(),
            big.len()
        );
        let (good, out, err) = run(&["exec", "web", "--", "exit", "3"], "").await;
        assert!(!good, "{out}{err}");
        assert_eq!(out, "out\n", "{program:?} {err}");
        assert!(
            err.contains("err\n") && err.contains("exit code 3"),
            "{program:?} {err}"
        );
        let (good, _, err) = run(&["exec", "web", "--", "nothing"], "").await;
        assert!(!good && err.contains("no such program"), "{program:?} {err}");
        let (good, _, err) = run(&["exec", "web", "--", "broken"], "").await;
        assert!(
            !good && err.contains("cannot start a process: exec: \"broken\"") && !err.contains("upgrade"),
            "{program:?} {err}"
        );
    }
    // A log that is followed is a stream that goes on.
    let namespaces: Api<Namespace> = Api::all(client(&cluster, UserInfo::system("test")));
    namespaces.get("default").await.expect("a namespace");
    let pods: Api<Pod> = Api::default_namespaced(client(&cluster, UserInfo::system("test")));
    let follow = kube::api::LogParams {
        follow: true,
        ..Default::default()
    };
    let stream = pods.log_stream("web", &follow).await.expect("a stream");
    let mut lines = futures::AsyncBufReadExt::lines(stream);
    let line = tokio::time::timeout(SOON, lines.try_next()).await.expect("in time");
    assert_eq!(
        line.expect("no error").as_deref(),
        Some("box default web main tail=None")
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_token_bound_to_a_pod_ends_with_it() {
    let cluster = Cluster::start().await;
    create_pod(&cluster, "web").await;
    let admin = client(&cluster, UserInfo::system("test"));
    let accounts: Api<ServiceAccount> = Api::default_namespaced(admin.clone());
    for name in ["default", "robot"] {
        let account = object(json!({"metadata": {"name": name}}));
        accounts
            .create(&PostParams::default(), &account)
            .await
            .expect("an account");
    }
    let request = async |account: &str, reference: Value| {
        let wanted: TokenRequest =
            object(json!({"metadata": {}, "spec": {"audiences": [], "boundObjectRef": reference}}));
        match accounts
            .create_token_request(account, &PostParams::default(), &wanted)
            .await
        {
            Ok(made) => Ok(made.status.expect("a status").token.expect("a token")),
            Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
            Err(error) => panic!("{error}"),
        }
    };
    let pod = |name: &str| json!({"kind": "Pod", "apiVersion": "v1", "name": name});
    let (code, message) = request("default", pod("none")).await.expect_err("no such pod");
    assert_eq!((code, message.as_str()), (404, "pods \"none\" not found"));
    let (code, message) = request("robot", pod("web")).await.expect_err("another's pod");
    assert!(code == 400 && message.contains("different serviceaccount"), "{message}");
    let mut other = pod("web");
    other["uid"] = "other".into();
    assert_eq!(request("default", other).await.expect_err("another uid").0, 409);
    let kind = json!({"kind": "ConfigMap", "apiVersion": "v1", "name": "web"});
    assert_eq!(request("default", kind).await.expect_err("no such binding").0, 400);
    let token = request("default", pod("web")).await.expect("a token");

    let who = async |token: &str| {
        let reviews: Api<k8s_openapi::api::authentication::v1::TokenReview> = Api::all(admin.clone());
        let review = object(json!({"metadata": {}, "spec": {"token": token}}));
        let made = reviews.create(&PostParams::default(), &review).await.expect("a review");
        let status = made.status.expect("a status");
        status.user.and_then(|user| user.username)
    };
    assert_eq!(
        who(&token).await.as_deref(),
        Some("system:serviceaccount:default:default")
    );
    let pods: Api<Pod> = Api::default_namespaced(admin.clone());
    let at_once = kube::api::DeleteParams::default().grace_period(0);
    pods.delete("web", &at_once).await.expect("deleted");
    assert_eq!(who(&token).await, None, "the pod is gone");
}

#[tokio::test]
async fn renewed_certificates_are_shown_to_new_connections() {
    let mut cluster = Cluster::start().await;
    let program = kubectls().remove(0);
    let admin = cluster.kubeconfig("root", &["system:masters"]);
    let (good, _, err) = kubectl(&program, &admin, &["get", "ns"], "").await;
    assert!(good, "{err}");
    cluster.renew(false);
    let (good, _, err) = kubectl(&program, &admin, &["get", "ns"], "").await;
    assert!(good, "{err}");
    cluster.renew(true);
    let (good, _, err) = kubectl(&program, &admin, &["get", "ns"], "").await;
    assert!(!good && err.contains("certificate"), "{err}");
    let admin = cluster.kubeconfig("root", &["system:masters"]);
    let (good, _, err) = kubectl(&program, &admin, &["get", "ns"], "").await;
    assert!(good, "{err}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_in_process_writes_under_its_users_name() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster, UserInfo::system("test")));
    let map = object(json!({"metadata": {"name": "one"}, "data": {"a": "1"}}));
    let made = maps.create(&PostParams::default(), &map).await.expect("created");
    let managed = made.metadata.managed_fields.expect("managed fields");
    assert_eq!(managed[0].manager.as_deref(), Some("system:test"));
}

#[tokio::test]
async fn five_hundred_watches_at_once_all_see_a_change() {
    const WATCHES: usize = 500;
    let cluster = Cluster::start().await;
    let config = kube::config::Kubeconfig::read_from(cluster.kubeconfig("root", &["system:masters"])).expect("a file");
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default())
        .await
        .expect("a configuration");
    let far = kube::Client::try_from(config).expect("a client");
    let maps: Api<ConfigMap> = Api::default_namespaced(far);
    let version = maps.list(&ListParams::default()).await.expect("a list").metadata;
    let version = version.resource_version.expect("a version");
    let mut watching = tokio::task::JoinSet::new();
    for _ in 0..WATCHES {
        let (maps, version) = (maps.clone(), version.clone());
        watching.spawn(async move {
            let mut changes = maps
                .watch(&WatchParams::default(), &version)
                .await
                .expect("a watch")
                .boxed();
            match changes.try_next().await.expect("no error").expect("an event") {
                WatchEvent::Added(map) => map.metadata.name.expect("a name"),
                other => panic!("{other:?}"),
            }
        });
    }
    let map = object(json!({"metadata": {"name": "one"}}));
    maps.create(&PostParams::default(), &map).await.expect("created");
    let all = async {
        while let Some(seen) = watching.join_next().await {
            assert_eq!(seen.expect("no panic"), "one");
        }
    };
    tokio::time::timeout(SOON * 3, all).await.expect("all of them in time");
    cluster.stop().await;
}
