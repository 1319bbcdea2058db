//! The session over SPDY/3.1, as kubectl before 1.31 speaks it: the client opens a stream each for errors, input, outputs
//! and resizes, told apart by their `streamType` header.

use std::collections::HashMap;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use setpoint_api::Status;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};

use super::session::{self, Input, Output, QUEUE};
use crate::spdy::{self, Frame, HeaderBlocks, PROTOCOL, STREAM_PROTOCOL, SpdyError};
use crate::streams::{ExecRequest, ExecStreams};
use crate::upgrade::{CLOSE_WITHIN, OPEN_WITHIN, PING_EVERY};

/// The version of the session on top: errors are Status objects.
const STREAMS: &str = "v4.channel.k8s.io";
/// The longest message about the terminal's size.
const RESIZE_LIMIT: usize = 4096;

/// What both ends agreed on.
pub(super) struct Handshake;

impl Handshake {
    pub(super) fn read(headers: &HeaderMap) -> Result<Handshake, Status> {
        let offered = spdy::offered(headers);
        if offered.contains(&STREAMS) {
            return Ok(Handshake);
        }
        Err(Status::bad_request(format!(
            "unable to upgrade: none of the stream protocols {offered:?} is spoken here, which is {STREAMS:?}"
        )))
    }

    pub(super) fn response(&self) -> Result<Response<Body>, Status> {
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, PROTOCOL)
            .header(STREAM_PROTOCOL, STREAMS)
            .body(Body::empty())
            .map_err(Status::internal)
    }
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Kind {
    fn of(name: &str) -> Option<Kind> {
        Some(match name {
            "error" => Kind::Error,
            "stdin" => Kind::Stdin,
            "stdout" => Kind::Stdout,
            "stderr" => Kind::Stderr,
            "resize" => Kind::Resize,
            _ => return None,
        })
    }
}

/// The number of this end's pings: a server's are even.
const OUR_PING: u32 = 2;

/// The ids of the streams that are open.
type Streams = HashMap<Kind, u32>;

