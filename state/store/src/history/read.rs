//! Reading what is committed.

use bytes::Bytes;

use super::{Shared, blob as packed};
use crate::log::StoreError;

pub(super) async fn record(shared: &Shared, collection: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
    let found: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM record WHERE collection = ?1 AND key = ?2")
        .bind(collection)
        .bind(key)
        .fetch_optional(&shared.readers)
        .await
        .map_err(shared.failure("read a record"))?;
    Ok(found.map(Bytes::from))
}

pub(super) async fn records(shared: &Shared, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
    let found: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT key, value FROM record WHERE collection = ?1 ORDER BY key")
            .bind(collection)
            .fetch_all(&shared.readers)
            .await
            .map_err(shared.failure("read a collection"))?;
    Ok(found
        .into_iter()
        .map(|(key, value)| (key, Bytes::from(value)))
        .collect())
}

pub(super) async fn blob(shared: &Shared, digest: &str) -> Result<Option<Bytes>, StoreError> {
    let found: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT size, compressed FROM blob WHERE digest = ?1")
        .bind(digest)
        .fetch_optional(&shared.readers)
        .await
        .map_err(shared.failure("read a blob"))?;
    let Some((size, compressed)) = found else {
        return Ok(None);
    };
    let wanted = digest.to_owned();
    let unpacked = tokio::task::spawn_blocking(move || {
        let unpacked = packed::unpack(&wanted, size, &compressed);
        (unpacked, compressed)
    })
    .await;
    match unpacked {
        Ok((Ok(plain), _)) => Ok(Some(plain)),
        Ok((Err(unusable), compressed)) => {
            // What is not there any more is written anew by whoever has it; a damaged row would only be in its place.
            tracing::error!(digest, %unusable, "a blob is not what was stored: it is deleted");
            super::commit::drop_blob(shared, digest, compressed).await?;
            Ok(None)
        }
        // The runtime is going down.
        Err(_) => Err(StoreError::Closed),
    }
}

pub(super) async fn has_blob(shared: &Shared, digest: &str) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM blob WHERE digest = ?1")
        .bind(digest)
        .fetch_optional(&shared.readers)
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
    let found: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT number, value FROM entry
            WHERE series = (SELECT id FROM series WHERE name = ?1) AND number < ?2
            ORDER BY number DESC LIMIT ?3",
    )
    .bind(series)
    .bind(before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX)))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&shared.readers)
    .await
    .map_err(shared.failure("read a series"))?;
    found
        .into_iter()
        .map(|(number, value)| match u64::try_from(number) {
            Ok(number) => Ok((number, Bytes::from(value))),
            Err(_) => Err(shared.damaged(format!("series {series} has an entry {number}"))),
        })
        .collect()
}
