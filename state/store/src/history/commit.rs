//! Writing: one batch at a time, each in a transaction of its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use super::blob::{self, Packed};
use super::seal::Name;
use super::sqlite::{Shared, Writer};
use super::{Batch, LARGEST};
use crate::log::StoreError;

/// How many free pages are given back to the file system after blobs were deleted: 64 MB at a time.
const GIVE_BACK: &str = "PRAGMA incremental_vacuum(16384)";

pub(super) async fn commit(shared: &Shared, batch: Batch) -> Result<(), StoreError> {
    check(&batch)?;
    let mut writer = shared.writer.lock().await;
    let connection = writer.connection(shared).await?;
    if batch.is_empty() {
        return Ok(());
    }
    let written = match pack(shared, connection, &batch.blobs).await {
        Ok(blobs) => write(shared, connection, &batch, blobs).await,
        Err(error) => Err(error),
    };
    settle(&mut writer, written)
}

pub(super) async fn keep_only_blobs(shared: &Shared, keep: &BTreeSet<String>) -> Result<usize, StoreError> {
    let mut writer = shared.writer.lock().await;
    let connection = writer.connection(shared).await?;
    let swept = sweep(connection, keep).await.map_err(shared.failure("delete blobs"));
    settle(&mut writer, swept)
}

/// Deletes a blob, if its row still is as it was read.
pub(super) async fn drop_blob(shared: &Shared, digest: &str, compressed: Vec<u8>) -> Result<(), StoreError> {
    let mut writer = shared.writer.lock().await;
    let connection = writer.connection(shared).await?;
    let dropped = sqlx::query("DELETE FROM blob WHERE digest = ?1 AND compressed = ?2")
        .bind(digest)
        .bind(compressed)
        .execute(connection)
        .await
        .map(drop)
        .map_err(shared.failure("delete a damaged blob"));
    settle(&mut writer, dropped)
}

/// Gives up a connection whose transaction failed: what state it is in is not known.
pub(super) fn settle<T>(writer: &mut Writer, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
    if outcome.is_err() {
        *writer = match std::mem::replace(writer, Writer::Closed) {
            Writer::Open(connection) | Writer::Lost(connection) => Writer::Lost(connection),
            Writer::Closed => Writer::Closed,
        };
    }
    outcome
}

/// Refuses what could not be read back.
fn check(batch: &Batch) -> Result<(), StoreError> {
    let fits = |what: &dyn Fn() -> String, size: usize| {
        if size <= LARGEST {
            return Ok(());
        }
        Err(StoreError::TooLarge {
            what: what(),
            size,
            limit: LARGEST,
        })
    };
    for bytes in &batch.blobs {
        fits(&|| "a blob".to_owned(), bytes.len())?;
    }
    for (collection, key, value) in &batch.put {
        fits(&|| format!("record {key} of {collection}"), value.len())?;
    }
    for (series, value) in &batch.append {
        fits(&|| format!("an entry of series {series}"), value.len())?;
    }
    Ok(())
}

/// Compresses the blobs that are not there yet. Nobody else writes meanwhile, so what is there stays there.
async fn pack(shared: &Shared, connection: &mut SqliteConnection, blobs: &[Bytes]) -> Result<Vec<Packed>, StoreError> {
    if blobs.is_empty() {
        return Ok(Vec::new());
    }
    let plain = blobs.to_vec();
    let mut missing: BTreeMap<String, Bytes> =
        blocking(move || plain.into_iter().map(|bytes| (blob::digest(&bytes), bytes)).collect()).await?;
    let mut present = Vec::new();
    for digest in missing.keys() {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM blob WHERE digest = ?1")
            .bind(digest)
            .fetch_optional(&mut *connection)
            .await
            .map_err(shared.failure("look for a blob"))?;
        if found.is_some() {
            present.push(digest.clone());
        }
    }
    missing.retain(|digest, _| !present.contains(digest));
    let packed = blocking(move || {
        missing
            .into_iter()
            .map(|(digest, plain)| blob::pack(digest, &plain))
            .collect::<std::io::Result<Vec<Packed>>>()
    })
    .await?;
    packed.map_err(|error| shared.failure("compress a blob")(sqlx::Error::Io(error)))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    // It fails only when the runtime is going down.
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)
}

/// What a batch writes, sealed.
struct Sealed<'b> {
    batch: &'b Batch,
    blobs: Vec<(Packed, (i64, Vec<u8>))>,
    records: Vec<(i64, Vec<u8>)>,
}

