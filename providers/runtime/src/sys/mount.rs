//! Mount attributes of whole trees.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attributes that [`set_attributes`] can set.
pub(crate) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// No device files.
pub(crate) const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;

/// No programs.
pub(crate) const NO_PROGRAMS: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Sets attributes on the mount at `tree` (and all below it when `recursive`), and makes it private.
pub(crate) fn set_attributes(tree: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    change(tree, attributes, libc::MS_PRIVATE, recursive)
}

/// As [`set_attributes`], but what is mounted later goes on to be shared as it is.
pub(crate) fn set_attributes_shared(tree: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    change(tree, attributes, 0, recursive)
}

fn change(tree: BorrowedFd<'_>, attributes: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the structure and its size match, both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
