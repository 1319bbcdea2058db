//! Packing: values that were superseded a while ago move from `value` to `past`, compressed.
//!
//! Most changes of an object are small, so each old value is compressed with an earlier one of the same life as dictionary (its base). A
//! base serves until values have grown away from it. One step walks some revisions and packs what each of them superseded,
//! so that `past` is written in its own order, and forgotten from its front.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::sqlite::SqliteConnection;

use super::Shared;
use super::codec::{Codec, CodecError, Held, Place, Zstd, can_be_base};
use super::past::{revision, sql};
use super::statements::{Argument, Statements};
use crate::log::{Revision, StoreError};

/// How many revisions are worth a step.
const WORTH: Revision = 256;
/// How many bytes of bases are kept at hand.
const AT_HAND: usize = 1 << 20;
/// So many bytes, and one value, are packed in one step.
const AT_ONCE: usize = 4 << 20;
/// A packed value larger than this, and than a quarter of what it was, gets a new base.
const LARGE: usize = 512;

/// What was superseded in `(?1, ?2]` and is not packed yet.
const SUPERSEDED: &str = "SELECT g.rev, g.previous, g.created, l.key, v.sealed, v.bytes
    FROM log AS g JOIN value AS v ON v.rev = g.previous JOIN life AS l ON l.created = g.created
    WHERE g.rev > ?1 AND g.rev <= ?2 ORDER BY g.rev";

/// `until, rev, created, key, sealed, bytes`.
type SupersededRow = (i64, i64, i64, String, i64, Vec<u8>);

/// How far packing is, and the bases of lives that it met lately.
pub(super) struct Packing {
    cursor: Revision,
    /// What was superseded so many revisions ago is packed.
    behind: Revision,
    bases: HashMap<i64, (i64, Bytes)>,
    held: usize,
}

/// One superseded value.
struct Superseded {
    until: i64,
    rev: i64,
    created: i64,
    key: String,
    value: Vec<u8>,
    /// The base of its life, when there is one.
    base: Option<(i64, Bytes)>,
}

/// What became of it.
struct Packed {
    until: i64,
    rev: i64,
    base: i64,
    held: Held,
    /// A base that begins with this value: its life, the value, and how it is written.
    begun: Option<(i64, Bytes, Held)>,
}

impl Packing {
    /// Goes on from where an earlier process was.
    pub(super) async fn resume(connection: &mut SqliteConnection, behind: Revision) -> Result<Packing, sqlx::Error> {
        let cursor: i64 = sqlx::query_scalar("SELECT packed FROM horizon")
            .fetch_one(connection)
            .await?;
        Ok(Packing {
            cursor: revision(cursor),
            behind,
            bases: HashMap::new(),
            held: 0,
        })
    }

    /// Forgets what it holds of the database, because that may not be so any more.
    pub(super) fn doubt(&mut self) {
        self.bases.clear();
        self.held = 0;
    }

    /// How many revisions wait to be walked.
    pub(super) fn waiting(&self, newest: Revision) -> Revision {
        newest.saturating_sub(self.behind).saturating_sub(self.cursor)
    }

    /// Whether a step is worth its transaction.
    pub(super) fn is_due(&self, newest: Revision) -> bool {
        self.waiting(newest) >= (self.behind / 4).clamp(1, WORTH)
    }

