//! The session over WebSocket: binary messages whose first byte is the channel.

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use setpoint_api::Status;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::CLOSE_WITHIN;
use super::session::{self, Input, Output, QUEUE};
use crate::streams::ExecStreams;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Since v5: the channel in the next byte is at its end.
const CLOSE: u8 = 255;

/// Larger messages than this are no honest client's.
const MESSAGE_LIMIT: usize = 16 << 20;

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// What both ends agreed on.
pub(super) struct Handshake {
    accept: String,
    protocol: &'static str,
}

impl Handshake {
    pub(super) fn read(headers: &HeaderMap) -> Result<Handshake, Status> {
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .ok_or_else(|| Status::bad_request("the Sec-WebSocket-Key header is missing"))?;
        let offered: Vec<&str> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let protocol = PROTOCOLS
            .into_iter()
            .find(|protocol| offered.contains(protocol))
            .ok_or_else(|| {
                Status::bad_request(format!(
                    "unable to upgrade: none of the subprotocols {offered:?} is spoken here, which are {PROTOCOLS:?}"
                ))
            })?;
        Ok(Handshake {
            accept: derive_accept_key(key.as_bytes()),
            protocol,
        })
    }

    pub(super) fn response(&self) -> Result<Response<Body>, Status> {
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, &self.accept)
            .header(SEC_WEBSOCKET_PROTOCOL, self.protocol)
            .body(Body::empty())
            .map_err(Status::internal)
    }
}

/// Carries the session until it ends.
pub(super) async fn run(
    upgraded: Upgraded,
    handshake: Handshake,
    process: ExecStreams,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let (to_process, input) = mpsc::channel(QUEUE);
    let (output, mut from_process) = mpsc::channel(QUEUE);
    let closes = handshake.protocol != "v4.channel.k8s.io";

    let read = async {
        while let Some(message) = source.next().await {
            let bytes = match message? {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                _ => continue,
            };
            let Some((&channel, rest)) = bytes.split_first() else {
                continue;
            };
            let event = match channel {
                STDIN if !rest.is_empty() => Some(Input::Stdin(bytes.slice(1..))),
                RESIZE => serde_json::from_slice(rest).ok().as_ref().and_then(session::resize),
                CLOSE if closes && rest.first() == Some(&STDIN) => Some(Input::StdinClosed),
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
        while let Some(event) = from_process.recv().await {
            let (channel, bytes) = match event {
                Output::Stdout(bytes) => (STDOUT, bytes),
                Output::Stderr(bytes) => (STDERR, bytes),
                Output::Exit(status) => {
                    let message = frame(ERROR, status.to_string().as_bytes());
                    sink.send(Message::Binary(message)).await?;
                    break;
                }
            };
            sink.send(Message::Binary(frame(channel, &bytes))).await?;
        }
        // Clients take a close without a code for a broken connection.
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        sink.send(Message::Close(Some(normal))).await
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

fn frame(channel: u8, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(bytes.len() + 1);
    frame.put_u8(channel);
    frame.put_slice(bytes);
    frame.freeze()
}
