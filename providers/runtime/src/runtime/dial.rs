//! Connections to what listens on a sandbox's own loopback, made from the host.
//!
//! A socket belongs to the network namespace that it was made in, whoever connects it: a short-lived thread enters the sandbox's
//! namespace and makes the socket, and the rest happens here. No thread that does anything else ever changes its namespace.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use crate::error::RuntimeError;
use crate::sys;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Connects to a port of `localhost` in the network namespace of a process: first over IPv4, then over IPv6.
pub(super) async fn connect(pid: i32, port: u16) -> Result<TcpStream, RuntimeError> {
    let path = format!("/proc/{pid}/ns/net");
    let mut failures = Vec::new();
    for (ip, words) in [
        (IpAddr::V4(Ipv4Addr::LOCALHOST), "IPv4: dial tcp4"),
        (IpAddr::V6(Ipv6Addr::LOCALHOST), "IPv6: dial tcp6"),
    ] {
        // The namespace is held open, so that it stays the one that was asked for.
        let namespace = File::open(&path).map_err(RuntimeError::io("open", &path))?;
        let address = SocketAddr::new(ip, port);
        match tokio::time::timeout(CONNECT, dial(namespace, address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failures.push(format!("{words} {address}: {}", reason(&error))),
            Err(_) => failures.push(format!("{words} {address}: i/o timeout")),
        }
    }
    Err(RuntimeError::Connect {
        port,
        message: failures.join(" "),
    })
}

async fn dial(namespace: File, address: SocketAddr) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let (made, socket) = oneshot::channel();
    std::thread::Builder::new()
        .name("pod-socket".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            // Whoever asked may have given up.
            drop(made.send(socket_in(&namespace, family)));
        })?;
    let socket = socket
        .await
        .map_err(|_| io::Error::other("the thread that makes the socket ended"))??;
    let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes a socket in a network namespace. Leaves the calling thread there.
fn socket_in(namespace: &File, family: AddressFamily) -> io::Result<OwnedFd> {
    sys::namespace::join(namespace.as_fd(), libc::CLONE_NEWNET)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// The words of Go's `net` package, which people know.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::AddrNotAvailable => "connect: cannot assign requested address".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}
