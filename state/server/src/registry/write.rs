//! The only place that writes to the log.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use setpoint_api::{Resource, Status, encode, meta};
use setpoint_store::{Expect, Revision, StoreError};

use super::Inner;
use super::failure::{from_store, not_visible};

/// How long the log may take for one write.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// How deep a stored object may nest: parsers stop at 128 levels.
const DEEPEST: usize = 120;
/// How many writes to different objects can be on their way at once before two wait for each other by chance.
const LOCKS: usize = 1024;

/// One lock per object, shared by hash: whoever reads an object in order to write it holds its lock, so that writers of
/// one object take turns instead of failing each other's comparison.
pub(super) struct Locks(Box<[tokio::sync::Mutex<()>]>);

impl Default for Locks {
    fn default() -> Locks {
        Locks((0..LOCKS).map(|_| tokio::sync::Mutex::new(())).collect())
    }
}

impl Locks {
    pub(super) async fn hold(&self, key: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        // The remainder is below the number of locks.
        self.0[(hasher.finish() % self.0.len() as u64) as usize].lock().await
    }
}

/// An object after an operation.
pub(crate) struct Written {
    /// The object, in the version asked for, without resourceVersion.
    pub(crate) value: Value,
    /// Its revision; `None` when nothing was ever written (a dry run of a creation).
    pub(crate) revision: Option<Revision>,
    /// Whether it did not exist before.
    pub(crate) created: bool,
}

impl Written {
    /// The object as sent.
    pub(crate) fn wire(&self) -> Bytes {
        let stored = encode(&self.value);
        match self.revision {
            Some(revision) => {
                let mut out = Vec::with_capacity(stored.len() + 44);
                setpoint_api::splice(&stored, revision, &mut out);
                out.into()
            }
            None => stored.into(),
        }
    }

    /// The object with its resourceVersion.
    pub(crate) fn into_value(self) -> Value {
        let mut value = self.value;
        match self.revision {
            Some(revision) => meta::set(&mut value, "resourceVersion", revision.to_string()),
            None => meta::set(&mut value, "resourceVersion", Value::Null),
        }
        value
    }
}

/// Why a write was not made.
pub(super) enum WriteError {
    /// Something else is there; its revision, `None` when nothing is.
    Conflict(Option<Revision>),
    /// Anything else, as the client is told.
    Failed(Status),
}

/// An object in the form that its kind is stored in.
///
/// # Errors
/// One that nests so deep that it could not be read again: who owns what says of each level.
fn stored_bytes(row: &Resource, object: &Value) -> Result<Bytes, WriteError> {
    if meta::nests_deeper(object, DEEPEST) {
        let name = meta::name(object);
        let text = format!("{} \"{name}\" nests deeper than {DEEPEST} levels", row.qualified());
        return Err(WriteError::Failed(Status::bad_request(text)));
    }
    let storage = row.storage_api_version();
    if meta::api_version(object) == storage {
        return Ok(encode(object).into());
    }
    let mut converted = object.clone();
    row.to_stored(&mut converted);
    Ok(encode(&converted).into())
}

impl Inner {
    /// Writes an object and waits until everybody sees it.
    pub(super) async fn put(
        &self,
        row: &Resource,
        key: &str,
        object: &Value,
        expect: Expect,
    ) -> Result<Revision, WriteError> {
        self.finish(self.log.put(key, stored_bytes(row, object)?, expect)).await
    }

    /// Writes a heartbeat and waits until everybody sees it: as [`Inner::put`], but a crash may undo it.
    pub(super) async fn refresh(
        &self,
        row: &Resource,
        key: &str,
        object: &Value,
        expect: Expect,
    ) -> Result<Revision, WriteError> {
        self.finish(self.log.refresh(key, stored_bytes(row, object)?, expect))
            .await
    }

    /// Deletes an object and waits until nobody sees it.
    pub(super) async fn remove(&self, key: &str, revision: Revision) -> Result<Revision, WriteError> {
        self.finish(self.log.delete(key, Expect::Revision(revision))).await
    }

    async fn finish(&self, write: impl Future<Output = Result<Revision, StoreError>>) -> Result<Revision, WriteError> {
        let outcome = tokio::time::timeout(WRITE_WITHIN, write).await.map_err(|_| {
            WriteError::Failed(Status::timeout(
                "the store did not answer in time: whether the write was made is not known",
            ))
        })?;
        let revision = outcome.map_err(|error| match error {
            StoreError::Conflict { current, .. } => WriteError::Conflict(current.map(|kv| kv.modified)),
            error => WriteError::Failed(from_store(&error)),
        })?;
        self.cache
            .wait_for(revision)
            .await
            .map_err(|error| WriteError::Failed(not_visible(error)))?;
        Ok(revision)
    }

    /// Waits until the cache shows what a write ran into.
    pub(super) async fn catch_up(&self, current: Option<Revision>) -> Result<(), Status> {
        let revision = current.unwrap_or_else(|| self.log.revision());
        self.cache.wait_for(revision).await.map_err(not_visible)
    }

    /// Holds the lock of one object.
    pub(super) async fn hold(&self, key: &str) -> tokio::sync::MutexGuard<'_, ()> {
        self.locks.hold(key).await
    }
}
