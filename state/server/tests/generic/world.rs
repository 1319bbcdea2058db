//! A registry over a real log, and requests as they come over HTTP.

use std::sync::Arc;

use axum::body::Body;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::BodyExt;
use serde_json::Value;
use setpoint_api::Scheme;
use setpoint_server::{Registry, RegistryConfig, RequestInfo, UserInfo};
use setpoint_store::{Log, SqliteLog, SqliteOptions};
use tempfile::TempDir;

pub const JSON: &str = "application/json";
pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

pub struct World {
    pub registry: Registry,
    pub log: Arc<SqliteLog>,
    _dir: TempDir,
}

/// An answer.
pub struct Got {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl World {
    pub async fn new() -> World {
        World::over(|log| log).await
    }

    /// A world whose registry sees its log through something.
    pub async fn over<L: Log>(wrap: impl FnOnce(Arc<SqliteLog>) -> Arc<L>) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let log = SqliteLog::open(&dir.path().join("state.db"), SqliteOptions::default())
            .await
            .expect("a store");
        let log = Arc::new(log);
        let registry = World::serve(wrap(log.clone())).await;
        World {
            registry,
            log,
            _dir: dir,
        }
    }

    /// The same log, served anew: as after a restart.
    pub async fn restart(&mut self) {
        self.registry = World::serve(self.log.clone()).await;
    }

    async fn serve(log: Arc<dyn Log>) -> Registry {
        Registry::start(RegistryConfig {
            log,
            scheme: Scheme::builtin(),
            now: Arc::new(|| "2024-01-01T00:00:00Z".parse().expect("a time")),
            service_cidr: "10.96.0.0/24".to_owned(),
            node_port_range: 30000..=30010,
            admission: Vec::new(),
            tokens: None,
            api_address: Some(([10, 0, 0, 1], 6443).into()),
        })
        .await
        .expect("a registry")
    }

    /// Sends bytes with headers of the test's own.
    pub async fn send_raw(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> http::Response<Body> {
        let uri: Uri = uri.parse().expect("a URI");
        let info = RequestInfo::parse(&method, &uri);
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header("user-agent", "test/1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).expect("a request");
        self.registry.serve(&info, &UserInfo::system("test"), request).await
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        kind: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> http::Response<Body> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        self.send_raw(
            method,
            uri,
            &[("content-type", kind), ("accept", accept)],
            bytes.into_bytes(),
        )
        .await
    }

    pub async fn ask(&self, method: Method, uri: &str, kind: &str, accept: &str, body: Option<&Value>) -> Got {
        let response = self.send(method, uri, kind, accept, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&bytes).expect("JSON");
        Got {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub async fn get(&self, uri: &str) -> Got {
        self.ask(Method::GET, uri, JSON, JSON, None).await
    }

    pub async fn post(&self, uri: &str, body: Value) -> Got {
        self.ask(Method::POST, uri, JSON, JSON, Some(&body)).await
    }

    pub async fn put(&self, uri: &str, body: Value) -> Got {
        self.ask(Method::PUT, uri, JSON, JSON, Some(&body)).await
    }

    pub async fn patch(&self, kind: &str, uri: &str, body: Value) -> Got {
        self.ask(Method::PATCH, uri, kind, JSON, Some(&body)).await
    }

    pub async fn delete(&self, uri: &str) -> Got {
        self.ask(Method::DELETE, uri, JSON, JSON, None).await
    }

    /// The first `count` events of a watch.
    pub async fn watch(&self, uri: &str, count: usize) -> Vec<Value> {
        let response = self.send(Method::GET, uri, JSON, JSON, None).await;
        let mut stream = response.into_body().into_data_stream();
        let mut events = Vec::new();
        let limit = std::time::Duration::from_secs(20);
        while events.len() < count {
            let Some(line) = tokio::time::timeout(limit, stream.next())
                .await
                .expect("an event in time")
            else {
                break;
            };
            events.push(serde_json::from_slice(&line.expect("a line")).expect("JSON"));
        }
        events
    }
}

impl Got {
    pub fn ok(self) -> Value {
        assert!(self.code < 300, "{}: {}", self.code, self.body);
        self.body
    }

    /// Reason and message of a failure.
    pub fn failed(self, code: u16, reason: &str) -> String {
        assert_eq!(
            (self.code, self.body["reason"].as_str()),
            (code, Some(reason)),
            "{}",
            self.body
        );
        self.body["message"].as_str().unwrap_or_default().to_owned()
    }
}
