//! The history: blobs by their digest, records by their key, series in their order, in a database of its own.
//!
//! One connection writes, one batch after the other; a few others read what is committed. Nothing is held in memory.
//!
//! Invariants:
//! * A [`Batch`] is one transaction: all of it is on disk when [`History::commit`] has answered, or none of it ever will be.
//!   An error means "not known to be there": a commit whose last step failed may be found after the next start.
//! * A blob leaves only as the bytes that its digest stands for.
//! * A number of a series is given once in the life of the series, also when its entry has been trimmed.
//!
//! Where to start: `commit` for the writing half, `read` for the other one.

mod blob;
mod commit;
mod failure;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

use crate::log::StoreError;
pub use blob::digest;

/// The largest blob, record or entry, in bytes as they were handed in.
const LARGEST: usize = 64 << 20;
/// How many connections read.
const READERS: u32 = 2;
/// How long a statement waits for another process's lock on the database.
const BUSY: Duration = Duration::from_secs(5);
/// How long a reader waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(30);

static MIGRATIONS: Migrator = sqlx::migrate!("./history-migrations");

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

struct Shared {
    path: PathBuf,
    connect: SqliteConnectOptions,
    writer: Mutex<Writer>,
    readers: SqlitePool,
}

/// The connection that writes.
enum Writer {
    Open(Box<SqliteConnection>),
    /// A failure left the connection in an unknown state; the next batch opens another one.
    Lost,
    Closed,
}

/// Blobs, records and series in one SQLite database. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

impl History {
    /// Opens the database at `path`, creating and migrating it as needed.
    ///
    /// The caller holds the lock that keeps a second process away.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the file is no database, [`StoreError::TooNew`] when a newer version has changed it,
    /// [`StoreError::Full`] and [`StoreError::Engine`] when it cannot be opened.
    pub async fn open(path: &Path) -> Result<History, StoreError> {
        // SQLite would make the file readable for everybody; its -wal and -shm take over the mode of the database.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failure::of(path, "create the database", sqlx::Error::Io(error)))?;
        let connect = SqliteConnectOptions::from_str("sqlite:")
            .map_err(|error| failure::of(path, "configure SQLite", error))?
            .filename(path)
            .create_if_missing(true)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            // In KiB: what is current is kept in memory apart from this, and every connection has a cache of its own.
            .pragma("cache_size", "-512")
            .busy_timeout(BUSY)
            .statement_cache_capacity(32)
            .disable_statement_logging();
        let mut connection = connect
            .connect()
            .await
            .map_err(|error| failure::of(path, "open the database", error))?;
        MIGRATIONS
            .run(&mut connection)
            .await
            .map_err(|error| failure::of_migration(path, &MIGRATIONS, error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(connect.clone().pragma("query_only", "ON").pragma("cache_size", "-128"));
        Ok(History {
            shared: Arc::new(Shared {
                path: path.to_path_buf(),
                connect,
                writer: Mutex::new(Writer::Open(Box::new(connection))),
                readers,
            }),
        })
    }

    /// Writes a batch; it is durable as a whole when this has answered.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] before anything is written, [`StoreError::Full`], [`StoreError::Damaged`] and
    /// [`StoreError::Engine`] when the disk or the file did not do, [`StoreError::Closed`] after [`History::close`].
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        commit::commit(&self.shared, batch).await
    }

    /// Returns a record.
    pub async fn record(&self, collection: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
        read::record(&self.shared, collection, key).await
    }

    /// Returns the records of a collection in the order of their keys.
    pub async fn records(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        read::records(&self.shared, collection).await
    }

    /// Returns the bytes that have a digest. What is stored under it and is not those bytes is deleted and counts as not there, so that
    /// the next batch that has them brings them back.
    pub async fn blob(&self, digest: &str) -> Result<Option<Bytes>, StoreError> {
        read::blob(&self.shared, digest).await
    }

    /// Returns whether there is a blob of a digest, without looking at its bytes.
    pub async fn has_blob(&self, digest: &str) -> Result<bool, StoreError> {
        read::has_blob(&self.shared, digest).await
    }

    /// Returns up to `limit` entries of a series with their numbers, the newest first, those before number `before` when given.
    pub async fn series(
        &self,
        series: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        read::series(&self.shared, series, before, limit).await
    }

    /// Deletes every blob whose digest is not in `keep`; returns how many went.
    ///
    /// The caller sees to it that no batch brings a blob between its making of `keep` and this call.
    pub async fn keep_only_blobs(&self, keep: &BTreeSet<String>) -> Result<usize, StoreError> {
        commit::keep_only_blobs(&self.shared, keep).await
    }

    /// Folds the write-ahead log into the database and closes it; later calls fail with [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.shared.writer.lock().await;
        let connection = match std::mem::replace(&mut *writer, Writer::Closed) {
            Writer::Open(connection) => connection,
            Writer::Lost => {
                self.shared.readers.close().await;
                return Ok(());
            }
            Writer::Closed => return Err(StoreError::Closed),
        };
        self.shared.readers.close().await;
        let mut connection = *connection;
        let folded = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_all(&mut connection)
            .await;
        // What is not folded yet is folded at the next start; the connection is closed either way.
        let closed = connection.close().await;
        folded
            .map(drop)
            .and(closed)
            .map_err(|error| failure::of(&self.shared.path, "close the database", error))
    }
}

impl Shared {
    fn failure(&self, operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError + use<'_> {
        move |error| failure::of(&self.path, operation, error)
    }

    fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged {
            path: self.path.display().to_string(),
            what: what.into(),
        }
    }
}

impl Writer {
    /// The connection, opened anew after a failure.
    async fn connection(&mut self, shared: &Shared) -> Result<&mut SqliteConnection, StoreError> {
        if matches!(self, Writer::Lost) {
            let connection = shared
                .connect
                .connect()
                .await
                .map_err(shared.failure("reopen the database"))?;
            *self = Writer::Open(Box::new(connection));
        }
        match self {
            Writer::Open(connection) => Ok(connection),
            Writer::Lost | Writer::Closed => Err(StoreError::Closed),
        }
    }
}
