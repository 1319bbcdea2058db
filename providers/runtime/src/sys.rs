//! Everything that is unsafe or a raw system call: the rest of the crate contains none.
//!
//! Each function is safe to call under the condition that its documentation names; most of them hold only in a
//! single-threaded process (the spawner, a shim, a forked child), never in the daemon.

pub(crate) mod descriptors;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod process;
pub(crate) mod seccomp;
pub(crate) mod title;
