//! Namespaces of this process and what is set up inside a fresh one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, SocketType, socket};

/// Leaves the namespaces named by `CLONE_NEW*` flags for fresh ones. Only for single-threaded processes.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: only namespace flags are passed by this crate (no CLONE_FILES, CLONE_FS or CLONE_VM), so that no memory or descriptor
    // table is affected.
    if unsafe { libc::unshare(flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Joins namespaces: of a namespace file, or of a process when `file` is a pidfd. Only for single-threaded processes, but for a
/// network namespace, which is the calling thread's alone: there for a thread that does nothing else.
pub(crate) fn join(file: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call; namespaces do not affect memory.
    if unsafe { libc::setns(file.as_raw_fd(), flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Does something in another namespace and comes back. Only for single-threaded processes.
pub(crate) fn inside<T>(
    file: BorrowedFd<'_>,
    flags: libc::c_int,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let name = if flags == libc::CLONE_NEWNS { "mnt" } else { "net" };
    let own = std::fs::File::open(format!("/proc/self/ns/{name}"))?;
    join(file, flags)?;
    let result = work();
    join(own.as_fd(), flags)?;
    result
}

/// Brings up `lo` in this network namespace.
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a complete ifreq with a terminated name, and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
