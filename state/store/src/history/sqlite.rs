//! The engine that ships: a database of its own.
//!
//! One connection writes, one batch after the other; a few others read what is committed. Nothing is held in memory. With keys,
//! every blob, record and entry is sealed, bound to its name: rendered manifests and the records of apps may hold secrets anywhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Mutex;

use super::{Batch, History, commit, read, seal};
use crate::database::{Database, Use};
use crate::keys::Keys;
use crate::log::StoreError;

/// How many connections read.
const READERS: u32 = 2;
/// How long a statement waits for another process's lock on the database.
const BUSY: Duration = Duration::from_secs(5);

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./history-migrations");

pub(super) struct Shared {
    pub(super) database: Database,
    pub(super) keys: Option<Keys>,
    pub(super) writer: Mutex<Writer>,
}

/// The connection that writes.
pub(super) enum Writer {
    Open(Box<SqliteConnection>),
    /// A failure left the connection in an unknown state; the next batch opens another one before this one goes (see
    /// [`Database::reconnect`]).
    Lost(Box<SqliteConnection>),
    Closed,
}

/// Blobs, records and series in one SQLite database. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct SqliteHistory {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for SqliteHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteHistory")
            .field("path", &self.shared.database.path())
            .finish_non_exhaustive()
    }
}

impl SqliteHistory {
    /// Opens the database at `path`, creating and migrating it as needed. With `keys` all of it is sealed, also what was there plain.
    ///
    /// The caller holds the lock that keeps a second process away.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the file is no database, [`StoreError::TooNew`] when a newer version has changed it,
    /// [`StoreError::Full`], [`StoreError::ReadOnly`] and [`StoreError::Engine`] when it cannot be opened, [`StoreError::Keys`] when something cannot be sealed.
    pub async fn open(path: &Path, keys: Option<Keys>) -> Result<SqliteHistory, StoreError> {
        let how = Use {
            migrations: &MIGRATIONS,
            readers: READERS,
            busy: BUSY,
        };
        let (database, connection) = Database::open(path, &how).await?;
        let history = SqliteHistory {
            shared: Arc::new(Shared {
                database,
                keys,
                writer: Mutex::new(Writer::Open(Box::new(connection))),
            }),
        };
        if let Err(error) = history.reseal().await {
            // What is there can be read all the same; what cannot be sealed now is at the next start.
            tracing::error!(error = &error as &dyn std::error::Error, "cannot seal the history");
        }
        Ok(history)
    }

    /// Seals everything with the newest key; answers when nothing is sealed with another one, or plain.
    ///
    /// # Errors
    /// Those of a batch.
    pub async fn reseal(&self) -> Result<(), StoreError> {
        seal::all(&self.shared).await
    }
}

#[async_trait]
impl History for SqliteHistory {
    async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        commit::commit(&self.shared, batch).await
    }

    async fn record(&self, collection: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
        read::record(&self.shared, collection, key).await
    }

    async fn records(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        read::records(&self.shared, collection).await
    }

    async fn blob(&self, digest: &str) -> Result<Option<Bytes>, StoreError> {
        read::blob(&self.shared, digest).await
    }

    async fn has_blob(&self, digest: &str) -> Result<bool, StoreError> {
        read::has_blob(&self.shared, digest).await
    }

    async fn series(&self, series: &str, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        read::series(&self.shared, series, before, limit).await
    }

    async fn keep_only_blobs(&self, keep: &BTreeSet<String>) -> Result<usize, StoreError> {
        commit::keep_only_blobs(&self.shared, keep).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.shared.writer.lock().await;
        match std::mem::replace(&mut *writer, Writer::Closed) {
            Writer::Open(connection) => self.shared.database.close(*connection).await,
            Writer::Lost(_) => {
                self.shared.database.readers.close().await;
                Ok(())
            }
            Writer::Closed => Err(StoreError::Closed),
        }
    }
}

impl Shared {
    pub(super) fn failure(&self, operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError + use<'_> {
        self.database.failure(operation)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> StoreError {
        self.database.damaged(what)
    }
}

impl Writer {
    /// The connection, opened anew after a failure.
    pub(super) async fn connection(&mut self, shared: &Shared) -> Result<&mut SqliteConnection, StoreError> {
        if matches!(self, Writer::Lost(_)) {
            let connection = shared
                .database
                .reconnect()
                .await
                .map_err(shared.failure("reopen the database"))?;
            *self = Writer::Open(Box::new(connection));
        }
        match self {
            Writer::Open(connection) => Ok(connection),
            Writer::Lost(_) | Writer::Closed => Err(StoreError::Closed),
        }
    }
}