    /// Walks so many revisions.
    pub(super) async fn step(
        &mut self,
        shared: &Shared,
        connection: &mut SqliteConnection,
        revisions: Revision,
    ) -> Result<(), StoreError> {
        let (newest, oldest, ..) = shared.memory.figures();
        let failed = || shared.database.failure("compress old values");
        // What is before the horizon goes as it is.
        let last = newest.saturating_sub(self.behind);
        // Revisions that no write has (a jump after a restore, heartbeats) are not walked.
        let next: Option<i64> = sqlx::query_scalar("SELECT rev FROM log WHERE rev > ?1 ORDER BY rev LIMIT 1")
            .bind(sql(self.cursor.max(oldest)))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed())?;
        let from = next
            .map_or(last, |next| revision(next) - 1)
            .min(last)
            .max(self.cursor.max(oldest));
        let end = last.min(from + revisions);
        if end <= from {
            self.cursor = from;
            return Ok(());
        }
        let (rows, end) = self.superseded(shared, connection, from, end).await?;
        // Made anew for each step: what it holds on to is more than all else here, and steps are rare at rest.
        let mut zstd = Zstd::new();
        let mut superseded = Vec::with_capacity(rows.len());
        for (until, rev, created, key, sealed, bytes) in rows {
            let value = shared
                .codec
                .release(&key, Place::Value(revision(rev)), Held { sealed, bytes });
            let value = match value {
                Ok(value) => value,
                Err(error) => {
                    // It stays as it is until it is forgotten: whoever reads it is told.
                    tracing::error!(%key, revision = rev, %error, "an old value cannot be read");
                    continue;
                }
            };
            let base = self.base_of(&mut zstd, shared, connection, &key, created).await?;
            superseded.push(Superseded {
                until,
                rev,
                created,
                key,
                value,
                base,
            });
        }
        // Some milliseconds at most: not worth a thread.
        let packed = pack(&mut zstd, &shared.codec, superseded)
            .map_err(|(key, rev, error)| shared.reader().unreadable(&key, revision(rev), error))?;
        let mut statements = Statements::default();
        let mut past = Vec::with_capacity(packed.len() * 4);
        let mut gone = Vec::with_capacity(packed.len());
        let mut bases = Vec::new();
        for one in packed {
            if let Some((created, value, held)) = one.begun {
                bases.extend([
                    Argument::Integer(one.until),
                    Argument::Integer(created),
                    Argument::Integer(held.sealed),
                    Argument::Bytes(held.bytes),
                ]);
                self.remember(created, one.until, value);
            }
            past.extend([
                Argument::Integer(one.until),
                Argument::Integer(one.base),
                Argument::Integer(one.held.sealed),
                Argument::Bytes(one.held.bytes),
            ]);
            gone.push(Argument::Integer(one.rev));
        }
        statements.rows("INSERT INTO base (id, created, sealed, bytes) VALUES", 4, "", bases);
        statements.rows("INSERT INTO past (until, base, sealed, bytes) VALUES", 4, "", past);
        statements.rows("DELETE FROM value WHERE rev IN (VALUES", 1, ")", gone);
        statements.push("UPDATE horizon SET packed = ?", vec![Argument::Integer(sql(end))]);
        statements.commit(connection).await.map_err(failed())?;
        self.cursor = end;
        Ok(())
    }

    /// Reads what was superseded in `(from, end]`, or less of it when that is large, and up to where this is all.
    async fn superseded(
        &self,
        shared: &Shared,
        connection: &mut SqliteConnection,
        from: Revision,
        end: Revision,
    ) -> Result<(Vec<SupersededRow>, Revision), StoreError> {
        let mut rows: Vec<SupersededRow> = Vec::new();
        let mut bytes = 0;
        let mut reading = sqlx::query_as::<_, SupersededRow>(SUPERSEDED)
            .bind(sql(from))
            .bind(sql(end))
            .fetch(connection);
        while let Some(row) = reading
            .try_next()
            .await
            .map_err(shared.database.failure("compress old values"))?
        {
            bytes += row.5.len();
            let until = revision(row.0);
            rows.push(row);
            if bytes > AT_ONCE {
                return Ok((rows, until));
            }
        }
        Ok((rows, end))
    }

    /// The base of a life.
    async fn base_of(
        &mut self,
        zstd: &mut Zstd,
        shared: &Shared,
        connection: &mut SqliteConnection,
        key: &str,
        created: i64,
    ) -> Result<Option<(i64, Bytes)>, StoreError> {
        if let Some(found) = self.bases.get(&created) {
            return Ok(Some(found.clone()));
        }
        let id: Option<i64> = sqlx::query_scalar("SELECT id FROM base WHERE created = ?1 ORDER BY id DESC LIMIT 1")
            .bind(created)
            .fetch_optional(&mut *connection)
            .await
            .map_err(shared.database.failure("look for a dictionary of old values"))?;
        let Some(id) = id else { return Ok(None) };
        match shared.reader().base(zstd, connection, key, id).await {
            Ok(Some(base)) => {
                self.remember(created, id, base.clone());
                Ok(Some((id, base)))
            }
            Ok(None) => Ok(None),
            Err(error @ (StoreError::Damaged { .. } | StoreError::Keys { .. })) => {
                // A new one begins; whoever reads what this one packed is told.
                tracing::error!(%key, %error, "the dictionary of old values cannot be read");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn remember(&mut self, created: i64, id: i64, base: Bytes) {
        if self.held + base.len() > AT_HAND {
            self.doubt();
        }
        self.held += base.len();
        self.bases.insert(created, (id, base));
    }
}

/// Compresses values; the first of a life, or one that grew away from its base, begins a base.
fn pack(zstd: &mut Zstd, codec: &Codec, superseded: Vec<Superseded>) -> Result<Vec<Packed>, (String, i64, CodecError)> {
    let mut begun: BTreeMap<i64, (i64, Bytes)> = BTreeMap::new();
    let mut all = Vec::with_capacity(superseded.len());
    for one in superseded {
        let base = begun.get(&one.created).cloned().or_else(|| one.base.clone());
        let packed = pack_one(zstd, codec, &one, base).map_err(|error| (one.key.clone(), one.rev, error))?;
        if let Some((created, value, _)) = &packed.begun {
            begun.insert(*created, (packed.until, value.clone()));
        }
        all.push(packed);
    }
    Ok(all)
}

fn pack_one(
    zstd: &mut Zstd,
    codec: &Codec,
    one: &Superseded,
    base: Option<(i64, Bytes)>,
) -> Result<Packed, CodecError> {
    let mut bytes = None;
    let mut id = 0;
    if let Some((of, base)) = &base {
        let with = zstd.compress(&one.value, Some(base))?;
        if with.len() <= LARGE || with.len() <= one.value.len() / 4 {
            bytes = Some(with);
            id = *of;
        }
    }
    let mut begun = None;
    if bytes.is_none() && can_be_base(&one.value) {
        let value = Bytes::from(one.value.clone());
        let packed = zstd.compress(&one.value, None)?;
        let held = codec.hold(&one.key, Place::Base(revision(one.until)), &packed)?;
        bytes = Some(zstd.compress(&one.value, Some(&one.value))?);
        id = one.until;
        begun = Some((one.created, value, held));
    }
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => zstd.compress(&one.value, None)?,
    };
    Ok(Packed {
        until: one.until,
        rev: one.rev,
        base: id,
        held: codec.hold(&one.key, Place::Past(revision(one.until)), &bytes)?,
        begun,
    })
}
