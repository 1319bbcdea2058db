//! The contract of a revision log, independent of the engine behind it.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// The number of a write. The first write of a log is revision 1; 0 means "before everything".
pub type Revision = u64;

/// One key as it stood after some write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, a `/`-separated path without a leading slash.
    pub key: String,
    /// The bytes that were put.
    pub value: Bytes,
    /// The revision that first created the key (since its last deletion).
    pub created: Revision,
    /// The revision of the write that this value came from.
    pub modified: Revision,
}

/// What a writer expects to find, for compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// The key must not exist.
    Absent,
    /// The key must exist and its last write must be this revision.
    Revision(Revision),
}

/// One committed write as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key was created or its value replaced. `previous` is what it held, where the engine still knows it.
    Put {
        /// The key after the write.
        current: KeyValue,
        /// The value before the write; `None` when the key is new.
        previous: Option<KeyValue>,
    },
    /// The key was deleted.
    Delete {
        /// What the key held last; `modified` is the revision of that earlier write.
        previous: KeyValue,
        /// The revision of the deletion.
        revision: Revision,
    },
}

impl Change {
    /// Returns the revision of this write.
    pub fn revision(&self) -> Revision {
        match self {
            Change::Put { current, .. } => current.modified,
            Change::Delete { revision, .. } => *revision,
        }
    }

    /// Returns the key that was written.
    pub fn key(&self) -> &str {
        match self {
            Change::Put { current, .. } => &current.key,
            Change::Delete { previous, .. } => &previous.key,
        }
    }
}

/// A part of a list, consistent at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The entries in key order.
    pub items: Vec<KeyValue>,
    /// The revision at which the list was read.
    pub revision: Revision,
    /// Whether keys remain after the last item.
    pub more: bool,
}

/// Committed changes in revision order; an `Err` is the last item.
pub type WatchStream = BoxStream<'static, Result<Change, StoreError>>;

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A compare-and-swap found something else. `current` is what is there now, `None` when the key is absent.
    #[error("key {key} is not as expected: it is {}", match current { Some(kv) => format!("at revision {}", kv.modified), None => "absent".to_string() })]
    Conflict {
        /// The key that was to be written.
        key: String,
        /// What it holds now.
        current: Option<KeyValue>,
    },
    /// The revision asked for has been compacted away.
    #[error("revision {requested} is gone: the log keeps revisions from {oldest} on")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest revision still readable.
        oldest: Revision,
    },
    /// The revision asked for has not been issued yet.
    #[error("revision {requested} is in the future: the newest is {newest}")]
    Future {
        /// The revision asked for.
        requested: Revision,
        /// The newest revision issued.
        newest: Revision,
    },
    /// The watcher read too slowly and was cut off; it must list again.
    #[error("the watch fell behind and was cut off at revision {at}")]
    WatchLagged {
        /// The last revision that was delivered.
        at: Revision,
    },
    /// The store has shut down.
    #[error("the store is closed")]
    Closed,
    /// The disk (or a quota on it) has no room; nothing of the write is kept.
    #[error("cannot {operation} in the store at {path}: its disk is full; make room and try again")]
    Full {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The database's path.
        path: String,
        /// The engine's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is no database, or what it holds is not what was put there.
    #[error("the store at {path} is damaged: {what}; restore it from a copy")]
    Damaged {
        /// The database's path.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A newer version of this program has changed the file's schema.
    #[error("the store at {path} has schema {found}, this version knows schemas up to {known}; use the newer version")]
    TooNew {
        /// The database's path.
        path: String,
        /// The schema of the file.
        found: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// What was to be stored is larger than anything that is read back.
    #[error("{what} has {size} bytes, more than the {limit} that a store takes")]
    TooLarge {
        /// What it is: a blob, a record with its key, an entry of a series.
        what: String,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The database file or its disk failed; the write was not acknowledged.
    #[error("cannot {operation} in the store at {path}")]
    Engine {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The database's path.
        path: String,
        /// The engine's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A revisioned key-value log with compare-and-swap, reads in the past, and watch.
///
/// An engine may be remote: no method assumes a local disk.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Returns `key` as it is now (`at` = `None`) or was just after revision `at`; `None` when it does not exist then.
    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, StoreError>;

    /// Returns up to `limit` (0 = all) keys that start with `prefix`, in key order, beginning after `after`, at one revision.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError>;

    /// Writes `value` at `key` when `expect` holds; returns the revision of the write, durable by then.
    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<Revision, StoreError>;

    /// Deletes `key` when `expect` holds; returns the revision of the deletion. `Conflict` with `current: None` when it is absent.
    async fn delete(&self, key: &str, expect: Expect) -> Result<Revision, StoreError>;

    /// Streams every change of keys that start with `prefix` after revision `from`, without gap or duplicate.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError>;

    /// Forgets values superseded before `keep_from`; reads and watches before it then fail with `Compacted`.
    async fn compact(&self, keep_from: Revision) -> Result<(), StoreError>;

    /// Returns the newest revision that is durable.
    fn revision(&self) -> Revision;
}
