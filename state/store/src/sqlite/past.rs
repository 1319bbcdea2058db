//! Reads of what is on disk: everything when a store opens, the past from then on.
//!
//! A write is a row of `log`. What it put is in `value` as long as it is current and a while longer, then in `past`, under
//! the revision that superseded it; see the migrations.
//!
//! Compaction moves the horizon in memory before it removes a row, so a read that finds the horizon still behind it
//! *after* the rows were read has read all of them.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::Shared;
use super::codec::{Codec, CodecError, Held, Place, Zstd};
use super::memory::{Current, Loaded};
use crate::log::{Change, KeyValue, Moment, Page, Revision, StoreError};

/// How many changes a replay reads at a time.
const REPLAY_PAGE: usize = 500;
/// Of so few lives the changes are found life by life, of more by going through the log.
const FEW_LIVES: i64 = 64;

/// The newest write at revision `?3` of each life in `[?1, ?2)` that is no deletion, in key order, at most `?4`: life by life, so that
/// neither a long past nor a long list costs more than what is asked for.
const LIST: &str = "SELECT l.key, l.created, g.rev, v.sealed, v.bytes, p.until, p.base, p.sealed, p.bytes
    FROM life AS l
    CROSS JOIN log AS g
        ON g.rev = (SELECT max(n.rev) FROM log AS n WHERE n.created = l.created AND n.rev <= ?3)
    LEFT JOIN value AS v ON v.rev = g.rev
    LEFT JOIN past AS p ON v.rev IS NULL
        AND p.until = (SELECT min(n.rev) FROM log AS n WHERE n.created = l.created AND n.rev > g.rev)
    WHERE l.key >= ?1 AND l.key < ?2 AND l.created <= ?3 AND g.deleted = 0
    ORDER BY l.key, l.created LIMIT ?4";

/// As above, only how many.
const COUNT: &str = "SELECT count(*)
    FROM life AS l
    CROSS JOIN log AS g
        ON g.rev = (SELECT max(n.rev) FROM log AS n WHERE n.created = l.created AND n.rev <= ?3)
    WHERE l.key >= ?1 AND l.key < ?2 AND l.created <= ?3 AND g.deleted = 0";

