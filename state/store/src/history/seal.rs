//! Sealing what a history holds.
//!
//! Each value is bound to its name: a blob to its digest, a record to its collection and key, an entry to its series and number.

use std::sync::Arc;

use sqlx::Connection as _;

use super::commit::settle;
use super::sqlite::Shared;
use crate::database::fold;
use crate::keys::{KeyError, KeyId};
use crate::log::StoreError;

/// How many rows are sealed in one transaction.
const STEP: i64 = 64;

/// What a value belongs to.
#[derive(Clone, Copy)]
pub(super) enum Name<'n> {
    Blob(&'n str),
    Record(&'n str, &'n str),
    Entry(&'n str, i64),
}

impl Shared {
    /// Returns bytes as they are written, and the id of the key (0: none) that they are sealed with.
    pub(super) fn hold(&self, name: Name<'_>, plain: &[u8]) -> Result<(i64, Vec<u8>), StoreError> {
        let Some(keys) = &self.keys else {
            return Ok((0, plain.to_vec()));
        };
        let place = place(name);
        let (id, bytes) = keys
            .seal(&place.each_ref().map(Vec::as_slice), plain)
            .map_err(|error| self.unusable(name, error))?;
        Ok((id.as_i64(), bytes))
    }

    /// Returns what was written.
    pub(super) fn release(&self, name: Name<'_>, sealed: i64, bytes: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let id = KeyId::from_i64(sealed).map_err(|error| self.unusable(name, error))?;
        let Some(id) = id else { return Ok(bytes) };
        let place = place(name);
        match &self.keys {
            Some(keys) => keys
                .open_sealed(id, &place.each_ref().map(Vec::as_slice), bytes)
                .map_err(|error| self.unusable(name, error)),
            None => Err(self.damaged(format!(
                "{} is encrypted with key {id}, and no keys were given",
                told(name)
            ))),
        }
    }

    fn unusable(&self, name: Name<'_>, error: KeyError) -> StoreError {
        match error {
            KeyError::Damaged { .. } => self.damaged(format!("{} cannot be decrypted: {error}", told(name))),
            error => StoreError::Keys {
                path: self.database.path().display().to_string(),
                what: format!("{} cannot be read or written: {error}", told(name)),
                source: Arc::new(error),
            },
        }
    }
}

fn place(name: Name<'_>) -> [Vec<u8>; 3] {
    match name {
        Name::Blob(digest) => ["history blob".into(), digest.into(), Vec::new()],
        Name::Record(collection, key) => ["history record".into(), collection.into(), key.into()],
        Name::Entry(series, number) => ["history entry".into(), series.into(), number.to_be_bytes().into()],
    }
}

fn told(name: Name<'_>) -> String {
    match name {
        Name::Blob(digest) => format!("blob {digest}"),
        Name::Record(collection, key) => format!("record {key} of {collection}"),
        Name::Entry(series, number) => format!("entry {number} of series {series}"),
    }
}

/// Where values are: rows that are not sealed with a key (`?2`), after a row (`?1`), with their two names; how one is replaced.
struct Table {
    find: &'static str,
    replace: &'static str,
    name: for<'n> fn(&'n str, &'n str, i64) -> Name<'n>,
}

const TABLES: [Table; 3] = [
    Table {
        find: "SELECT rowid, digest, '', 0, sealed, compressed FROM blob WHERE rowid > ?1 AND sealed != ?2 ORDER BY rowid LIMIT ?3",
        replace: "UPDATE blob SET sealed = ?1, compressed = ?2 WHERE rowid = ?3",
        name: |digest, _, _| Name::Blob(digest),
    },
    Table {
        find: "SELECT rowid, collection, key, 0, sealed, value FROM record WHERE rowid > ?1 AND sealed != ?2 ORDER BY rowid LIMIT ?3",
        replace: "UPDATE record SET sealed = ?1, value = ?2 WHERE rowid = ?3",
        name: |collection, key, _| Name::Record(collection, key),
    },
    Table {
        find:
            "SELECT e.rowid, s.name, '', e.number, e.sealed, e.value FROM entry AS e JOIN series AS s ON s.id = e.series
            WHERE e.rowid > ?1 AND e.sealed != ?2 ORDER BY e.rowid LIMIT ?3",
        replace: "UPDATE entry SET sealed = ?1, value = ?2 WHERE rowid = ?3",
        name: |series, _, number| Name::Entry(series, number),
    },
];

/// Seals everything with the newest key, some rows at a time.
pub(super) async fn all(shared: &Shared) -> Result<(), StoreError> {
    let Some(keys) = &shared.keys else { return Ok(()) };
    let newest = keys.newest().as_i64();
    let failed = || shared.failure("seal the history");
    let done = {
        let mut writer = shared.writer.lock().await;
        let connection = writer.connection(shared).await?;
        let done: i64 = sqlx::query_scalar("SELECT sealed FROM seal")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed())?;
        if done == newest {
            return Ok(());
        }
        // What was plain must not stay behind in pages that are free now.
        sqlx::query("PRAGMA secure_delete = ON")
            .fetch_all(connection)
            .await
            .map_err(failed())?;
        done
    };
    for table in &TABLES {
        let mut row = 0;
        while let Some(last) = some(shared, table, row, newest).await? {
            row = last;
        }
    }
    let mut writer = shared.writer.lock().await;
    let connection = writer.connection(shared).await?;
    if done == 0 {
        // What was plain once may lie in pages that are free by now: the database is written anew.
        sqlx::query("VACUUM")
            .execute(&mut *connection)
            .await
            .map_err(failed())?;
    }
    fold(connection).await.map_err(failed())?;
    sqlx::query("UPDATE seal SET sealed = ?1")
        .bind(newest)
        .execute(&mut *connection)
        .await
        .map_err(failed())?;
    sqlx::query("PRAGMA secure_delete = OFF")
        .fetch_all(connection)
        .await
        .map(drop)
        .map_err(failed())
}

/// Seals some rows of a table after one of them; returns the last of these, `None` when there are no more.
async fn some(shared: &Shared, table: &Table, after: i64, newest: i64) -> Result<Option<i64>, StoreError> {
    let failed = || shared.failure("seal the history");
    let mut writer = shared.writer.lock().await;
    let connection = writer.connection(shared).await?;
    let rows: Vec<(i64, String, String, i64, i64, Vec<u8>)> = sqlx::query_as(table.find)
        .bind(after)
        .bind(newest)
        .bind(STEP)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed())?;
    let last = rows.last().map(|row| row.0);
    let mut replaced = Vec::with_capacity(rows.len());
    for (row, first, second, number, sealed, bytes) in rows {
        let name = (table.name)(&first, &second, number);
        match shared.release(name, sealed, bytes) {
            Ok(plain) => replaced.push((row, shared.hold(name, &plain)?)),
            Err(error) => tracing::error!(%error, "a stored value cannot be read: it stays as it is"),
        }
    }
    let sealed = async {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for (row, (sealed, bytes)) in replaced {
            sqlx::query(table.replace)
                .bind(sealed)
                .bind(bytes)
                .bind(row)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    };
    let sealed = sealed.await.map_err(failed());
    settle(&mut writer, sealed)?;
    Ok(last)
}
