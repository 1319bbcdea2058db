//! The real server on a real store, in this process.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use setpoint_server::{
    ApiServer, ByteStream, ExecRequest, ExecStreams, LogRequest, PodStreams, ServerConfig, StreamError,
};
use setpoint_store::{SqliteLog, SqliteOptions};

/// Nobody reaches into these pods.
struct NoStreams;

#[async_trait]
impl PodStreams for NoStreams {
    async fn logs(&self, _: &str, _: &str, pod: &str, _: LogRequest) -> Result<ByteStream, StreamError> {
        Err(StreamError::BadRequest(pod.to_owned()))
    }

    async fn exec(&self, _: &str, _: &str, pod: &str, _: ExecRequest) -> Result<ExecStreams, StreamError> {
        Err(StreamError::BadRequest(pod.to_owned()))
    }
}

/// Starts a server whose store is in `folder`.
pub async fn start(folder: &Path, metrics: prometheus::Registry, now: fn() -> jiff::Timestamp) -> ApiServer {
    let log = SqliteLog::open(&folder.join("state.db"), SqliteOptions::default())
        .await
        .expect("a store");
    ApiServer::start(ServerConfig {
        log: Arc::new(log),
        streams: Arc::new(NoStreams),
        subresources: Vec::new(),
        now: Arc::new(now),
        data_dir: folder.to_owned(),
        service_cidr: "10.96.0.0/16".to_owned(),
        node_port_range: 30000..=32767,
        admission: Vec::new(),
        metrics,
        api_address: None,
        build: "0.0.0".to_owned(),
        audit: None,
    })
    .await
    .expect("a server")
}
