//! What the API costs, in process and over TLS, beside the bare log in the same run: `cargo bench -p setpoint-server --bench api`.
//!
//! The objects are pods of about 1,500 bytes on a node that is not there. The log alone gets the very bytes that the API stores. Clients over
//! TLS share a connection per eight of them; answers are read to their end and not parsed. An argument is the number of pods (10,000).

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

#[path = "../tests/front/cluster.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod cluster;
#[path = "../../store/benches/log/measure.rs"]
#[allow(dead_code, reason = "the log's bench uses more of it")]
mod measure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use setpoint_server::{AsUser, UserInfo};
use setpoint_store::{Expect, Log as _, SqliteLog, SqliteOptions};
use tokio::sync::mpsc;
use tower::Service as _;

use cluster::Cluster;
use measure::{Times, mebibytes};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many operations each row makes by one client.
const RUNS: usize = 500;
/// How long a rate is measured.
const SPELL: Duration = Duration::from_secs(3);
const WATCHERS: usize = 1_000;
const PODS: &str = "/api/v1/namespaces/default/pods";

/// One way to the API.
#[derive(Clone)]
enum Door {
    InProcess(AsUser),
    Tls(hyper::client::conn::http2::SendRequest<Body>),
}

impl Door {
    async fn send(&mut self, method: Method, path: &str, kind: &str, body: Bytes) -> Outcome<http::Response<Body>> {
        let request = Request::builder()
            .method(method)
            .uri(match self {
                Door::InProcess(_) => path.to_owned(),
                Door::Tls(_) => format!("https://localhost{path}"),
            })
            .header("content-type", kind)
            .body(Body::from(body))?;
        Ok(match self {
            Door::InProcess(service) => service.call(request).await?,
            Door::Tls(connection) => {
                connection.ready().await?;
                connection.send_request(request).await?.map(Body::new)
            }
        })
    }

    /// Sends a request and reads its answer to the end.
    async fn ask(&mut self, method: Method, path: &str, kind: &str, body: Bytes) -> Outcome<Bytes> {
        let response = self.send(method, path, kind, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(body)
    }

    async fn get(&mut self, path: &str) -> Outcome<Bytes> {
        self.ask(Method::GET, path, "application/json", Bytes::new()).await
    }

    async fn create(&mut self, name: &str) -> Outcome<Bytes> {
        self.ask(Method::POST, PODS, "application/json", pod(name, "box")).await
    }
}

/// Opens a connection of a user over TLS.
async fn dial(cluster: &Cluster) -> Outcome<Door> {
    let (certificate, key, authority) = cluster.identity("bench", &["system:masters"]);
    let mut roots = rustls::RootCertStore::empty();
    for found in rustls::pki_types::CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(found?)?;
    }
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>()?;
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(cluster.address).await?;
    stream.set_nodelay(true)?;
    let stream = connector.connect("localhost".try_into()?, stream).await?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(hyper_util::rt::TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("a connection broke: {error}");
        }
    });
    Ok(Door::Tls(sender))
}

/// A pod of about 1,500 bytes.
fn pod(name: &str, node: &str) -> Bytes {
    let env: Vec<Value> = (0..12)
        .map(|number| json!({"name": format!("SETTING_{number}"), "value": format!("value-{number}-of-{name}")}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench", "name": name}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "registry.example/app:v1", "env": env}]}})
    .to_string()
    .into()
}

fn row(what: &str, ours: &str, tls: &str, floor: &str) {
    println!("| {what:<46} | {ours:>24} | {tls:>24} | {floor:>24} |");
}

/// Times `operation`, so many times, one after the other.
macro_rules! timed {
    ($runs:expr, $number:ident => $operation:expr) => {{
        let mut times = Times::default();
        for $number in 0..$runs {
            let started = Instant::now();
            $operation;
            times.push(started.elapsed());
        }
        times
    }};
}

/// Creates a second by so many clients at once.
async fn rate(doors: &[Door], clients: usize, prefix: &str) -> Outcome<f64> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let mut door = doors[client % doors.len()].clone();
        let prefix = format!("{prefix}-{client}");
        tasks.spawn(async move {
            let mut done = 0usize;
            while started.elapsed() < SPELL {
                door.create(&format!("{prefix}-{done}")).await?;
                done += 1;
            }
            Outcome::Ok(done)
        });
    }
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        total += done??;
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

/// The same by the log alone, with the bytes that the API stores.
async fn bare_rate(log: &SqliteLog, writers: usize, value: &Bytes) -> Outcome<f64> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (log, value) = (log.clone(), value.clone());
        tasks.spawn(async move {
            let mut done = 0usize;
            while started.elapsed() < SPELL {
                let key = format!("core/pods/default/rate-{writers}-{writer}-{done}");
                log.put(&key, value.clone(), Expect::Absent).await?;
                done += 1;
            }
            Outcome::Ok(done)
        });
    }
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        total += done??;
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

