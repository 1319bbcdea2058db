//! A netlink socket that hears what anybody changes.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;

use super::message::{HEADER, u32_at};
use super::socket::failed;
use crate::NetError;

const BUFFER: usize = 64 * 1024;

/// What was heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notice<'a> {
    /// The message's type.
    pub(crate) kind: u16,
    /// The socket of who changed it; 0 for the kernel.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

/// A socket that is told of changes in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Listener {
    /// Listens to groups of routes and links, given as bits.
    pub(crate) fn route(groups: u32) -> Result<Listener, NetError> {
        Listener::open(SockProtocol::NetlinkRoute, groups)
    }

    /// Listens to groups of netfilter, given as bits.
    pub(crate) fn netfilter(groups: u32) -> Result<Listener, NetError> {
        Listener::open(SockProtocol::NetlinkNetFilter, groups)
    }

    fn open(protocol: SockProtocol, groups: u32) -> Result<Listener, NetError> {
        let open = || -> Result<OwnedFd, Errno> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            if setsockopt(&fd, sockopt::RcvBufForce, &(1 << 20)).is_err() {
                tracing::debug!("the receive buffer keeps its default size");
            }
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
            Ok(fd)
        };
        let what = "listen to changes of the network";
        let fd = open().map_err(|errno| failed(what, errno))?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for descriptors that may be closed early; an owned one is not"
        )]
        let fd = AsyncFd::new(fd).map_err(|source| NetError::Netlink {
            operation: what.to_owned(),
            source: Box::new(source),
        })?;
        Ok(Listener {
            fd,
            buffer: vec![0; BUFFER],
        })
    }

    /// Waits for changes and hands each out; returns whether some were lost. Nothing is lost when it is dropped.
    pub(crate) async fn hear(&mut self, mut take: impl FnMut(Notice<'_>)) -> Result<bool, NetError> {
        let what = "hear of changes of the network";
        loop {
            let ready = self.fd.readable().await;
            let mut guard = ready.map_err(|source| NetError::Netlink {
                operation: what.to_owned(),
                source: Box::new(source),
            })?;
            let length = match recv(guard.get_inner().as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => {
                    guard.clear_ready();
                    continue;
                }
                Err(Errno::EINTR) => continue,
                // More was told than was read.
                Err(Errno::ENOBUFS) => return Ok(true),
                Err(errno) => return Err(failed(what, errno)),
            };
            let mut rest = &self.buffer[..length];
            while let Some(size) = u32_at(rest, 0).map(|size| size as usize) {
                let Some(message) = rest.get(..size).filter(|message| message.len() >= HEADER) else {
                    break;
                };
                take(Notice {
                    kind: u16::from_ne_bytes([message[4], message[5]]),
                    port: u32_at(message, 12).unwrap_or_default(),
                    payload: &message[HEADER..],
                });
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
            return Ok(false);
        }
    }
}
