//! Containers on this Linux host: images, sandboxes, shims and logs.
//!
//! A pod is a sandbox (namespaces, an address, a cgroup) and containers in it. Each sandbox has one small shim process,
//! which is this same binary in another role; it outlives the daemon, and a [`Runtime`] that is opened again adopts it.
//!
//! * [`spec`]: what is asked for and what is told, as plain data;
//! * [`Runtime`]: the daemon's side;
//! * `spawner`, `shim`, `init`: the roles of the executed-again binary, from the process that makes shims to the first
//!   process of a container;
//! * `unpacker`: another role, the worker that unpacks a layer;
//! * `protocol`: what daemon and shim say to each other; `starting`: who is on the way to that;
//! * `cgroup`, [`logs`], [`images`]: what their names say;
//! * `sys`: all that is unsafe.
//!
//! Invariants: nothing of a container is lost by killing the daemon; a killed shim takes its containers along; nothing is mounted
//! in the host's mount namespace; a step that fails leaves nothing behind; no threaded process forks.

mod cgroup;
mod complaint;
mod error;
#[doc(hidden)]
pub mod fault;
pub mod images;
mod init;
pub mod logs;
mod preflight;
mod protocol;
mod record;
mod reexec;
pub mod runtime;
mod shim;
mod spawner;
pub mod spec;
mod starting;
mod sys;
pub mod tree;
mod unpacker;

pub use cgroup::Counter;
pub use error::{Missing, RuntimeError, StartStage};
pub use preflight::preflight;
pub use reexec::reexec_main;
pub use runtime::{ExecSession, InterfaceCounters, Now, Runtime, RuntimeConfig, SandboxCounters, SandboxStats, Usage};
