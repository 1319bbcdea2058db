//! The engine that ships: one SQLite database, one writer, memory as the read model.
//!
//! The current value of every key is held in memory, so a read of the present touches no disk; a read of the past goes
//! to SQL on connections of its own. All writes pass through one task, which decides them against memory, commits
//! whatever waits in one transaction, and only then changes memory, hands the changes to the watchers and answers.
//!
//! Memory never runs ahead of the disk: what a reader or watcher sees is durable.
//!
//! Where to start: `writer` for the commit, `memory` for what readers see, `watch` for the joint between replay and
//! live events, `compaction` for forgetting.

mod compaction;
mod history;
mod memory;
mod watch;
mod writer;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::{mpsc, oneshot};

use crate::log::{Changes, Expect, KeyValue, Log, Moment, Page, Revision, Rule, StoreError, WatchStream, Window};
use memory::Memory;
use writer::{Command, Writer};

/// The clock, handed in so that tests can turn it.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// How many commands may wait for the writer before their senders wait too.
const QUEUE: usize = 4096;

/// How a [`SqliteLog`] behaves.
#[derive(Clone)]
pub struct SqliteOptions {
    /// How long superseded values are kept; needs `now`.
    pub keep_age: Duration,
    /// The size of the database, in bytes, from which history is forgotten even if it is younger than `keep_age`.
    pub keep_bytes: u64,
    /// How often, at most, age and size are looked at. It happens after a write, never on a timer.
    pub maintenance_interval: Duration,
    /// How many changes a watcher may lag behind before it is cut off.
    pub watch_buffer: usize,
    /// How long a statement waits for another process's lock on the database before it fails.
    pub busy_timeout: Duration,
    /// How many connections read the past.
    pub readers: u32,
    /// The clock for commit times; without it history is forgotten by size only, and nothing expires.
    pub now: Option<Now>,
    /// What is kept otherwise than the rest.
    pub rules: Vec<Rule>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions {
            keep_age: Duration::from_secs(24 * 60 * 60),
            keep_bytes: 1 << 30,
            maintenance_interval: Duration::from_secs(60),
            watch_buffer: 8192,
            busy_timeout: Duration::from_secs(5),
            readers: 2,
            now: None,
            rules: Vec::new(),
        }
    }
}

impl std::fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("keep_age", &self.keep_age)
            .field("keep_bytes", &self.keep_bytes)
            .field("watch_buffer", &self.watch_buffer)
            .finish_non_exhaustive()
    }
}

/// What the store has done and holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The newest durable revision.
    pub revision: Revision,
    /// The oldest revision that can still be read.
    pub oldest: Revision,
    /// How many keys exist now.
    pub keys: u64,
    /// The database and its write-ahead log, in bytes.
    pub bytes: u64,
    /// Writes committed since the store was opened.
    pub writes: u64,
    /// Transactions that carried them.
    pub batches: u64,
    /// Watchers that are open.
    pub watchers: u64,
}

#[derive(Default)]
struct Counters {
    writes: AtomicU64,
    batches: AtomicU64,
}

/// What the parts of one open store share.
struct Shared {
    path: PathBuf,
    options: SqliteOptions,
    connect: SqliteConnectOptions,
    memory: Memory,
    readers: SqlitePool,
    counters: Counters,
}

impl Shared {
    fn engine(&self, operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError + use<> {
        engine(&self.path, operation)
    }

    /// Returns the size of the database's files in bytes.
    fn bytes(&self) -> u64 {
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        // A file that is not there (no write-ahead log yet) counts nothing.
        [self.path.as_os_str(), wal.as_os_str()]
            .iter()
            .map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len()))
            .sum()
    }
}

fn engine(path: &Path, operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError + use<> {
    let path = path.display().to_string();
    move |source| StoreError::Engine {
        operation,
        path,
        source: Box::new(source),
    }
}

/// A revision log in one SQLite database. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct SqliteLog {
    shared: Arc<Shared>,
    writer: mpsc::Sender<Command>,
}

