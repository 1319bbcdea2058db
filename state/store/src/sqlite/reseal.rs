//! Sealing anew: after a rotation of keys, or when a rule begins to want it, everything that is to be sealed is sealed with the newest key.
//!
//! It goes in small steps between the writer's batches. What is done is marked in the database, so that a start has nothing to look for.

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;

use super::Shared;
use super::codec::{Held, Place};
use super::past::{end_of, revision};
use super::statements::{Argument, Statements};
use crate::database::fold;
use crate::log::{Revision, StoreError};

/// How many rows one step seals.
const STEP: i64 = 128;
/// How many rows it looks at.
const WINDOW: i64 = 2048;

/// Where sealed bytes are. Rows are looked at in their own order, a window at a time: those that are sealed with another key than
/// `?3`, or plain although their key is in `[?4, ?5)`.
struct Table {
    /// The last row of the window that begins after `?1` and has `?2` rows.
    window: &'static str,
    /// The rows in `(?1, ?2]`.
    find: &'static str,
    replace: &'static str,
    place: fn(Revision) -> Place,
}

const TABLES: [Table; 3] = [
    Table {
        window: "SELECT max(rev) FROM (SELECT rev FROM value WHERE rev > ?1 ORDER BY rev LIMIT ?2)",
        find: "SELECT l.key, v.rev, v.sealed, v.bytes
            FROM value AS v CROSS JOIN log AS g ON g.rev = v.rev CROSS JOIN life AS l ON l.created = g.created
            WHERE v.rev > ?1 AND v.rev <= ?2 AND v.sealed != ?3 AND (v.sealed != 0 OR (l.key >= ?4 AND l.key < ?5))
            ORDER BY v.rev LIMIT ?6",
        replace: "UPDATE value SET sealed = ?, bytes = ? WHERE rev = ?",
        place: Place::Value,
    },
    Table {
        window: "SELECT max(until) FROM (SELECT until FROM past WHERE until > ?1 ORDER BY until LIMIT ?2)",
        find: "SELECT l.key, p.until, p.sealed, p.bytes
            FROM past AS p CROSS JOIN log AS g ON g.rev = p.until CROSS JOIN life AS l ON l.created = g.created
            WHERE p.until > ?1 AND p.until <= ?2 AND p.sealed != ?3 AND (p.sealed != 0 OR (l.key >= ?4 AND l.key < ?5))
            ORDER BY p.until LIMIT ?6",
        replace: "UPDATE past SET sealed = ?, bytes = ? WHERE until = ?",
        place: Place::Past,
    },
    Table {
        window: "SELECT max(id) FROM (SELECT id FROM base WHERE id > ?1 ORDER BY id LIMIT ?2)",
        find: "SELECT l.key, b.id, b.sealed, b.bytes
            FROM base AS b CROSS JOIN life AS l ON l.created = b.created
            WHERE b.id > ?1 AND b.id <= ?2 AND b.sealed != ?3 AND (b.sealed != 0 OR (l.key >= ?4 AND l.key < ?5))
            ORDER BY b.id LIMIT ?6",
        replace: "UPDATE base SET sealed = ?, bytes = ? WHERE id = ?",
        place: Place::Base,
    },
];