/// Opens watches and returns what tells of each one that it has seen an event.
async fn watchers(doors: &[Door], count: usize) -> Outcome<mpsc::UnboundedReceiver<()>> {
    let (seen, all) = mpsc::unbounded_channel();
    for watcher in 0..count {
        let mut door = doors[watcher % doors.len()].clone();
        let list = door.get(&format!("{PODS}?limit=1")).await?;
        let list: Value = serde_json::from_slice(&list)?;
        let version = list["metadata"]["resourceVersion"].as_str().ok_or("no version")?;
        let path = format!("{PODS}?watch=true&resourceVersion={version}");
        let response = door.send(Method::GET, &path, "", Bytes::new()).await?;
        let seen = seen.clone();
        tokio::spawn(async move {
            let mut body = response.into_body().into_data_stream();
            // A line an event; a long one may come in parts.
            while let Some(Ok(part)) = body.next().await {
                for _ in part.iter().filter(|byte| **byte == b'\n') {
                    if seen.send(()).is_err() {
                        return;
                    }
                }
            }
        });
    }
    Ok(all)
}

/// From a write's start until so many watchers have seen it.
async fn watched(writer: &mut Door, doors: &[Door], count: usize, runs: usize, prefix: &str) -> Outcome<Times> {
    let mut all = watchers(doors, count).await?;
    let mut times = Times::default();
    for number in 0..runs {
        let started = Instant::now();
        writer.create(&format!("{prefix}-{count}-{number}")).await?;
        for _ in 0..count {
            tokio::time::timeout(Duration::from_secs(30), all.recv())
                .await
                .map_err(|_| format!("the event {number} did not reach all of {count} watchers"))?
                .ok_or("the watches ended")?;
        }
        times.push(started.elapsed());
    }
    Ok(times)
}

async fn fill(door: &Door, count: usize) -> Outcome<()> {
    let created = futures::stream::iter(0..count)
        .map(|number| {
            let mut door = door.clone();
            async move {
                let node = if number % 100 == 0 { "wanted" } else { "box" };
                let body = pod(&format!("pod-{number}"), node);
                door.ask(Method::POST, PODS, "application/json", body).await
            }
        })
        .buffer_unordered(64)
        .collect::<Vec<_>>()
        .await;
    created.into_iter().try_for_each(|created| created.map(drop))
}

