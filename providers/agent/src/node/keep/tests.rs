//! An API with one Node, its lease and whoever else writes to it. Time is tokio's own, paused.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::BroadcastStream;

use super::*;

const NODE: &str = "/api/v1/nodes/one";

#[derive(Default)]
struct Stored {
    node: Option<Value>,
    version: u64,
    /// `lease`, `status`, `create`, in order.
    log: Vec<&'static str>,
}

struct Fake {
    stored: Mutex<Stored>,
    events: tokio::sync::broadcast::Sender<Value>,
    /// Grows with every request that was answered.
    answered: watch::Sender<u64>,
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        // Strategic merge: conditions by their type.
        (Value::Array(target), Value::Array(patch)) if patch.iter().all(|item| item["type"].is_string()) => {
            for item in patch {
                match target.iter_mut().find(|found| found["type"] == item["type"]) {
                    Some(found) => merge(found, item),
                    None => target.push(item.clone()),
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

impl Fake {
    /// Changes the Node, and tells it to the watch.
    fn change(&self, change: impl FnOnce(&mut Option<Value>)) {
        let mut stored = self.stored.lock();
        let before = stored.node.clone();
        change(&mut stored.node);
        stored.version += 1;
        let version = stored.version.to_string();
        let (kind, mut object) = match (before, &stored.node) {
            (_, Some(node)) => ("MODIFIED", node.clone()),
            (Some(before), None) => ("DELETED", before),
            (None, None) => return,
        };
        object["metadata"]["resourceVersion"] = version.into();
        // Nobody may be watching yet.
        drop(self.events.send(json!({"type": kind, "object": object})));
    }

    /// Another's write of the status.
    fn patch_status(&self, patch: &Value) {
        self.change(|node| merge(&mut node.as_mut().expect("a node")["status"], patch));
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let patch = || -> Value { serde_json::from_slice(body).expect("JSON") };
        let absent = || {
            (
                404,
                json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"}),
            )
        };
        match (method.as_str(), path) {
            ("PATCH", path) if path.contains("/leases/") => {
                self.stored.lock().log.push("lease");
                (
                    200,
                    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "one"}}),
                )
            }
            ("GET", "/api/v1/nodes") => {
                assert!(query.contains("metadata.name%3Done"), "{query}");
                let stored = self.stored.lock();
                let version = stored.version.to_string();
                let items: Vec<&Value> = stored.node.iter().collect();
                (
                    200,
                    json!({"apiVersion": "v1", "kind": "NodeList", "metadata": {"resourceVersion": version}, "items": items}),
                )
            }
            ("POST", "/api/v1/nodes") => {
                self.stored.lock().log.push("create");
                let mut node = patch();
                node["metadata"]["uid"] = "new".into();
                self.change(|stored| *stored = Some(node.clone()));
                (201, node)
            }
            (_, NODE | "/api/v1/nodes/one/status") if self.stored.lock().node.is_none() => absent(),
            ("PATCH", "/api/v1/nodes/one/status") => {
                self.stored.lock().log.push("status");
                self.patch_status(&patch()["status"]);
                (200, self.node())
            }
            ("PATCH", NODE) => {
                self.change(|node| merge(node.as_mut().expect("a node"), &patch()));
                (200, self.node())
            }
            ("GET", NODE) => (200, self.node()),
            (method, path) => panic!("{method} {path}"),
        }
    }

    fn node(&self) -> Value {
        self.stored.lock().node.clone().unwrap_or_default()
    }

    fn condition(&self, kind: &str) -> Value {
        let node = self.node();
        let conditions = node["status"]["conditions"].as_array();
        let found = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == kind);
        found.cloned().unwrap_or_default()
    }

    fn count(&self, what: &str) -> usize {
        self.stored.lock().log.iter().filter(|line| **line == what).count()
    }

    async fn respond(self: Arc<Self>, request: Request<Body>) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let query = parts.uri.query().unwrap_or_default();
        let (code, body) = if query.contains("watch=true") {
            let lines = BroadcastStream::new(self.events.subscribe()).map(|event| {
                let line = format!("{}\n", event.expect("a reader that keeps up"));
                Ok(Frame::data(Bytes::from(line)))
            });
            (200, UnsyncBoxBody::new(StreamBody::new(lines)))
        } else {
            let (code, value) = self.answer(&parts.method, parts.uri.path(), query, &body);
            let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {});
            (code, UnsyncBoxBody::new(body))
        };
        self.answered.send_modify(|count| *count += 1);
        Response::builder()
            .status(code)
            .header("content-type", "application/json")
            .body(body)
            .expect("a response")
    }
}

