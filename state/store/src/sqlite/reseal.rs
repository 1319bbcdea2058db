//! Sealing anew: after a rotation of keys, or when a rule begins to want it, everything that is to be sealed is sealed with the newest key.
//!
//! It goes in small steps between the writer's batches. What is done is marked in the database, so that a start has nothing to look for.

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;

use super::Shared;
use super::codec::{Held, Place};
use super::past::{end_of, revision};
use super::statements::{Argument, Statements};
use crate::log::{Revision, StoreError};

/// How many rows one step seals.
const STEP: i64 = 128;

/// Where sealed bytes are: how they are found by the lives of a prefix (`?1`, `?2`), after a row (`?3`), where they are not sealed with a
/// key (`?4`); how they are replaced; what their place is.
struct Table {
    find: &'static str,
    replace: &'static str,
    place: fn(Revision) -> Place,
}

const TABLES: [Table; 3] = [
    Table {
        find: "SELECT l.key, v.rev, v.sealed, v.bytes
            FROM life AS l JOIN log AS g ON g.created = l.created JOIN value AS v ON v.rev = g.rev
            WHERE l.key >= ?1 AND l.key < ?2 AND v.rev > ?3 AND v.sealed != ?4 ORDER BY v.rev LIMIT ?5",
        replace: "UPDATE value SET sealed = ?, bytes = ? WHERE rev = ?",
        place: Place::Value,
    },
    Table {
        find: "SELECT l.key, p.until, p.sealed, p.bytes
            FROM life AS l JOIN log AS g ON g.created = l.created JOIN past AS p ON p.until = g.rev
            WHERE l.key >= ?1 AND l.key < ?2 AND p.until > ?3 AND p.sealed != ?4 ORDER BY p.until LIMIT ?5",
        replace: "UPDATE past SET sealed = ?, bytes = ? WHERE until = ?",
        place: Place::Past,
    },
    Table {
        find: "SELECT l.key, b.id, b.sealed, b.bytes
            FROM life AS l JOIN base AS b ON b.created = l.created
            WHERE l.key >= ?1 AND l.key < ?2 AND b.id > ?3 AND b.sealed != ?4 ORDER BY b.id LIMIT ?5",
        replace: "UPDATE base SET sealed = ?, bytes = ? WHERE id = ?",
        place: Place::Base,
    },
];

/// A sealing under way.
pub(super) struct Reseal {
    mark: String,
    prefixes: Vec<String>,
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
        let mark = format!("{} {}", keys.newest(), prefixes.join(" "));
        let done: String = sqlx::query_scalar("SELECT sealed FROM horizon")
            .fetch_one(&mut *connection)
            .await
            .map_err(shared.database.failure("look for what is to be sealed"))?;
        if done == mark {
            return Ok(None);
        }
        Ok(Some(Reseal {
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
        let rows: Vec<(String, i64, i64, Vec<u8>)> = sqlx::query_as(table.find)
            .bind(prefix)
            .bind(end_of(prefix))
            .bind(self.row)
            .bind(newest)
            .bind(STEP)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed())?;
        if rows.is_empty() {
            self.row = 0;
            self.table += 1;
            if self.table == TABLES.len() {
                self.table = 0;
                self.prefix += 1;
            }
            return Ok(false);
        }
        let mut statements = Statements::default();
        for (key, row, sealed, bytes) in rows {
            self.row = row;
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

    /// Marks the database and folds what was plain out of the write-ahead log.
    async fn finish(&self, shared: &Shared, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let failed = || shared.database.failure("seal values");
        sqlx::query("UPDATE horizon SET sealed = ?1")
            .bind(&self.mark)
            .execute(&mut *connection)
            .await
            .map_err(failed())?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed())?;
        sqlx::query("PRAGMA secure_delete = OFF")
            .fetch_all(connection)
            .await
            .map_err(failed())?;
        tracing::info!("everything that is to be sealed is sealed with the newest key");
        Ok(())
    }
}