/// Carries the session until it ends.
pub(super) async fn run(
    upgraded: Upgraded,
    wanted: &ExecRequest,
    process: ExecStreams,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (from_client, mut to_client) = tokio::io::split(TokioIo::new(upgraded));
    let mut from_client = BufReader::new(from_client);
    let (to_process, input) = mpsc::channel(QUEUE);
    let (output, mut from_process) = mpsc::channel(QUEUE);
    let (control, mut controls) = mpsc::channel::<Vec<u8>>(QUEUE);
    let (opened, mut streams) = watch::channel(Streams::new());

    let read = async {
        let mut headers = HeaderBlocks::new()?;
        let mut resize = Vec::new();
        loop {
            let Some(frame) = Frame::read(&mut from_client).await? else {
                return Ok::<(), SpdyError>(());
            };
            let mut event = None;
            match frame {
                Frame::Open { stream, block } => {
                    let fields = headers.decode(&block)?;
                    let kind = spdy::field(&fields, "streamtype").and_then(Kind::of);
                    let answer = match kind {
                        Some(_) => spdy::reply(stream, &headers.encode(&[])?),
                        None => spdy::reset(stream),
                    };
                    // An error here is the writer's end, which ends the session.
                    drop(control.send(answer).await);
                    // Only now: data before the reply is dropped by the client's library.
                    if let Some(kind) = kind {
                        opened.send_modify(|streams| {
                            streams.insert(kind, stream);
                        });
                    }
                }
                Frame::Data { stream, bytes, last } => {
                    let kind = opened
                        .borrow()
                        .iter()
                        .find(|(_, id)| **id == stream)
                        .map(|(kind, _)| *kind);
                    match kind {
                        Some(Kind::Stdin) => {
                            if !bytes.is_empty() {
                                drop(to_process.send(Input::Stdin(bytes)).await);
                            }
                            event = last.then_some(Input::StdinClosed);
                        }
                        Some(Kind::Resize) => event = sized(&mut resize, &bytes),
                        _ => {}
                    }
                }
                Frame::Reset { stream } => {
                    let stdin = opened.borrow().get(&Kind::Stdin) == Some(&stream);
                    event = stdin.then_some(Input::StdinClosed);
                }
                Frame::Ping { id: OUR_PING } => {}
                Frame::Ping { id } => drop(control.send(spdy::ping(id)).await),
                Frame::GoAway => return Ok(()),
                Frame::Other => {}
            }
            if let Some(event) = event {
                // After the process's end nobody takes it; the rest is read for the client's end.
                drop(to_process.send(event).await);
            }
        }
    };
    let write = async {
        let mut needed = vec![Kind::Error];
        needed.extend(wanted.stdout.then_some(Kind::Stdout));
        needed.extend(wanted.stderr.then_some(Kind::Stderr));
        let all_open = async {
            streams
                .wait_for(|streams| needed.iter().all(|kind| streams.contains_key(kind)))
                .await
                .map(|streams| streams.clone())
        };
        let mut all_open = std::pin::pin!(tokio::time::timeout(OPEN_WITHIN, all_open));
        let streams = loop {
            tokio::select! {
                // Replies go out before data.
                biased;
                Some(frame) = controls.recv() => to_client.write_all(&frame).await?,
                streams = &mut all_open => match streams {
                    Ok(Ok(streams)) => break streams,
                    _ => return Err(SpdyError::NotOpened),
                },
            }
            to_client.flush().await?;
        };
        let id = |kind| streams.get(&kind).copied();
        loop {
            tokio::select! {
                biased;
                Some(frame) = controls.recv() => to_client.write_all(&frame).await?,
                event = tokio::time::timeout(PING_EVERY, from_process.recv()) => match event {
                    // While the process takes no input nothing is read, and a client that has gone is noticed by writing only.
                    Err(_) => to_client.write_all(&spdy::ping(OUR_PING)).await?,
                    Ok(Some(Output::Stdout(bytes))) => data(&mut to_client, id(Kind::Stdout), &bytes, false).await?,
                    Ok(Some(Output::Stderr(bytes))) => data(&mut to_client, id(Kind::Stderr), &bytes, false).await?,
                    Ok(Some(Output::Exit(status))) => {
                        data(&mut to_client, id(Kind::Stdout), &[], true).await?;
                        data(&mut to_client, id(Kind::Stderr), &[], true).await?;
                        data(&mut to_client, id(Kind::Error), status.to_string().as_bytes(), true).await?;
                        break;
                    }
                    Ok(None) => break,
                },
            }
            to_client.flush().await?;
        }
        to_client.flush().await?;
        // Pings and the like are still answered until the client hangs up.
        while let Some(frame) = controls.recv().await {
            to_client.write_all(&frame).await?;
            to_client.flush().await?;
        }
        Ok::<(), SpdyError>(())
    };
    let mut read = std::pin::pin!(read);
    let mut write = std::pin::pin!(write);
    let mut session = std::pin::pin!(session::run(process, input, output));
    let mut running = true;
    let mut deadline = std::pin::pin!(tokio::time::sleep(CLOSE_WITHIN));
    loop {
        tokio::select! {
            // The client is gone: dropping the rest ends the process.
            done = &mut read => return done.map_err(Into::into),
            done = &mut write => return done.map_err(Into::into),
            () = &mut session, if running => {
                running = false;
                deadline.as_mut().reset(tokio::time::Instant::now() + OPEN_WITHIN);
            }
            // A client that does not take the end in time is left.
            () = &mut deadline, if !running => return Ok(()),
        }
    }
}

async fn data(
    to: &mut (impl AsyncWriteExt + Unpin),
    stream: Option<u32>,
    bytes: &[u8],
    last: bool,
) -> std::io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    to.write_all(&spdy::data_header(stream, bytes.len(), last)).await?;
    to.write_all(bytes).await
}

/// Takes the next bytes of the stream of sizes; returns the newest size that is complete.
fn sized(pending: &mut Vec<u8>, bytes: &Bytes) -> Option<Input> {
    pending.extend_from_slice(bytes);
    let mut sizes = serde_json::Deserializer::from_slice(pending).into_iter::<serde_json::Value>();
    let mut newest = None;
    let mut used = 0;
    while let Some(Ok(size)) = sizes.next() {
        used = sizes.byte_offset();
        newest = session::resize(&size).or(newest);
    }
    pending.drain(..used);
    if pending.len() > RESIZE_LIMIT {
        pending.clear();
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_across_frames_and_the_newest_counts() {
        let mut pending = Vec::new();
        assert!(sized(&mut pending, &Bytes::from_static(b"{\"Width\":80,")).is_none());
        let size = sized(
            &mut pending,
            &Bytes::from_static(b"\"Height\":24}\n{\"Width\":100,\"Height\":30}\n"),
        );
        assert!(matches!(size, Some(Input::Resize(100, 30))));
        assert!(pending.iter().all(u8::is_ascii_whitespace));
    }
}
