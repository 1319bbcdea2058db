//! Clients attached to a container's own streams: what it writes is copied to them as it is read; its input they write to
//! themselves.
//!
//! A client that does not keep up holds the container's output back, as a terminal would, but for [`PATIENCE`] at most: then it
//! is let go. What a container wrote before its first client came is kept for that one (up to [`EARLY`]) where it is to have
//! only one (`stdin_once`): so `run` with a client shows all of a program, however fast it was.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Shim;
use super::containers::Container;
use crate::complaint::complain;
use crate::protocol::{Failure, Message};
use crate::sys;

/// How long a client may take nothing of what is written for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of a stream is kept for the first client, in bytes; the oldest goes.
pub(super) const EARLY: usize = 64 << 10;

/// A client of a container's streams, bound to the connection that asked for it.
#[derive(Debug)]
pub(super) struct Attachment {
    connection: u64,
    /// Where the container's streams are copied to, in their order.
    sinks: Vec<Sink>,
    /// Whether the container's input ends with this client.
    ends_input: bool,
    /// Since when it takes nothing.
    stalled: Option<Instant>,
}

/// A copy of one stream.
#[derive(Debug, Default)]
struct Sink {
    file: Option<OwnedFd>,
    /// What its pipe had no room for.
    pending: Vec<u8>,
}

impl Sink {
    /// Writes what there is room for; returns whether any was written.
    fn flush(&mut self) -> bool {
        let mut moved = false;
        while let Some(file) = self.file.as_ref().filter(|_| !self.pending.is_empty()) {
            match rustix::io::write(file, &self.pending) {
                Ok(count) => {
                    self.pending.drain(..count);
                    moved = true;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return moved,
                // It is closed at its other end.
                Err(_) => {
                    *self = Sink::default();
                    return true;
                }
            }
        }
        moved
    }
}

impl Attachment {
    /// Copies what one stream had.
    pub(super) fn write(&mut self, stream: usize, bytes: &[u8]) {
        if let Some(sink) = self.sinks.get_mut(stream)
            && sink.file.is_some()
        {
            sink.pending.extend_from_slice(bytes);
            self.flush(stream);
        }
    }

    /// Goes on with a stream that waited.
    pub(super) fn flush(&mut self, stream: usize) {
        let moved = self.sinks.get_mut(stream).is_some_and(Sink::flush);
        if !self.waits() {
            self.stalled = None;
        } else if moved || self.stalled.is_none() {
            self.stalled = Some(Instant::now());
        }
    }

    /// The sink of a stream that waits for room.
    pub(super) fn waiting(&self, stream: usize) -> Option<&OwnedFd> {
        let sink = self.sinks.get(stream)?;
        sink.file.as_ref().filter(|_| !sink.pending.is_empty())
    }

    fn waits(&self) -> bool {
        self.sinks.iter().any(|sink| !sink.pending.is_empty())
    }

    fn is_lost(&self) -> bool {
        self.stalled.is_some_and(|since| since.elapsed() >= PATIENCE)
    }
}

impl Shim {
    /// Attaches a client; returns what goes back with the answer: the container's input, or its terminal.
    pub(super) fn attach(&mut self, id: &str, stdin: bool, connection: u64) -> Result<Vec<OwnedFd>, Failure> {
        let refused = |error: std::io::Error| Failure::refused(format!("cannot attach to container {id}: {error}"));
        let position = self.position(id)?;
        let passed = match self.connections.get_mut(&connection) {
            Some(connection) => std::mem::take(&mut connection.inbox.descriptors),
            None => return Ok(Vec::new()),
        };
        let container = &mut self.containers[position];
        let (Some(_), Some(request), None) = (&container.child, &container.request, &container.starting) else {
            return Err(Failure::refused(format!("container {id} is not running")));
        };
        let spec = &request.spec;
        let terminal = container.streams.first().filter(|_| spec.tty);
        let back = match terminal {
            Some(terminal) => terminal.file.as_ref(),
            None => container.stdin.as_ref().filter(|_| stdin),
        };
        let back = back
            .map(sys::descriptors::duplicate)
            .transpose()
            .map_err(refused)?
            .into_iter()
            .collect();
        let mut sinks = Vec::new();
        for file in passed {
            rustix::io::ioctl_fionbio(&file, true).map_err(|error| refused(error.into()))?;
            sinks.push(Sink {
                file: Some(file),
                pending: Vec::new(),
            });
        }
        let mut attachment = Attachment {
            connection,
            sinks,
            ends_input: stdin && spec.stdin_once,
            stalled: None,
        };
        for (number, stream) in container.streams.iter_mut().enumerate() {
            attachment.write(number, &stream.take_early());
        }
        container.attachments.push(attachment);
        Ok(back)
    }

    /// Closes a container's input when the client is the one with which it ends.
    pub(super) fn close_input(&mut self, id: &str, connection: u64) -> Result<(), Failure> {
        let position = self.position(id)?;
        let container = &mut self.containers[position];
        let ends = |attachment: &Attachment| attachment.connection == connection && attachment.ends_input;
        if container.attachments.iter().any(ends) {
            container.stdin = None;
        }
        Ok(())
    }

    /// Lets clients go: those that went, those that take nothing, and those that have all of a container that ended.
    pub(super) fn settle_attachments(&mut self) {
        for container in &mut self.containers {
            let Container {
                attachments,
                stdin,
                state,
                ..
            } = container;
            attachments.retain(|attachment| {
                let Some(connection) = self.connections.get_mut(&attachment.connection) else {
                    if attachment.ends_input {
                        *stdin = None;
                    }
                    return false;
                };
                if attachment.is_lost() {
                    complain!("a client of container {} takes nothing and is let go", state.id());
                    connection.broken = true;
                    return false;
                }
                match &state.exit {
                    Some(exit) if !attachment.waits() => {
                        connection.send(&Message::ExecExited { code: exit.code }, Vec::new());
                        false
                    }
                    _ => true,
                }
            });
        }
    }

    /// Whether some client is to be looked after though nothing happens.
    pub(super) fn has_waiting_clients(&self) -> bool {
        let mut attachments = self.containers.iter().flat_map(|container| &container.attachments);
        attachments.any(Attachment::waits)
    }
}

/// Keeps the newest bytes.
pub(super) fn keep_newest(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(&bytes[bytes.len().saturating_sub(EARLY)..]);
    kept.drain(..kept.len().saturating_sub(EARLY));
}

/// The clients that hold one stream of a container back, and what to watch until they have room.
pub(super) fn holding_back(container: &Container, stream: usize) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
    let attachments = container.attachments.iter().enumerate();
    attachments.filter_map(move |(number, attachment)| Some((number, attachment.waiting(stream)?.as_fd())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_are_kept() {
        let mut kept = Vec::new();
        keep_newest(&mut kept, b"old");
        keep_newest(&mut kept, &vec![b'x'; EARLY - 1]);
        assert_eq!((kept.len(), kept[0]), (EARLY, b'd'));
        keep_newest(&mut kept, &vec![b'y'; 3 * EARLY]);
        assert_eq!(kept, vec![b'y'; EARLY]);
    }
}
