//! Joins the engine to the rest: its records to the store, its requests to the API.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use serde::Serialize;
use serde_json::{Value, json};
use setpoint_api::Status;
use setpoint_engine::{Batch, Engine, Name, Records, RecordsError, RequestError};
use setpoint_server::{ServedSubresource, SubresourceHandler, SubresourceRequest};
use setpoint_store::{History, StoreError};

/// The engine's records, kept in the store's history.
pub struct Kept(pub Arc<dyn History>);

fn error(operation: &'static str) -> impl Fn(StoreError) -> RecordsError {
    move |source| RecordsError {
        operation,
        source: Box::new(source),
    }
}

#[async_trait]
impl Records for Kept {
    async fn commit(&self, batch: Batch) -> Result<(), RecordsError> {
        let batch = setpoint_store::Batch {
            blobs: batch.blobs,
            put: batch.put,
            delete: batch.delete,
            append: batch.append,
            keep_series: batch.keep_series,
            delete_series: batch.delete_series,
        };
        self.0.commit(batch).await.map_err(error("written"))
    }

    async fn records(&self, collection: &str) -> Result<Vec<(String, Bytes)>, RecordsError> {
        self.0.records(collection).await.map_err(error("read"))
    }

    async fn blob(&self, digest: &str) -> Result<Option<Bytes>, RecordsError> {
        self.0.blob(digest).await.map_err(error("read"))
    }

    async fn series(&self, series: &str, limit: usize) -> Result<Vec<Bytes>, RecordsError> {
        let entries = self.0.series(series, None, limit).await.map_err(error("read"))?;
        Ok(entries.into_iter().map(|(_, bytes)| bytes).collect())
    }

    async fn keep_only_blobs(&self, keep: &BTreeSet<String>) -> Result<usize, RecordsError> {
        self.0.keep_only_blobs(keep).await.map_err(error("written"))
    }
}

/// What people ask of apps through the API; answers once the engine runs.
#[derive(Default)]
pub struct Requests {
    engine: RwLock<Option<Engine>>,
}

/// Every request: its subresource, its verb, whether the app need not be there.
const SERVED: [(&str, &str, bool); 8] = [
    ("history", "get", false),
    ("diff", "get", false),
    ("rendered", "get", false),
    ("sync", "create", false),
    ("rollback", "create", false),
    ("resume", "create", false),
    ("plan", "create", true),
    ("chart", "create", true),
];

impl Requests {
    /// Starts to answer.
    pub fn connect(&self, engine: Engine) {
        *self.engine.write() = Some(engine);
    }
}

#[async_trait]
impl SubresourceHandler for Requests {
    fn serves(&self) -> Vec<ServedSubresource> {
        let served = SERVED.iter().map(|(name, verb, of_absent)| ServedSubresource {
            group: setpoint_engine::api::GROUP,
            resource: "apps",
            name,
            verbs: match *verb {
                "get" => &["get"],
                _ => &["create"],
            },
            of_absent: *of_absent,
        });
        served.collect()
    }

    async fn call(&self, request: SubresourceRequest) -> Result<Value, Status> {
        let engine = self.engine.read().clone();
        let Some(engine) = engine else {
            return Err(Status::unavailable("the engine is still starting, please try again"));
        };
        // A task of its own: a client that goes away must not cut off what it asked for between two steps.
        let task = tokio::spawn(async move { ask(&engine, request).await });
        task.await
            .unwrap_or_else(|error| Err(Status::internal(format!("the request was cut off: {error}"))))
    }
}

async fn ask(engine: &Engine, request: SubresourceRequest) -> Result<Value, Status> {
    let name = Name::new(request.namespace, request.name);
    let revision = request.query.get("revision").map(str::to_owned);
    let revision = revision.as_deref();
    match request.subresource.as_str() {
        "history" => answer(engine.history(&name).await.map(|entries| json!({"entries": entries}))),
        "diff" => answer(engine.difference(&name).await),
        "rendered" => answer(engine.rendered(&name, revision).await),
        "sync" => answer(engine.sync(&name).await),
        "rollback" => answer(engine.rollback(&name, revision).await),
        "resume" => answer(engine.resume(&name).await),
        "plan" => {
            let proposal = serde_json::from_slice(&request.body)
                .map_err(|error| Status::bad_request(format!("this is no proposal: {error}")))?;
            answer(engine.propose(&name, proposal).await)
        }
        "chart" => answer(
            engine
                .keep_chart(&name, request.body)
                .await
                .map(|digest| json!({"digest": digest})),
        ),
        other => Err(Status::bad_request(format!("apps have no subresource {other}"))),
    }
}

fn answer(outcome: Result<impl Serialize, RequestError>) -> Result<Value, Status> {
    match outcome {
        Ok(value) => serde_json::to_value(value).map_err(Status::internal),
        Err(RequestError::NoApp(name)) => Err(Status::not_found(setpoint_engine::api::GROUP, "apps", &name.name)),
        Err(error @ (RequestError::NoRevision(_) | RequestError::Invalid(_))) => {
            Err(Status::bad_request(error.to_string()))
        }
        Err(error @ RequestError::Failed(_)) => Err(Status::internal(error)),
    }
}

/// Starts to hold the engine's requests until it runs.
pub fn requests() -> Arc<Requests> {
    Arc::new(Requests::default())
}
