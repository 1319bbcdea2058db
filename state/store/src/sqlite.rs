//! The engine that ships: one SQLite database, one writer, memory as the read model.
//!
//! The current value of every key is held in memory, so a read of the present touches no disk; a read of the past goes
//! to SQL on connections of its own. All writes pass through one task, which decides them against memory, commits
//! whatever waits in one transaction, and only then changes memory, hands the changes to the watchers and answers.
//!
//! Memory never runs ahead of the disk, but for refreshed values: what a reader or watcher sees is durable, or a heartbeat.
//!
//! Where to start: `writer` for the commit, `memory` for what readers see, `watch` for the joint between replay and
//! live events, `packing` and `compaction` for what becomes of the past; the tables are told of in the migrations.

mod codec;
mod compaction;
mod memory;
mod packing;
mod past;
mod recent;
mod reseal;
mod restore;
mod rules;
mod statements;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use crate::database::{Database, Use};
use crate::keys::Keys;
use crate::log::{Changes, Expect, KeyValue, Log, Moment, Page, Revision, Rule, StoreError, WatchStream, Window};
use codec::Codec;
use memory::{Memory, Read};
pub use restore::{newest_issued, skip_past};
use rules::Rules;
use writer::{Command, Deed, Upkeep, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

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
    /// What was superseded so many revisions ago is compressed: watches that begin lately read it as it was put.
    pub pack_behind: u64,
    /// The clock for commit times; without it history is forgotten by size only, and nothing expires.
    pub now: Option<Now>,
    /// What is kept otherwise than the rest.
    pub rules: Vec<Rule>,
    /// The keys to seal with what a rule wants sealed.
    pub keys: Option<Keys>,
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
            pack_behind: 1024,
            now: None,
            rules: Vec::new(),
            keys: None,
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
    /// The database, in bytes.
    pub bytes: u64,
    /// Its write-ahead log, in bytes.
    pub wal_bytes: u64,
    /// Durable writes since the store was opened.
    pub writes: u64,
    /// Writes that stay in memory since then.
    pub refreshes: u64,
    /// Transactions that carried them.
    pub batches: u64,
    /// Watchers that are open.
    pub watchers: u64,
}

#[derive(Default)]
struct Counters {
    writes: AtomicU64,
    refreshes: AtomicU64,
    batches: AtomicU64,
}

/// What the parts of one open store share.
struct Shared {
    options: SqliteOptions,
    database: Database,
    codec: Codec,
    memory: Memory,
    counters: Counters,
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
    /// [`StoreError::Damaged`] when the file is no database, [`StoreError::TooNew`] when a newer version has changed it,
    /// [`StoreError::Keys`] when a key that is needed is not there, [`StoreError::Full`], [`StoreError::ReadOnly`] and
    /// [`StoreError::Engine`] when it cannot be opened.
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<SqliteLog, StoreError> {
        let (database, connection) = Database::open(path, &options.usage()).await?;
        SqliteLog::start(database, connection, options).await
    }

    /// Makes a log that is gone when it is closed.
    ///
    /// # Errors
    /// As [`SqliteLog::open`].
    pub async fn in_memory(options: SqliteOptions) -> Result<SqliteLog, StoreError> {
        let (database, connection) = Database::in_memory(&options.usage()).await?;
        SqliteLog::start(database, connection, options).await
    }

    async fn start(
        database: Database,
        mut connection: SqliteConnection,
        options: SqliteOptions,
    ) -> Result<SqliteLog, StoreError> {
        let rules = Rules::new(options.rules.clone());
        let codec = Codec::new(options.keys.clone(), rules.clone());
        let reader = past::Reader {
            database: &database,
            codec: &codec,
        };
        let loaded = past::load(&reader, &mut connection).await?;
        let shared = Arc::new(Shared {
            memory: Memory::new(loaded, rules, options.watch_buffer),
            options,
            database,
            codec,
            counters: Counters::default(),
        });
        let upkeep = Upkeep::resume(&shared, &mut connection).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(Writer::new(shared.clone(), connection, receiver, upkeep).run());
        Ok(SqliteLog { shared, writer: sender })
    }