async fn write(
    shared: &Shared,
    connection: &mut SqliteConnection,
    batch: &Batch,
    blobs: Vec<Packed>,
) -> Result<(), StoreError> {
    let mut held = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let sealed = shared.hold(Name::Blob(&blob.digest), &blob.compressed)?;
        held.push((blob, sealed));
    }
    let records = batch.put.iter();
    let records = records.map(|(collection, key, value)| shared.hold(Name::Record(collection, key), value));
    let sealed = Sealed {
        batch,
        blobs: held,
        records: records.collect::<Result<_, _>>()?,
    };
    let failed = || shared.failure("commit a batch");
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
    put(&mut transaction, &sealed).await.map_err(failed())?;
    for (series, value) in &batch.append {
        append(shared, &mut transaction, series, value).await?;
    }
    trim(&mut transaction, batch).await.map_err(failed())?;
    transaction.commit().await.map_err(failed())
}

async fn put(transaction: &mut SqliteConnection, sealed: &Sealed<'_>) -> Result<(), sqlx::Error> {
    let batch = sealed.batch;
    for (collection, key) in &batch.delete {
        sqlx::query("DELETE FROM record WHERE collection = ?1 AND key = ?2")
            .bind(collection)
            .bind(key)
            .execute(&mut *transaction)
            .await?;
    }
    for series in &batch.delete_series {
        sqlx::query("DELETE FROM entry WHERE series = (SELECT id FROM series WHERE name = ?1)")
            .bind(series)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM series WHERE name = ?1")
            .bind(series)
            .execute(&mut *transaction)
            .await?;
    }
    for (blob, (key, bytes)) in &sealed.blobs {
        sqlx::query(
            "INSERT INTO blob (digest, size, sealed, compressed) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )
        .bind(&blob.digest)
        .bind(blob.size)
        .bind(key)
        .bind(bytes)
        .execute(&mut *transaction)
        .await?;
    }
    for ((collection, key, _), (sealed, value)) in batch.put.iter().zip(&sealed.records) {
        sqlx::query(
            "INSERT INTO record (collection, key, sealed, value) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (collection, key) DO UPDATE SET sealed = excluded.sealed, value = excluded.value",
        )
        .bind(collection)
        .bind(key)
        .bind(sealed)
        .bind(value)
        .execute(&mut *transaction)
        .await?;
    }
    Ok(())
}

async fn trim(transaction: &mut SqliteConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    for (series, keep) in &batch.keep_series {
        sqlx::query(
            "DELETE FROM entry WHERE series = (SELECT id FROM series WHERE name = ?1) AND number <= coalesce(
                (SELECT number FROM entry WHERE series = (SELECT id FROM series WHERE name = ?1)
                    ORDER BY number DESC LIMIT 1 OFFSET ?2), 0)",
        )
        .bind(series)
        .bind(i64::try_from(*keep).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
    }
    Ok(())
}

async fn append(
    shared: &Shared,
    connection: &mut SqliteConnection,
    series: &str,
    value: &Bytes,
) -> Result<(), StoreError> {
    let failed = || shared.failure("append to a series");
    let (id, number): (i64, i64) = sqlx::query_as(
        "INSERT INTO series (name, newest) VALUES (?1, 1)
            ON CONFLICT (name) DO UPDATE SET newest = newest + 1 RETURNING id, newest",
    )
    .bind(series)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed())?;
    let (sealed, value) = shared.hold(Name::Entry(series, number), value)?;
    sqlx::query("INSERT INTO entry (series, number, sealed, value) VALUES (?1, ?2, ?3, ?4)")
        .bind(id)
        .bind(number)
        .bind(sealed)
        .bind(value)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed())
}

async fn sweep(connection: &mut SqliteConnection, keep: &BTreeSet<String>) -> Result<usize, sqlx::Error> {
    let stored: Vec<String> = sqlx::query_scalar("SELECT digest FROM blob")
        .fetch_all(&mut *connection)
        .await?;
    let unwanted: Vec<String> = stored.into_iter().filter(|digest| !keep.contains(digest)).collect();
    if unwanted.is_empty() {
        return Ok(0);
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for digest in &unwanted {
        sqlx::query("DELETE FROM blob WHERE digest = ?1")
            .bind(digest)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    sqlx::query(GIVE_BACK).fetch_all(connection).await?;
    Ok(unwanted.len())
}
