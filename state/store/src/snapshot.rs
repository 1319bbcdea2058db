//! Looking at the databases from outside: consistent copies, checks, and what they are sealed with.
//!
//! Everything here works beside a daemon that writes, and without one. Connections are read-only: they see one state, hold up no
//! writer, and change nothing. (While a copy is made, what is written meanwhile stays in the write-ahead log.)

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::failure;
use crate::keys::KeyId;
use crate::log::StoreError;

/// How long a statement waits for another process's lock on the database.
const BUSY: Duration = Duration::from_secs(10);
/// How many findings a check gives at most.
const FINDINGS: usize = 100;

static LOG: Migrator = sqlx::migrate!("./migrations");
static HISTORY: Migrator = sqlx::migrate!("./history-migrations");

/// The two databases, which have schemas of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// What [`SqliteLog`](crate::SqliteLog) keeps.
    Log,
    /// What [`History`](crate::SqliteHistory) keeps.
    History,
}

/// How far a database has been migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The file's schema; 0 when it was never opened by this program.
    pub found: i64,
    /// The newest schema that this version knows.
    pub known: i64,
}

/// Writes a consistent copy of the database at `path` to `to`, which must not be there yet (0600, durable), and returns its size in bytes.
///
/// The database may be in use, here or by another process. The copy needs no write-ahead log beside it. Where the copy fails, `to` is removed.
///
/// # Errors
/// [`StoreError::Full`] when the disk of `to` has no room, [`StoreError::Damaged`] when the database cannot be read to its end, else
/// [`StoreError::Engine`].
pub async fn snapshot(path: &Path, to: &Path) -> Result<u64, StoreError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| failure::of(to, "create the copy", sqlx::Error::Io(error)))?;
    let copied = async {
        let name = to.to_str().ok_or_else(|| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidFilename, "the path is not UTF-8");
            failure::of(to, "create the copy", sqlx::Error::Io(error))
        })?;
        let mut connection = connect(path).await?;
        // SQLite fills a file that is there and empty, and keeps its mode.
        sqlx::query("VACUUM INTO ?")
            .bind(name)
            .execute(&mut connection)
            .await
            .map_err(|error| failure::of(path, "copy the database", error))?;
        close(path, connection).await?;
        made.sync_all()
            .and_then(|()| made.metadata())
            .map(|meta| meta.len())
            .map_err(|error| failure::of(to, "write the copy", sqlx::Error::Io(error)))
    }
    .await;
    if copied.is_err()
        && let Err(error) = std::fs::remove_file(to)
    {
        tracing::warn!(%error, path = %to.display(), "a copy that failed cannot be removed");
    }
    copied
}

/// Looks through the whole database and returns what is wrong with it, a sentence each; nothing when it is sound.
///
/// Reads every page: some seconds for each GiB.
///
/// # Errors
/// [`StoreError::Engine`] when the file cannot be opened. One that is no database is a finding.
pub async fn check(path: &Path) -> Result<Vec<String>, StoreError> {
    let found = async {
        let mut connection = connect(path).await?;
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("PRAGMA integrity_check({FINDINGS})")))
            .fetch_all(&mut connection)
            .await
            .map_err(|error| failure::of(path, "check the database", error))?;
        close(path, connection).await?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }
    .await;
    match found {
        Err(StoreError::Damaged { what, .. }) => Ok(vec![what]),
        found => found,
    }
}

/// Returns how far the database has been migrated.
///
/// # Errors
/// [`StoreError::Damaged`] and [`StoreError::Engine`] when it cannot be read.
pub async fn schema(path: &Path, database: DatabaseKind) -> Result<Schema, StoreError> {
    let migrations = match database {
        DatabaseKind::Log => &LOG,
        DatabaseKind::History => &HISTORY,
    };
    let known = migrations.iter().map(|migration| migration.version).max();
    let mut connection = connect(path).await?;
    let reading = |error| failure::of(path, "read the schema", error);
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_one(&mut connection)
        .await
        .map_err(reading)?;
    let mut found: Option<i64> = None;
    if there > 0 {
        found = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&mut connection)
            .await
            .map_err(reading)?;
    }
    close(path, connection).await?;
    Ok(Schema {
        found: found.unwrap_or_default(),
        known: known.unwrap_or_default(),
    })
}