/// What each write of `wanted` did and what it did it to.
macro_rules! changes_of {
    ($wanted:literal) => {
        concat!(
            "SELECT l.key, g.created, g.rev, v.sealed, v.bytes, p.until, p.base, p.sealed, p.bytes,
                g.deleted, g.at, g.previous, ov.sealed, ov.bytes, op.until, op.base, op.sealed, op.bytes
            FROM (",
            $wanted,
            ") AS g JOIN life AS l ON l.created = g.created
            LEFT JOIN value AS v ON v.rev = g.rev
            LEFT JOIN past AS p ON v.rev IS NULL AND g.deleted = 0
                AND p.until = (SELECT min(n.rev) FROM log AS n WHERE n.created = g.created AND n.rev > g.rev)
            LEFT JOIN value AS ov ON ov.rev = g.previous
            LEFT JOIN past AS op ON ov.rev IS NULL AND op.until = g.rev
            WHERE l.key >= ?4 AND l.key < ?5 ORDER BY g.rev"
        )
    };
}
/// The writes in `(?1, ?2]`, at most `?3` of whatever prefix.
const CHANGES: &str = changes_of!("SELECT * FROM log WHERE rev > ?1 AND rev <= ?2 ORDER BY rev LIMIT ?3");
/// The writes in `(?1, ?2]` of the lives in `[?4, ?5)`, at most `?3`.
const CHANGES_OF_FEW: &str = changes_of!(
    "SELECT w.* FROM life AS k CROSS JOIN log AS w ON w.created = k.created
        WHERE k.key >= ?4 AND k.key < ?5 AND w.rev > ?1 AND w.rev <= ?2 ORDER BY w.rev LIMIT ?3"
);

/// The values that are current: those that no write of their life came after.
const CURRENT: &str = "SELECT l.key, g.created, v.rev, v.sealed, v.bytes, NULL, NULL, NULL, NULL, g.at
    FROM value AS v JOIN log AS g ON g.rev = v.rev JOIN life AS l ON l.created = g.created
    WHERE v.rev > ?1 AND NOT EXISTS (SELECT 1 FROM log AS n WHERE n.created = g.created AND n.rev > v.rev)
    ORDER BY v.rev LIMIT ?2";

/// The newest revision that may have been issued.
pub(super) const NEWEST: &str = "SELECT max(oldest, reserved, coalesce((SELECT max(rev) FROM log), 0)) FROM horizon";

/// What a read unpacks with: zstd, and the dictionaries that it has met.
struct Bases {
    zstd: Zstd,
    met: HashMap<i64, Bytes>,
}

impl Bases {
    fn new() -> Bases {
        Bases {
            zstd: Zstd::new(),
            met: HashMap::new(),
        }
    }
}

/// Reads what a store needs in memory when it opens.
pub(super) async fn load(shared: &Reader<'_>, connection: &mut SqliteConnection) -> Result<Loaded, StoreError> {
    let failed = || shared.database.failure("load the current values");
    let oldest: i64 = sqlx::query_scalar("SELECT oldest FROM horizon")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed())?;
    let newest: i64 = sqlx::query_scalar(NEWEST)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed())?;
    let gaps: Vec<(i64, i64)> = sqlx::query_as("SELECT first, last FROM gap ORDER BY first")
        .fetch_all(&mut *connection)
        .await
        .map_err(failed())?;
    let mut keys = BTreeMap::new();
    let mut bases = Bases::new();
    let mut last = 0;
    loop {
        let rows = sqlx::query(CURRENT)
            .bind(last)
            .bind(REPLAY_PAGE as i64)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed())?;
        for row in &rows {
            let found = shared.whole(row, &mut bases)?;
            let at = row.try_get(9).map_err(failed())?;
            last = sql(found.modified);
            let current = Current {
                value: found.value,
                created: found.created,
                modified: found.modified,
                stored: found.modified,
                at,
            };
            keys.insert(found.key, current);
        }
        if rows.len() < REPLAY_PAGE {
            break;
        }
    }
    Ok(Loaded {
        keys,
        revision: revision(newest),
        oldest: revision(oldest),
        gaps: gaps
            .into_iter()
            .map(|(first, last)| (revision(first), revision(last)))
            .collect(),
    })
}

/// Returns whether the log has a revision.
pub(super) async fn has(connection: &mut SqliteConnection, revision: Revision) -> Result<bool, sqlx::Error> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM log WHERE rev = ?1")
        .bind(sql(revision))
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

/// What turns rows into values.
pub(super) struct Reader<'r> {
    pub(super) database: &'r crate::database::Database,
    pub(super) codec: &'r Codec,
}

impl Shared {
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            database: &self.database,
            codec: &self.codec,
        }
    }
}

/// Returns `key` as it was just after revision `at`.
pub(super) async fn get(shared: &Shared, key: &str, at: Revision) -> Result<Option<KeyValue>, StoreError> {
    let page = listed(shared, key, End(Some(format!("{key}\0"))), at, 1).await?;
    Ok(page.into_iter().next())
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
        sql(limit as u64).saturating_add(1)
    };
    let mut items = listed(shared, &from, end_of(prefix), at, fetch).await?;
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

async fn listed(shared: &Shared, from: &str, to: End, at: Revision, limit: i64) -> Result<Vec<KeyValue>, StoreError> {
    let failed = || shared.database.failure("list at a revision");
    let mut reading = shared.database.readers.acquire().await.map_err(failed())?;
    let mut reading = reading.begin().await.map_err(failed())?;
    let rows = sqlx::query(LIST)
        .bind(from)
        .bind(to)
        .bind(sql(at))
        .bind(limit)
        .fetch_all(&mut *reading)
        .await
        .map_err(failed())?;
    let mut bases = Bases::new();
    for row in &rows {
        shared.reader().need(row, 6, &mut bases, &mut reading).await?;
    }
    reading.rollback().await.map_err(failed())?;
    shared.memory.check_readable(at)?;
    // Of two lives of a key only one is not over at a revision.
    rows.iter().map(|row| shared.reader().whole(row, &mut bases)).collect()
}