impl SqliteLog {
    /// Opens the database at `path`, creating and migrating it as needed, and loads the current values.
    ///
    /// The caller holds the lock that keeps a second process away.
    ///
    /// # Errors
    /// [`StoreError::Engine`] when the file cannot be opened, is no database, or comes from a newer version.
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<SqliteLog, StoreError> {
        // SQLite would make the file readable for everybody; its -wal and -shm take over the mode of the database.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(sqlx::Error::Io)
            .map_err(engine(path, "create the database"))?;
        let connect = SqliteConnectOptions::from_str("sqlite:")
            .map_err(engine(path, "configure SQLite"))?
            .filename(path)
            .create_if_missing(true)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            // In KiB: what is current is kept in memory apart from this, and every connection has a cache of its own.
            .pragma("cache_size", "-512")
            .busy_timeout(options.busy_timeout)
            .statement_cache_capacity(32)
            .disable_statement_logging();
        let mut connection = connect.connect().await.map_err(engine(path, "open the database"))?;
        sqlx::migrate!("./migrations")
            .run(&mut connection)
            .await
            .map_err(|source| StoreError::Engine {
                operation: "migrate the database",
                path: path.display().to_string(),
                source: Box::new(source),
            })?;
        let loaded = history::load(&mut connection)
            .await
            .map_err(engine(path, "load the current values"))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .min_connections(0)
            .acquire_timeout(Duration::from_secs(30))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(connect.clone().pragma("query_only", "ON").pragma("cache_size", "-128"));
        let shared = Arc::new(Shared {
            path: path.to_path_buf(),
            memory: Memory::new(loaded, options.watch_buffer),
            options,
            connect,
            readers,
            counters: Counters::default(),
        });
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(Writer::new(shared.clone(), connection, receiver).run());
        Ok(SqliteLog { shared, writer: sender })
    }

    /// Returns what the store has done and holds.
    pub fn stats(&self) -> StoreStats {
        let (revision, oldest, keys, watchers) = self.shared.memory.figures();
        StoreStats {
            revision,
            oldest,
            keys,
            watchers,
            bytes: self.shared.bytes(),
            writes: self.shared.counters.writes.load(Ordering::Relaxed),
            batches: self.shared.counters.batches.load(Ordering::Relaxed),
        }
    }

    /// Commits what waits, folds the write-ahead log into the database and closes it; later calls fail with `Closed`.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when it was closed already, [`StoreError::Engine`] when closing failed; nothing acknowledged is lost by that.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(|reply| Command::Close { reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl Log for SqliteLog {
    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, StoreError> {
        match self.shared.memory.get(key, at)? {
            memory::Read::Present(found) => Ok(found),
            memory::Read::Past(at) => history::get(&self.shared, key, at).await,
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        match self.shared.memory.list(prefix, after, limit, at)? {
            memory::Read::Present(page) => Ok(page),
            memory::Read::Past(at) => history::list(&self.shared, prefix, after, limit, at).await,
        }
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        let key = key.to_owned();
        self.ask(|reply| {
            Command::Write(writer::Write {
                key,
                value: Some(value),
                expect,
                reply,
            })
        })
        .await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Revision, StoreError> {
        let key = key.to_owned();
        self.ask(|reply| {
            Command::Write(writer::Write {
                key,
                value: None,
                expect,
                reply,
            })
        })
        .await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        watch::start(self.shared.clone(), prefix, from)
    }

    async fn count(&self, prefix: &str, at: Option<Revision>) -> Result<u64, StoreError> {
        Ok(self.list(prefix, None, 0, at).await?.items.len() as u64)
    }

    async fn changes(
        &self,
        prefix: &str,
        after: Revision,
        upto: Revision,
        _limit: usize,
    ) -> Result<Changes, StoreError> {
        let replayed = history::replay(&self.shared, prefix, after, upto).await?;
        Ok(Changes {
            changes: replayed.changes.into_iter().map(|change| (None, change)).collect(),
            upto: replayed.upto,
        })
    }

    async fn moment(&self, time: jiff::Timestamp) -> Result<Option<Moment>, StoreError> {
        let found: Option<(i64, i64)> =
            sqlx::query_as("SELECT at, rev FROM commit_time WHERE at <= ?1 ORDER BY at DESC LIMIT 1")
                .bind(time.as_second())
                .fetch_optional(&self.shared.readers)
                .await
                .map_err(self.shared.engine("look for a time"))?;
        Ok(found.and_then(|(at, rev)| {
            Some(Moment {
                revision: history::revision(rev),
                at: jiff::Timestamp::from_second(at).ok()?,
            })
        }))
    }

    async fn window(&self) -> Result<Window, StoreError> {
        let stats = self.stats();
        Ok(Window {
            newest: stats.revision,
            oldest: stats.oldest,
            since: None,
            bytes: stats.bytes,
            keep_bytes: self.shared.options.keep_bytes,
            keep_age: self.shared.options.keep_age,
        })
    }

    async fn compact(&self, keep_from: Revision) -> Result<(), StoreError> {
        self.ask(|reply| Command::Compact { keep_from, reply }).await
    }

    fn revision(&self) -> Revision {
        self.shared.memory.figures().0
    }
}
