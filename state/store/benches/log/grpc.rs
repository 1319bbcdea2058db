//! As much of gRPC and of etcd's messages as a measurement needs, over hyper's HTTP/2: a few fields of protobuf by hand.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::Outcome;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Large enough that no answer waits for the window.
const WINDOW: u32 = 64 << 20;

/// A connection to etcd. Cheap to clone; its clones share the connection.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Body>,
    authority: String,
}

fn varint(buffer: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

/// Appends a field of bytes.
fn field(buffer: &mut BytesMut, number: u64, bytes: &[u8]) {
    varint(buffer, number << 3 | 2);
    varint(buffer, bytes.len() as u64);
    buffer.put_slice(bytes);
}

/// Appends a field of a number.
fn number(buffer: &mut BytesMut, field: u64, value: u64) {
    varint(buffer, field << 3);
    varint(buffer, value);
}

fn read_varint(bytes: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.first().copied()?;
        bytes.advance(1);
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Counts the fields of a number in a message, and returns the last of them that is a number.
fn fields(mut message: Bytes, wanted: u64) -> Option<(usize, u64)> {
    let (mut count, mut last) = (0, 0);
    while !message.is_empty() {
        let tag = read_varint(&mut message)?;
        let value = read_varint(&mut message)?;
        match tag & 7 {
            0 => {}
            2 => {
                let length = usize::try_from(value).ok()?;
                if length > message.len() {
                    return None;
                }
                message.advance(length);
            }
            _ => return None,
        }
        if tag >> 3 == wanted {
            count += 1;
            last = value;
        }
    }
    Some((count, last))
}

/// A message with the five bytes that gRPC puts before it.
fn framed(message: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(message.len() + 5);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    buffer.put_slice(message);
    buffer.freeze()
}

/// The end of the range of keys that start with a prefix.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

impl Client {
    /// Connects to a port of this host.
    pub async fn connect(port: u16) -> Outcome<Client> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        // It ends with its sender, and whoever waits for an answer is told.
        tokio::spawn(connection);
        Ok(Client {
            sender,
            authority: format!("127.0.0.1:{port}"),
        })
    }

    async fn call(&self, method: &str, body: Body) -> Outcome<http::Response<Incoming>> {
        let request = http::Request::post(format!("http://{}/etcdserverpb.{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("{method}: {}", response.status()).into());
        }
        Ok(response)
    }

    async fn ask(&self, method: &str, message: &[u8]) -> Outcome<Bytes> {
        let body = Full::new(framed(message)).boxed_unsync();
        let answer = async {
            let body = self.call(method, body).await?.into_body().collect().await?;
            let status = body
                .trailers()
                .and_then(|trailers| trailers.get("grpc-status"))
                .cloned();
            if status.as_ref().is_none_or(|status| status != "0") {
                return Err(format!("{method}: status {status:?}").into());
            }
            let mut bytes = body.to_bytes();
            bytes.advance(5.min(bytes.len()));
            Ok(bytes)
        };
        tokio::time::timeout(DEADLINE, answer).await?
    }

    /// Puts a value at a key; it is durable when this has answered.
    pub async fn put(&self, key: &str, value: &[u8]) -> Outcome<()> {
        let mut message = BytesMut::with_capacity(value.len() + key.len() + 16);
        field(&mut message, 1, key.as_bytes());
        field(&mut message, 2, value);
        self.ask("KV/Put", &message).await.map(drop)
    }

    /// Reads all keys of a prefix, at most so many; returns how many came.
    pub async fn list(&self, prefix: &str, limit: u64) -> Outcome<usize> {
        let mut message = BytesMut::new();
        field(&mut message, 1, prefix.as_bytes());
        field(&mut message, 2, &end_of(prefix));
        number(&mut message, 3, limit);
        let answer = self.ask("KV/Range", &message).await?;
        let (count, _) = fields(answer, 2).ok_or("no range response")?;
        Ok(count)
    }

    /// Counts the keys of a prefix.
    pub async fn count(&self, prefix: &str) -> Outcome<u64> {
        let mut message = BytesMut::new();
        field(&mut message, 1, prefix.as_bytes());
        field(&mut message, 2, &end_of(prefix));
        number(&mut message, 9, 1);
        let answer = self.ask("KV/Range", &message).await?;
        let (_, count) = fields(answer, 4).ok_or("no range response")?;
        Ok(count)
    }

    /// Watches a prefix.
    pub async fn watch(&self, prefix: &str) -> Outcome<Watch> {
        let (mut create, mut message) = (BytesMut::new(), BytesMut::new());
        field(&mut create, 1, prefix.as_bytes());
        field(&mut create, 2, &end_of(prefix));
        field(&mut message, 1, &create);
        let first = futures::stream::iter([Ok(Frame::data(framed(&message)))]);
        // The request stays open: etcd ends a watch with it.
        let body = StreamBody::new(first.chain(futures::stream::pending())).boxed_unsync();
        let response = self.call("Watch/Watch", body).await?;
        let mut watch = Watch {
            body: Box::pin(response.into_body()),
            bytes: BytesMut::new(),
        };
        watch.message().await?;
        Ok(watch)
    }
}

/// A watch that is open.
pub struct Watch {
    body: Pin<Box<Incoming>>,
    bytes: BytesMut,
}

impl Watch {
    async fn message(&mut self) -> Outcome<Bytes> {
        loop {
            if let Some(head) = self.bytes.get(1..5) {
                let length = head
                    .iter()
                    .fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
                if self.bytes.len() >= length + 5 {
                    self.bytes.advance(5);
                    return Ok(self.bytes.split_to(length).freeze());
                }
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await?;
            let frame = frame.ok_or("the watch ended")??;
            if let Some(data) = frame.data_ref() {
                self.bytes.extend_from_slice(data);
            }
        }
    }

    /// Waits for the next event.
    pub async fn event(&mut self) -> Outcome<()> {
        loop {
            let (events, _) = fields(self.message().await?, 11).ok_or("no watch response")?;
            if events > 0 {
                return Ok(());
            }
        }
    }
}