/// Counts keys as they were just after revision `at`.
pub(super) async fn count(shared: &Shared, prefix: &str, at: Revision) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(COUNT)
        .bind(prefix)
        .bind(end_of(prefix))
        .bind(sql(at))
        .fetch_one(&shared.database.readers)
        .await
        .map_err(shared.database.failure("count at a revision"))?;
    shared.memory.check_readable(at)?;
    Ok(revision(count))
}

/// What one step of a replay read.
pub(super) struct Replayed {
    /// The changes of the prefix, of keys that keep their history, with the time of each.
    pub(super) changes: Vec<(Option<Timestamp>, Change)>,
    /// The revision up to which (inclusive) they are all.
    pub(super) upto: Revision,
}

/// Reads the next changes of `prefix` in `(from, upto]`: of about `limit` writes (0: as many as are read at a time).
pub(super) async fn replay(
    shared: &Shared,
    prefix: &str,
    from: Revision,
    upto: Revision,
    limit: usize,
) -> Result<Replayed, StoreError> {
    let failed = || shared.database.failure("replay changes");
    let limit = if limit == 0 {
        REPLAY_PAGE
    } else {
        limit.min(REPLAY_PAGE)
    };
    let end = end_of(prefix);
    let mut reading = shared.database.readers.acquire().await.map_err(failed())?;
    let mut reading = reading.begin().await.map_err(failed())?;
    let lives: i64 =
        sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM life WHERE key >= ?1 AND key < ?2 LIMIT ?3)")
            .bind(prefix)
            .bind(end.clone())
            .bind(FEW_LIVES + 1)
            .fetch_one(&mut *reading)
            .await
            .map_err(failed())?;
    let few = lives <= FEW_LIVES;
    let rows = sqlx::query(if few { CHANGES_OF_FEW } else { CHANGES })
        .bind(sql(from))
        .bind(sql(upto))
        .bind(sql(limit as u64))
        .bind(prefix)
        .bind(end.clone())
        .fetch_all(&mut *reading)
        .await
        .map_err(failed())?;
    // Where the log was gone through, rows of other prefixes counted too: how far it went is to be asked for.
    let last: Option<i64> = if few {
        let last = rows.last().filter(|_| rows.len() == limit);
        last.map(|row| row.try_get(2)).transpose().map_err(failed())?
    } else {
        sqlx::query_scalar("SELECT rev FROM log WHERE rev > ?1 AND rev <= ?2 ORDER BY rev LIMIT 1 OFFSET ?3")
            .bind(sql(from))
            .bind(sql(upto))
            .bind(sql(limit as u64 - 1))
            .fetch_optional(&mut *reading)
            .await
            .map_err(failed())?
    };
    let mut bases = Bases::new();
    for row in &rows {
        shared.reader().need(row, 6, &mut bases, &mut reading).await?;
        shared.reader().need(row, 15, &mut bases, &mut reading).await?;
    }
    reading.rollback().await.map_err(failed())?;
    shared.memory.check_readable(from)?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in &rows {
        let key: &str = row.try_get(0).map_err(failed())?;
        if shared.memory.rules().history(key) {
            changes.push(shared.reader().change(row, &mut bases)?);
        }
    }
    Ok(Replayed {
        changes,
        upto: last.map_or(upto, revision),
    })
}

/// Finds the newest revision, at `oldest` or after it, that was written by `time`.
pub(super) async fn moment(shared: &Shared, time: Timestamp) -> Result<Option<Moment>, StoreError> {
    let failed = || shared.database.failure("look for a time");
    let (newest, oldest, ..) = shared.memory.figures();
    let mut reading = shared.database.readers.acquire().await.map_err(failed())?;
    let found = written_by(&mut reading, time.as_millisecond(), oldest, newest)
        .await
        .map_err(failed())?;
    // A moment in a gap is the one before it: nothing is known of what came then.
    Ok(found.and_then(|(revision, at)| {
        let at = Timestamp::from_millisecond(at).ok()?;
        Some(Moment { revision, at })
    }))
}

