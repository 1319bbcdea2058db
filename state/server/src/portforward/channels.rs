//! Ports over WebSocket channels, as clients before tunnelling speak it: for the port at place `n` of the query, channel `2n`
//! carries bytes and `2n + 1` errors. Each begins with the port as two bytes, least first. Each port is one connection, which
//! cannot be closed apart from the session.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::{BUFFER, CHUNK, Forwarding, IDLE, QUEUE, STALLED};
use crate::upgrade::CLOSE_WITHIN;
use crate::websocket::{self, Socket};

/// Carries the session until its client ends it or all connections are at their end.
pub(super) async fn run(socket: Socket, ports: &[u16], forwarding: Arc<Forwarding>) -> Result<(), Error> {
    let (mut sink, mut source) = socket.split();
    let (out, mut messages) = mpsc::channel::<Message>(QUEUE);
    let mut pipes = Vec::new();
    let mut connections = JoinSet::new();
    // There are at most 127 ports, so that every channel is one byte.
    for (place, port) in (0u8..).zip(ports.iter().copied()) {
        let (pipe, theirs) = tokio::io::duplex(BUFFER);
        pipes.push(Some(pipe));
        for channel in [place * 2, place * 2 + 1] {
            sink.send(message(channel, &port.to_le_bytes())).await?;
        }
        connections.spawn(forward(Arc::clone(&forwarding), port, place * 2, theirs, out.clone()));
    }
    drop(out);

    let read = async {
        loop {
            let next = match tokio::time::timeout(IDLE, source.next()).await {
                Ok(Some(next)) => next?,
                Ok(None) | Err(_) => return Ok::<(), Error>(()),
            };
            let bytes = match next {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => return Ok(()),
                _ => continue,
            };
            let Some((channel, rest)) = bytes.split_first() else {
                continue;
            };
            // What comes on a channel for errors has no meaning.
            let Some(pipe) = pipes
                .get_mut(usize::from(channel / 2))
                .filter(|_| channel % 2 == 0 && !rest.is_empty())
            else {
                continue;
            };
            if let Some(open) = pipe {
                let written = tokio::time::timeout(STALLED, open.write_all(rest)).await;
                if !matches!(written, Ok(Ok(()))) {
                    *pipe = None;
                }
            }
        }
    };
    let write = async {
        while let Some(message) = messages.recv().await {
            sink.send(message).await?;
        }
        sink.send(websocket::goodbye()).await
    };
    let mut read = std::pin::pin!(read);
    tokio::select! {
        done = &mut read => return done,
        done = write => done?,
    }
    // A client that does not answer the close in time is left.
    tokio::time::timeout(CLOSE_WITHIN, read).await.unwrap_or(Ok(()))
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

async fn forward(
    forwarding: Arc<Forwarding>,
    port: u16,
    channel: u8,
    mut pipe: DuplexStream,
    out: mpsc::Sender<Message>,
) {
    let pod = match forwarding.connect(port).await {
        Ok(pod) => pod,
        Err(error) => {
            // An error here is the session's end, as below.
            drop(out.send(message(channel + 1, error.as_bytes())).await);
            return;
        }
    };
    let (mut from_pod, mut to_pod) = tokio::io::split(pod);
    let up = async {
        // The pipe ends with the session, or when the pod took nothing for too long.
        drop(tokio::io::copy(&mut pipe, &mut to_pod).await);
        drop(to_pod.shutdown().await);
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
            if out.send(message(channel, &buffer[..count])).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
    }
}
