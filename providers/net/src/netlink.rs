//! Netlink as this crate needs it: messages as bytes, a blocking socket, many requests in one system call.
//!
//! Blocking is fine here: the kernel answers within the call that sends. Callers run on a blocking thread. Every
//! wait has the socket's receive time-out as its deadline.

mod listener;
mod message;
mod socket;

pub(crate) use listener::{Listener, Notice};
pub(crate) use message::{Attributes, Message, u32_at};
pub(crate) use socket::{Failure, Socket, failed};

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;