/// Returns the newest write in `[from, upto]` that was made by a time in Unix milliseconds, and when it was.
pub(super) async fn written_by(
    connection: &mut SqliteConnection,
    time: i64,
    from: Revision,
    upto: Revision,
) -> Result<Option<(Revision, i64)>, sqlx::Error> {
    // Times grow with revisions, but for a clock that was set back: by halves, as in a sorted list.
    let (mut low, mut high) = (sql(from), sql(upto));
    let mut found = None;
    while low <= high {
        let middle = low + (high - low) / 2;
        let at: Option<(i64, i64)> =
            sqlx::query_as("SELECT rev, at FROM log WHERE rev >= ?1 AND rev <= ?2 ORDER BY rev LIMIT 1")
                .bind(middle)
                .bind(high)
                .fetch_optional(&mut *connection)
                .await?;
        match at {
            Some((rev, at)) if at <= time => {
                found = Some((revision(rev), at));
                low = rev + 1;
            }
            _ => high = middle - 1,
        }
    }
    Ok(found)
}

/// Returns when the oldest write at `from` or after it was made, in Unix milliseconds.
pub(super) async fn time_of(shared: &Shared, from: Revision) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = sqlx::query_scalar("SELECT at FROM log WHERE rev >= ?1 ORDER BY rev LIMIT 1")
        .bind(sql(from))
        .fetch_optional(&shared.database.readers)
        .await
        .map_err(shared.database.failure("look for a time"))?;
    Ok(at
        .filter(|at| *at > 0)
        .and_then(|at| Timestamp::from_millisecond(at).ok()))
}

impl Reader<'_> {
    /// Reads the dictionary whose id is in a column of a row.
    async fn need(
        &self,
        row: &SqliteRow,
        column: usize,
        bases: &mut Bases,
        connection: &mut SqliteConnection,
    ) -> Result<(), StoreError> {
        let failed = || self.database.failure("read a dictionary of old values");
        let base: Option<i64> = row.try_get(column).map_err(failed())?;
        let Some(id) = base.filter(|id| *id > 0 && !bases.met.contains_key(id)) else {
            return Ok(());
        };
        let key: &str = row.try_get(0).map_err(failed())?;
        if let Some(found) = self.base(&mut bases.zstd, connection, key, id).await? {
            bases.met.insert(id, found);
        }
        Ok(())
    }

    /// Reads a dictionary.
    pub(super) async fn base(
        &self,
        zstd: &mut Zstd,
        connection: &mut SqliteConnection,
        key: &str,
        id: i64,
    ) -> Result<Option<Bytes>, StoreError> {
        let found: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT sealed, bytes FROM base WHERE id = ?1")
            .bind(id)
            .fetch_optional(connection)
            .await
            .map_err(self.database.failure("read a dictionary of old values"))?;
        let Some((sealed, bytes)) = found else { return Ok(None) };
        let place = Place::Base(revision(id));
        self.codec
            .release(key, place, Held { sealed, bytes })
            .and_then(|packed| zstd.decompress(&packed, None))
            .map(Some)
            .map_err(|error| self.unreadable(key, revision(id), error))
    }

    /// Reads a row that begins with `key, created, rev` and goes on with a value.
    fn whole(&self, row: &SqliteRow, bases: &mut Bases) -> Result<KeyValue, StoreError> {
        let fields = |row: &SqliteRow| -> Result<(String, i64, i64), sqlx::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (key, created, rev) = fields(row).map_err(self.database.failure("decode a value"))?;
        let Some(value) = self.value(row, 3, &key, revision(rev), bases)? else {
            return Err(self.missing(&key, rev));
        };
        Ok(KeyValue {
            key,
            value,
            created: revision(created),
            modified: revision(rev),
        })
    }

    /// Reads `sealed, bytes, until, base, sealed, bytes` at a column; `None` when nothing is there.
    fn value(
        &self,
        row: &SqliteRow,
        column: usize,
        key: &str,
        modified: Revision,
        bases: &mut Bases,
    ) -> Result<Option<Bytes>, StoreError> {
        let failed = || self.database.failure("decode a value");
        let put: Option<Vec<u8>> = row.try_get(column + 1).map_err(failed())?;
        if let Some(bytes) = put {
            let sealed = row.try_get(column).map_err(failed())?;
            let plain = self.codec.release(key, Place::Value(modified), Held { sealed, bytes });
            return plain
                .map(|plain| Some(Bytes::from(plain)))
                .map_err(|error| self.unreadable(key, modified, error));
        }
        let superseded: Option<Vec<u8>> = row.try_get(column + 5).map_err(failed())?;
        let Some(bytes) = superseded else { return Ok(None) };
        let fields = |row: &SqliteRow| -> Result<(i64, i64, i64), sqlx::Error> {
            Ok((
                row.try_get(column + 2)?,
                row.try_get(column + 3)?,
                row.try_get(column + 4)?,
            ))
        };
        let (until, base, sealed) = fields(row).map_err(failed())?;
        let dictionary = match base {
            0 => None,
            id => Some(bases.met.get(&id).cloned().ok_or_else(|| {
                self.database.damaged(format!(
                    "the dictionary of what {key} held at revision {modified} is missing"
                ))
            })?),
        };
        self.codec
            .release(key, Place::Past(revision(until)), Held { sealed, bytes })
            .and_then(|packed| bases.zstd.decompress(&packed, dictionary.as_deref()))
            .map(Some)
            .map_err(|error| self.unreadable(key, modified, error))
    }

    fn change(&self, row: &SqliteRow, bases: &mut Bases) -> Result<(Option<Timestamp>, Change), StoreError> {
        let failed = || self.database.failure("decode a change");
        let fields = |row: &SqliteRow| -> Result<(String, i64, i64, i64, i64, i64), sqlx::Error> {
            Ok((
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(9)?,
                row.try_get(10)?,
                row.try_get(11)?,
            ))
        };
        let (key, created, rev, deleted, at, before) = fields(row).map_err(failed())?;
        let previous = self
            .value(row, 12, &key, revision(before), bases)?
            .map(|value| KeyValue {
                key: key.clone(),
                value,
                created: revision(created),
                modified: revision(before),
            });
        let at = Some(at)
            .filter(|at| *at > 0)
            .and_then(|at| Timestamp::from_millisecond(at).ok());
        if deleted == 0 {
            let current = self.whole(row, bases)?;
            return Ok((at, Change::Put { current, previous }));
        }
        let previous = previous.ok_or_else(|| self.missing(&key, before))?;
        Ok((
            at,
            Change::Delete {
                previous,
                revision: revision(rev),
            },
        ))
    }

    fn missing(&self, key: &str, rev: i64) -> StoreError {
        self.database
            .damaged(format!("what {key} held at revision {rev} is missing"))
    }

    /// The error of a value that is there and cannot be read.
    pub(super) fn unreadable(&self, key: &str, modified: Revision, error: CodecError) -> StoreError {
        let what = format!("what {key} held at revision {modified}");
        match error {
            CodecError::Key(error @ crate::keys::KeyError::Damaged { .. }) => {
                self.database.damaged(format!("{what} cannot be decrypted: {error}"))
            }
            error @ (CodecError::Key(_) | CodecError::NoKeys) => StoreError::Keys {
                path: self.database.path().display().to_string(),
                what: format!("{what} cannot be read or written: {error}"),
                source: std::sync::Arc::new(error),
            },
            error @ CodecError::Compression(_) => self.database.damaged(format!("{what}: {error}")),
        }
    }
}