    /// Seals everything that is to be sealed with the newest key; answers when nothing is sealed with another one, or plain.
    ///
    /// # Errors
    /// [`StoreError::Closed`], and those of a write.
    pub async fn reseal(&self) -> Result<(), StoreError> {
        self.ask(|reply| Command::Reseal { reply }).await
    }

    /// Returns what the store has done and holds.
    pub fn stats(&self) -> StoreStats {
        let (revision, oldest, keys, watchers) = self.shared.memory.figures();
        let (database, wal) = self.shared.database.bytes();
        StoreStats {
            revision,
            oldest,
            keys,
            watchers,
            bytes: database,
            wal_bytes: wal,
            refreshes: self.shared.counters.refreshes.load(Ordering::Relaxed),
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

impl SqliteOptions {
    fn usage(&self) -> Use<'static> {
        Use {
            migrations: &MIGRATIONS,
            readers: self.readers,
            busy: self.busy_timeout,
        }
    }
}

impl SqliteLog {
    async fn write(&self, key: &str, deed: Deed, expect: Expect) -> Result<Revision, StoreError> {
        let key = key.to_owned();
        self.ask(|reply| {
            Command::Write(writer::Write {
                key,
                deed,
                expect,
                reply,
            })
        })
        .await
    }
}

#[async_trait]
impl Log for SqliteLog {
    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, StoreError> {
        match self.shared.memory.get(key, at)? {
            Read::Here(found) => Ok(found),
            Read::Past(at) | Read::Both(_, at) => past::get(&self.shared, key, at).await,
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
            Read::Here(page) => Ok(page),
            Read::Past(at) => past::list(&self.shared, prefix, after, limit, at).await,
            Read::Both(here, at) => {
                // Rare (a prefix of several kinds, some without history): all of it, then the page.
                let mut page = past::list(&self.shared, prefix, after, 0, at).await?;
                page.items
                    .retain(|found| self.shared.memory.rules().history(&found.key));
                page.items.extend(here.items);
                page.items.sort_unstable_by(|a, b| a.key.cmp(&b.key));
                if limit > 0 && page.items.len() > limit {
                    page.items.truncate(limit);
                    page.more = true;
                }
                Ok(page)
            }
        }
    }

    async fn count(&self, prefix: &str, at: Option<Revision>) -> Result<u64, StoreError> {
        match self.shared.memory.count(prefix, at)? {
            Read::Here(count) => Ok(count),
            Read::Past(at) => past::count(&self.shared, prefix, at).await,
            Read::Both(_, at) => Ok(self.list(prefix, None, 0, Some(at)).await?.items.len() as u64),
        }
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.write(key, Deed::Put(value), expect).await
    }

    async fn refresh(&self, key: &str, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.write(key, Deed::Refresh(value), expect).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Revision, StoreError> {
        self.write(key, Deed::Delete, expect).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        watch::start(self.shared.clone(), prefix, from)
    }

    async fn changes(
        &self,
        prefix: &str,
        after: Revision,
        upto: Revision,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        self.shared.memory.check_readable(after)?;
        let upto = upto.min(self.revision());
        let past::Replayed { changes, upto } = past::replay(&self.shared, prefix, after, upto, limit).await?;
        Ok(Changes { changes, upto })
    }

    async fn moment(&self, time: Timestamp) -> Result<Option<Moment>, StoreError> {
        match self.shared.options.now {
            Some(_) => past::moment(&self.shared, time).await,
            // Without a clock no write has a time.
            None => Ok(None),
        }
    }

    async fn window(&self) -> Result<Window, StoreError> {
        let stats = self.stats();
        Ok(Window {
            newest: stats.revision,
            oldest: stats.oldest,
            since: past::time_of(&self.shared, stats.oldest).await?,
            bytes: stats.bytes + stats.wal_bytes,
            keep_bytes: self.shared.options.keep_bytes,
            keep_age: match self.shared.options.now {
                Some(_) => self.shared.options.keep_age,
                None => Duration::ZERO,
            },
        })
    }

    async fn compact(&self, keep_from: Revision) -> Result<(), StoreError> {
        self.ask(|reply| Command::Compact { keep_from, reply }).await
    }

    fn revision(&self) -> Revision {
        self.shared.memory.figures().0
    }
}
