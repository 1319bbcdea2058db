//! Requests through the instance's unix socket, several at a time, as the command line asks.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::instance::{DEADLINE, Instance};

/// How many requests are under way at a time.
pub const AT_ONCE: usize = 8;

/// A request.
#[derive(Clone)]
pub struct Request {
    /// GET, POST or PATCH.
    pub method: &'static str,
    /// The path and its query.
    pub path: String,
    /// What it carries: JSON, or an object to be applied.
    pub body: Vec<u8>,
}

/// An answer, and how long it took.
pub struct Answer {
    /// From the request until all of the answer was there.
    pub took: Duration,
    /// The answer.
    pub value: Value,
}

/// As many connections as requests are under way at a time.
pub struct Socket {
    connections: Vec<SendRequest<Full<Bytes>>>,
}

impl Socket {
    /// Connects to the socket that `up` announced.
    pub async fn connect(instance: &Instance) -> anyhow::Result<Socket> {
        let path = socket(instance).await?;
        let mut connections = Vec::new();
        for _ in 0..AT_ONCE {
            let stream = UnixStream::connect(&path)
                .await
                .with_context(|| format!("cannot connect to {path}"))?;
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    eprintln!("a connection to the socket ended: {error}");
                }
            });
            connections.push(sender);
        }
        Ok(Socket { connections })
    }

    /// Sends all of these, [`AT_ONCE`] at a time; returns the answers in no particular order.
    pub async fn ask(&mut self, requests: &[Request]) -> anyhow::Result<Vec<Answer>> {
        let next = Cell::new(0);
        let workers = self.connections.iter_mut().map(|connection| {
            let next = &next;
            async move {
                let mut answers = Vec::new();
                while let Some(request) = requests.get(next.get()) {
                    next.set(next.get() + 1);
                    let answer = tokio::time::timeout(DEADLINE, one(connection, request));
                    answers.push(answer.await.context("no answer in time")??);
                }
                anyhow::Ok(answers)
            }
        });
        Ok(try_join_all(workers).await?.into_iter().flatten().collect())
    }
}

async fn one(connection: &mut SendRequest<Full<Bytes>>, request: &Request) -> anyhow::Result<Answer> {
    let content = match request.method {
        "PATCH" => "application/apply-patch+yaml",
        _ => "application/json",
    };
    let start = Instant::now();
    connection.ready().await?;
    let answer = connection
        .send_request(
            http::Request::builder()
                .method(request.method)
                .uri(&request.path)
                .header(http::header::HOST, "localhost")
                .header(http::header::CONTENT_TYPE, content)
                .body(Full::new(Bytes::from(request.body.clone())))?,
        )
        .await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let took = start.elapsed();
    anyhow::ensure!(
        status.is_success(),
        "{} {}: {status}: {}",
        request.method,
        request.path,
        String::from_utf8_lossy(&bytes)
    );
    Ok(Answer {
        took,
        value: serde_json::from_slice(&bytes)?,
    })
}

/// The socket that `up` announced; it does so right after the API answers.
async fn socket(instance: &Instance) -> anyhow::Result<String> {
    let path = instance.folder().join("announced");
    let start = Instant::now();
    loop {
        let announced = serde_json::from_slice::<Value>(&std::fs::read(&path)?);
        if let Ok(announced) = announced {
            let socket = announced["socket"].as_str().context("`up` announces its socket")?;
            return Ok(socket.to_owned());
        }
        anyhow::ensure!(start.elapsed() < DEADLINE, "`up` announced nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