/// What is greater than all texts that start with a prefix, as an argument of a statement.
#[derive(Clone)]
pub(super) struct End(Option<String>);

/// Returns what is greater than all that start with a prefix, and not than anything else.
pub(super) fn end_of(prefix: &str) -> End {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        // The next character; there are none between U+D7FF and U+E000.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            end.push(next);
            return End(Some(end.into_iter().collect()));
        }
    }
    End(None)
}

impl sqlx::Type<sqlx::Sqlite> for End {
    fn type_info() -> sqlx::sqlite::SqliteTypeInfo {
        <String as sqlx::Type<sqlx::Sqlite>>::type_info()
    }
}

impl sqlx::Encode<'_, sqlx::Sqlite> for End {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::sqlite::SqliteArgumentsBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        match &self.0 {
            Some(end) => sqlx::Encode::<sqlx::Sqlite>::encode(end.clone(), buffer),
            // To SQLite bytes are greater than any text.
            None => sqlx::Encode::<sqlx::Sqlite>::encode(Vec::<u8>::new(), buffer),
        }
    }
}

/// SQLite's integers are signed; a revision never gets near the sign bit.
pub(super) fn sql(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

pub(super) fn revision(stored: i64) -> Revision {
    u64::try_from(stored).unwrap_or(0)
}
