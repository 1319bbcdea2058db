//! The contract of a revision log, independent of the engine behind it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

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

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A committed change, each once, in revision order.
    Change(Change),
    /// A bookmark: every change up to this revision has been delivered. One comes as soon as the past is through.
    Progress(Revision),
}

/// What a watch delivers; an `Err` is the last item.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, StoreError>>;

/// Changes of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The changes in revision order, each with the time by which it had been committed where the engine noted one.
    pub changes: Vec<(Option<Timestamp>, Change)>,
    /// The revision up to which (inclusive) these are all.
    pub upto: Revision,
}

/// A revision and when it was the newest, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The revision.
    pub revision: Revision,
    /// When it had been committed.
    pub at: Timestamp,
}

/// What of the past can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The newest durable revision.
    pub newest: Revision,
    /// The oldest revision that can still be read.
    pub oldest: Revision,
    /// When `oldest` was the newest; `None` where the engine did not note it.
    pub since: Option<Timestamp>,
    /// How many bytes the log takes.
    pub bytes: u64,
    /// How many bytes it may take before history is forgotten early; 0 when it has no limit.
    pub keep_bytes: u64,
    /// How long history is kept where there is room; zero when age does not count.
    pub keep_age: Duration,
}

/// How keys that start with a prefix are kept, where it is not as all others are. An engine is given its rules when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The keys' prefix, such as `core/events/`. No prefix of a rule starts with another's.
    pub prefix: String,
    /// Whether superseded values and deletions stay readable. Of keys that do not keep them the recent changes can be had, as many as
    /// memory holds; reads and watches further back fail with [`StoreError::Compacted`], and [`Log::changes`] leaves them out.
    pub history: bool,
    /// Whether values are encrypted wherever they are written.
    pub sealed: bool,
    /// A key is deleted so long after its last write.
    pub expire: Option<Duration>,
    /// So many keys at most: the longest unwritten ones are deleted beyond it.
    pub at_most: Option<usize>,
}

impl Rule {
    /// A rule that changes nothing yet.
    pub fn new(prefix: impl Into<String>) -> Rule {
        Rule {
            prefix: prefix.into(),
            history: true,
            sealed: false,
            expire: None,
            at_most: None,
        }
    }
}

/// Why the log did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
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
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The file system does not let itself be written to; nothing of the write is kept.
    #[error(
        "cannot {operation} in the store at {path}: its file system is read-only; look at why (the kernel's log may tell) and mount it writable"
    )]
    ReadOnly {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The database's path.
        path: String,
    },
    /// Something stored is encrypted with a key that is not there, or something to be stored cannot be encrypted.
    #[error("the store at {path} cannot use its keys: {what}")]
    Keys {
        /// The database's path.
        path: String,
        /// What was to be read or written, and why it cannot be.
        what: String,
        /// The key's own error.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
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
        source: Arc<dyn std::error::Error + Send + Sync>,
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

    /// Returns how many keys start with `prefix`, now (`at` = `None`) or just after revision `at`.
    async fn count(&self, prefix: &str, at: Option<Revision>) -> Result<u64, StoreError>;

    /// Writes `value` at `key` as [`Log::put`] does, except that it need not be durable: everybody sees it at once, and after a crash
    /// the key may hold the value of an earlier write again. Its revision is not issued again even then. For heartbeats, of which
    /// only the newest means anything; an engine may treat it as a put, and does so for a key that is not there and for a key that
    /// keeps its history.
    async fn refresh(&self, key: &str, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.put(key, value, expect).await
    }

    /// Deletes `key` when `expect` holds; returns the revision of the deletion. `Conflict` with `current: None` when it is absent.
    async fn delete(&self, key: &str, expect: Expect) -> Result<Revision, StoreError>;

    /// Streams every change of keys that start with `prefix` after revision `from`, without gap or duplicate.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError>;

    /// Returns the changes of keys that start with `prefix` after revision `after` and up to `upto`, at most about `limit` (0: a number
    /// of the engine's own): the oldest, and up to where they are all. Keys that keep no history are left out.
    async fn changes(&self, prefix: &str, after: Revision, upto: Revision, limit: usize)
    -> Result<Changes, StoreError>;

    /// Returns the newest readable revision that had been committed by `time`; `None` when none that is still readable had been.
    async fn moment(&self, time: Timestamp) -> Result<Option<Moment>, StoreError>;

    /// Returns what of the past can be read.
    async fn window(&self) -> Result<Window, StoreError>;

    /// Forgets values superseded before `keep_from`; reads and watches before it then fail with `Compacted`.
    async fn compact(&self, keep_from: Revision) -> Result<(), StoreError>;

    /// Returns the newest revision that is durable.
    fn revision(&self) -> Revision;
}
