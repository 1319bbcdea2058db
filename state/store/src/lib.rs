//! The revision log: every write of the cluster as a revisioned key and value, durable before it is answered.
//!
//! This crate knows keys, bytes and revisions. It knows nothing of Kubernetes or HTTP: what a key
//! means and what a value holds is its caller's business.
//!
//! Invariants:
//! * A revision is issued once, ever, and grows by one with each write.
//! * A write is answered only when its transaction is durable on disk.
//! * A watch from revision `r` delivers every change after `r`, in order, once each, or ends with
//!   [`StoreError::Compacted`] or [`StoreError::WatchLagged`]; it never skips.
//!
//! Where to start: [`Log`] is the contract, [`SqliteLog`] the engine that ships.

mod log;
mod sqlite;

pub use log::{Change, Expect, KeyValue, Log, Page, Revision, StoreError, WatchStream};
pub use sqlite::{Now, SqliteLog, SqliteOptions, StoreStats};