struct Rig {
    fake: Arc<Fake>,
    begun: Instant,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// Registers the node and keeps it, until the watch stands.
    async fn start() -> Rig {
        let fake = Arc::new(Fake {
            stored: Mutex::default(),
            events: tokio::sync::broadcast::channel(1024).0,
            answered: watch::channel(0).0,
        });
        let service = {
            let fake = fake.clone();
            tower::service_fn(move |request| {
                let fake = fake.clone();
                async move { Ok::<_, std::convert::Infallible>(fake.respond(request).await) }
            })
        };
        let client = Client::new(service, "default");
        let begun = Instant::now();
        let now: Now = Arc::new(move || at(begun.elapsed()));
        let identity = Identity {
            name: "one".to_owned(),
            labels: BTreeMap::new(),
            addresses: Ipv4Addr::new(192, 0, 2, 1).into(),
            pod_cidrs: vec!["10.42.0.0/24".to_owned()],
            version: "0.1.0".to_owned(),
            settings: crate::settings::Settings::default(),
            volumes_dir: "/data/volumes".into(),
        };
        let dir = tempfile::tempdir().expect("a directory");
        let (facts, pressure) = (Facts::read(dir.path()), Pressure::read(dir.path()));
        let registered = register(&client, &identity, &facts, pressure, now()).await;
        let stop = CancellationToken::new();
        let kept = keep(
            client,
            identity,
            dir.path().to_owned(),
            registered.expect("registered"),
            now,
            stop.clone(),
        );
        tokio::spawn(kept);
        let rig = Rig {
            fake,
            begun,
            stop,
            _dir: dir,
        };
        rig.until("a watch", |fake| fake.events.receiver_count() == 1).await;
        rig
    }

    /// Waits until the API shows what is wanted; the clock runs ahead when nothing else happens.
    async fn until(&self, what: &str, wanted: impl Fn(&Fake) -> bool) {
        let mut answered = self.fake.answered.subscribe();
        let reached = answered.wait_for(|_| wanted(&self.fake));
        let waited = tokio::time::timeout(Duration::from_secs(3600), reached).await;
        let waited = waited.map(|reached| reached.map(drop));
        assert!(matches!(waited, Ok(Ok(()))), "never: {what}; {}", self.fake.node());
    }

    async fn rest(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

fn at(after: Duration) -> Timestamp {
    let base = Timestamp::from_second(1_000_000).expect("a time");
    base.checked_add(after).expect("a time")
}

/// What the node controller writes of a node that it has not heard of.
fn unknown() -> Value {
    json!({"conditions": [{
        "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.",
        "lastTransitionTime": "1970-01-12T13:47:00Z",
    }]})
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_taken_for_dead_says_at_once_that_it_lives() {
    let rig = Rig::start().await;
    rig.rest(25).await;
    rig.fake.stored.lock().log.clear();
    rig.fake.patch_status(&unknown());
    let (marked, marked_at) = (Instant::now(), at(rig.begun.elapsed()));
    rig.until("ready again", |fake| fake.condition("Ready")["status"] == "True")
        .await;
    assert!(marked.elapsed() < Duration::from_secs(2), "{:?}", marked.elapsed());
    // The lease first: by it the controller decides.
    assert_eq!(rig.fake.stored.lock().log, ["lease", "status"]);
    let ready = rig.fake.condition("Ready");
    assert_eq!(ready["reason"], "KubeletReady");
    assert_eq!(
        ready["lastTransitionTime"],
        json!(crate::status::whole_seconds(marked_at))
    );
    rig.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_status_that_somebody_edited_is_put_right_and_what_they_added_stays() {
    let rig = Rig::start().await;
    rig.fake.patch_status(&json!({
        "capacity": {"cpu": "4096", "example.com/dongle": "2"},
        "conditions": [{"type": "Mood", "status": "True"}],
    }));
    let cpus = Facts::read(std::path::Path::new("/")).cpus.to_string();
    rig.until("the right capacity", |fake| {
        fake.node()["status"]["capacity"]["cpu"] == cpus.as_str()
    })
    .await;
    assert_eq!(rig.fake.node()["status"]["capacity"]["example.com/dongle"], "2");
    assert_eq!(rig.fake.condition("Mood")["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_deleted_is_registered_again_at_once() {
    let rig = Rig::start().await;
    let deleted = Instant::now();
    rig.fake.change(|node| *node = None);
    rig.until("ready again", |fake| fake.condition("Ready")["status"] == "True")
        .await;
    assert!(deleted.elapsed() < Duration::from_secs(2), "{:?}", deleted.elapsed());
    assert_eq!(rig.fake.node()["metadata"]["uid"], "new");
}

#[tokio::test(start_paused = true)]
async fn who_writes_over_and_over_is_answered_once_a_second() {
    let rig = Rig::start().await;
    rig.rest(5).await;
    let (before, begun) = (rig.fake.count("status"), Instant::now());
    for _ in 0..20 {
        rig.fake.patch_status(&unknown());
        rig.until("ready again", |fake| fake.condition("Ready")["status"] == "True")
            .await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(18), "{:?}", begun.elapsed());
    // A second write may answer what was seen of the first.
    assert!(rig.fake.count("status") - before <= 40);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_stays_as_it_is_is_written_every_five_minutes() {
    let rig = Rig::start().await;
    let before = rig.fake.count("status");
    rig.rest(1000).await;
    // Memory and disk of this machine may come under pressure meanwhile; nothing else is a reason.
    assert!((3..=6).contains(&(rig.fake.count("status") - before)));
    assert!(rig.fake.count("lease") >= 100);
}
