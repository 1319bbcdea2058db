//! Ports over SPDY streams: for each connection the client opens two, which name the port and the connection (`requestID`). What
//! goes wrong is written to the one for errors; both end with the connection.
//!
//! One task reads frames, one writes them, one per connection moves bytes. All of them end with the session.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{BUFFER, CHUNK, CONNECTIONS, Forwarding, IDLE, QUEUE, STALLED};
use crate::spdy::{self, Frame, HeaderBlocks, SpdyError};
use crate::upgrade::OPEN_WITHIN;

/// Carries the session until its client ends it.
pub(super) async fn run<S>(stream: S, forwarding: Arc<Forwarding>) -> Result<(), SpdyError>
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (from_client, to_client) = tokio::io::split(stream);
    let (out, frames) = mpsc::channel(QUEUE);
    let session = Session {
        headers: HeaderBlocks::new()?,
        out,
        forwarding,
        half: HashMap::new(),
        inbound: HashMap::new(),
        connections: JoinSet::new(),
    };
    tokio::select! {
        done = session.read(BufReader::new(from_client)) => done,
        done = write(to_client, frames) => done.map_err(Into::into),
    }
}

/// What goes to the client.
enum Out {
    Control(Vec<u8>),
    Data { stream: u32, bytes: Bytes, last: bool },
}

async fn write(mut to: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Out>) -> std::io::Result<()> {
    while let Some(frame) = frames.recv().await {
        match frame {
            Out::Control(bytes) => to.write_all(&bytes).await?,
            Out::Data { stream, bytes, last } => {
                to.write_all(&spdy::data_header(stream, bytes.len(), last)).await?;
                to.write_all(&bytes).await?;
            }
        }
        if frames.is_empty() {
            to.flush().await?;
        }
    }
    to.flush().await
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    Data,
}

/// The way from the client to a pod.
struct Inbound {
    /// `None` once the client has said that it sends no more.
    pipe: Option<DuplexStream>,
    /// Dropped when the client resets the stream.
    _reset: oneshot::Sender<()>,
}

/// An open stream; one for bytes has its way to the pod with it, and hears of a reset.
struct Stream {
    id: u32,
    port: u16,
    inbound: Option<(DuplexStream, oneshot::Receiver<()>)>,
}

struct Session {
    headers: HeaderBlocks,
    out: mpsc::Sender<Out>,
    forwarding: Arc<Forwarding>,
    /// Connections of which one stream is still to come, by their ids.
    half: HashMap<String, (Kind, oneshot::Sender<Stream>)>,
    /// By data stream.
    inbound: HashMap<u32, Inbound>,
    /// Each gives back its id and its streams for bytes.
    connections: JoinSet<(String, Vec<u32>)>,
}

impl Session {
    async fn read(mut self, mut from: impl AsyncRead + Unpin) -> Result<(), SpdyError> {
        loop {
            let frame = match tokio::time::timeout(IDLE, Frame::read(&mut from)).await {
                Ok(frame) => frame?,
                Err(_) => None,
            };
            match frame {
                Some(Frame::Open { stream, block }) => self.open(stream, &block).await?,
                Some(Frame::Data { stream, bytes, last }) => self.data(stream, &bytes, last).await,
                Some(Frame::Reset { stream }) => drop(self.inbound.remove(&stream)),
                Some(Frame::Ping { id }) => self.send(Out::Control(spdy::ping(id))).await,
                Some(Frame::Other) => {}
                Some(Frame::GoAway) | None => return Ok(()),
            }
        }
    }

    async fn send(&self, frame: Out) {
        // An error is the writer's end, which ends the session.
        drop(self.out.send(frame).await);
    }

    /// Takes away what is left of connections that ended.
    fn reap(&mut self) {
        while let Some(done) = self.connections.try_join_next() {
            if let Ok((id, streams)) = done {
                if self.half.get(&id).is_some_and(|(_, other)| other.is_closed()) {
                    self.half.remove(&id);
                }
                for stream in streams {
                    self.inbound.remove(&stream);
                }
            }
        }
    }

    async fn open(&mut self, stream: u32, block: &[u8]) -> Result<(), SpdyError> {
        let fields = self.headers.decode(block)?;
        self.reap();
        let Some((kind, port, id)) = self.wanted(stream, &fields) else {
            self.send(Out::Control(spdy::reset(stream))).await;
            return Ok(());
        };
        let accepted = spdy::reply(stream, &self.headers.encode(&[])?);
        self.send(Out::Control(accepted)).await;
        let inbound = (kind == Kind::Data).then(|| {
            let (pipe, theirs) = tokio::io::duplex(BUFFER);
            let (reset, was_reset) = oneshot::channel();
            let inbound = Inbound {
                pipe: Some(pipe),
                _reset: reset,
            };
            self.inbound.insert(stream, inbound);
            (theirs, was_reset)
        });
        let new = Stream {
            id: stream,
            port,
            inbound,
        };
        if let Some((_, other)) = self.half.remove(&id) {
            // An error says that it has just given up waiting, and has told the client.
            drop(other.send(new));
            return Ok(());
        }
        let (other, rest) = oneshot::channel();
        let connection = Connection {
            out: self.out.clone(),
            forwarding: Arc::clone(&self.forwarding),
        };
        let name = id.clone();
        self.connections.spawn(async move {
            let data = connection.run(new, rest).await;
            (name, data)
        });
        self.half.insert(id, (kind, other));
        Ok(())
    }

