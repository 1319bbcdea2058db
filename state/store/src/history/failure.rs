//! What SQLite's errors mean to whoever runs the store.

use std::path::Path;

use sqlx::migrate::{MigrateError, Migrator};

use crate::log::StoreError;

/// SQLite's primary result codes.
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NO_DATABASE: u32 = 26;

/// The meaning of an error.
pub(super) fn of(path: &Path, operation: &'static str, error: sqlx::Error) -> StoreError {
    if matches!(error, sqlx::Error::PoolClosed) {
        return StoreError::Closed;
    }
    let no_space = matches!(&error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull);
    let path = path.display().to_string();
    match primary_code(&error) {
        Some(CORRUPT) => StoreError::Damaged {
            path,
            what: format!("its pages do not fit together (seen when trying to {operation})"),
        },
        Some(NO_DATABASE) => StoreError::Damaged {
            path,
            what: "the file is not a SQLite database".to_owned(),
        },
        code if no_space || code == Some(FULL) => StoreError::Full {
            operation,
            path,
            source: Box::new(error),
        },
        _ => StoreError::Engine {
            operation,
            path,
            source: Box::new(error),
        },
    }
}

/// The meaning of a migration that failed.
pub(super) fn of_migration(path: &Path, migrations: &Migrator, error: MigrateError) -> StoreError {
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
        MigrateError::VersionMismatch(version) => StoreError::Damaged {
            path: path.display().to_string(),
            what: format!("its schema {version} is not the one of this program"),
        },
        error => StoreError::Engine {
            operation: "migrate the database",
            path: path.display().to_string(),
            source: Box::new(error),
        },
    }
}

/// SQLite's code without its extension.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
