//! One SQLite database of this crate: how it is opened, by whom it is read, and what its errors mean.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

use crate::failure;
use crate::log::StoreError;

/// How long a reader waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(30);
/// After so many pages (of 4 KiB) the write-ahead log is folded into the database: a page that is written often is folded once.
const WAL_PAGES: &str = "4000";
/// To how much the write-ahead log is cut once it has been folded into the database, in bytes.
const WAL_KEPT: &str = "16777216";

/// A database, opened and migrated.
pub(crate) struct Database {
    path: PathBuf,
    connect: SqliteConnectOptions,
    /// Reads what is committed; each connection has a small cache of its own.
    pub(crate) readers: SqlitePool,
    /// Where the files are; `None` when it is in memory.
    on_disk: bool,
}

/// How a database is used.
pub(crate) struct Use<'u> {
    /// Its schema.
    pub(crate) migrations: &'u Migrator,
    /// How many connections read.
    pub(crate) readers: u32,
    /// How long a statement waits for another process's lock on the database.
    pub(crate) busy: Duration,
}

impl Database {
    /// Opens the database at `path`, creating and migrating it as needed, and returns the connection that writes.
    pub(crate) async fn open(path: &Path, how: &Use<'_>) -> Result<(Database, SqliteConnection), StoreError> {
        // SQLite would make the file readable for everybody; its -wal and -shm take over the mode of the database.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failure::of(path, "create the database", sqlx::Error::Io(error)))?;
        let plain = SqliteConnectOptions::new().filename(path);
        Database::with(path.to_path_buf(), plain, how, true).await
    }

    /// Makes a database in memory; it is gone with the last of its connections.
    pub(crate) async fn in_memory(how: &Use<'_>) -> Result<(Database, SqliteConnection), StoreError> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        // A name that begins with a slash is one database for all of this process.
        let name = format!("/setpoint-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let plain = SqliteConnectOptions::new().filename(&name).vfs("memdb");
        Database::with(name.into(), plain, how, false).await
    }

    async fn with(
        path: PathBuf,
        plain: SqliteConnectOptions,
        how: &Use<'_>,
        on_disk: bool,
    ) -> Result<(Database, SqliteConnection), StoreError> {
        let plain = plain
            .foreign_keys(false)
            .busy_timeout(how.busy)
            .statement_cache_capacity(32)
            .disable_statement_logging();
        let connect = plain
            .clone()
            .create_if_missing(true)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // In KiB: what is current is kept in memory apart from this, and every connection has a cache of its own.
            .pragma("cache_size", "-512")
            .pragma("wal_autocheckpoint", WAL_PAGES)
            .pragma("journal_size_limit", WAL_KEPT);
        let mut connection = connect
            .connect()
            .await
            .map_err(|error| failure::of(&path, "open the database", error))?;
        how.migrations
            .run(&mut connection)
            .await
            .map_err(|error| failure::of_migration(&path, how.migrations, error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(how.readers.max(1))
            // Open from the start: on a disk that is full or read-only by now it might not be opened any more.
            .min_connections(1)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            // Nothing that would write: the past is read on when nothing can be written.
            .connect_with(plain.pragma("query_only", "ON").pragma("cache_size", "-128"))
            .await
            .map_err(|error| failure::of(&path, "open the database", error))?;
        let database = Database {
            path,
            connect,
            readers,
            on_disk,
        };
        Ok((database, connection))
    }

    /// Opens another connection that writes, in the place of one that is of no use any more. That one is to be kept until this has
    /// answered: if it were the last one, SQLite would read the write-ahead log anew and take for committed what the page cache
    /// has of a commit whose flush failed, and the disk has not.
    pub(crate) async fn reconnect(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.connect.connect().await
    }

    /// Where the database is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives an error of SQLite its meaning.
    pub(crate) fn failure(&self, operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError + use<'_> {
        move |error| failure::of(&self.path, operation, error)
    }

    /// The error of a database that does not hold what was put there.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> StoreError {
        failure::damaged(&self.path, what)
    }

    /// Returns the size of the database and of its write-ahead log in bytes.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        if !self.on_disk {
            return (0, 0);
        }
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        // A file that is not there (no write-ahead log yet) counts nothing.
        let size = |path: &std::ffi::OsStr| std::fs::metadata(path).map_or(0, |meta| meta.len());
        (size(self.path.as_os_str()), size(&wal))
    }

    /// Folds the write-ahead log into the database and closes it.
    pub(crate) async fn close(&self, mut writer: SqliteConnection) -> Result<(), StoreError> {
        // Whoever reads the past and never comes to an end keeps nobody else from ending.
        if tokio::time::timeout(ACQUIRE, self.readers.close()).await.is_err() {
            tracing::warn!(database = %self.path.display(), "a reader did not end");
        }
        let folded = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_all(&mut writer)
            .await;
        // What is not folded yet is folded at the next start; the connection is closed either way.
        let closed = sqlx::Connection::close(writer).await;
        folded.map(drop).and(closed).map_err(self.failure("close the database"))
    }
}

/// Folds the write-ahead log into the database and empties it; an error when somebody reads what is in it.
pub(crate) async fn fold(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let (busy, ..): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(connection)
        .await?;
    match busy {
        0 => Ok(()),
        _ => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::ResourceBusy,
            "the write-ahead log cannot be begun anew while somebody reads it (a backup, perhaps); it is tried again by itself",
        ))),
    }
}
