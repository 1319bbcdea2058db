//! Forgetting: the steps that remove superseded values, and when to take them.
//!
//! The horizon moves first, durably and in memory; then rows go in small steps between the writer's batches, so that no
//! write waits long. A crash in between loses nothing: the cursor says how far the rows are gone, and the next start
//! goes on. A step walks the revisions behind the new horizon and removes what each of them superseded, and deletion
//! marks themselves; the values that were current at the horizon stay.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::oneshot;

use super::history::{revision, sql};
use super::{Now, Shared};
use crate::log::{Revision, StoreError};

/// How many revisions one step walks.
const STEP: Revision = 512;
/// How many free pages one step gives back to the file system.
const VACUUM_PAGES: i64 = 256;
/// Commit times are this coarse, in seconds.
const TIME_GRAIN: i64 = 60;

/// A compaction under way.
pub(super) struct Compaction {
    pub(super) target: Revision,
    cursor: Revision,
    pub(super) waiters: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Compaction {
    /// Resumes what an earlier process left unfinished.
    pub(super) async fn resume(connection: &mut SqliteConnection) -> Result<Option<Compaction>, sqlx::Error> {
        let (oldest, cursor): (i64, i64) = sqlx::query_as("SELECT oldest, cursor FROM horizon")
            .fetch_one(connection)
            .await?;
        Ok((cursor < oldest).then(|| Compaction {
            target: revision(oldest),
            cursor: revision(cursor),
            waiters: Vec::new(),
        }))
    }

    /// Moves the durable horizon to `keep_from` and starts to remove what lies behind it.
    pub(super) async fn start(
        connection: &mut SqliteConnection,
        keep_from: Revision,
    ) -> Result<Compaction, sqlx::Error> {
        sqlx::query("UPDATE horizon SET oldest = ?1 WHERE oldest < ?1")
            .bind(sql(keep_from))
            .execute(&mut *connection)
            .await?;
        let (cursor,): (i64,) = sqlx::query_as("SELECT cursor FROM horizon")
            .fetch_one(connection)
            .await?;
        Ok(Compaction {
            target: keep_from,
            cursor: revision(cursor),
            waiters: Vec::new(),
        })
    }

    /// Takes one step; returns whether all is done.
    pub(super) async fn step(&mut self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        if self.cursor >= self.target {
            return vacuum(connection).await;
        }
        let end = (self.cursor + STEP).min(self.target);
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "DELETE FROM log WHERE rev IN (SELECT previous FROM log WHERE rev > ?1 AND rev <= ?2 AND previous > 0)",
        )
        .bind(sql(self.cursor))
        .bind(sql(end))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM log WHERE rev > ?1 AND rev <= ?2 AND deleted = 1")
            .bind(sql(self.cursor))
            .bind(sql(end))
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM commit_time WHERE rev < ?1")
            .bind(sql(end))
            .execute(&mut *transaction)
            .await?;
        sqlx::query("UPDATE horizon SET cursor = ?1")
            .bind(sql(end))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.cursor = end;
        Ok(false)
    }
}

/// Gives some free pages back; returns whether no more can be.
async fn vacuum(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let (before,): (i64,) = sqlx::query_as("PRAGMA freelist_count")
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(AssertSqlSafe(format!("PRAGMA incremental_vacuum({VACUUM_PAGES})")))
        .persistent(false)
        .fetch_all(&mut *connection)
        .await?;
    let (free,): (i64,) = sqlx::query_as("PRAGMA freelist_count").fetch_one(connection).await?;
    Ok(free == 0 || free >= before)
}

/// Notes when `newest` was committed, unless that was noted a moment ago; returns the time noted.
pub(super) async fn note_time(
    connection: &mut SqliteConnection,
    now: &Now,
    noted: Option<i64>,
    newest: Revision,
) -> Result<Option<i64>, sqlx::Error> {
    let at = now().as_second();
    if noted.is_some_and(|noted| at < noted + TIME_GRAIN) {
        return Ok(noted);
    }
    sqlx::query("INSERT INTO commit_time (at, rev) VALUES (?1, ?2) ON CONFLICT (at) DO UPDATE SET rev = excluded.rev")
        .bind(at)
        .bind(sql(newest))
        .execute(connection)
        .await?;
    Ok(Some(at))
}

/// Chooses the revision from which to keep, by age and by size; `None` when there is nothing to forget.
pub(super) async fn due(
    connection: &mut SqliteConnection,
    shared: &Shared,
    newest: Revision,
    oldest: Revision,
) -> Result<Option<Revision>, sqlx::Error> {
    let mut keep_from = oldest;
    if let Some(now) = &shared.options.now {
        let age = i64::try_from(shared.options.keep_age.max(Duration::from_secs(1)).as_secs()).unwrap_or(i64::MAX);
        let before = now().as_second().saturating_sub(age);
        let (aged,): (Option<i64>,) = sqlx::query_as("SELECT max(rev) FROM commit_time WHERE at <= ?1")
            .bind(before)
            .fetch_one(&mut *connection)
            .await?;
        keep_from = keep_from.max(aged.map_or(0, revision));
    }
    let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count").fetch_one(&mut *connection).await?;
    let (free,): (i64,) = sqlx::query_as("PRAGMA freelist_count")
        .fetch_one(&mut *connection)
        .await?;
    let (page_size,): (i64,) = sqlx::query_as("PRAGMA page_size").fetch_one(&mut *connection).await?;
    let used = revision(pages.saturating_sub(free).saturating_mul(page_size));
    if used > shared.options.keep_bytes {
        // A quarter of what is left of history at a time: the next look decides whether that was enough.
        keep_from = keep_from.max(oldest + (newest.saturating_sub(oldest)).div_ceil(4));
    }
    Ok((keep_from > oldest).then_some(keep_from.min(newest)))
}
