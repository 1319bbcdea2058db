//! What the engine asks of a place that keeps its memory: rendered bytes, one record per key, histories.
//!
//! The engine states it; the daemon wires it to the store. Everything that a restart must find again goes through here.

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// One durable change: everything in it, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Bytes to be kept under their digest.
    pub blobs: Vec<Bytes>,
    /// Records to be written: collection, key, value.
    pub put: Vec<(String, String, Bytes)>,
    /// Records to be removed: collection, key.
    pub delete: Vec<(String, String)>,
    /// Entries to be added to series.
    pub append: Vec<(String, Bytes)>,
    /// Series of which only the newest so many entries are kept.
    pub keep_series: Vec<(String, usize)>,
    /// Series to be removed.
    pub delete_series: Vec<String>,
}

/// The records could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the engine's records cannot be {operation}")]
pub struct RecordsError {
    /// `read` or `written`.
    pub operation: &'static str,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A durable place for records, blobs and series.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// Makes a change durable before it returns.
    async fn commit(&self, batch: Batch) -> Result<(), RecordsError>;
    /// Returns all records of a collection: keys and values.
    async fn records(&self, collection: &str) -> Result<Vec<(String, Bytes)>, RecordsError>;
    /// Returns the bytes of a digest.
    async fn blob(&self, digest: &str) -> Result<Option<Bytes>, RecordsError>;
    /// Returns a series' newest entries, newest first.
    async fn series(&self, series: &str, limit: usize) -> Result<Vec<Bytes>, RecordsError>;
    /// Removes every blob that is not named; returns how many.
    async fn keep_only_blobs(&self, keep: &std::collections::BTreeSet<String>) -> Result<usize, RecordsError>;
}

/// Returns the digest under which bytes are kept: SHA-256, in hex.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
pub(crate) mod tests;
