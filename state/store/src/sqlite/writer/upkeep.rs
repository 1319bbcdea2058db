//! What the writer does between batches: old values are packed, forgotten and sealed anew, and keys go whose time is over.
//!
//! One step at a time, so that no write waits long; more of them where they fall behind. A step that fails is taken again
//! later: what each of them has done is in the database.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::Shared;
use super::super::compaction::{self, Compaction};
use super::super::memory::Row;
use super::super::packing::Packing;
use super::super::reseal::Reseal;
use super::{BATCH, Command, Deed, Reply, Write, Writer, fail};
use crate::log::{Expect, Revision, StoreError};

/// After so many writes it is looked what is due, however little time has passed.
const LOOK: Revision = 4096;
/// With so many revisions behind, steps are taken also between writes that come without a pause.
const FAR: Revision = 2048;
/// How long nothing is tried after a failure.
const REST: Duration = Duration::from_secs(5);
/// How many revisions a step walks where nobody waits: some milliseconds.
const STEP: Revision = 256;

/// Work under way.
pub(in crate::sqlite) struct Upkeep {
    compaction: Option<Compaction>,
    packing: Packing,
    reseal: Option<Reseal>,
    looked: Option<(Instant, Revision)>,
    /// Nothing is done before: something failed.
    rests: Option<Instant>,
    /// Writes of which it is not known whether they are on disk, and the revision of the last of them that would be.
    pub(super) unsettled: Option<(Vec<Row>, Revision)>,
}

impl Upkeep {
    /// Finds what an earlier process left unfinished.
    pub(in crate::sqlite) async fn resume(
        shared: &Shared,
        connection: &mut SqliteConnection,
    ) -> Result<Upkeep, StoreError> {
        let failed = || shared.database.failure("look after history");
        Ok(Upkeep {
            compaction: Compaction::resume(connection).await.map_err(failed())?,
            packing: Packing::resume(connection, shared.options.pack_behind)
                .await
                .map_err(failed())?,
            reseal: Reseal::due(shared, connection).await?,
            looked: None,
            rests: None,
            unsettled: None,
        })
    }

    /// Whether there is something to do without being asked.
    pub(super) fn is_busy(&self, newest: Revision) -> bool {
        if self.rests.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        self.compaction.is_some() || self.reseal.is_some() || self.packing.is_due(newest)
    }

    /// The database was opened anew.
    pub(super) fn doubt(&mut self) {
        self.packing.doubt();
    }

    /// Whether writes reached the disk has to be asked later.
    pub(super) fn uncertain(&mut self, rows: &[Row], durable: Option<Revision>) {
        self.unsettled = durable.map(|durable| (rows.to_vec(), durable));
    }
}

