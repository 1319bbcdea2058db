//! A database that comes back from a backup: what was issued since it was taken must not be issued again.

use std::path::Path;
use std::time::Duration;

use super::past::{NEWEST, revision, sql};
use super::{MIGRATIONS, SqliteOptions};
use crate::database::{Database, Use};
use crate::log::{Revision, StoreError};

/// Returns the highest revision that the database at `path` may have issued. The database is opened and migrated.
///
/// # Errors
/// As [`SqliteLog::open`](super::SqliteLog::open).
pub async fn newest_issued(path: &Path) -> Result<Revision, StoreError> {
    let (database, mut connection) = Database::open(path, &usage()).await?;
    let newest: i64 = sqlx::query_scalar(NEWEST)
        .fetch_one(&mut connection)
        .await
        .map_err(database.failure("look for the newest revision"))?;
    database.close(connection).await?;
    Ok(revision(newest))
}

/// Makes the next revision of the database at `path` greater than `past`, and those between what it holds and `past` a gap: reads
/// at them, and at `past`, and watches from them fail with [`StoreError::Compacted`]. Nobody else may have the database open.
///
/// # Errors
/// As [`SqliteLog::open`](super::SqliteLog::open).
pub async fn skip_past(path: &Path, past: Revision) -> Result<(), StoreError> {
    let (database, mut connection) = Database::open(path, &usage()).await?;
    let failed = || database.failure("skip revisions");
    let mut transaction = sqlx::Connection::begin(&mut connection).await.map_err(failed())?;
    let newest: i64 = sqlx::query_scalar("SELECT max(oldest, coalesce((SELECT max(rev) FROM log), 0)) FROM horizon")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed())?;
    if newest < sql(past) {
        sqlx::query(
            "INSERT INTO gap (first, last) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
        )
        .bind(newest + 1)
        .bind(sql(past))
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
    }
    sqlx::query("UPDATE horizon SET reserved = max(reserved, ?1)")
        .bind(sql(past) + 1)
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
    transaction.commit().await.map_err(failed())?;
    database.close(connection).await
}

fn usage() -> Use<'static> {
    let options = SqliteOptions::default();
    Use {
        migrations: &MIGRATIONS,
        readers: 1,
        busy: options.busy_timeout.max(Duration::from_secs(5)),
    }
}