    /// What a stream that is to be opened is for; `None` when it is refused.
    fn wanted(&self, stream: u32, fields: &[(String, String)]) -> Option<(Kind, u16, String)> {
        let kind = match spdy::field(fields, "streamtype") {
            Some("error") => Kind::Error,
            Some("data") => Kind::Data,
            _ => return None,
        };
        let port = super::port(spdy::field(fields, "port")?).ok()?;
        let id = match spdy::field(fields, "requestid") {
            Some(id) => id.to_owned(),
            // Clients before there were ids open the stream for errors first and the other one right after it.
            None if kind == Kind::Error => stream.to_string(),
            None => stream.checked_sub(2)?.to_string(),
        };
        let taken = match self.half.get(&id) {
            Some((first, _)) => *first == kind,
            None => self.connections.len() >= CONNECTIONS,
        };
        (!taken && !self.inbound.contains_key(&stream)).then_some((kind, port, id))
    }

    async fn data(&mut self, stream: u32, bytes: &[u8], last: bool) {
        let Some(inbound) = self.inbound.get_mut(&stream) else {
            // An error stream's, or late for a connection that ended.
            return;
        };
        let mut stalled = false;
        if let Some(pipe) = inbound.pipe.as_mut().filter(|_| !bytes.is_empty()) {
            match tokio::time::timeout(STALLED, pipe.write_all(bytes)).await {
                Ok(Ok(())) => {}
                // The pod takes no more; its own end tells the client.
                Ok(Err(_)) => inbound.pipe = None,
                Err(_) => stalled = true,
            }
        }
        if last {
            inbound.pipe = None;
        }
        if stalled {
            self.inbound.remove(&stream);
            self.send(Out::Control(spdy::reset(stream))).await;
        }
    }
}

/// One connection into the pod.
struct Connection {
    out: mpsc::Sender<Out>,
    forwarding: Arc<Forwarding>,
}

impl Connection {
    /// Waits for the other stream, connects, moves bytes until both ways are at their end; gives back the streams for bytes.
    async fn run(self, first: Stream, rest: oneshot::Receiver<Stream>) -> Vec<u32> {
        let second = match tokio::time::timeout(OPEN_WITHIN, rest).await {
            Ok(Ok(second)) => Some(second),
            _ => None,
        };
        let (mut errors, mut data) = (None, None);
        for stream in [Some(first), second].into_iter().flatten() {
            match stream.inbound {
                Some(inbound) => data = Some((stream.id, stream.port, inbound)),
                None => errors = Some(stream.id),
            }
        }
        match (errors, data) {
            (Some(errors), Some((stream, port, (pipe, reset)))) => {
                tokio::select! {
                    // Its sender is only ever dropped.
                    _ = reset => {}
                    failure = self.forward(stream, port, pipe) => {
                        if let Err(message) = failure {
                            self.data(errors, message.into(), false).await;
                            self.data(stream, Bytes::new(), true).await;
                        }
                    }
                }
                self.data(errors, Bytes::new(), true).await;
                vec![stream]
            }
            (Some(errors), None) => {
                self.data(errors, Bytes::from_static(b"timed out waiting for streams"), true)
                    .await;
                Vec::new()
            }
            (None, data) => {
                let streams: Vec<u32> = data.iter().map(|(stream, ..)| *stream).collect();
                for stream in &streams {
                    drop(self.out.send(Out::Control(spdy::reset(*stream))).await);
                }
                streams
            }
        }
    }

    async fn data(&self, stream: u32, bytes: Bytes, last: bool) {
        // An error is the session's end.
        drop(self.out.send(Out::Data { stream, bytes, last }).await);
    }

    async fn forward(&self, stream: u32, port: u16, mut pipe: DuplexStream) -> Result<(), String> {
        let pod = self.forwarding.connect(port).await?;
        let (mut from_pod, mut to_pod) = tokio::io::split(pod);
        let up = async {
            // A pod that takes no more says so by its end of the other way.
            if tokio::io::copy(&mut pipe, &mut to_pod).await.is_ok() {
                drop(to_pod.shutdown().await);
            }
            drop(pipe);
        };
        let down = async {
            let mut buffer = vec![0; CHUNK];
            // A connection that breaks is at its end.
            while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
                self.data(stream, Bytes::copy_from_slice(&buffer[..count]), false).await;
            }
            self.data(stream, Bytes::new(), true).await;
        };
        tokio::join!(up, down);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