/// Returns the key that everything in the database that is to be sealed has been sealed with, as the database was last marked; `None` when
/// it never was. While values are sealed anew it is the key of the time before.
///
/// # Errors
/// [`StoreError::Damaged`] and [`StoreError::Engine`] when it cannot be read.
pub async fn sealed_throughout(path: &Path, database: DatabaseKind) -> Result<Option<KeyId>, StoreError> {
    let mut connection = connect(path).await?;
    let query = match database {
        // What is to be sealed by which rules stands behind the key.
        DatabaseKind::Log => "SELECT sealed FROM horizon",
        DatabaseKind::History => "SELECT CASE sealed WHEN 0 THEN '' ELSE format('%08x', sealed) END FROM seal",
    };
    let mark: String = sqlx::query_scalar(query)
        .fetch_one(&mut connection)
        .await
        .map_err(|error| failure::of(path, "look with which key values are sealed", error))?;
    close(path, connection).await?;
    Ok(mark.split(' ').next().and_then(|id| id.parse().ok()))
}

/// Returns the keys that values in the database are sealed with, and how many each seals.
///
/// # Errors
/// [`StoreError::Damaged`] when a row names what cannot be a key, or the database cannot be read; [`StoreError::Engine`].
pub async fn sealed_with(path: &Path) -> Result<BTreeMap<KeyId, u64>, StoreError> {
    let mut connection = connect(path).await?;
    let reading = |error| failure::of(path, "count what is sealed", error);
    // Every table with sealed bytes says so in a column of this name.
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT s.name FROM sqlite_schema AS s, pragma_table_info(s.name) AS c
         WHERE s.type = 'table' AND c.name = 'sealed' AND upper(c.type) = 'INTEGER' ORDER BY s.name",
    )
    .fetch_all(&mut connection)
    .await
    .map_err(reading)?;
    let mut counts = BTreeMap::new();
    for table in tables {
        let name = table.replace('"', "\"\"");
        let rows: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT sealed, count(*) FROM \"{name}\" WHERE sealed <> 0 GROUP BY sealed"
        )))
        .fetch_all(&mut connection)
        .await
        .map_err(reading)?;
        for (column, count) in rows {
            let id = KeyId::from_i64(column).map_err(|error| StoreError::Damaged {
                path: path.display().to_string(),
                what: format!("table {table}: {error}"),
            })?;
            if let Some(id) = id {
                *counts.entry(id).or_default() += u64::try_from(count).unwrap_or_default();
            }
        }
    }
    close(path, connection).await?;
    Ok(counts)
}

/// Opens the database as it is, to read it.
async fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    // SQLite says of a file that is missing, or closed to us, only that it cannot be opened.
    File::open(path).map_err(|error| failure::of(path, "open the database", sqlx::Error::Io(error)))?;
    SqliteConnectOptions::from_str("sqlite:")
        .map_err(|error| failure::of(path, "configure SQLite", error))?
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|error| failure::of(path, "open the database", error))
}