async fn all(count: usize) -> Outcome<()> {
    let cluster = Cluster::start().await;
    let mut local = Door::InProcess(cluster.api.as_user(UserInfo::system("bench")));
    let mut tls = dial(&cluster).await?;
    let mut many = Vec::new();
    for _ in 0..8 {
        many.push(dial(&cluster).await?);
    }
    let folder = tempfile::tempdir()?;
    let bare = SqliteLog::open(&folder.path().join("state.db"), SqliteOptions::default()).await?;
    row("", "in process (p50 / p99)", "over TLS (p50 / p99)", "the log alone");
    row("---", "---:", "---:", "---:");

    let mut ours = timed!(RUNS, n => local.create(&format!("one-{n}")).await?);
    let mut far = timed!(RUNS, n => tls.create(&format!("two-{n}")).await?);
    let value = local.get(&format!("{PODS}/one-0")).await?;
    let mut floor =
        timed!(RUNS, n => bare.put(&format!("core/pods/default/one-{n}"), value.clone(), Expect::Absent).await?);
    row("create, one client", &ours.spread(), &far.spread(), &floor.spread());
    let per_second = |rate: f64| format!("{rate:.0} /s");
    for clients in [1, 64, 512] {
        let ours = rate(std::slice::from_ref(&local), clients, &format!("in-{clients}")).await?;
        let far = rate(&many, clients, &format!("tls-{clients}")).await?;
        let floor = bare_rate(&bare, clients, &value).await?;
        let what = format!("creates, {clients} client{}", if clients == 1 { "" } else { "s" });
        row(&what, &per_second(ours), &per_second(far), &per_second(floor));
    }
    let path = format!("{PODS}/one-0");
    let mut ours = timed!(RUNS * 4, _n => local.get(&path).await?);
    let mut far = timed!(RUNS * 4, _n => tls.get(&path).await?);
    let mut floor = timed!(RUNS * 4, _n => bare.get("core/pods/default/one-0", None).await?);
    row("get", &ours.spread(), &far.spread(), &floor.spread());
    let label = |n: usize| Bytes::from(json!({"metadata": {"labels": {"turn": n.to_string()}}}).to_string());
    const MERGE: &str = "application/merge-patch+json";
    let mut ours = timed!(RUNS, n => local.ask(Method::PATCH, &path, MERGE, label(n)).await?);
    let mut far = timed!(RUNS, n => tls.ask(Method::PATCH, &path, MERGE, label(n + RUNS)).await?);
    let mut floor = timed!(RUNS, _n => bare.put("core/pods/default/one-0", value.clone(), Expect::Any).await?);
    row("patch", &ours.spread(), &far.spread(), &floor.spread());
    let mut object: Value = serde_json::from_slice(&local.get(&path).await?)?;
    object["metadata"]["resourceVersion"] = Value::Null;
    let mut turn = |n: usize| {
        object["metadata"]["labels"]["turn"] = format!("u{n}").into();
        Bytes::from(object.to_string())
    };
    let mut ours = timed!(RUNS, n => local.ask(Method::PUT, &path, "application/json", turn(n)).await?);
    let mut far = timed!(RUNS, n => tls.ask(Method::PUT, &path, "application/json", turn(n + RUNS)).await?);
    row("update", &ours.spread(), &far.spread(), &floor.spread());
    const APPLY: &str = "application/apply-patch+yaml";
    let apply = |n: usize| {
        Bytes::from(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one-1", "labels": {"turn": n.to_string()}}})
                .to_string(),
        )
    };
    let apply_path = format!("{PODS}/one-1?fieldManager=bench");
    let mut ours = timed!(RUNS, n => local.ask(Method::PATCH, &apply_path, APPLY, apply(n)).await?);
    let mut far = timed!(RUNS, n => tls.ask(Method::PATCH, &apply_path, APPLY, apply(n + RUNS)).await?);
    row("server-side apply", &ours.spread(), &far.spread(), &floor.spread());

    for (watchers, runs) in [(1, RUNS), (WATCHERS, 50)] {
        let mut writer = local.clone();
        let mut ours = watched(&mut writer, std::slice::from_ref(&local), watchers, runs, "seen").await?;
        let mut far = watched(&mut tls, &many, watchers, runs, "far").await?;
        let what = if watchers == 1 {
            "create started → the watcher has it".to_owned()
        } else {
            format!("create started → {watchers} watchers have it")
        };
        row(&what, &ours.spread(), &far.spread(), "");
    }
    drop((local, tls, many));
    cluster.stop().await;

    let cluster = Cluster::start().await;
    let mut local = Door::InProcess(cluster.api.as_user(UserInfo::system("bench")));
    let mut tls = dial(&cluster).await?;
    fill(&local, count).await?;
    let folder = tempfile::tempdir()?;
    let bare = SqliteLog::open(&folder.path().join("state.db"), SqliteOptions::default()).await?;
    let filled = futures::stream::iter(0..count)
        .map(|number| {
            let (bare, value) = (bare.clone(), value.clone());
            async move {
                bare.put(&format!("core/pods/default/pod-{number}"), value, Expect::Absent)
                    .await
            }
        })
        .buffer_unordered(64)
        .collect::<Vec<_>>()
        .await;
    filled.into_iter().try_for_each(|done| done.map(drop))?;
    let mut size = 0;
    let mut ours = timed!(30, _n => size = local.get(PODS).await?.len());
    let mut far = timed!(30, _n => tls.get(PODS).await?);
    let mut floor = timed!(30, _n => bare.list("core/pods/", None, 0, None).await?);
    let what = format!("{count} pods listed ({})", mebibytes(size as u64));
    row(&what, &ours.spread(), &far.spread(), &floor.spread());
    let path = format!("{PODS}?limit=500");
    let mut ours = timed!(100, _n => local.get(&path).await?);
    let mut far = timed!(100, _n => tls.get(&path).await?);
    row("the first 500 of them", &ours.spread(), &far.spread(), "");
    let path = format!("{PODS}?fieldSelector=spec.nodeName=wanted");
    let mut ours = timed!(100, _n => local.get(&path).await?);
    let mut far = timed!(100, _n => tls.get(&path).await?);
    row("the hundredth of them on one node", &ours.spread(), &far.spread(), "");
    let path = format!("{PODS}?labelSelector=name%3Dpod-7");
    let mut ours = timed!(100, _n => local.get(&path).await?);
    let mut far = timed!(100, _n => tls.get(&path).await?);
    row("one of them by label", &ours.spread(), &far.spread(), "");
    cluster.stop().await;
    Ok(())
}

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    runtime.block_on(all(count.unwrap_or(10_000)))
}