/// A sealing under way.
pub(super) struct Reseal {
    mark: String,
    prefixes: Vec<String>,
    /// Whether there may be plain values in pages that are free by now: other prefixes were sealed before, or none.
    sweep: bool,
    /// Which prefix of which table, and the last row that was looked at.
    prefix: usize,
    table: usize,
    row: i64,
    pub(super) waiters: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Reseal {
    /// Begins, unless the database is marked as done.
    pub(super) async fn due(shared: &Shared, connection: &mut SqliteConnection) -> Result<Option<Reseal>, StoreError> {
        let Some(keys) = shared.codec.keys() else {
            return Ok(None);
        };
        let prefixes: Vec<String> = shared
            .memory
            .rules()
            .sealed_prefixes()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let of = prefixes.join(" ");
        let mark = format!("{} {of}", keys.newest());
        let done: String = sqlx::query_scalar("SELECT sealed FROM horizon")
            .fetch_one(&mut *connection)
            .await
            .map_err(shared.database.failure("look for what is to be sealed"))?;
        if done == mark {
            return Ok(None);
        }
        let written: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM log)")
            .fetch_one(connection)
            .await
            .map_err(shared.database.failure("look for what is to be sealed"))?;
        Ok(Some(Reseal {
            sweep: written && done.split_once(' ').is_none_or(|(_, before)| before != of),
            mark,
            prefixes,
            prefix: 0,
            table: 0,
            row: 0,
            waiters: Vec::new(),
        }))
    }

    /// Seals some rows; returns whether all are done.
    pub(super) async fn step(
        &mut self,
        shared: &Shared,
        connection: &mut SqliteConnection,
    ) -> Result<bool, StoreError> {
        let failed = || shared.database.failure("seal values");
        let Some(keys) = shared.codec.keys() else {
            return Ok(true);
        };
        let (Some(prefix), Some(table)) = (self.prefixes.get(self.prefix), TABLES.get(self.table)) else {
            return self.finish(shared, connection).await.map(|()| true);
        };
        // What was plain must not stay behind in pages that are free now; the connection may be another one than at the last step.
        sqlx::query("PRAGMA secure_delete = ON")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed())?;
        let newest = keys.newest().as_i64();
        let last: Option<i64> = sqlx::query_scalar(table.window)
            .bind(self.row)
            .bind(WINDOW)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed())?;
        let Some(last) = last else {
            self.row = 0;
            self.table += 1;
            if self.table == TABLES.len() {
                self.table = 0;
                self.prefix += 1;
            }
            return Ok(false);
        };
        let rows: Vec<(String, i64, i64, Vec<u8>)> = sqlx::query_as(table.find)
            .bind(self.row)
            .bind(last)
            .bind(newest)
            .bind(prefix)
            .bind(end_of(prefix))
            .bind(STEP)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed())?;
        self.row = match rows.last() {
            Some((_, row, ..)) if rows.len() as i64 == STEP => *row,
            _ => last,
        };
        let mut statements = Statements::default();
        for (key, row, sealed, bytes) in rows {
            let place = (table.place)(revision(row));
            let plain = match shared.codec.release(&key, place, Held { sealed, bytes }) {
                Ok(plain) => plain,
                Err(error) => {
                    tracing::error!(%key, row, %error, "a stored value cannot be read: it stays as it is");
                    continue;
                }
            };
            let held = shared
                .codec
                .hold(&key, place, &plain)
                .map_err(|error| shared.reader().unreadable(&key, revision(row), error))?;
            let arguments = vec![
                Argument::Integer(held.sealed),
                Argument::Bytes(held.bytes),
                Argument::Integer(row),
            ];
            statements.push(table.replace, arguments);
        }
        if !statements.is_empty() {
            statements.commit(connection).await.map_err(failed())?;
        }
        Ok(false)
    }

    /// Takes what was plain out of free pages and of the write-ahead log, and marks the database.
    async fn finish(&self, shared: &Shared, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let failed = || shared.database.failure("seal values");
        if self.sweep {
            // Once after an upgrade or a change of rules: the database is written anew.
            sqlx::query("VACUUM")
                .execute(&mut *connection)
                .await
                .map_err(failed())?;
        }
        fold(connection).await.map_err(failed())?;
        sqlx::query("UPDATE horizon SET sealed = ?1")
            .bind(&self.mark)
            .execute(&mut *connection)
            .await
            .map_err(failed())?;
        sqlx::query("PRAGMA secure_delete = OFF")
            .fetch_all(connection)
            .await
            .map_err(failed())?;
        tracing::debug!("everything that is to be sealed is sealed with the newest key");
        Ok(())
    }
}
