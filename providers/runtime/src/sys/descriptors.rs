//! File descriptors: closing what was inherited, passing them over sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// The most descriptors that one message carries.
pub(crate) const MAX_PASSED: usize = 4;

/// Takes over a descriptor that this process was started with, by its number.
///
/// The number must be open and owned by nothing else in this process.
pub(crate) fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the caller says that it is open and that nothing else owns it (the spawner's control socket).
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Closes every descriptor from 3 on but `keep`. What owned them must be forgotten by the caller (a forked child).
pub(crate) fn close_all_but(keep: i32) {
    let close = |first: u32, last: u32| {
        if first <= last {
            // SAFETY: closing is what the caller asks for; it owns no value over these descriptors that it will use again.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    close(3, (keep.max(3) - 1) as u32);
    close(keep.max(2) as u32 + 1, u32::MAX);
}

/// Closes a descriptor by its number. What owned it must be forgotten by the caller (a forked child).
pub(crate) fn close(number: i32) {
    // SAFETY: as above.
    unsafe { libc::close(number) };
}

/// Marks every descriptor from 3 on to be closed by the next exec.
pub(crate) fn close_on_exec() {
    // SAFETY: only flags of descriptors change.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Sends bytes, the descriptors along with the first of them; returns how many bytes were taken.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PASSED))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors in one message",
        ));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Receives bytes and descriptors; returns how many bytes there were (0 at the end).
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PASSED))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = part {
            descriptors.extend(passed);
        }
    }
    Ok(message.bytes)
}

/// Returns whether the other end of a socket has been closed.
pub(crate) fn is_hung_up(socket: BorrowedFd<'_>) -> bool {
    now(socket, PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Returns whether there is something to read; of a process, whether it has ended.
pub(crate) fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    now(descriptor, PollFlags::IN).contains(PollFlags::IN)
}

/// Returns what holds of a descriptor at this moment.
fn now(descriptor: BorrowedFd<'_>, wanted: PollFlags) -> PollFlags {
    let mut watched = [PollFd::from_borrowed_fd(descriptor, wanted)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut watched, Some(&at_once)) {
        Ok(_) => watched[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// Returns a duplicate that is closed on exec.
pub(crate) fn duplicate(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, 3)?)
}

/// Registers a descriptor with the async runtime.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its number open and its own until the AsyncFd, which owns it, is dropped.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}
