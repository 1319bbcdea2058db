//! What SQLite's errors mean to whoever runs the store.

use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::{MigrateError, Migrator};

use crate::log::StoreError;

/// SQLite's primary result codes.
const ERROR: u32 = 1;
const READ_ONLY: u32 = 8;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NO_DATABASE: u32 = 26;

/// The meaning of an error.
pub(crate) fn of(path: &Path, operation: &'static str, error: sqlx::Error) -> StoreError {
    if matches!(error, sqlx::Error::PoolClosed) {
        return StoreError::Closed;
    }
    let no_space = matches!(&error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull);
    let read_only = matches!(&error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem);
    let code = primary_code(&error);
    if code == Some(CORRUPT) {
        return damaged(
            path,
            format!("its pages do not fit together (seen when trying to {operation})"),
        );
    }
    if code == Some(NO_DATABASE) {
        return damaged(path, "the file is not a SQLite database");
    }
    // All statements are fixed: what they do not find, or find to be something else, was changed by something else.
    if code == Some(ERROR) || matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) {
        return damaged(path, format!("it holds what was not put there ({error})"));
    }
    let path = path.display().to_string();
    match code {
        code if no_space || code == Some(FULL) => StoreError::Full {
            operation,
            path,
            source: Arc::new(error),
        },
        Some(READ_ONLY) => StoreError::ReadOnly { operation, path },
        _ if read_only => StoreError::ReadOnly { operation, path },
        _ => StoreError::Engine {
            operation,
            path,
            source: Arc::new(error),
        },
    }
}

/// The error of a store that does not hold what was put there.
pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> StoreError {
    StoreError::Damaged {
        path: path.display().to_string(),
        what: what.into(),
    }
}

/// The meaning of a migration that failed.
pub(crate) fn of_migration(path: &Path, migrations: &Migrator, error: MigrateError) -> StoreError {
    let known = migrations
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default();
    match error {
        MigrateError::Execute(error) => of(path, "migrate the database", error),
        MigrateError::VersionMissing(found) => StoreError::TooNew {
            path: path.display().to_string(),
            found,
            known,
        },
        MigrateError::VersionMismatch(version) => {
            damaged(path, format!("its schema {version} is not the one of this program"))
        }
        error => StoreError::Engine {
            operation: "migrate the database",
            path: path.display().to_string(),
            source: Arc::new(error),
        },
    }
}

/// SQLite's code without its extension.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
