//! The session over WebSocket: messages whose first byte is the channel.
//!
//! The subprotocols differ in three things: whether messages are bytes or base64 text, whether the end is told as a Status object
//! or, before v4, as plain text, and whether a client can close its input (since v5).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Response};
use hyper::upgrade::Upgraded;
use serde_json::Value;
use setpoint_api::Status;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::session::{self, Input, Output, QUEUE};
use crate::streams::ExecStreams;
use crate::upgrade::{CLOSE_WITHIN, PING_EVERY};
use crate::websocket;

/// How long a client may take to begin to read before it is sent what there is.
const READS_WITHIN: Duration = Duration::from_secs(1);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Since v5: the channel in the next byte is at its end.
const CLOSE: u8 = 255;

/// How a subprotocol differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dialect {
    name: &'static str,
    base64: bool,
    status: bool,
    closes: bool,
}

const fn dialect(name: &'static str, base64: bool, status: bool, closes: bool) -> Dialect {
    Dialect {
        name,
        base64,
        status,
        closes,
    }
}

const DIALECTS: [Dialect; 5] = [
    dialect("v5.channel.k8s.io", false, true, true),
    dialect("v4.channel.k8s.io", false, true, false),
    dialect("v4.base64.channel.k8s.io", true, true, false),
    // A client that names no subprotocol means this one.
    dialect("channel.k8s.io", false, false, false),
    dialect("base64.channel.k8s.io", true, false, false),
];

/// What both ends agreed on.
pub(super) struct Handshake {
    socket: websocket::Handshake,
    dialect: Dialect,
}

impl Handshake {
    pub(super) fn read(headers: &HeaderMap) -> Result<Handshake, Status> {
        let socket = websocket::Handshake::read(headers, &DIALECTS.map(|dialect| dialect.name), true)?;
        let name = socket.protocol.unwrap_or("channel.k8s.io");
        let dialect = DIALECTS
            .into_iter()
            .find(|dialect| dialect.name == name)
            .unwrap_or(DIALECTS[0]);
        Ok(Handshake { socket, dialect })
    }

    pub(super) fn response(&self) -> Result<Response<axum::body::Body>, Status> {
        self.socket.response()
    }
}

/// Carries the session until it ends.
pub(super) async fn run(
    upgraded: Upgraded,
    handshake: &Handshake,
    process: ExecStreams,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let dialect = handshake.dialect;
    let (mut sink, mut source) = websocket::socket(upgraded).await.split();
    let (to_process, input) = mpsc::channel(QUEUE);
    let (output, mut from_process) = mpsc::channel(QUEUE);
    let (reads, mut client_reads) = watch::channel(false);
    // Tells the client that the session stands, as Kubernetes does: an empty message on the first channel that there is.
    let first = match (&process.stdout, &process.stderr) {
        (Some(_), _) => STDOUT,
        (None, Some(_)) => STDERR,
        (None, None) => ERROR,
    };

    let read = async {
        while let Some(message) = source.next().await {
            let message = message?;
            reads.send_replace(true);
            let Some((channel, bytes)) = dialect.unpack(message) else {
                continue;
            };
            let event = match channel {
                STDIN if !bytes.is_empty() => Some(Input::Stdin(bytes)),
                RESIZE => serde_json::from_slice(&bytes).ok().as_ref().and_then(session::resize),
                CLOSE if dialect.closes && bytes.first() == Some(&STDIN) => Some(Input::StdinClosed),
                _ => None,
            };
            // After the process's end the rest is read for the client's close and dropped.
            if let Some(event) = event {
                drop(to_process.send(event).await);
            }
        }
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    let write = async {
        sink.send(dialect.pack(first, &[])).await?;
        // kubectl 1.30 to 1.33 drops what comes before it has set up its channels, which it does when it begins to read.
        sink.send(Message::Ping(Bytes::new())).await?;
        drop(tokio::time::timeout(READS_WITHIN, client_reads.wait_for(|reads| *reads)).await);
        loop {
            let event = match tokio::time::timeout(PING_EVERY, from_process.recv()).await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                // While the process takes no input nothing is read, and a client that has gone is noticed by writing only.
                Err(_) => {
                    sink.send(Message::Ping(Bytes::new())).await?;
                    continue;
                }
            };
            let (channel, bytes) = match event {
                Output::Stdout(bytes) => (STDOUT, bytes),
                Output::Stderr(bytes) => (STDERR, bytes),
                Output::Exit(status) => {
                    if let Some(text) = dialect.end(&status) {
                        sink.send(dialect.pack(ERROR, text.as_bytes())).await?;
                    }
                    break;
                }
            };
            sink.send(dialect.pack(channel, &bytes)).await?;
        }
        sink.send(websocket::goodbye()).await
    };
    let mut read = std::pin::pin!(read);
    let served = async {
        let ((), written) = tokio::join!(session::run(process, input, output), write);
        written
    };
    tokio::select! {
        // The client is gone: dropping the rest ends the process.
        done = &mut read => return done.map_err(Into::into),
        done = served => done?,
    }
    // A client that does not answer the close in time is left.
    if let Ok(done) = tokio::time::timeout(CLOSE_WITHIN, read).await {
        done?;
    }
    Ok(())
}

impl Dialect {
    fn pack(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            return Message::text(format!("{channel}{}", STANDARD.encode(bytes)));
        }
        let mut frame = BytesMut::with_capacity(bytes.len() + 1);
        frame.put_u8(channel);
        frame.put_slice(bytes);
        Message::Binary(frame.freeze())
    }

    /// The channel and what came on it; `None` for what carries nothing.
    fn unpack(self, message: Message) -> Option<(u8, Bytes)> {
        let mut bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            _ => return None,
        };
        if bytes.is_empty() {
            return None;
        }
        let first = bytes.split_to(1)[0];
        if !self.base64 {
            return Some((first, bytes));
        }
        let channel = first.checked_sub(b'0')?;
        Some((channel, STANDARD.decode(&bytes).ok()?.into()))
    }

    /// What is told of the end.
    fn end(self, status: &Value) -> Option<String> {
        if self.status {
            return Some(status.to_string());
        }
        let failed = status["status"] != "Success";
        failed.then(|| status["message"].as_str().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_dialect_reads_what_it_writes() {
        for dialect in DIALECTS {
            let message = dialect.pack(STDERR, b"a\0b");
            assert_eq!(message.is_text(), dialect.base64, "{dialect:?}");
            assert_eq!(
                dialect.unpack(message),
                Some((STDERR, Bytes::from_static(b"a\0b"))),
                "{dialect:?}"
            );
            assert_eq!(dialect.unpack(Message::Binary(Bytes::new())), None);
        }
        assert_eq!(DIALECTS[2].unpack(Message::text("0not base64")), None);
    }

    #[test]
    fn before_version_four_only_failures_are_told_and_as_text() {
        let good = json!({"status": "Success"});
        let bad = json!({"status": "Failure", "message": "exit status 3"});
        assert_eq!(DIALECTS[3].end(&good), None);
        assert_eq!(DIALECTS[3].end(&bad).as_deref(), Some("exit status 3"));
        assert!(DIALECTS[1].end(&good).is_some_and(|text| text.contains("Success")));
    }
}
