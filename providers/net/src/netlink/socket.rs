//! A blocking netlink socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::message::{HEADER, u32_at};
use super::{ACK, Message};
use crate::NetError;

/// The kernel answers at once; only a wedged one takes longer.
const DEADLINE_SECONDS: i64 = 10;
const BUFFER: usize = 256 * 1024;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;

/// A message that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{errno}")]
pub(crate) struct Failure {
    /// Which message of the batch.
    pub(crate) index: usize,
    /// The kernel's answer.
    pub(crate) errno: Errno,
}

/// A socket of one protocol in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a route socket.
    pub(crate) fn route() -> Result<Socket, NetError> {
        Socket::open(SockProtocol::NetlinkRoute)
    }

    /// Opens a netfilter socket.
    pub(crate) fn netfilter() -> Result<Socket, NetError> {
        Socket::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> Result<Socket, NetError> {
        let open = || -> Result<OwnedFd, Errno> {
            let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            // A whole rule set is one datagram; the default limit is about 200 KiB. Without the privilege the limit
            // stays, and a large batch then fails with EMSGSIZE.
            for size in [64 << 20, 4 << 20] {
                if setsockopt(&fd, sockopt::SndBufForce, &size).is_ok() {
                    break;
                }
            }
            if setsockopt(&fd, sockopt::RcvBufForce, &(4 << 20)).is_err() {
                tracing::debug!("the receive buffer keeps its default size");
            }
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(DEADLINE_SECONDS, 0))?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok(fd)
        };
        let fd = open().map_err(|errno| failed("open a netlink socket", errno))?;
        Ok(Socket {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Returns its number, which is on the notices of what is changed by it.
    pub(crate) fn port(&self) -> Result<u32, NetError> {
        let address: Result<NetlinkAddr, Errno> = getsockname(self.fd.as_raw_fd());
        address
            .map(|address| address.pid())
            .map_err(|errno| failed("look at a netlink socket", errno))
    }

    /// Sends all messages in one call and returns each one's answer, in order.
    pub(crate) fn each(&mut self, messages: &mut [Message]) -> Result<Vec<Result<(), Errno>>, NetError> {
        let what = messages.first().map_or("send nothing", Message::what).to_owned();
        for message in messages.iter_mut() {
            message.add_flags(ACK);
        }
        let first = self.send(messages).map_err(|errno| failed(&what, errno))?;
        let mut answers = vec![Ok(()); messages.len()];
        let mut open = messages.len();
        while open > 0 {
            self.receive(|kind, sequence, payload| {
                let index = sequence.wrapping_sub(first) as usize;
                if kind == KIND_ERROR && index < answers.len() {
                    answers[index] = answer(payload);
                    open -= 1;
                }
                false
            })
            .map_err(|errno| failed(&what, errno))?;
        }
        Ok(answers)
    }

    /// Sends all messages in one call; the first refusal is the error, but all are tried.
    pub(crate) fn all(&mut self, mut messages: Vec<Message>) -> Result<(), NetError> {
        let answers = self.each(&mut messages)?;
        for (message, answer) in messages.iter().zip(answers) {
            answer.map_err(|errno| failed(message.what(), errno))?;
        }
        Ok(())
    }

    /// Sends one message and returns the kernel's answer.
    pub(crate) fn one(&mut self, message: Message) -> Result<Result<(), Errno>, NetError> {
        Ok(self.each(&mut [message])?.remove(0))
    }

    /// Sends a request and hands each answering message's payload to `take`.
    ///
    /// For dumps, and for single gets, which are acknowledged after their one answer.
    pub(crate) fn get(&mut self, message: Message, take: impl FnMut(u16, &[u8])) -> Result<(), NetError> {
        let what = message.what().to_owned();
        self.ask(message, take)?.map_err(|errno| failed(&what, errno))
    }

    /// As [`Socket::get`], where a refusal is an answer.
    pub(crate) fn ask(
        &mut self,
        mut message: Message,
        mut take: impl FnMut(u16, &[u8]),
    ) -> Result<Result<(), Errno>, NetError> {
        message.add_flags(ACK);
        let what = message.what().to_owned();
        let first = self
            .send(std::slice::from_ref(&message))
            .map_err(|errno| failed(&what, errno))?;
        let mut result = None;
        while result.is_none() {
            self.receive(|kind, sequence, payload| {
                if sequence != first {
                    return false;
                }
                match kind {
                    KIND_DONE => result = Some(answer(payload)),
                    KIND_ERROR => result = Some(answer(payload)),
                    _ => take(kind, payload),
                }
                result.is_some()
            })
            .map_err(|errno| failed(&what, errno))?;
        }
        Ok(result.unwrap_or(Ok(())))
    }

    /// Sends an nfnetlink batch (`messages` with its begin and end) and waits for the answer of the last but one.
    ///
    /// Atomic: after an error nothing of the batch is in force.
    pub(crate) fn transaction(&mut self, messages: &mut [Message]) -> Result<Result<(), Failure>, NetError> {
        let last = messages.len().saturating_sub(2);
        let what = messages.get(1).map_or("send nothing", Message::what).to_owned();
        if let Some(message) = messages.get_mut(last) {
            message.add_flags(ACK);
        }
        let first = self.send(messages).map_err(|errno| failed(&what, errno))?;
        let mut failure: Option<Failure> = None;
        let mut done = false;
        while !done {
            self.receive(|kind, sequence, payload| {
                let index = sequence.wrapping_sub(first) as usize;
                if kind != KIND_ERROR || index >= messages.len() {
                    return false;
                }
                if let Err(errno) = answer(payload) {
                    failure.get_or_insert(Failure { index, errno });
                    // A refusal of the whole batch names its first message and nothing follows.
                    done |= index == 0;
                }
                done |= index == last;
                done
            })
            .map_err(|errno| failed(&what, errno))?;
        }
        Ok(failure.map_or(Ok(()), Err))
    }

    /// Sends; returns the first message's sequence number, the others follow on.
    fn send(&mut self, messages: &[Message]) -> Result<u32, Errno> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.len() * 128);
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(self.sequence, &mut bytes);
        }
        sendto(self.fd.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(first)
    }

    /// Receives one datagram and hands out its messages until `take` says that it has all.
    fn receive(&mut self, mut take: impl FnMut(u16, u32, &[u8]) -> bool) -> Result<(), Errno> {
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                other => break other?,
            }
        };
        let mut rest = &self.buffer[..length];
        while let Some(size) = u32_at(rest, 0).map(|size| size as usize) {
            let Some(message) = rest.get(..size).filter(|message| message.len() >= HEADER) else {
                break;
            };
            let kind = u16::from_ne_bytes([message[4], message[5]]);
            let sequence = u32_at(message, 8).unwrap_or_default();
            if take(kind, sequence, &message[HEADER..]) {
                break;
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

fn answer(payload: &[u8]) -> Result<(), Errno> {
    match u32_at(payload, 0).unwrap_or_default().cast_signed() {
        0 => Ok(()),
        code => Err(Errno::from_raw(code.saturating_neg())),
    }
}

/// Makes the error of a failed operation.
pub(crate) fn failed(operation: &str, errno: Errno) -> NetError {
    NetError::Netlink {
        operation: operation.to_owned(),
        source: Box::new(io::Error::from(errno)),
    }
}
