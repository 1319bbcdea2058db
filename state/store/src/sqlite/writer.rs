//! The one writer: decides, commits in groups, publishes, answers.
//!
//! Invariants:
//! * A write is decided against what is committed plus what precedes it in its own batch.
//! * Memory and watchers learn of a batch after its commit and before any of its writers is answered.
//! * A batch that fails answers its error to every writer in it and leaves memory as it was. Where it is unknown whether the
//!   commit reached the disk, the database itself is asked before anything else is written.
//! * A revision that anybody sees is covered on disk: by a row, or by the block that is reserved for writes without one.
//!
//! What is to be done now and then (`upkeep`) is done here too, between batches and in small steps.

mod upkeep;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::codec::Place;
use super::memory::{Current, Lasting, Row};
use super::past::{self, sql};
use super::statements::{Argument, Statements};
use crate::database::fold;
use crate::log::{Expect, Revision, StoreError};
pub(super) use upkeep::Upkeep;

/// The most writes that share a transaction.
const BATCH: usize = 1024;
/// So long nobody has written anything when upkeep is done.
const QUIET: Duration = Duration::from_millis(2);
/// How many revisions are reserved at a time for writes that have no row.
const BLOCK: Revision = 4096;

/// Who waits for an answer.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What a write does.
pub(super) enum Deed {
    Put(Bytes),
    /// A put that need not last.
    Refresh(Bytes),
    Delete,
}

/// One write that waits.
pub(super) struct Write {
    pub(super) key: String,
    pub(super) deed: Deed,
    pub(super) expect: Expect,
    pub(super) reply: Reply<Revision>,
}

/// What the writer is asked for.
pub(super) enum Command {
    /// Put or delete a key.
    Write(Write),
    /// Forget what was superseded before a revision; answered when the rows are gone.
    Compact { keep_from: Revision, reply: Reply<()> },
    /// Seal everything with the newest key; answered when it is.
    Reseal { reply: Reply<()> },
    /// Close the database; answered when it is closed.
    Close { reply: Reply<()> },
}

/// The writer's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failure that it did not get over, until the database has been asked what it holds.
    connection: Option<SqliteConnection>,
    /// The one before it, until there is another.
    lost: Option<SqliteConnection>,
    /// Whether something failed since the write-ahead log was begun: it is begun anew before anything else is acknowledged.
    failed: bool,
    commands: mpsc::Receiver<Command>,
    /// Up to where revisions may be issued without a row.
    reserved: Revision,
    /// The newest time that a write was given, in Unix milliseconds.
    latest: i64,
    upkeep: Upkeep,
}

/// What a round of commands amounts to.
#[derive(Default)]
struct Round {
    writes: Vec<Write>,
    others: Vec<Command>,
    closes: Vec<Reply<()>>,
}

impl Round {
    fn take(&mut self, command: Command) {
        match command {
            Command::Write(write) => self.writes.push(write),
            Command::Close { reply } => self.closes.push(reply),
            other => self.others.push(other),
        }
    }
}

