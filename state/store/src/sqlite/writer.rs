//! The one writer: decides, commits in groups, publishes, answers.
//!
//! Invariants:
//! * A write is decided against what is committed plus what precedes it in its own batch.
//! * Memory and watchers learn of a batch after its commit and before any of its writers is answered.
//! * A batch that fails answers its error to every writer in it and leaves memory as it was. Where it is unknown whether the
//!   commit reached the disk, the database itself is asked before anything else is written.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Shared;
use super::compaction::{self, Compaction};
use super::history::{self, sql};
use super::memory::{Current, Row};
use crate::log::{Expect, Revision, StoreError};

/// The most writes that share a transaction.
const BATCH: usize = 1024;
/// The rows of the INSERT statements that are kept prepared: a batch is cut into the largest that fit.
const ROWS: [usize; 4] = [64, 16, 4, 1];

static INSERTS: LazyLock<[Arc<str>; 4]> = LazyLock::new(|| {
    ROWS.map(|rows| {
        let values = vec!["(?, ?, ?, ?, ?, ?)"; rows].join(", ");
        Arc::from(format!(
            "INSERT INTO log (rev, key, created, deleted, previous, value) VALUES {values}"
        ))
    })
});

/// One write that waits.
pub(super) struct Write {
    pub(super) key: String,
    /// `None` deletes.
    pub(super) value: Option<Bytes>,
    pub(super) expect: Expect,
    pub(super) reply: oneshot::Sender<Result<Revision, StoreError>>,
}

