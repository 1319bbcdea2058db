//! Reads of the past, by SQL.
//!
//! Compaction moves the horizon in memory before it removes a row, so a read that finds the horizon still behind it
//! *after* the rows were read has read all of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::Shared;
use super::memory::{Current, Loaded, Row};
use crate::log::{Change, KeyValue, Page, Revision, StoreError};

/// How many changes a replay reads at a time.
const REPLAY_PAGE: i64 = 500;

/// The newest row of each key in `[?1, ?2)` at revision `?3`, in key order, at most `?4`.
const LIST: &str = "SELECT l.rev, l.key, l.created, l.value FROM (
        SELECT key, max(rev) AS rev FROM log WHERE key >= ?1 AND key < ?2 AND rev <= ?3 GROUP BY key
    ) AS newest JOIN log AS l ON l.rev = newest.rev
    WHERE l.deleted = 0 ORDER BY newest.key LIMIT ?4";

const REPLAY: &str = "SELECT l.rev, l.key, l.created, l.deleted, l.previous, l.value,
        p.created AS previous_created, p.value AS previous_value
    FROM log AS l LEFT JOIN log AS p ON p.rev = l.previous AND l.previous > 0
    WHERE l.rev > ?1 AND l.rev <= ?2 ORDER BY l.rev LIMIT ?3";

/// Reads what a store needs in memory when it opens.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Loaded, sqlx::Error> {
    let (oldest, newest): (i64, i64) =
        sqlx::query_as("SELECT oldest, coalesce((SELECT max(rev) FROM log), 0) FROM horizon")
            .fetch_one(&mut *connection)
            .await?;
    let rows = sqlx::query(AssertSqlSafe(
        "SELECT l.rev, l.key, l.created, l.value
            FROM (SELECT key, max(rev) AS rev FROM log GROUP BY key) AS newest JOIN log AS l ON l.rev = newest.rev
            WHERE l.deleted = 0",
    ))
    .persistent(false)
    .fetch_all(&mut *connection)
    .await?;
    let mut keys = BTreeMap::new();
    for row in &rows {
        let KeyValue {
            key,
            value,
            created,
            modified,
        } = key_value(row)?;
        keys.insert(
            key,
            Current {
                value,
                created,
                modified,
            },
        );
    }
    Ok(Loaded {
        keys,
        revision: revision(oldest.max(newest)),
        oldest: revision(oldest),
    })
}

/// Reads the rows after `after` as they were committed.
pub(super) async fn rows_after(connection: &mut SqliteConnection, after: Revision) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query("SELECT rev, key, created, deleted, previous, value FROM log WHERE rev > ?1 ORDER BY rev")
        .bind(sql(after))
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| {
            let KeyValue {
                key,
                value,
                created,
                modified,
            } = key_value(row)?;
            let value = (row.try_get::<i64, _>("deleted")? == 0).then_some(value);
            Ok(Row {
                revision: modified,
                key,
                created,
                previous: revision(row.try_get("previous")?),
                value,
            })
        })
        .collect()
}

/// Returns `key` as it was just after revision `at`.
pub(super) async fn get(shared: &Shared, key: &str, at: Revision) -> Result<Option<KeyValue>, StoreError> {
    let row = sqlx::query(
        "SELECT rev, key, created, deleted, value FROM log WHERE key = ?1 AND rev <= ?2 ORDER BY rev DESC LIMIT 1",
    )
    .bind(key)
    .bind(sql(at))
    .fetch_optional(&shared.readers)
    .await
    .map_err(shared.engine("read a key at a revision"))?;
    shared.memory.check_readable(at)?;
    let Some(row) = row else { return Ok(None) };
    let decode = || -> Result<Option<KeyValue>, sqlx::Error> {
        Ok(if row.try_get::<i64, _>("deleted")? == 0 {
            Some(key_value(&row)?)
        } else {
            None
        })
    };
    decode().map_err(shared.engine("decode a key at a revision"))
}

