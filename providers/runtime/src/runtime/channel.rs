//! Frames and descriptors over a unix socket, asynchronously.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::protocol::{Inbox, encode};
use crate::sys;

/// A connection to a shim or to the spawner.
#[derive(Debug)]
pub(super) struct Channel {
    socket: UnixStream,
    inbox: Inbox,
}

impl Channel {
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self {
            socket: UnixStream::connect(path).await?,
            inbox: Inbox::default(),
        })
    }

    /// Makes a connected pair: our end, and the other as a plain descriptor to be passed on.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        Ok((Self::of(ours)?, theirs.into()))
    }

    /// Takes over a connected socket.
    pub(super) fn of(socket: std::os::unix::net::UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixStream::from_std(socket)?,
            inbox: Inbox::default(),
        })
    }

    /// Sends one frame, the descriptors along with it.
    pub(super) async fn send<T: Serialize>(&self, value: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = encode(value)?;
        let mut sent = 0;
        while sent < frame.len() {
            let passed = if sent == 0 { descriptors } else { &[] };
            let write = || sys::descriptors::send(self.socket.as_fd(), &frame[sent..], passed);
            sent += self.socket.async_io(Interest::WRITABLE, write).await?;
        }
        Ok(())
    }

    /// Receives the next frame; `None` at the end. Nothing is lost when the future is dropped.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(frame) = self.inbox.next()? {
                return Ok(Some(frame));
            }
            let mut buffer = [0u8; 16 << 10];
            let inbox = &mut self.inbox;
            let socket = &self.socket;
            let read = || sys::descriptors::receive(socket.as_fd(), &mut buffer, &mut inbox.descriptors);
            let count = match socket.async_io(Interest::READABLE, read).await {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(error),
            };
            if count == 0 {
                return Ok(None);
            }
            self.inbox.push(&buffer[..count]);
        }
    }

    /// Takes the descriptors that came so far.
    pub(super) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.inbox.descriptors)
    }
}
