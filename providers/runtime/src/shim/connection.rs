//! A client of the shim: what arrived, what is to be sent.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::Serialize;

use crate::complaint::complain;
use crate::protocol::{Inbox, encode};
use crate::sys;

/// A client that lets this much pile up is cut off; it reads the state again when it comes back. In bytes.
const MOST_PENDING: usize = 16 << 20;

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) inbox: Inbox,
    outbox: VecDeque<Outgoing>,
    /// Whether its hello arrived.
    pub(super) greeted: bool,
    /// Whether it wants to hear of changes.
    pub(super) subscribed: bool,
    /// Whether it is to be closed.
    pub(super) broken: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket,
            inbox: Inbox::default(),
            outbox: VecDeque::new(),
            greeted: false,
            subscribed: false,
            broken: false,
        })
    }

    /// Queues a frame and sends what can be sent at once.
    pub(super) fn send<T: Serialize>(&mut self, value: &T, descriptors: Vec<OwnedFd>) {
        match encode(value) {
            Ok(bytes) => self.outbox.push_back(Outgoing {
                bytes,
                sent: 0,
                descriptors,
            }),
            Err(error) => {
                complain!("cannot encode a message: {error}");
                self.broken = true;
            }
        }
        self.flush();
        if self.outbox.iter().map(|outgoing| outgoing.bytes.len()).sum::<usize>() > MOST_PENDING {
            self.broken = true;
        }
    }

    /// Returns whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends until the socket is full.
    pub(super) fn flush(&mut self) {
        while let Some(next) = self.outbox.front_mut() {
            let descriptors: Vec<_> = next.descriptors.iter().map(AsFd::as_fd).collect();
            match sys::descriptors::send(self.socket.as_fd(), &next.bytes[next.sent..], &descriptors) {
                Ok(count) => {
                    // They travel with the first byte.
                    next.descriptors.clear();
                    next.sent += count;
                    if next.sent == next.bytes.len() {
                        self.outbox.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    self.outbox.clear();
                }
            }
        }
    }

    /// Reads what arrived; the end and errors break the connection.
    pub(super) fn receive(&mut self) {
        let mut buffer = [0u8; 16 << 10];
        loop {
            match sys::descriptors::receive(self.socket.as_fd(), &mut buffer, &mut self.inbox.descriptors) {
                Ok(0) => {
                    self.broken = true;
                    return;
                }
                Ok(count) => self.inbox.push(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
    }
}