/// What the writer is asked for.
pub(super) enum Command {
    /// Put or delete a key.
    Write(Write),
    /// Forget what was superseded before a revision.
    Compact {
        /// The oldest revision to keep readable.
        keep_from: Revision,
        /// Answered when the rows are gone.
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Close the database.
    Close {
        /// Answered when it is closed.
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
}

/// An engine's error that several writers are answered with.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
struct SharedError(Arc<sqlx::Error>);

/// The writer's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failure, until the database has been asked what it holds.
    connection: Option<SqliteConnection>,
    commands: mpsc::Receiver<Command>,
    compaction: Option<Compaction>,
    /// When a commit time was last noted, in Unix seconds.
    noted: Option<i64>,
    maintained: Option<Instant>,
}

/// What a round of commands amounts to.
#[derive(Default)]
struct Round {
    writes: Vec<Write>,
    compactions: Vec<(Revision, oneshot::Sender<Result<(), StoreError>>)>,
    closes: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Round {
    fn take(&mut self, command: Command) {
        match command {
            Command::Write(write) => self.writes.push(write),
            Command::Compact { keep_from, reply } => self.compactions.push((keep_from, reply)),
            Command::Close { reply } => self.closes.push(reply),
        }
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, connection: SqliteConnection, commands: mpsc::Receiver<Command>) -> Writer {
        Writer {
            shared,
            connection: Some(connection),
            commands,
            compaction: None,
            noted: None,
            maintained: None,
        }
    }

    /// Runs until the store is closed or its last handle is dropped.
    pub(super) async fn run(mut self) {
        if let Some(connection) = &mut self.connection {
            match Compaction::resume(connection).await {
                Ok(compaction) => self.compaction = compaction,
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot resume compaction"),
            }
        }
        loop {
            let mut round = Round::default();
            if self.compaction.is_none() {
                match self.commands.recv().await {
                    Some(command) => round.take(command),
                    None => break self.shut(Vec::new()).await,
                }
            }
            while round.writes.len() < BATCH
                && let Ok(command) = self.commands.try_recv()
            {
                round.take(command);
            }
            self.commit(round.writes).await;
            self.maintain(round.compactions).await;
            if !round.closes.is_empty() || (self.commands.is_closed() && self.commands.is_empty()) {
                break self.shut(round.closes).await;
            }
        }
    }

    /// Decides a batch, commits what holds and answers all of it.
    async fn commit(&mut self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        if let Err(error) = self.recover().await {
            return self.fail(
                writes.into_iter().map(|write| write.reply),
                error,
                "reopen the database",
            );
        }
        let mut newest = self.shared.memory.figures().0;
        let mut rows: Vec<Row> = Vec::with_capacity(writes.len());
        let mut answers = Vec::with_capacity(writes.len());
        let mut pending: HashMap<String, Option<Current>> = HashMap::new();
        for Write {
            key,
            value,
            expect,
            reply,
        } in writes
        {
            let current = match pending.get(&key) {
                Some(current) => current.clone(),
                None => self.shared.memory.current(&key),
            };
            let holds = match (expect, &current) {
                (Expect::Any, current) => value.is_some() || current.is_some(),
                (Expect::Absent, current) => current.is_none() && value.is_some(),
                (Expect::Revision(wanted), current) => {
                    current.as_ref().is_some_and(|current| current.modified == wanted)
                }
            };
            if !holds {
                let current = current.map(|current| current.at(&key));
                answers.push((reply, Err(StoreError::Conflict { key, current })));
                continue;
            }
            newest += 1;
            let previous = current.as_ref().map_or(0, |current| current.modified);
            let created = current.as_ref().map_or(newest, |current| current.created);
            pending.insert(
                key.clone(),
                value.clone().map(|value| Current {
                    value,
                    created,
                    modified: newest,
                }),
            );
            rows.push(Row {
                revision: newest,
                key,
                created,
                previous,
                value,
            });
            answers.push((reply, Ok(newest)));
        }
        if !rows.is_empty()
            && let Err(error) = self.insert(&rows).await
        {
            // Whether the commit reached the disk is unknown: ask before deciding what to answer.
            self.connection = None;
            let recovered = self.recover().await;
            if recovered.is_err() || self.shared.memory.figures().0 < newest {
                return self.fail(answers.into_iter().map(|(reply, _)| reply), error, "commit a write");
            }
        } else if !rows.is_empty() {
            self.shared
                .counters
                .writes
                .fetch_add(rows.len() as u64, Ordering::Relaxed);
            self.shared.counters.batches.fetch_add(1, Ordering::Relaxed);
            self.shared.memory.apply(rows);
        }
        for (reply, answer) in answers {
            // A writer that no longer waits wants no answer.
            drop(reply.send(answer));
        }
    }

    /// Writes the rows in one transaction.
    async fn insert(&mut self, rows: &[Row]) -> Result<(), sqlx::Error> {
        let Some(connection) = &mut self.connection else {
            return Err(sqlx::Error::WorkerCrashed);
        };
        let mut parts = Vec::new();
        let mut rest = rows;
        for (size, statement) in ROWS.iter().zip(INSERTS.iter()) {
            while rest.len() >= *size {
                let (part, remaining) = rest.split_at(*size);
                parts.push((statement, part));
                rest = remaining;
            }
        }
        if let [(statement, part)] = parts.as_slice() {
            // A statement alone is a transaction of its own, and two round trips shorter.
            return insert_part(connection, statement, part).await;
        }
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for (statement, part) in parts {
            insert_part(&mut transaction, statement, part).await?;
        }
        transaction.commit().await
    }

    /// Makes sure of a connection, and that memory holds everything that is durable.
    async fn recover(&mut self) -> Result<(), sqlx::Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        let mut connection = self.shared.connect.connect().await?;
        let rows = history::rows_after(&mut connection, self.shared.memory.figures().0).await?;
        if !rows.is_empty() {
            tracing::warn!(
                rows = rows.len(),
                "a commit that reported an error had reached the disk"
            );
            self.shared.memory.apply(rows);
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn fail<T>(
        &self,
        replies: impl Iterator<Item = oneshot::Sender<Result<T, StoreError>>>,
        error: sqlx::Error,
        operation: &'static str,
    ) {
        let source = SharedError(Arc::new(error));
        for reply in replies {
            drop(reply.send(Err(StoreError::Engine {
                operation,
                path: self.shared.path.display().to_string(),
                source: Box::new(source.clone()),
            })));
        }
    }

    /// Starts compactions that were asked for or are due, and takes one step of the one under way.
    async fn maintain(&mut self, asked: Vec<(Revision, oneshot::Sender<Result<(), StoreError>>)>) {
        for (keep_from, reply) in asked {
            let (newest, oldest, ..) = self.shared.memory.figures();
            if keep_from > newest {
                drop(reply.send(Err(StoreError::Future {
                    requested: keep_from,
                    newest,
                })));
            } else if keep_from <= oldest && self.compaction.is_none() {
                drop(reply.send(Ok(())));
            } else {
                self.start_compaction(keep_from.max(oldest), Some(reply)).await;
            }
        }
        let idle = self
            .maintained
            .is_some_and(|at| at.elapsed() < self.shared.options.maintenance_interval);
        if !idle && self.compaction.is_none() {
            self.maintained = Some(Instant::now());
            if let Err(error) = self.look().await {
                self.connection = None;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot look after the store's history"
                );
            }
        }
        let Some(mut compaction) = self.compaction.take() else {
            return;
        };
        let stepped = match self.recover().await {
            Ok(()) => match &mut self.connection {
                Some(connection) => compaction.step(connection).await,
                None => Ok(false),
            },
            Err(error) => Err(error),
        };
        match stepped {
            Ok(false) => self.compaction = Some(compaction),
            Ok(true) => {
                tracing::debug!(oldest = compaction.target, "history compacted");
                for waiter in compaction.waiters {
                    drop(waiter.send(Ok(())));
                }
                // A size limit may want more than one go.
                self.maintained = None;
            }
            Err(error) => {
                // The cursor is durable: the next compaction goes on from there.
                self.connection = None;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot compact the store's history"
                );
                self.fail(compaction.waiters.into_iter(), error, "compact history");
            }
        }
    }

