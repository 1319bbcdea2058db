//! One node: takes the pods bound to it from the API, drives a runtime to run them, probes them, reports their
//! status, and programs services and DNS. It is to this cluster what the kubelet and kube-proxy are to others.
//!
//! How it hangs together:
//! * [`Agent::start`] registers the Node ([`node`]), watches this node's pods ([`pods`]) and gives every pod a task of its own
//!   ([`worker`]): a stuck pod never holds up another.
//! * A worker keeps what it knows in [`observed::Observed`]; the pure [`decide::decide`] says what to do next, the worker does it in the
//!   background and looks again when something happened (the pod changed, a process ended, a probe turned, a time has come).
//! * The pure [`status::build`] says what the pod's status is; it is written when it differs from what was written before.
//! * What a pod asks for that is not honoured here is refused or warned about by [`pod_fields::check`], never dropped in silence.
//!
//! Invariants: running containers outlive the agent and are adopted by pod UID at the next start; an action is started only by
//! `decide`; nothing waits without a deadline; the clock is handed in.

pub mod addresses;
mod agent;
pub mod allocations;
pub mod backoff;
mod cadvisor;
pub mod containers;
pub mod decide;
pub mod dns;
pub mod env;
pub mod events;
mod folder_watch;
pub mod grpc;
pub mod hooks;
mod host;
pub mod host_ports;
pub mod http_client;
pub mod images;
mod metrics;
mod network;
pub mod node;
pub mod observed;
pub mod pod_fields;
pub mod pod_files;
pub mod pods;
pub mod probes;
pub mod resize;
pub mod resources;
pub mod roles;
pub mod security;
pub mod services;
pub mod settings;
pub mod sources;
pub mod static_pods;
pub mod status;
pub mod streams;
pub mod sysctls;
pub mod usage;
pub mod volumes;
pub mod worker;

pub use agent::{Agent, AgentConfig, AgentError, Now, remove_all};
pub use streams::{AttachRequest, Duplex, ExecRequest, ExecStreams, LogRequest, LogStream, PodAddress, StreamError};
pub use usage::{NodeUsage, PodUsage, Usage};
