//! The contract of a history, independent of the engine behind it: blobs by their digest, records by their key, series in their order.
//!
//! Invariants, of every engine:
//! * A [`Batch`] is all there when [`History::commit`] has answered, or none of it ever will be.
//!   An error means "not known to be there": a commit whose last step failed may be found after the next start.
//! * A blob leaves only as the bytes that its digest stands for.
//! * A number of a series is given once in the life of the series, also when its entry has been trimmed.
//!
//! Where to start: [`SqliteHistory`] is the engine that ships; `commit` is its writing half, `read` the other one.

mod blob;
mod commit;
mod read;
mod seal;
mod sqlite;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;

use crate::log::StoreError;
pub use blob::digest;
pub use sqlite::SqliteHistory;

/// The largest blob, record or entry, in bytes as they were handed in.
const LARGEST: usize = 64 << 20;

/// What is written together. Its parts take effect in this order: deletions, blobs, records, entries, trimming.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Bytes to keep under their [`digest`]; those that are there already stay.
    pub blobs: Vec<Bytes>,
    /// Records to create or replace: collection, key, value.
    pub put: Vec<(String, String, Bytes)>,
    /// Records to delete: collection, key; absent ones are no error.
    pub delete: Vec<(String, String)>,
    /// Entries to add: series, value. A series counts from 1.
    pub append: Vec<(String, Bytes)>,
    /// Series to trim to their newest entries: series, how many stay.
    pub keep_series: Vec<(String, usize)>,
    /// Series to delete with their numbering; absent ones are no error.
    pub delete_series: Vec<String>,
}

impl Batch {
    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Batch::default()
    }
}

/// What its owner chooses to keep for longer than the log does. It may be elsewhere than the log: no method assumes a local disk.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Writes a batch; it is durable as a whole when this has answered.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] before anything is written, [`StoreError::Full`], [`StoreError::Damaged`] and
    /// [`StoreError::Engine`] when the disk or the file did not do, [`StoreError::Closed`] after [`History::close`].
    async fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// Returns a record, `None` when there is none.
    async fn record(&self, collection: &str, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Returns the records of a collection in the order of their keys.
    async fn records(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError>;

    /// Returns the bytes that have a digest. What is stored under it and is not those bytes is deleted and counts as not there, so that
    /// the next batch that has them brings them back.
    async fn blob(&self, digest: &str) -> Result<Option<Bytes>, StoreError>;

    /// Returns whether there is a blob of a digest, without looking at its bytes.
    async fn has_blob(&self, digest: &str) -> Result<bool, StoreError>;

    /// Returns up to `limit` entries of a series with their numbers, the newest first, those before number `before` when given.
    async fn series(&self, series: &str, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// Deletes every blob whose digest is not in `keep`; returns how many went.
    ///
    /// The caller sees to it that no batch brings a blob between its making of `keep` and this call.
    async fn keep_only_blobs(&self, keep: &BTreeSet<String>) -> Result<usize, StoreError>;

    /// Closes it; later calls fail with [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}
