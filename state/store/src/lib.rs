//! What is kept on disk: the revision log, and the history beside it.
//!
//! The log is every write of the cluster as a revisioned key and value. The history is what its owner chooses to keep for
//! longer: blobs by their digest, records by their key, series in their order. Both are durable before they answer.
//!
//! This crate knows keys, bytes and revisions. It knows nothing of Kubernetes or HTTP: what a key
//! means and what a value holds is its caller's business.
//!
//! Invariants:
//! * A revision is issued once, ever, and grows with each write; a crash or a restore may leave a gap.
//! * A write is answered only when its transaction is durable on disk, but for [`Log::refresh`], a heartbeat.
//! * A watch from revision `r` delivers every change after `r`, in order, once each, or ends with
//!   [`StoreError::Compacted`] or [`StoreError::WatchLagged`]; it never skips.
//!
//! * A [`Batch`] of the history is there as a whole or not at all, and a blob is given back only when it has its digest.
//!
//! * A [`Keys`] file loses no key, and a key is durable before anything is sealed with it.
//!
//! Where to start: [`Log`] is the contract, [`SqliteLog`] the engine that ships; [`History`] stands alone. [`snapshot()`] and what stands beside it
//! look at databases from outside, for backups and checks.

mod database;
mod failure;
mod history;
mod keys;
mod log;
mod snapshot;
mod sqlite;

pub use history::{Batch, History, SqliteHistory, digest};
pub use keys::{KeyError, KeyId, Keys, OpenReader, SealWriter};
pub use log::{
    Change, Changes, Expect, KeyValue, Log, Moment, Page, Revision, Rule, StoreError, WatchEvent, WatchStream, Window,
};
pub use snapshot::{DatabaseKind, Schema, check, schema, sealed_throughout, sealed_with, snapshot};
pub use sqlite::{Now, SqliteLog, SqliteOptions, StoreStats, newest_issued, skip_past};
