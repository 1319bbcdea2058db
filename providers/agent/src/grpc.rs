//! The one call that gRPC probes make: `grpc.health.v1.Health/Check` over HTTP/2, bounded in time and size.
//!
//! The messages are small and fixed, so they are written and read here by hand: a request is one string, an answer one number.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::http_client::{self, tls_config};
use crate::status::go_duration;

/// How much of an answer is read, in bytes.
const ANSWER_LIMIT: usize = 4 * 1024;

/// gRPC's codes in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const UNIMPLEMENTED: usize = 12;

/// What a server may say of a service, in the order of the numbers.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// The host to connect to.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The service that is asked about; empty is the server as a whole.
    pub service: String,
    /// Whether to speak TLS; certificates are not checked, as in Kubernetes' probes.
    pub tls: bool,
}

/// Asks whether a service is healthy. The error is what the event says, in the kubelet's words.
pub async fn check(check: &Check, limit: Duration) -> Result<(), String> {
    let address = format!("{}:{}", check.host, check.port);
    let whole = async {
        let failed = |reason: String| format!("error: failed to connect service at {address:?}: {reason}");
        let stream = http_client::connect(&check.host, check.port, limit);
        let stream = stream.await.map_err(|error| {
            failed(format!(
                "connection error: desc = \"transport: Error while dialing: {error}\""
            ))
        })?;
        if !check.tls {
            return ask(stream, check, &address).await;
        }
        let mut config = tls_config().map_err(failed)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(check.host.clone()).map_err(|error| failed(error.to_string()))?;
        let handshake = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream);
        let stream = handshake.await.map_err(|error| {
            failed(format!(
                "connection error: desc = \"transport: authentication handshake failed: {error}\""
            ))
        })?;
        ask(stream, check, &address).await
    };
    match tokio::time::timeout(limit, whole).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "timeout: health rpc did not complete within {}",
            go_duration(limit)
        )),
    }
}

async fn ask<S>(stream: S, check: &Check, address: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let unavailable =
        |reason: &dyn std::fmt::Display| rpc_failed(14, &format!("connection error: desc = \"{reason}\""));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| unavailable(&error))?;
    let scheme = if check.tls { "https" } else { "http" };
    let request = hyper::Request::post(format!("{scheme}://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("user-agent", "kube-probe/1.37")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(request(&check.service))))
        .map_err(|error| unavailable(&error))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| unavailable(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let is_grpc = headers
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if !status.is_success() || !is_grpc {
            let message = format!("unexpected HTTP status code received from server: {}", status.as_u16());
            // As gRPC reads the statuses of what does not speak it.
            let code = match status.as_u16() {
                401 => 16,
                403 => 7,
                404 => UNIMPLEMENTED,
                429 | 502..=504 => 14,
                _ => 2,
            };
            return judge(code, &message, &[]);
        }
        let body = Limited::new(response.into_body(), ANSWER_LIMIT);
        let collected = body.collect().await.map_err(|error| unavailable(&error))?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        // A failure may come without a body, with its status among the headers.
        let (code, message) = outcome(&trailers).or_else(|| outcome(&headers)).unwrap_or_else(|| {
            let message = "server closed the stream without sending trailers".to_owned();
            (13, message)
        });
        judge(code, &message, &collected.to_bytes())
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        driven = connection => match driven {
            Ok(()) => answer.await,
            Err(error) => Err(unavailable(&error)),
        },
    }
}

/// Reads a call's status: code and message.
fn outcome(headers: &HeaderMap) -> Option<(usize, String)> {
    let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let code = str::from_utf8(text("grpc-status")?).ok()?.parse().ok()?;
    Some((code, unescaped(text("grpc-message").unwrap_or_default())))
}

/// Reads gRPC's `%XX`.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let escaped = more.get(..2).filter(|_| *first == b'%');
        let byte = escaped
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn rpc_failed(code: usize, message: &str) -> String {
    let name = CODES
        .get(code)
        .map_or_else(|| format!("Code({code})"), |name| (*name).to_owned());
    format!("error: health rpc probe failed: rpc error: code = {name} desc = {message}")
}

/// Says what a finished call means.
fn judge(code: usize, message: &str, body: &[u8]) -> Result<(), String> {
    if code == UNIMPLEMENTED {
        return Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        ));
    }
    if code != 0 {
        return Err(rpc_failed(code, message));
    }
    match state(body) {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let name = usize::try_from(other).ok().and_then(|at| STATES.get(at));
            let name = name.map_or_else(|| other.to_string(), |name| (*name).to_owned());
            Err(format!("service unhealthy (responded with {name:?})"))
        }
        None => Err(rpc_failed(13, "the answer is not a HealthCheckResponse")),
    }
}

/// Writes a HealthCheckRequest with gRPC's frame: not compressed, length, `service` as field 1.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(u32::try_from(message.len()).unwrap_or(u32::MAX)).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads the `status` of a framed HealthCheckResponse, 0 when it is left out; `None` when this is not one.
fn state(frame: &[u8]) -> Option<u64> {
    let (head, rest) = frame.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    if head[0] != 0 {
        return None;
    }
    let mut state = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if key >> 3 == 1 {
                    state = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(state)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(7 * place)?;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