/// What each writer is answered if the batch is committed.
type Answers = Vec<(Reply<Revision>, Result<Revision, StoreError>)>;

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: SqliteConnection,
        commands: mpsc::Receiver<Command>,
        upkeep: Upkeep,
    ) -> Writer {
        let reserved = shared.memory.figures().0;
        Writer {
            shared,
            connection: Some(connection),
            lost: None,
            failed: false,
            commands,
            reserved,
            latest: 0,
            upkeep,
        }
    }

    /// Runs until the store is closed or its last handle is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let mut round = Round::default();
            let busy = self.upkeep.is_busy(self.shared.memory.figures().0);
            let next = match busy {
                // Whoever writes one thing after the other comes back at once: upkeep is for when nobody does.
                true => tokio::time::timeout(QUIET, self.commands.recv()).await.ok(),
                false => Some(self.commands.recv().await),
            };
            match next {
                Some(Some(command)) => round.take(command),
                Some(None) => break self.shut(Vec::new()).await,
                None => {}
            }
            while round.writes.len() < BATCH
                && let Ok(command) = self.commands.try_recv()
            {
                round.take(command);
            }
            let wrote = round.writes.len();
            // Heartbeats by themselves: what the disk does to the others is nothing to them.
            let (refreshes, others) = round
                .writes
                .into_iter()
                .partition(|write| matches!(write.deed, Deed::Refresh(_)));
            self.commit(refreshes).await;
            self.commit(others).await;
            self.maintain(round.others, wrote).await;
            if !round.closes.is_empty() || (self.commands.is_closed() && self.commands.is_empty()) {
                break self.shut(round.closes).await;
            }
        }
    }

    /// Decides a batch, commits what holds and answers all of it; returns whether the commit succeeded.
    async fn commit(&mut self, writes: Vec<Write>) -> bool {
        if writes.is_empty() {
            return true;
        }
        // What is in memory is right unless it is open what became of a commit; only what goes to disk needs a connection besides.
        if self.upkeep.unsettled.is_some()
            && let Err(error) = self.recover().await
        {
            fail(writes.into_iter().map(|write| write.reply), &error);
            return false;
        }
        let (rows, answers) = self.decide(writes);
        let statements = match self.statements(&rows) {
            Ok(statements) => statements,
            Err(error) => {
                fail(answers.into_iter().map(|(reply, _)| reply), &error);
                return false;
            }
        };
        let batches = u64::from(!statements.is_empty());
        let committed = if statements.is_empty() {
            Ok(())
        } else {
            self.run_statements(statements, &rows).await
        };
        if let Err(error) = committed {
            fail(answers.into_iter().map(|(reply, _)| reply), &error);
            return false;
        }
        let counters = &self.shared.counters;
        let refreshed = rows
            .iter()
            .filter(|row| matches!(row.lasting, Lasting::Memory(_)))
            .count();
        counters.refreshes.fetch_add(refreshed as u64, Ordering::Relaxed);
        counters
            .writes
            .fetch_add((rows.len() - refreshed) as u64, Ordering::Relaxed);
        counters.batches.fetch_add(batches, Ordering::Relaxed);
        self.shared.memory.apply(rows);
        for (reply, answer) in answers {
            // A writer that no longer waits wants no answer.
            drop(reply.send(answer));
        }
        true
    }

    /// Decides which writes hold, and what each of them writes.
    fn decide(&mut self, writes: Vec<Write>) -> (Vec<Row>, Answers) {
        let mut newest = self.shared.memory.figures().0;
        let at = self.now();
        let mut rows: Vec<Row> = Vec::with_capacity(writes.len());
        let mut answers = Vec::with_capacity(writes.len());
        let mut pending: HashMap<String, Option<Current>> = HashMap::new();
        for write in writes {
            let Write {
                key,
                deed,
                expect,
                reply,
            } = write;
            let current = match pending.get(&key) {
                Some(current) => current.clone(),
                None => self.shared.memory.current(&key),
            };
            let deletes = matches!(deed, Deed::Delete);
            let holds = match (expect, &current) {
                (Expect::Any, current) => !deletes || current.is_some(),
                (Expect::Absent, current) => current.is_none() && !deletes,
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
            let stored = current.as_ref().map_or(0, |current| current.stored);
            let lasting = match (self.shared.memory.rules().history(&key), &deed) {
                (true, _) => Lasting::History,
                (false, Deed::Refresh(_)) if stored != 0 => Lasting::Memory(stored),
                (false, _) => Lasting::Newest(stored),
            };
            let value = match deed {
                Deed::Put(value) | Deed::Refresh(value) => Some(value),
                Deed::Delete => None,
            };
            let previous = current.as_ref().map_or(0, |current| current.modified);
            let created = current.as_ref().map_or(newest, |current| current.created);
            pending.insert(
                key.clone(),
                value.clone().map(|value| Current {
                    value,
                    created,
                    modified: newest,
                    stored: match lasting {
                        Lasting::Memory(stored) => stored,
                        Lasting::History | Lasting::Newest(_) => newest,
                    },
                    at,
                }),
            );
            rows.push(Row {
                revision: newest,
                key,
                created,
                previous,
                value,
                at,
                lasting,
            });
            answers.push((reply, Ok(newest)));
        }
        (rows, answers)
    }

    /// What a batch writes to disk; nothing when all of it need not last and revisions are reserved for it.
    fn statements(&self, rows: &[Row]) -> Result<Statements, StoreError> {
        let (mut log, mut values, mut lives, mut gone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row.lasting {
                Lasting::Memory(_) => continue,
                Lasting::Newest(stored) if stored > 0 => gone.push(Argument::Integer(sql(stored))),
                Lasting::Newest(_) | Lasting::History => {}
            }
            if row.created == row.revision {
                lives.extend([Argument::Integer(sql(row.created)), Argument::Text(row.key.clone())]);
            }
            log.extend(
                [row.revision, row.created, row.previous, u64::from(row.value.is_none())]
                    .map(|n| Argument::Integer(sql(n))),
            );
            log.push(Argument::Integer(row.at));
            if let Some(value) = &row.value {
                let held = self
                    .shared
                    .codec
                    .hold(&row.key, Place::Value(row.revision), value)
                    .map_err(|error| self.shared.reader().unreadable(&row.key, row.revision, error))?;
                values.extend([
                    Argument::Integer(sql(row.revision)),
                    Argument::Integer(held.sealed),
                    Argument::Bytes(held.bytes),
                ]);
            }
        }
        let mut statements = Statements::default();
        statements.rows("INSERT INTO life (created, key) VALUES", 2, "", lives);
        statements.rows(
            "INSERT INTO log (rev, created, previous, deleted, at) VALUES",
            5,
            "",
            log,
        );
        statements.rows("INSERT INTO value (rev, sealed, bytes) VALUES", 3, "", values);
        // Within a batch a key may have been written more than once: what is superseded goes after all is there.
        statements.rows("DELETE FROM log WHERE rev IN (VALUES", 1, ")", gone.clone());
        statements.rows("DELETE FROM value WHERE rev IN (VALUES", 1, ")", gone);
        if let Some(reserved) = self.reservation(rows) {
            statements.push(
                "UPDATE horizon SET reserved = ?",
                vec![Argument::Integer(sql(reserved))],
            );
        }
        Ok(statements)
    }

    /// Up to where revisions are to be reserved with a batch: it has a write without a row that nothing on disk covers, or it goes to
    /// disk anyway and half of the last block is used. So there are some left for heartbeats when the disk is full.
    fn reservation(&self, rows: &[Row]) -> Option<Revision> {
        let newest = rows.last()?;
        let in_memory = |row: &Row| matches!(row.lasting, Lasting::Memory(_));
        let uncovered = in_memory(newest) && newest.revision > self.reserved;
        let ahead = newest.revision + BLOCK / 2 > self.reserved
            && self.shared.memory.rules().any_without_history()
            && !rows.iter().all(in_memory);
        (uncovered || ahead).then_some(newest.revision + BLOCK)
    }

    /// Commits a batch. Where that failed but the database has it, it succeeded.
    async fn run_statements(&mut self, statements: Statements, rows: &[Row]) -> Result<(), StoreError> {
        let durable = rows.iter().rev().find(|row| !matches!(row.lasting, Lasting::Memory(_)));
        let durable = durable.map(|row| row.revision);
        let reserved = self.reservation(rows).unwrap_or(self.reserved);
        self.recover().await?;
        let Some(connection) = &mut self.connection else {
            return Err(StoreError::Closed);
        };
        let Err(error) = statements.commit(connection).await else {
            self.reserved = reserved;
            return Ok(());
        };
        let error = (self.shared.database.failure("commit a write"))(error);
        let there = match durable {
            Some(durable) => past::has(connection, durable).await,
            None => Ok(false),
        };
        self.mend().await;
        match there {
            Ok(false) => {
                // Its frames may lie whole behind the end of the write-ahead log, and be found after a crash: the next heartbeat,
                // whose revision might be theirs, has to write over them first.
                if !matches!(error, StoreError::Full { .. } | StoreError::ReadOnly { .. }) {
                    self.reserved = 0;
                }
                Err(error)
            }
            Ok(true) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a commit that reported an error is there"
                );
                // The reservation was in the same transaction.
                self.reserved = reserved;
                Ok(())
            }
            Err(_) => {
                self.upkeep.uncertain(rows, durable);
                Err(error)
            }
        }
    }

    /// After a failure: makes the connection usable, or gives it up. It is kept where it can be; see [`Database::reconnect`](crate::database::Database::reconnect).
    pub(super) async fn mend(&mut self) {
        self.failed = true;
        self.upkeep.doubt();
        let Some(connection) = &mut self.connection else { return };
        // Most often nothing is left to be rolled back, which SQLite calls an error.
        let rolled_back = sqlx::query("ROLLBACK").execute(&mut *connection).await;
        tracing::debug!(?rolled_back, "a transaction failed");
        let answers = sqlx::query("SELECT oldest FROM horizon").execute(connection).await;
        if answers.is_err() {
            self.lost = self.connection.take().or(self.lost.take());
        }
    }

    /// Makes sure of a connection, that memory holds everything that is durable, and that what is written next will be.
    async fn recover(&mut self) -> Result<(), StoreError> {
        let failed = || self.shared.database.failure("reopen the database");
        if self.connection.is_none() {
            let connection = self.shared.database.reconnect().await.map_err(failed())?;
            self.connection = Some(connection);
            self.lost = None;
        }
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        if let Some((rows, durable)) = self.upkeep.unsettled.take() {
            match past::has(connection, durable).await {
                Ok(true) => {
                    tracing::warn!(
                        rows = rows.len(),
                        "a commit that reported an error had reached the disk"
                    );
                    self.shared.memory.apply(rows);
                }
                Ok(false) => {}
                Err(error) => {
                    self.upkeep.unsettled = Some((rows, durable));
                    return Err(failed()(error));
                }
            }
        }
        if self.failed {
            // A flush that failed may have left holes in the file, or its length, that the kernel takes for written: what is appended
            // behind them would be lost with the next power cut, however well it was flushed.
            fold(connection)
                .await
                .map_err(self.shared.database.failure("begin the write-ahead log anew"))?;
            self.failed = false;
        }
        Ok(())
    }

    /// The time of a write in Unix milliseconds: no earlier than that of the write before, unless the clock was set back by more than moments.
    fn now(&mut self) -> i64 {
        const MOMENTS: i64 = 300_000;
        let Some(now) = &self.shared.options.now else { return 0 };
        let now = now().as_millisecond();
        if now > self.latest || self.latest - now > MOMENTS {
            self.latest = now;
        }
        self.latest
    }

    /// Saves what is in memory only, folds the write-ahead log into the database, closes it and answers whoever still waits.
    async fn shut(mut self, closes: Vec<Reply<()>>) {
        if let Err(error) = self.save().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the newest heartbeats could not be saved: those who send them will send others"
            );
        }
        self.shared.memory.close();
        self.commands.close();
        let closed = match self.connection.take() {
            Some(connection) => self.shared.database.close(connection).await,
            None => {
                self.shared.database.readers.close().await;
                Ok(())
            }
        };
        match closed {
            Ok(()) => closes.into_iter().for_each(|reply| drop(reply.send(Ok(())))),
            Err(error) => fail(closes.into_iter(), &error),
        }
        // Dropping the queue answers the rest with `Closed`.
    }

    /// Writes down what was only refreshed, and that no revision after the newest was issued.
    async fn save(&mut self) -> Result<(), StoreError> {
        if self.upkeep.unsettled.is_some() {
            self.recover().await?;
        }
        let newest = self.shared.memory.figures().0;
        let unsaved = self.shared.memory.unsaved();
        if unsaved.is_empty() && self.reserved <= newest {
            return Ok(());
        }
        self.recover().await?;
        let rows: Vec<Row> = unsaved
            .into_iter()
            .map(|(key, current)| Row {
                revision: current.modified,
                key,
                created: current.created,
                previous: current.stored,
                value: Some(current.value),
                at: current.at,
                lasting: Lasting::Newest(current.stored),
            })
            .collect();
        let mut statements = self.statements(&rows)?;
        statements.push("UPDATE horizon SET reserved = ?", vec![Argument::Integer(sql(newest))]);
        let Some(connection) = &mut self.connection else {
            return Err(StoreError::Closed);
        };
        statements
            .commit(connection)
            .await
            .map_err(self.shared.database.failure("save what was only in memory"))
    }
}

/// Answers an error to all who wait.
fn fail<T>(replies: impl Iterator<Item = Reply<T>>, error: &StoreError) {
    for reply in replies {
        // Whoever no longer waits wants no answer.
        drop(reply.send(Err(error.clone())));
    }
}
