//! Reading what is committed.

use bytes::Bytes;

use super::blob as packed;
use super::seal::Name;
use super::sqlite::Shared;
use crate::log::StoreError;

pub(super) async fn record(shared: &Shared, collection: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
    let found: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT sealed, value FROM record WHERE collection = ?1 AND key = ?2")
            .bind(collection)
            .bind(key)
            .fetch_optional(&shared.database.readers)
            .await
            .map_err(shared.failure("read a record"))?;
    let Some((sealed, value)) = found else { return Ok(None) };
    let plain = shared.release(Name::Record(collection, key), sealed, value)?;
    Ok(Some(Bytes::from(plain)))
}

pub(super) async fn records(shared: &Shared, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
    let found: Vec<(String, i64, Vec<u8>)> =
        sqlx::query_as("SELECT key, sealed, value FROM record WHERE collection = ?1 ORDER BY key")
            .bind(collection)
            .fetch_all(&shared.database.readers)
            .await
            .map_err(shared.failure("read a collection"))?;
    found
        .into_iter()
        .map(|(key, sealed, value)| {
            let plain = shared.release(Name::Record(collection, &key), sealed, value)?;
            Ok((key, Bytes::from(plain)))
        })
        .collect()
}

pub(super) async fn blob(shared: &Shared, digest: &str) -> Result<Option<Bytes>, StoreError> {
    let found: Option<(i64, i64, Vec<u8>)> =
        sqlx::query_as("SELECT size, sealed, compressed FROM blob WHERE digest = ?1")
            .bind(digest)
            .fetch_optional(&shared.database.readers)
            .await
            .map_err(shared.failure("read a blob"))?;
    let Some((size, sealed, stored)) = found else {
        return Ok(None);
    };
    let compressed = match shared.release(Name::Blob(digest), sealed, stored.clone()) {
        Ok(compressed) => compressed,
        Err(StoreError::Damaged { what, .. }) => return drop_damaged(shared, digest, stored, &what).await,
        // A key that is not there may come back.
        Err(error) => return Err(error),
    };
    let wanted = digest.to_owned();
    let unpacked = tokio::task::spawn_blocking(move || packed::unpack(&wanted, size, &compressed)).await;
    match unpacked {
        Ok(Ok(plain)) => Ok(Some(plain)),
        Ok(Err(unusable)) => drop_damaged(shared, digest, stored, &unusable.to_string()).await,
        // The runtime is going down.
        Err(_) => Err(StoreError::Closed),
    }
}

/// What is not there any more is written anew by whoever has it; a damaged row would only be in its place.
async fn drop_damaged(
    shared: &Shared,
    digest: &str,
    stored: Vec<u8>,
    unusable: &str,
) -> Result<Option<Bytes>, StoreError> {
    tracing::error!(digest, unusable, "a blob is not what was stored: it is deleted");
    super::commit::drop_blob(shared, digest, stored).await?;
    Ok(None)
}

pub(super) async fn has_blob(shared: &Shared, digest: &str) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM blob WHERE digest = ?1")
        .bind(digest)
        .fetch_optional(&shared.database.readers)
        .await
        .map_err(shared.failure("look for a blob"))?;
    Ok(found.is_some())
}

pub(super) async fn series(
    shared: &Shared,
    series: &str,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, Bytes)>, StoreError> {
    let found: Vec<(i64, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT number, sealed, value FROM entry
            WHERE series = (SELECT id FROM series WHERE name = ?1) AND number < ?2
            ORDER BY number DESC LIMIT ?3",
    )
    .bind(series)
    .bind(before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX)))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&shared.database.readers)
    .await
    .map_err(shared.failure("read a series"))?;
    found
        .into_iter()
        .map(|(number, sealed, value)| {
            let plain = shared.release(Name::Entry(series, number), sealed, value)?;
            match u64::try_from(number) {
                Ok(number) => Ok((number, Bytes::from(plain))),
                Err(_) => Err(shared.damaged(format!("series {series} has an entry {number}"))),
            }
        })
        .collect()
}
