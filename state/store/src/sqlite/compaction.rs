//! Forgetting: the steps that remove superseded values, and when to take them.
//!
//! The horizon moves first, durably and in memory; then rows go in small steps between the writer's batches, so that no
//! write waits long. A crash in between loses nothing: the cursor says how far the rows are gone, and the next start
//! goes on. A step walks the revisions behind the new horizon and removes what each of them superseded, and deletion
//! marks with their lives; the values that were current at the horizon stay.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::oneshot;

use super::Shared;
use super::past::{self, revision, sql};
use crate::log::{Revision, StoreError};

/// So many free pages are kept in any case, and given back at a time where nobody waits.
const VACUUM_PAGES: i64 = 256;
/// Free pages are given back when they are more than this part of all: fewer are soon written to again.
const SPARE: i64 = 20;
/// How many writes are forgotten at a time for want of room; of fewer a quarter.
const AT_A_TIME: usize = 8192;
/// What is younger stays even then, in milliseconds: whoever has just listed must be able to watch.
const YOUNG: i64 = 60_000;

/// What one step removes of what was superseded, or ended, in `(?1, ?2]`.
const REMOVE: [&str; 7] = [
    "DELETE FROM past WHERE until > ?1 AND until <= ?2",
    "DELETE FROM value WHERE rev IN (SELECT previous FROM log WHERE rev > ?1 AND rev <= ?2 AND previous > 0)",
    // A base that another one took the place of by then; those after it serve the values that stay.
    "DELETE FROM base WHERE id IN (SELECT old.id FROM base AS new JOIN base AS old
        ON old.created = new.created AND old.id < new.id WHERE new.id > ?1 AND new.id <= ?2)",
    "DELETE FROM base WHERE created IN (SELECT created FROM log WHERE rev > ?1 AND rev <= ?2 AND deleted = 1)",
    "DELETE FROM life WHERE created IN (SELECT created FROM log WHERE rev > ?1 AND rev <= ?2 AND deleted = 1)",
    "DELETE FROM log WHERE rev IN (SELECT previous FROM log WHERE rev > ?1 AND rev <= ?2 AND previous > 0)",
    "DELETE FROM log WHERE rev > ?1 AND rev <= ?2 AND deleted = 1",
];

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
        let cursor: i64 = sqlx::query_scalar("SELECT cursor FROM horizon")
            .fetch_one(connection)
            .await?;
        Ok(Compaction {
            target: keep_from,
            cursor: revision(cursor),
            waiters: Vec::new(),
        })
    }

    /// Takes one step, of so many revisions; returns whether all is done.
    pub(super) async fn step(
        &mut self,
        connection: &mut SqliteConnection,
        revisions: Revision,
    ) -> Result<bool, sqlx::Error> {
        if self.cursor >= self.target {
            return vacuum(connection, sql(revisions).min(VACUUM_PAGES)).await;
        }
        // Revisions that no write has (a jump after a restore, heartbeats) are not walked.
        let next: Option<i64> = sqlx::query_scalar("SELECT rev FROM log WHERE rev > ?1 ORDER BY rev LIMIT 1")
            .bind(sql(self.cursor))
            .fetch_optional(&mut *connection)
            .await?;
        let from = next.map_or(self.target, |next| revision(next) - 1).max(self.cursor);
        let end = (from + revisions).min(self.target);
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for statement in REMOVE {
            sqlx::query(statement)
                .bind(sql(self.cursor))
                .bind(sql(end))
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("UPDATE horizon SET cursor = ?1")
            .bind(sql(end))
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM gap WHERE last < ?1")
            .bind(sql(end))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.cursor = end;
        Ok(false)
    }
}

/// Gives some free pages back, if they are more than a few; returns whether no more are to be.
async fn vacuum(connection: &mut SqliteConnection, most: i64) -> Result<bool, sqlx::Error> {
    let pages = Pages::count(connection).await?;
    let spare = (pages.all / SPARE).max(VACUUM_PAGES);
    if pages.free <= spare {
        return Ok(true);
    }
    sqlx::query(AssertSqlSafe(format!("PRAGMA incremental_vacuum({most})")))
        .persistent(false)
        .fetch_all(&mut *connection)
        .await?;
    let left = Pages::count(connection).await?.free;
    Ok(left <= spare || left >= pages.free)
}

/// The pages of a database.
struct Pages {
    all: i64,
    free: i64,
    size: i64,
}

impl Pages {
    async fn count(connection: &mut SqliteConnection) -> Result<Pages, sqlx::Error> {
        let (all, free, size) = sqlx::query_as(
            "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        )
        .fetch_one(connection)
        .await?;
        Ok(Pages { all, free, size })
    }

    fn used_bytes(&self) -> u64 {
        revision(self.all.saturating_sub(self.free).saturating_mul(self.size))
    }
}

/// Chooses the revision from which to keep, by age and by size; `None` when there is nothing to forget.
pub(super) async fn due(
    connection: &mut SqliteConnection,
    shared: &Shared,
    newest: Revision,
    oldest: Revision,
) -> Result<Option<Revision>, sqlx::Error> {
    let mut keep_from = oldest;
    let now = shared.options.now.as_ref().map(|now| now().as_millisecond());
    if let Some(now) = now {
        let age = shared.options.keep_age.max(Duration::from_secs(1)).as_millis();
        let before = now.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
        let aged = past::written_by(&mut *connection, before, oldest + 1, newest).await?;
        keep_from = keep_from.max(aged.map_or(0, |(revision, _)| revision));
    }
    if Pages::count(&mut *connection).await?.used_bytes() > shared.options.keep_bytes {
        // The next look decides whether that was enough.
        let writes: Vec<i64> =
            sqlx::query_scalar("SELECT rev FROM log WHERE rev > ?1 AND at <= ?2 ORDER BY rev LIMIT ?3")
                .bind(sql(oldest))
                .bind(now.map_or(i64::MAX, |now| now.saturating_sub(YOUNG)))
                .bind(AT_A_TIME as i64)
                .fetch_all(connection)
                .await?;
        let forgotten = if writes.len() == AT_A_TIME {
            writes.last()
        } else {
            writes.get(writes.len() / 4)
        };
        keep_from = keep_from.max(forgotten.copied().map_or(0, revision));
    }
    Ok((keep_from > oldest).then_some(keep_from.min(newest)))
}
