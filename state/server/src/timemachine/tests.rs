use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::{Method, Request, Uri};
use http_body_util::BodyExt as _;
use serde_json::json;
use setpoint_api::Scheme;
use setpoint_store::{SqliteLog, SqliteOptions};

use super::*;
use crate::registry::RegistryConfig;

/// What a test waits for comes within this time or not at all.
const SOON: Duration = Duration::from_secs(20);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A cluster whose clock is turned by hand.
struct World {
    registry: Registry,
    authorizer: Authorizer,
    clock: Arc<AtomicI64>,
    log: SqliteLog,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(AtomicI64::new(1_800_000_000));
        let hands = Arc::clone(&clock);
        let now: crate::Now =
            Arc::new(move || Timestamp::from_second(hands.load(Ordering::SeqCst)).expect("a time of this age"));
        let options = SqliteOptions {
            now: Some(Arc::clone(&now)),
            maintenance_interval: Duration::ZERO,
            ..SqliteOptions::default()
        };
        let log = SqliteLog::open(&dir.path().join("state.db"), options)
            .await
            .expect("a store");
        let registry = Registry::start(RegistryConfig {
            log: Arc::new(log.clone()),
            scheme: Scheme::builtin(),
            now,
            service_cidr: "10.96.0.0/24".to_owned(),
            node_port_range: 30000..=30010,
            admission: Vec::new(),
            tokens: None,
            api_address: None,
        })
        .await
        .expect("a registry");
        World {
            authorizer: Authorizer::new(Arc::clone(registry.cache())),
            registry,
            clock,
            log,
            _dir: dir,
        }
    }

    fn now(&self) -> Timestamp {
        self.registry.inner.now()
    }

    /// Returns a time after all that was written so far and before all that will be: there is one write at that time.
    async fn between(&self) -> Timestamp {
        self.clock.fetch_add(300, Ordering::SeqCst);
        let between = self.now();
        let mark = self
            .create("/api/v1/namespaces", json!({"metadata": {"generateName": "mark-"}}))
            .await;
        // The log notes times beside its writes.
        let noted = async {
            loop {
                match self.log.moment(between).await.expect("readable") {
                    Some(moment) if moment.revision == mark => break,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(SOON, noted).await.expect("noted in time");
        self.clock.fetch_add(300, Ordering::SeqCst);
        between
    }

    async fn send(&self, method: Method, uri: &str, body: Value) -> Value {
        let uri: Uri = uri.parse().expect("a URI");
        let info = RequestInfo::parse(&method, &uri);
        let kind = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", kind)
            .header("user-agent", "test/1")
            .body(Body::from(body.to_string()))
            .expect("a request");
        let response = self.registry.serve(&info, &UserInfo::system("test"), request).await;
        let code = response.status();
        let answer = read(response).await;
        assert!(code.is_success(), "{answer}");
        answer
    }

    async fn create(&self, collection: &str, object: Value) -> u64 {
        revision_of(&self.send(Method::POST, collection, object).await)
    }

    async fn change(&self, uri: &str, patch: Value) -> u64 {
        revision_of(&self.send(Method::PATCH, uri, patch).await)
    }

    async fn ask_as(&self, user: &UserInfo, uri: &str) -> Result<Value, Status> {
        let info = RequestInfo::parse(&Method::GET, &uri.parse().expect("a URI"));
        let answer = serve(&self.registry, &self.authorizer, &info, user)
            .await
            .expect("a path of the past");
        Ok(read(answer?).await)
    }

    async fn ask(&self, uri: &str) -> Result<Value, Status> {
        self.ask_as(&UserInfo::system("test"), uri).await
    }

    async fn changes(&self, query: &str) -> Value {
        self.ask(&format!("/setpoint/v1/changes?{query}"))
            .await
            .expect("changes")
    }
}

async fn read(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

fn revision_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a revision")
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

/// What each change did to what, in order.
fn told(answer: &Value) -> Vec<String> {
    answer["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|change| {
            let text = |key: &str| change[key].as_str().unwrap_or_default();
            format!("{} {}", text("type"), text("name"))
        })
        .collect()
}

#[tokio::test]
async fn a_time_is_answered_with_the_revision_that_was_the_newest_then() {
    let world = World::new().await;
    let first = world.create(MAPS, map("a")).await;
    let before = world.between().await;
    let second = world.create(MAPS, map("b")).await;
    let after = world.between().await;
    let at = async |time: Timestamp| {
        let answer = world
            .ask(&format!("/setpoint/v1/log?at={time}"))
            .await
            .expect("a window");
        answer["at"]["revision"].as_u64().expect("a revision")
    };
    let (before, after) = (at(before).await, at(after).await);
    assert!(first < before && before < second && second < after);
    let answer = world.ask("/setpoint/v1/log").await.expect("a window");
    assert_eq!((&answer["at"], &answer["keepBytes"]), (&Value::Null, &json!(1 << 30)));
}

#[tokio::test]
async fn times_that_cannot_be_read_are_told_apart() {
    let world = World::new().await;
    let status = |answer: Result<Value, Status>| {
        let status = answer.expect_err("refused");
        (status.code, status.reason.to_string(), status.message)
    };
    let (code, _, message) = status(world.ask("/setpoint/v1/log?at=yesterday").await);
    assert_eq!(code, 400, "{message}");
    let future = world.now() + jiff::SignedDuration::from_secs(60);
    let (code, _, message) = status(world.ask(&format!("/setpoint/v1/log?at={future}")).await);
    assert_eq!(code, 400);
    assert!(message.contains("is in the future"), "{message}");
    let (code, reason, message) = status(world.ask("/setpoint/v1/log?at=2001-01-01T00:00:00Z").await);
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    assert!(message.contains("history reaches back to"), "{message}");
    let (code, ..) = status(world.ask("/setpoint/v1/changes?limit=many").await);
    assert_eq!(code, 400);
    let (code, ..) = status(world.ask("/setpoint/v1/changes?resource=a/b/c").await);
    assert_eq!(code, 400);
    let (code, _, message) = status(
        world
            .ask("/setpoint/v1/changes?since=2027-01-01T00:00:00Z&until=2026-01-01T00:00:00Z")
            .await,
    );
    assert_eq!(code, 400);
    assert!(message.contains("is before since"), "{message}");
}

#[tokio::test]
async fn changes_carry_what_was_and_what_is() {
    let world = World::new().await;
    let start = world.registry.cache().revision();
    let made = world.create(MAPS, map("m")).await;
    let changed = world.change(&format!("{MAPS}/m"), json!({"data": {"a": "2"}})).await;
    world.send(Method::DELETE, &format!("{MAPS}/m"), Value::Null).await;
    let answer = world.changes(&format!("resource=core/configmaps&after={start}")).await;
    assert_eq!(told(&answer), ["created m", "changed m", "deleted m"]);
    let [first, second, third] = &answer["changes"].as_array().expect("changes")[..] else {
        panic!("{answer}");
    };
    assert_eq!((&first["revision"], &first["before"]), (&json!(made), &Value::Null));
    assert_eq!(
        (&first["kind"], &first["resource"], &first["namespace"]),
        (&json!("ConfigMap"), &json!("core/configmaps"), &json!("default"))
    );
    assert_eq!(
        (&second["before"]["data"]["a"], &second["after"]["data"]["a"]),
        (&json!("1"), &json!("2"))
    );
    assert_eq!(
        (revision_of(&second["before"]), revision_of(&second["after"])),
        (made, changed)
    );
    assert_eq!(
        (&third["before"]["data"]["a"], &third["after"]),
        (&json!("2"), &Value::Null)
    );
    assert_eq!(
        (&answer["next"], &answer["upto"]),
        (&Value::Null, &json!(world.log.revision()))
    );
}

#[tokio::test]
async fn changes_are_of_the_kind_namespace_name_and_time_that_are_asked_for() {
    let world = World::new().await;
    world.create(MAPS, map("web")).await;
    world.create(MAPS, map("web2")).await;
    world
        .create("/api/v1/namespaces/kube-system/configmaps", map("web"))
        .await;
    world
        .create("/api/v1/namespaces", json!({"metadata": {"name": "web"}}))
        .await;
    let answer = world.changes("resource=configmaps&namespace=default&name=web").await;
    assert_eq!(told(&answer), ["created web"]);
    let answer = world.changes("resource=core/configmaps&name=web").await;
    assert_eq!(told(&answer), ["created web", "created web"]);
    let answer = world.changes("namespace=default&name=web").await;
    assert_eq!(told(&answer), ["created web"]);
    let answer = world.changes("resource=core/namespaces&name=web").await;
    assert_eq!(answer["changes"][0]["namespace"], "");

    let between = world.between().await;
    world.change(&format!("{MAPS}/web"), json!({"data": {"a": "2"}})).await;
    let after = world.between().await;
    world.change(&format!("{MAPS}/web"), json!({"data": {"a": "3"}})).await;
    let answer = world
        .changes(&format!("resource=configmaps&name=web&since={between}&until={after}"))
        .await;
    assert_eq!(answer["changes"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer["changes"][0]["after"]["data"]["a"], "2");
}

#[tokio::test]
async fn pages_of_changes_join_without_gap_or_duplicate() {
    let world = World::new().await;
    let start = world.registry.cache().revision();
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(world.create(MAPS, map(&format!("m{number}"))).await);
        world
            .create(SECRETS, json!({"metadata": {"name": format!("s{number}")}}))
            .await;
    }
    let (mut after, mut seen) = (start, Vec::new());
    loop {
        let answer = world
            .changes(&format!("resource=configmaps&limit=2&after={after}"))
            .await;
        let page = answer["changes"].as_array().expect("changes");
        assert!(page.len() <= 2);
        seen.extend(page.iter().filter_map(|change| change["revision"].as_u64()));
        match answer["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn everybody_is_told_of_what_they_may_list_and_of_nothing_else() {
    let world = World::new().await;
    world.create(MAPS, map("seen")).await;
    world.create(SECRETS, json!({"metadata": {"name": "hidden"}})).await;
    world
        .create("/api/v1/namespaces/kube-system/configmaps", map("elsewhere"))
        .await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rules = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]);
    world
        .create(
            &format!("{rbac}/roles"),
            json!({"metadata": {"name": "r"}, "rules": rules}),
        )
        .await;
    let binding = json!({"metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]});
    world.create(&format!("{rbac}/rolebindings"), binding).await;
    let ann = UserInfo::new("ann", &[]);
    let answer = world.ask_as(&ann, "/setpoint/v1/changes").await.expect("changes");
    assert_eq!(told(&answer), ["created seen"]);
    let answer = world.ask_as(&UserInfo::new("bob", &[]), "/setpoint/v1/changes").await;
    assert_eq!(told(&answer.expect("changes")), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_compacted_away_is_told_and_what_is_left_is_given() {
    let world = World::new().await;
    world.create(MAPS, map("m")).await;
    let kept = world.change(&format!("{MAPS}/m"), json!({"data": {"a": "2"}})).await;
    world.change(&format!("{MAPS}/m"), json!({"data": {"a": "3"}})).await;
    world.log.compact(kept).await.expect("compacted");
    let status = world.ask("/setpoint/v1/changes?after=1").await.expect_err("gone");
    assert_eq!(status.code, 410);
    assert!(status.message.contains("history reaches back to"), "{}", status.message);
    let answer = world.changes("resource=configmaps&since=2001-01-01T00:00:00Z").await;
    assert_eq!(told(&answer), ["changed m"]);
    assert_eq!(answer["changes"][0]["after"]["data"]["a"], "3");
}

#[tokio::test]
async fn an_answer_is_bounded_by_its_bytes() {
    let world = World::new().await;
    let start = world.registry.cache().revision();
    let large = "x".repeat(900_000);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
        world
            .create(MAPS, json!({"metadata": {"name": name}, "data": {"a": large}}))
            .await;
    }
    let answer = world.changes(&format!("resource=configmaps&after={start}")).await;
    let first = answer["changes"].as_array().map_or(0, Vec::len);
    assert!((2..12).contains(&first), "{first}");
    let next = answer["next"].as_u64().expect("more");
    let answer = world.changes(&format!("resource=configmaps&after={next}")).await;
    assert_eq!(answer["changes"].as_array().map_or(0, Vec::len) + first, 12);
}
