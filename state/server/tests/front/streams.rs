//! What goes through the API to pods: ports, requests, and what they use.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use setpoint_server::UserInfo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;
use tower::Service as _;

use crate::cluster::{Cluster, kubectl, kubectls};
use crate::{SOON, client, create_pod, object};

async fn create_reachable(cluster: &Cluster, name: &str, ip: &str) -> Pod {
    let pods: Api<Pod> = Api::default_namespaced(client(cluster, UserInfo::system("test")));
    let pod = object(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": "box", "containers": [
            {"name": "main", "image": "image", "ports": [{"containerPort": 8080}]}, {"name": "side", "image": "image"},
        ]},
    }));
    pods.create(&PostParams::default(), &pod).await.expect("a pod");
    let running = Patch::Merge(json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}));
    pods.patch_status(name, &PatchParams::default(), &running)
        .await
        .expect("running")
}

/// Sends a request as a user; gives back the answer's head and its body.
async fn ask(cluster: &Cluster, user: UserInfo, request: Request<Body>) -> (http::response::Parts, Bytes) {
    let answer = cluster.api.as_user(user).call(request).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    (parts, body.collect().await.expect("a body").to_bytes())
}

async fn get(cluster: &Cluster, path: &str) -> (http::response::Parts, Value) {
    let request = Request::get(path).header("host", "api:6443").body(Body::empty());
    let (parts, body) = ask(cluster, UserInfo::system("test"), request.expect("a request")).await;
    (parts, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn requests_reach_pods_without_the_senders_credentials() {
    let cluster = Cluster::start().await;
    create_reachable(&cluster, "web", "10.0.0.1").await;
    let base = "/api/v1/namespaces/default/pods/web/proxy";
    let request = Request::post(format!("{base}/a%2Fb/c?x=1&y=%20"))
        .header("host", "api:6443")
        .header("authorization", "Bearer secret")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("cookie", "a=b")
        .body(Body::from("hello"))
        .expect("a request");
    let (parts, body) = ask(&cluster, UserInfo::system("test"), request).await;
    assert_eq!(parts.status, 200);
    assert_eq!(parts.headers["x-kept"], "yes");
    assert!(!parts.headers.contains_key("keep-alive"));
    let told: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        (&told["method"], &told["uri"], &told["body"]),
        (&json!("POST"), &json!("/a%2Fb/c?x=1&y=%20"), &json!("hello"))
    );
    let headers = &told["headers"];
    assert_eq!(headers["cookie"], "a=b");
    assert_eq!(headers["host"], "api:6443");
    assert_eq!(headers["x-forwarded-uri"], format!("{base}/a%2Fb/c"));
    assert!(
        headers.get("authorization").is_none() && headers.get("x-hop").is_none(),
        "{headers}"
    );

    let (parts, told) = get(&cluster, &format!("{base}/teapot")).await;
    assert_eq!((parts.status.as_u16(), &told["method"]), (418, &json!("GET")));
    let (parts, _) = get(&cluster, &format!("{base}?q=1")).await;
    assert_eq!(
        (parts.status.as_u16(), &parts.headers["location"]),
        (301, &format!("{base}/?q=1").parse().expect("a header"))
    );
    let (parts, _) = get(&cluster, &format!("{base}/away")).await;
    assert_eq!(parts.headers["location"], format!("{base}/login?x=1"));
}

#[tokio::test]
async fn what_cannot_be_reached_is_refused_in_kubernetes_words() {
    let cluster = Cluster::start().await;
    create_pod(&cluster, "bare").await;
    create_reachable(&cluster, "web", "10.0.0.1").await;
    for (path, code, message) in [
        ("pods/none/proxy/", 404, "pods \"none\" not found"),
        ("pods/a:b:c:d/proxy/", 400, "invalid pod request \"a:b:c:d\""),
        ("pods/bare/proxy/", 400, "address not allowed"),
        (
            "pods/web:81/proxy/",
            503,
            "error trying to reach service: dial tcp 10.0.0.1:81: connect: connection refused",
        ),
        ("services/none/proxy/", 404, "services \"none\" not found"),
    ] {
        let (parts, status) = get(&cluster, &format!("/api/v1/namespaces/default/{path}")).await;
        assert_eq!(
            (parts.status.as_u16(), status["message"].as_str()),
            (code, Some(message)),
            "{path}"
        );
    }
    let request = Request::get("/api/v1/namespaces/default/pods/web/proxy/").body(Body::empty());
    let nobody = UserInfo::new("ann", &[]);
    let (parts, body) = ask(&cluster, nobody, request.expect("a request")).await;
    let status: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(parts.status, 403);
    let message = status["message"].as_str().expect("a message");
    assert!(message.contains("cannot get resource \"pods/proxy\""), "{message}");
}

#[tokio::test]
async fn a_service_is_one_of_its_ready_pods() {
    let cluster = Cluster::start().await;
    create_reachable(&cluster, "web", "10.0.0.1").await;
    let master = client(&cluster, UserInfo::system("test"));
    let services: Api<Service> = Api::default_namespaced(master.clone());
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let service = object(json!({"metadata": {"name": "front"}, "spec": {"ports": ports}}));
    services
        .create(&PostParams::default(), &service)
        .await
        .expect("a service");
    let base = "/api/v1/namespaces/default/services";
    let none = "no endpoints available for service \"front\"";
    let (parts, status) = get(&cluster, &format!("{base}/front:http/proxy/")).await;
    assert_eq!((parts.status.as_u16(), status["message"].as_str()), (503, Some(none)));
    assert_eq!(status["reason"], "ServiceUnavailable");
    let slices: Api<EndpointSlice> = Api::default_namespaced(master);
    let endpoint = |ip: &str, pod: &str, ready: bool| json!({"addresses": [ip], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}});
    let slice = object(json!({
        "metadata": {"name": "front-1", "labels": {"kubernetes.io/service-name": "front"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        // The second says that it is a pod of another address, the third is not there.
        "endpoints": [endpoint("10.0.0.1", "web", true), endpoint("10.0.0.9", "web", true), endpoint("10.0.0.3", "gone", true)],
    }));
    slices.create(&PostParams::default(), &slice).await.expect("a slice");
    for name in ["front:http", "front:80", "http:front:http"] {
        let (parts, told) = get(&cluster, &format!("{base}/{name}/proxy/x")).await;
        assert_eq!(
            (parts.status.as_u16(), &told["pod"]),
            (200, &json!("web")),
            "{name} {told}"
        );
    }
    let (_, status) = get(&cluster, &format!("{base}/front/proxy/")).await;
    assert_eq!(status["message"], none, "its only port has a name");
    let (_, status) = get(&cluster, &format!("{base}/front:81/proxy/")).await;
    assert_eq!(status["message"], "no service port 81 found for service \"front\"");
}

#[tokio::test]
async fn an_upgrade_joins_both_connections() {
    let cluster = Cluster::start().await;
    create_reachable(&cluster, "web", "10.0.0.1").await;
    let mut stream = UnixStream::connect(cluster.socket()).await.expect("a socket");
    let head = "GET /api/v1/namespaces/default/pods/web/proxy/raw HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: reverse\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.expect("a line"), 0, "{head}");
    }
    assert!(
        head.starts_with("HTTP/1.1 101") && head.contains("upgrade: reverse"),
        "{head}"
    );
    stream.write_all(b"abcd").await.expect("written");
    let mut rest = Vec::new();
    let done = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    done.expect("in time").expect("read");
    assert_eq!(rest, b"dcba");
}

#[tokio::test]
async fn a_node_answers_what_of_a_kubelet_is_true() {
    let cluster = Cluster::start().await;
    let pod = create_reachable(&cluster, "web", "10.0.0.1").await;
    *cluster.measured.lock() = pod.metadata.uid.expect("a uid");
    let nodes: Api<Node> = Api::all(client(&cluster, UserInfo::system("test")));
    let node = object(json!({
        "metadata": {"name": "box"},
        "status": {"capacity": {"pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }));
    nodes.create(&PostParams::default(), &node).await.expect("a node");
    let base = "/api/v1/nodes/box/proxy";
    let (parts, _) = get(&cluster, &format!("{base}/healthz")).await;
    assert_eq!(parts.status, 200);
    let (_, pods) = get(&cluster, &format!("{base}/pods")).await;
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
    let (_, summary) = get(&cluster, &format!("{base}/stats/summary")).await;
    assert_eq!(summary["node"]["cpu"]["usageNanoCores"], 1_500_000_000_u64);
    assert_eq!(
        summary["pods"][0]["containers"][1]["memory"]["workingSetBytes"],
        8 << 20
    );
    let (_, configuration) = get(&cluster, &format!("{base}/configz")).await;
    assert_eq!(configuration["kubeletconfig"]["maxPods"], 110);
    let (parts, status) = get(&cluster, "/api/v1/nodes/box:10250/proxy/run/x").await;
    assert_eq!(parts.status, 501, "{status}");
    let (parts, _) = get(&cluster, "/api/v1/nodes/none/proxy/healthz").await;
    assert_eq!(parts.status, 404);
}

#[tokio::test]
async fn what_is_used_is_listed_selected_and_shown_as_metrics_server_does() {
    let cluster = Cluster::start().await;
    let pod = create_reachable(&cluster, "web", "10.0.0.1").await;
    *cluster.measured.lock() = pod.metadata.uid.expect("a uid");
    create_pod(&cluster, "bare").await;
    let nodes: Api<Node> = Api::all(client(&cluster, UserInfo::system("test")));
    for name in ["box", "lost"] {
        let node = object(json!({"metadata": {"name": name, "labels": {"name": name}}}));
        nodes.create(&PostParams::default(), &node).await.expect("a node");
    }
    let base = "/apis/metrics.k8s.io/v1beta1";
    let (_, list) = get(&cluster, &format!("{base}/nodes")).await;
    assert_eq!(
        list,
        json!({"kind": "NodeMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": [{
            "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "box", "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"name": "box"}},
            "timestamp": "2026-01-02T03:04:05Z", "window": "15.02s", "usage": {"cpu": "1500m", "memory": "3Gi"},
        }]})
    );
    let (_, one) = get(&cluster, &format!("{base}/namespaces/default/pods/web")).await;
    assert_eq!(
        one["containers"][0],
        json!({"name": "main", "usage": {"cpu": "250000001n", "memory": "40Mi"}})
    );
    assert_eq!(one["metadata"]["labels"]["app"], "web");
    for (path, count) in [
        ("pods", 1),
        ("namespaces/default/pods", 1),
        ("namespaces/kube-system/pods", 0),
        ("pods?labelSelector=app%3Dweb", 1),
        ("pods?labelSelector=app%21%3Dweb", 0),
        ("pods?fieldSelector=metadata.name%3Dweb", 1),
    ] {
        let (_, list) = get(&cluster, &format!("{base}/{path}")).await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(count), "{path} {list}");
    }
    for (path, code, message) in [
        (
            "namespaces/default/pods/bare",
            404,
            "podmetrics.metrics.k8s.io \"default/bare\" not found",
        ),
        ("namespaces/default/pods/none", 404, "pods \"default/none\" not found"),
        ("nodes/lost", 404, "nodemetrics.metrics.k8s.io \"lost\" not found"),
        (
            "nodes?watch=true",
            405,
            "watch is not supported on resources of kind \"nodes.metrics.k8s.io\"",
        ),
    ] {
        let (parts, status) = get(&cluster, &format!("{base}/{path}")).await;
        assert_eq!(
            (parts.status.as_u16(), status["message"].as_str()),
            (code, Some(message)),
            "{path}"
        );
    }
    let request = Request::get(format!("{base}/pods"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Body::empty());
    let (_, table) = ask(&cluster, UserInfo::system("test"), request.expect("a request")).await;
    let table: Value = serde_json::from_slice(&table).expect("JSON");
    assert_eq!(
        table["rows"][0]["cells"],
        json!(["web", "300000001n", "48Mi", "15.02s"])
    );
    let admin = cluster.kubeconfig("root", &["system:masters"]);
    for program in kubectls() {
        let (good, out, err) = kubectl(&program, &admin, &["top", "pod", "--containers", "--no-headers"], "").await;
        let words: Vec<&str> = out.split_whitespace().collect();
        assert!(good, "{program:?} {err}");
        assert_eq!(
            words,
            ["web", "main", "251m", "40Mi", "web", "side", "50m", "8Mi"],
            "{program:?}"
        );
        let (good, out, err) = kubectl(&program, &admin, &["explain", "podmetrics.containers.usage"], "").await;
        assert!(good && out.contains("FIELD"), "{program:?} {out}{err}");
    }
    cluster.stop().await;
}

/// A kubectl that forwards a port; ends with this.
struct Forward {
    child: tokio::process::Child,
    port: u16,
}

impl Forward {
    async fn start(program: &std::path::Path, config: &std::path::Path, port: &str, tunnelled: bool) -> Forward {
        let mut child = tokio::process::Command::new(program)
            .args(["port-forward", "--address=127.0.0.1", "pod/web", port])
            .env("KUBECONFIG", config)
            .env("HOME", config.parent().expect("a directory"))
            .env("NO_PROXY", "*")
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", tunnelled.to_string())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("in time");
        let line = line.expect("read").expect("a line");
        let port = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{line}"));
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Forward { child, port }
    }

    async fn echo(&self, text: &[u8]) -> Vec<u8> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("a connection");
        let (mut read, mut write) = stream.into_split();
        let mut back = vec![0; text.len()];
        let both = async { tokio::join!(write.write_all(text), read.read_exact(&mut back)) };
        let (written, read) = tokio::time::timeout(SOON, both).await.expect("in time");
        written.expect("written");
        read.expect("read");
        back
    }
}

#[tokio::test]
async fn kubectl_forwards_ports_over_both_transports() {
    let cluster = Cluster::start().await;
    create_pod(&cluster, "web").await;
    let admin = cluster.kubeconfig("root", &["system:masters"]);
    let big = Bytes::from("0123456789abcdef".repeat(40_000));
    for program in kubectls() {
        for tunnelled in [true, false] {
            let forward = Forward::start(&program, &admin, "0:7", tunnelled).await;
            let (one, two) = tokio::join!(forward.echo(&big), forward.echo(b"short"));
            assert!(one == big && two == b"short", "{program:?} {tunnelled}");
            assert_eq!(forward.echo(b"again").await, b"again");
            drop(forward);
            let mut refused = Forward::start(&program, &admin, "0:81", tunnelled).await;
            let mut stream = TcpStream::connect(("127.0.0.1", refused.port))
                .await
                .expect("a connection");
            let mut nothing = Vec::new();
            let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut nothing))
                .await
                .expect("in time");
            assert!(ended.is_err() || nothing.is_empty());
            let mut errors = BufReader::new(refused.child.stderr.take().expect("a pipe")).lines();
            let told = async {
                loop {
                    let line = errors.next_line().await.expect("read").expect("a line");
                    if line.contains("error forwarding port 81 to pod web") {
                        return line;
                    }
                }
            };
            let line = tokio::time::timeout(SOON, told).await.expect("in time");
            assert!(line.contains("connection refused"), "{line}");
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn ports_of_the_query_are_pairs_of_channels() {
    let cluster = Cluster::start().await;
    create_pod(&cluster, "web").await;
    let mut request = "ws://x/api/v1/namespaces/default/pods/web/portforward?ports=7&ports=81"
        .into_client_request()
        .expect("a request");
    let protocol = "v4.channel.k8s.io".parse().expect("a header");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let stream = UnixStream::connect(cluster.socket()).await.expect("a socket");
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .expect("a WebSocket");
    let mut next = async || {
        let message = tokio::time::timeout(SOON, socket.next()).await.expect("in time");
        message.expect("no end").expect("a message").into_data()
    };
    for (channel, port) in [(0, 7), (1, 7), (2, 81), (3, 81)] {
        assert_eq!(next().await, vec![channel, port, 0]);
    }
    let error = next().await;
    assert_eq!(error[0], 3);
    assert!(String::from_utf8_lossy(&error[1..]).contains("connection refused"));
    socket.send(Message::binary(&b"\0hello"[..])).await.expect("sent");
    let message = tokio::time::timeout(SOON, socket.next()).await.expect("in time");
    assert_eq!(
        message.expect("no end").expect("a message").into_data(),
        &b"\0hello"[..]
    );
    socket.close(None).await.expect("closed");
    let gone = tokio::time::timeout(Duration::from_secs(10), async {
        while socket.next().await.is_some() {}
    });
    gone.await.expect("in time");
}

#[tokio::test]
async fn every_subprotocol_tells_the_end_in_its_own_way() {
    let cluster = Cluster::start().await;
    create_pod(&cluster, "web").await;
    for (protocol, base64, end) in [
        ("v5.channel.k8s.io", false, "\"reason\":\"NonZeroExitCode\""),
        ("v4.channel.k8s.io", false, "\"reason\":\"NonZeroExitCode\""),
        ("v4.base64.channel.k8s.io", true, "\"reason\":\"NonZeroExitCode\""),
        ("channel.k8s.io", false, "command terminated with non-zero exit code"),
        (
            "base64.channel.k8s.io",
            true,
            "command terminated with non-zero exit code",
        ),
        ("", false, "command terminated with non-zero exit code"),
    ] {
        let path = "ws://x/api/v1/namespaces/default/pods/web/exec?command=exit&command=3&stdout=1&stderr=1";
        let mut request = path.into_client_request().expect("a request");
        if !protocol.is_empty() {
            let protocol = protocol.parse().expect("a header");
            request.headers_mut().insert("sec-websocket-protocol", protocol);
        }
        let stream = UnixStream::connect(cluster.socket()).await.expect("a socket");
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .expect("a WebSocket");
        let mut channels: [Vec<u8>; 4] = Default::default();
        while let Some(message) = tokio::time::timeout(SOON, socket.next()).await.expect("in time") {
            let bytes = match message.expect("a message") {
                Message::Binary(bytes) if !base64 => bytes.to_vec(),
                Message::Text(text) if base64 => {
                    let (channel, rest) = text.split_at(1);
                    let mut bytes = vec![channel.as_bytes()[0] - b'0'];
                    let rest = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, rest);
                    bytes.extend(rest.expect("base64"));
                    bytes
                }
                Message::Close(_) => break,
                Message::Ping(_) => continue,
                other => panic!("{protocol:?} {other:?}"),
            };
            channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
        let [_, out, err, status] = channels.map(|bytes| String::from_utf8(bytes).expect("text"));
        assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"), "{protocol}");
        assert!(status.contains(end), "{protocol:?} {status}");
        assert_eq!(status.starts_with('{'), end.starts_with('"'), "{protocol:?} {status}");
    }
}