    async fn look(&mut self) -> Result<(), sqlx::Error> {
        self.recover().await?;
        let (newest, oldest, ..) = self.shared.memory.figures();
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        if let Some(now) = &self.shared.options.now {
            self.noted = compaction::note_time(connection, now, self.noted, newest).await?;
        }
        if let Some(keep_from) = compaction::due(connection, &self.shared, newest, oldest).await? {
            self.start_compaction(keep_from, None).await;
        }
        Ok(())
    }

    async fn start_compaction(&mut self, keep_from: Revision, reply: Option<oneshot::Sender<Result<(), StoreError>>>) {
        let started = match self.recover().await {
            Ok(()) => match &mut self.connection {
                Some(connection) => Compaction::start(connection, keep_from).await,
                None => return,
            },
            Err(error) => Err(error),
        };
        match started {
            Ok(mut compaction) => {
                self.shared.memory.forget_before(keep_from);
                if let Some(running) = self.compaction.take() {
                    compaction.waiters = running.waiters;
                    compaction.target = compaction.target.max(running.target);
                }
                compaction.waiters.extend(reply);
                self.compaction = Some(compaction);
            }
            Err(error) => {
                self.connection = None;
                self.fail(reply.into_iter(), error, "start to compact history");
            }
        }
    }

    /// Folds the write-ahead log into the database, closes it and answers whoever still waits.
    async fn shut(mut self, closes: Vec<oneshot::Sender<Result<(), StoreError>>>) {
        self.shared.memory.close();
        self.commands.close();
        self.shared.readers.close().await;
        let closed = match self.connection.take() {
            Some(connection) => close(connection).await,
            None => Ok(()),
        };
        match closed {
            Ok(()) => closes.into_iter().for_each(|reply| drop(reply.send(Ok(())))),
            Err(error) => self.fail(closes.into_iter(), error, "close the database"),
        }
        // Dropping the queue answers the rest with `Closed`.
    }
}

async fn close(mut connection: SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_all(&mut connection)
        .await?;
    connection.close().await
}

async fn insert_part(connection: &mut SqliteConnection, statement: &Arc<str>, rows: &[Row]) -> Result<(), sqlx::Error> {
    let mut query = sqlx::query::<sqlx::Sqlite>(AssertSqlSafe(statement.clone()));
    for row in rows {
        query = query
            .bind(sql(row.revision))
            .bind(row.key.clone())
            .bind(sql(row.created))
            .bind(i64::from(row.value.is_none()))
            .bind(sql(row.previous))
            .bind(row.value.as_deref().unwrap_or_default().to_vec());
    }
    query.execute(connection).await.map(drop)
}