impl Writer {
    /// Begins what was asked for or is due, and takes the next steps; `wrote` says how many writes came just before.
    pub(super) async fn maintain(&mut self, asked: Vec<Command>, wrote: usize) {
        for command in asked {
            // Whoever asks is answered by the next try, not by the rest after the last one.
            self.upkeep.rests = None;
            match command {
                Command::Compact { keep_from, reply } => self.compact(keep_from, reply).await,
                Command::Reseal { reply } => self.reseal(reply).await,
                Command::Write(_) | Command::Close { .. } => {}
            }
        }
        if self.upkeep.rests.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let newest = self.shared.memory.figures().0;
        let due = self
            .upkeep
            .looked
            .is_none_or(|(when, at)| when.elapsed() >= self.shared.options.maintenance_interval || newest >= at + LOOK);
        let outcome = if due && self.upkeep.compaction.is_none() {
            self.upkeep.looked = Some((Instant::now(), newest));
            self.look().await
        } else {
            Ok(())
        };
        let outcome = match outcome {
            Ok(()) => self.steps(wrote).await,
            failed => failed,
        };
        if let Err(error) = outcome {
            self.mend().await;
            self.upkeep.rests = Some(Instant::now() + REST.min(self.shared.options.maintenance_interval));
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot look after the store's history; trying again later"
            );
            if let Some(compaction) = &mut self.upkeep.compaction {
                fail(std::mem::take(&mut compaction.waiters).into_iter(), &error);
            }
            if let Some(reseal) = &mut self.upkeep.reseal {
                fail(std::mem::take(&mut reseal.waiters).into_iter(), &error);
            }
        }
    }

    async fn compact(&mut self, keep_from: Revision, reply: Reply<()>) {
        let (newest, oldest, ..) = self.shared.memory.figures();
        if keep_from > newest {
            let refused = StoreError::Future {
                requested: keep_from,
                newest,
            };
            fail(std::iter::once(reply), &refused);
        } else if keep_from <= oldest && self.upkeep.compaction.is_none() {
            drop(reply.send(Ok(())));
        } else {
            match self.forget_before(keep_from.max(oldest)).await {
                Ok(()) => {
                    if let Some(compaction) = &mut self.upkeep.compaction {
                        compaction.waiters.push(reply);
                    }
                }
                Err(error) => {
                    self.mend().await;
                    fail(std::iter::once(reply), &error);
                }
            }
        }
    }

    async fn reseal(&mut self, reply: Reply<()>) {
        let due = match self.recover().await {
            Ok(()) => match &mut self.connection {
                Some(connection) => Reseal::due(&self.shared, connection).await,
                None => Err(StoreError::Closed),
            },
            Err(error) => Err(error),
        };
        match due {
            Ok(None) => drop(reply.send(Ok(()))),
            Ok(Some(mut begun)) => {
                // One that was under way with an older key begins anew.
                if let Some(running) = self.upkeep.reseal.take() {
                    begun.waiters = running.waiters;
                }
                begun.waiters.push(reply);
                self.upkeep.reseal = Some(begun);
            }
            Err(error) => {
                self.mend().await;
                fail(std::iter::once(reply), &error);
            }
        }
    }

    /// Looks what is due: keys whose time is over, history that is too old or too large.
    async fn look(&mut self) -> Result<(), StoreError> {
        self.expire().await;
        self.recover().await?;
        let (newest, oldest, ..) = self.shared.memory.figures();
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let due = compaction::due(connection, &self.shared, newest, oldest)
            .await
            .map_err(self.shared.database.failure("look after history"))?;
        match due {
            Some(keep_from) => self.forget_before(keep_from).await,
            None => Ok(()),
        }
    }

    /// Deletes keys whose time is over, or that are too many.
    async fn expire(&mut self) {
        let now = self.shared.options.now.as_ref().map(|now| now().as_millisecond());
        let memory = &self.shared.memory;
        let stale: Vec<(String, Revision)> = memory
            .rules()
            .expiring()
            .flat_map(|rule| {
                let age = rule.expire.and_then(|age| i64::try_from(age.as_millis()).ok());
                let before = now.zip(age).map(|(now, age)| now.saturating_sub(age));
                memory.stale(&rule.prefix, before, rule.at_most)
            })
            .take(BATCH)
            .collect();
        let more = stale.len() == BATCH;
        let deletions = stale.into_iter().map(|(key, modified)| Write {
            key,
            deed: Deed::Delete,
            // Written again in the meantime, it stays.
            expect: Expect::Revision(modified),
            // Nobody waits.
            reply: oneshot::channel().0,
        });
        if self.commit(deletions.collect()).await && more {
            self.upkeep.looked = None;
        }
    }

    async fn forget_before(&mut self, keep_from: Revision) -> Result<(), StoreError> {
        self.recover().await?;
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let mut compaction = Compaction::start(connection, keep_from)
            .await
            .map_err(self.shared.database.failure("begin to compact history"))?;
        self.shared.memory.forget_before(keep_from);
        if let Some(running) = self.upkeep.compaction.take() {
            compaction.waiters = running.waiters;
            compaction.target = compaction.target.max(running.target);
        }
        self.upkeep.compaction = Some(compaction);
        Ok(())
    }

    /// Takes steps of what is under way.
    async fn steps(&mut self, wrote: usize) -> Result<(), StoreError> {
        let newest = self.shared.memory.figures().0;
        if !self.upkeep.is_busy(newest) {
            return Ok(());
        }
        self.recover().await?;
        // Every step is flushed although it promises nothing: were it not, a flush of a later write that fails would leave a hole in
        // the write-ahead log that is never written again, and all that is acknowledged after it would be behind that.
        let shared = self.shared.clone();
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let upkeep = &mut self.upkeep;
        if let Some(mut compaction) = upkeep.compaction.take() {
            // It does not wait for a pause: nothing more is looked for until it is done.
            let revisions = if wrote == 0 || !compaction.waiters.is_empty() {
                STEP
            } else {
                STEP / 4
            };
            let stepped = compaction.step(connection, revisions).await;
            let done = match stepped.map_err(shared.database.failure("compact history")) {
                Ok(done) => done,
                Err(error) => {
                    upkeep.compaction = Some(compaction);
                    return Err(error);
                }
            };
            if done {
                tracing::debug!(oldest = compaction.target, "history compacted");
                for waiter in std::mem::take(&mut compaction.waiters) {
                    drop(waiter.send(Ok(())));
                }
                // A size limit may want more than one go.
                upkeep.looked = None;
            }
            if !done {
                upkeep.compaction = Some(compaction);
            }
        }
        if let Some(reseal) = &mut upkeep.reseal
            && reseal.step(&shared, connection).await?
        {
            for waiter in std::mem::take(&mut reseal.waiters) {
                drop(waiter.send(Ok(())));
            }
            upkeep.reseal = None;
        }
        if upkeep.packing.is_due(newest)
            && let Some(revisions) = pace(wrote, upkeep.packing.waiting(newest))
        {
            upkeep.packing.step(&shared, connection, revisions).await?;
        }
        Ok(())
    }
}

/// How many revisions are walked after a batch of `wrote` writes; `None`: it can wait.
///
/// Between writes that come without a pause it is done when it has fallen behind, and then more than they make: few of them meet it.
fn pace(wrote: usize, behind: Revision) -> Option<Revision> {
    match wrote {
        0 => Some(STEP),
        _ if behind <= FAR => None,
        _ if behind <= 8 * FAR => Some((wrote as Revision * 3 / 2).max(STEP)),
        _ => Some((wrote as Revision * 4).max(STEP)),
    }
}
