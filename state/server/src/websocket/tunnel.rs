//! A stream of bytes inside binary messages, for a protocol that is tunnelled through WebSocket. Where one message ends and the
//! next begins means nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::{Socket, goodbye};

/// The longest message that is sent, in bytes.
const CHUNK: usize = 64 << 10;

/// A socket as a stream of bytes.
pub(crate) struct Tunnel {
    socket: Socket,
    /// What is left of the last message.
    rest: Bytes,
    closing: bool,
}

impl Tunnel {
    pub(crate) fn new(socket: Socket) -> Tunnel {
        Tunnel {
            socket,
            rest: Bytes::new(),
            closing: false,
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "a text message in a tunnel of bytes");
                    return Poll::Ready(Err(error));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(io::Error::other)?;
        let count = bytes.len().min(CHUNK);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        socket.start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            let mut socket = Pin::new(&mut self.socket);
            ready!(socket.as_mut().poll_ready(context)).map_err(io::Error::other)?;
            socket.start_send(goodbye()).map_err(io::Error::other)?;
            self.closing = true;
        }
        Pin::new(&mut self.socket).poll_flush(context).map_err(io::Error::other)
    }
}