/// Lists keys as they were just after revision `at`.
pub(super) async fn list(
    shared: &Shared,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    at: Revision,
) -> Result<Page, StoreError> {
    // The smallest string after `after` is `after` with a NUL appended.
    let from = match after {
        Some(after) if after >= prefix => format!("{after}\0"),
        _ => prefix.to_owned(),
    };
    // One more than asked for tells whether more remain.
    let fetch = if limit == 0 {
        -1
    } else {
        i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
    };
    let rows = sqlx::query(LIST)
        .bind(from)
        .bind(format!("{prefix}{}", char::MAX))
        .bind(sql(at))
        .bind(fetch)
        .fetch_all(&shared.readers)
        .await
        .map_err(shared.engine("list at a revision"))?;
    shared.memory.check_readable(at)?;
    let mut items = rows
        .iter()
        .map(key_value)
        .collect::<Result<Vec<_>, _>>()
        .map_err(shared.engine("decode a list at a revision"))?;
    let more = limit != 0 && items.len() > limit;
    if more {
        items.truncate(limit);
    }
    Ok(Page {
        items,
        revision: at,
        more,
    })
}

/// What one step of a replay read.
pub(super) struct Replayed {
    /// The changes of the prefix.
    pub(super) changes: Vec<Change>,
    /// The revision up to which (inclusive) they are all.
    pub(super) upto: Revision,
}

/// Reads the next changes of `prefix` in `(from, upto]`.
pub(super) async fn replay(
    shared: &Shared,
    prefix: &str,
    from: Revision,
    upto: Revision,
) -> Result<Replayed, StoreError> {
    let rows = sqlx::query(REPLAY)
        .bind(sql(from))
        .bind(sql(upto))
        .bind(REPLAY_PAGE)
        .fetch_all(&shared.readers)
        .await
        .map_err(shared.engine("replay changes"))?;
    shared.memory.check_readable(from)?;
    let full = rows.len() as i64 == REPLAY_PAGE;
    let mut changes = Vec::with_capacity(rows.len());
    let mut last = from;
    for row in &rows {
        let decoded = change(row).map_err(shared.engine("decode a change"))?;
        last = decoded.revision();
        if decoded.key().starts_with(prefix) {
            changes.push(decoded);
        }
    }
    Ok(Replayed {
        changes,
        upto: if full { last } else { upto },
    })
}

fn change(row: &SqliteRow) -> Result<Change, sqlx::Error> {
    let current = key_value(row)?;
    let modified: i64 = row.try_get("previous")?;
    let previous = match row.try_get::<Option<i64>, _>("previous_created")? {
        Some(created) => Some(KeyValue {
            key: current.key.clone(),
            value: Bytes::from(row.try_get::<Vec<u8>, _>("previous_value")?),
            created: revision(created),
            modified: revision(modified),
        }),
        None => None,
    };
    if row.try_get::<i64, _>("deleted")? == 0 {
        return Ok(Change::Put { current, previous });
    }
    match previous {
        Some(previous) => Ok(Change::Delete {
            previous,
            revision: current.modified,
        }),
        None => Err(sqlx::Error::Decode(
            format!(
                "revision {} deletes {} but what it held is missing",
                current.modified, current.key
            )
            .into(),
        )),
    }
}

fn key_value(row: &SqliteRow) -> Result<KeyValue, sqlx::Error> {
    let modified = revision(row.try_get("rev")?);
    Ok(KeyValue {
        key: row.try_get("key")?,
        value: Bytes::from(row.try_get::<Vec<u8>, _>("value")?),
        created: revision(row.try_get("created")?),
        modified,
    })
}

/// SQLite's integers are signed; a revision never gets near the sign bit.
pub(super) fn sql(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

pub(super) fn revision(stored: i64) -> Revision {
    u64::try_from(stored).unwrap_or(0)
}