async fn close(path: &Path, connection: SqliteConnection) -> Result<(), StoreError> {
    connection
        .close()
        .await
        .map_err(|error| failure::of(path, "close the database", error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use bytes::Bytes;

    use super::*;
    use crate::{Batch, Expect, History as _, Keys, Log as _, Rule, SqliteHistory, SqliteLog, SqliteOptions};

    async fn log(folder: &Path) -> (std::path::PathBuf, SqliteLog) {
        let path = folder.join("store.db");
        let log = SqliteLog::open(&path, SqliteOptions::default()).await.unwrap();
        (path, log)
    }

    #[tokio::test]
    async fn a_copy_of_a_database_in_use_holds_what_was_acknowledged_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = log(folder.path()).await;
        for number in 0..200 {
            log.put(&format!("a/{number}"), Bytes::from(vec![7; 1000]), Expect::Any)
                .await
                .unwrap();
        }
        let copy = folder.path().join("copy.db");
        let writing = async {
            for number in 0..200 {
                log.put(&format!("b/{number}"), Bytes::from_static(b"later"), Expect::Any)
                    .await
                    .unwrap();
            }
        };
        let (size, ()) = tokio::join!(snapshot(&path, &copy), writing);
        assert_eq!(size.unwrap(), std::fs::metadata(&copy).unwrap().len());
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(check(&copy).await.unwrap(), Vec::<String>::new());
        log.close().await.unwrap();

        let copied = SqliteLog::open(&copy, SqliteOptions::default()).await.unwrap();
        assert_eq!(copied.list("a/", None, 0, None).await.unwrap().items.len(), 200);
        assert!(copied.revision() >= 200);
        let last = copied.list("b/", None, 0, None).await.unwrap().items.len();
        assert_eq!(copied.revision(), 200 + last as u64, "it is one state");
    }

    #[tokio::test]
    async fn a_copy_can_be_made_of_a_database_that_nobody_has_open() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = log(folder.path()).await;
        log.put("a", Bytes::from_static(b"1"), Expect::Any).await.unwrap();
        log.close().await.unwrap();
        drop(log);
        let copy = folder.path().join("copy.db");
        snapshot(&path, &copy).await.unwrap();
        assert!(check(&copy).await.unwrap().is_empty());
        let mut copied = connect(&copy).await.unwrap();
        let vacuum: i64 = sqlx::query_scalar("PRAGMA auto_vacuum")
            .fetch_one(&mut copied)
            .await
            .unwrap();
        assert_eq!(vacuum, 2, "it gives back space as the original does");
    }

    #[tokio::test]
    async fn what_is_there_is_not_overwritten_and_what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _log) = log(folder.path()).await;
        let copy = folder.path().join("copy.db");
        std::fs::write(&copy, "mine").unwrap();
        assert!(snapshot(&path, &copy).await.is_err());
        assert_eq!(std::fs::read(&copy).unwrap(), b"mine");
        std::fs::remove_file(&copy).unwrap();
        assert!(snapshot(&folder.path().join("missing.db"), &copy).await.is_err());
        assert!(!copy.exists());
    }

    #[tokio::test]
    async fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = log(folder.path()).await;
        for number in 0..200 {
            log.put(&format!("a/{number}"), Bytes::from(vec![7; 2000]), Expect::Any)
                .await
                .unwrap();
        }
        log.close().await.unwrap();
        assert!(check(&path).await.unwrap().is_empty());
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 20_000].fill(0x55);
        std::fs::write(&path, &bytes).unwrap();
        assert!(!check(&path).await.unwrap().is_empty());
        std::fs::write(&path, vec![0x55; 8192]).unwrap();
        assert!(check(&path).await.unwrap()[0].contains("not a SQLite database"));
        assert!(check(&folder.path().join("missing.db")).await.is_err());
    }

    #[tokio::test]
    async fn the_schema_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _log) = log(folder.path()).await;
        let schema = schema(&path, DatabaseKind::Log).await.unwrap();
        assert_eq!(schema.found, schema.known);
        assert!(schema.known > 0);
        let empty = folder.path().join("empty.db");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(super::schema(&empty, DatabaseKind::History).await.unwrap().found, 0);
    }

    #[tokio::test]
    async fn keys_are_counted_over_all_tables() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.db");
        let mut connection = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .connect()
            .await
            .unwrap();
        sqlx::raw_sql(
            "CREATE TABLE one (rev INTEGER, sealed INTEGER NOT NULL);
             CREATE TABLE two (sealed INTEGER NOT NULL);
             CREATE TABLE three (sealed TEXT NOT NULL);
             INSERT INTO one VALUES (1, 0), (2, 5), (3, 5), (4, 4294967295);
             INSERT INTO two VALUES (5);
             INSERT INTO three VALUES ('x');",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        let id = |id| KeyId::new(id).unwrap();
        assert_eq!(
            sealed_with(&path).await.unwrap(),
            BTreeMap::from([(id(5), 3), (id(u32::MAX), 1)])
        );
        sqlx::raw_sql("INSERT INTO two VALUES (-3)")
            .execute(&mut connection)
            .await
            .unwrap();
        assert!(matches!(sealed_with(&path).await, Err(StoreError::Damaged { .. })));
    }

    #[tokio::test]
    async fn the_key_of_all_that_is_sealed_is_told_before_and_after_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(&folder.path().join("store.key")).unwrap();
        let (store, history) = (folder.path().join("store.db"), folder.path().join("history.db"));
        let options = SqliteOptions {
            keys: Some(keys.clone()),
            rules: vec![Rule {
                sealed: true,
                ..Rule::new("secrets/")
            }],
            ..SqliteOptions::default()
        };
        let log = SqliteLog::open(&store, options).await.unwrap();
        let kept = SqliteHistory::open(&history, Some(keys.clone())).await.unwrap();
        log.put("secrets/a", Bytes::from_static(b"x"), Expect::Any)
            .await
            .unwrap();
        let batch = Batch {
            blobs: vec![Bytes::from_static(b"blob")],
            ..Batch::default()
        };
        kept.commit(batch).await.unwrap();
        let first = keys.newest();
        let second = keys.rotate().unwrap();
        for (path, kind) in [(&store, DatabaseKind::Log), (&history, DatabaseKind::History)] {
            log.reseal().await.unwrap();
            kept.reseal().await.unwrap();
            assert_eq!(sealed_throughout(path, kind).await.unwrap(), Some(second));
            let counts = sealed_with(path).await.unwrap();
            assert!(
                counts.contains_key(&second) && !counts.contains_key(&first),
                "{counts:?}"
            );
            let copy = path.with_extension("copy");
            snapshot(path, &copy).await.unwrap();
            assert_eq!(sealed_with(&copy).await.unwrap(), counts);
        }
        let third = keys.rotate().unwrap();
        assert_ne!(sealed_throughout(&store, DatabaseKind::Log).await.unwrap(), Some(third));
    }
}
