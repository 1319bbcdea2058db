//! The workload controllers and the scheduler.
//!
//! They hold a [`kube::Client`] and nothing else: the embedded cluster, a server across the network and somebody's Kubernetes are
//! the same to them. Each controller is a pure `decide(observed, now) -> actions` with a thin reconcile around it: level-triggered,
//! idempotent, one at a time per object. Events only wake; nothing acts on an event's payload.
//!
//! Invariants:
//! * One watch per kind, shared by all controllers ([`hub`]), beside the collector's watches of metadata ([`garbage`]); objects are kept without what nobody reads.
//! * A controller does not decide about an object before it has seen its own last write about it ([`fresh`]).
//! * Writes are creates, patches and deletes; a delete names the uid that it means.
//!
//! Where to start: [`run()`] has the table of controllers; [`wiring`] is what they are put together from; then one file per kind: [`deployment`], [`replicaset`], [`endpoints`], [`balancer`], [`namespace`],
//! [`nodes`], [`scheduler`], [`volumes`], [`garbage`].

pub mod balancer;
pub mod cluster;
mod config;
pub mod deployment;
pub mod drive;
pub mod endpoints;
mod error;
pub mod events;
pub mod fresh;
pub mod garbage;
pub mod hash;
mod held;
pub mod hub;
pub mod kinds;
pub mod metrics;
pub mod namespace;
pub mod nodes;
pub mod pods;
pub mod replicaset;
mod run;
pub mod scheduler;
pub mod volumes;
pub mod wiring;

pub use config::{ControllersConfig, Now};
pub use error::{Class, Error};
pub use run::run;
