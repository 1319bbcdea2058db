//! Databases of other versions: older ones are taken over with everything in them, newer ones are left alone.

#[path = "fixtures/schema_1.rs"]
mod schema_1;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use setpoint_store::{Expect, Log as _, SqliteLog, SqliteOptions, StoreError};
use sqlx::{ConnectOptions as _, Connection as _};

/// When revision 7 was the newest, in Unix seconds.
const AT_SEVEN: i64 = 1_700_000_060;

async fn open(path: &Path) -> SqliteLog {
    let now = jiff::Timestamp::from_second(AT_SEVEN + 3600).expect("in range");
    let options = SqliteOptions {
        now: Some(Arc::new(move || now)),
        ..SqliteOptions::default()
    };
    SqliteLog::open(path, options).await.expect("opens")
}

#[tokio::test]
async fn a_database_of_schema_1_is_taken_over_with_everything_in_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("state.db");
    schema_1::lay(&path).await;
    let mut last = schema_1::NEWEST;
    for round in 0..3 {
        let log = open(&path).await;
        schema_1::assert_present(&log).await;
        schema_1::assert_past(&log).await;
        let window = log.window().await.expect("a window");
        assert_eq!((window.newest, window.oldest), (last, schema_1::OLDEST));
        let then = jiff::Timestamp::from_second(AT_SEVEN + 30).expect("in range");
        let moment = log.moment(then).await.expect("a moment").expect("it was noted");
        assert_eq!(moment.revision, 7);
        let value = Bytes::from(round.to_string());
        last = log.put("new/key", value, Expect::Any).await.expect("puts");
        assert_eq!(last, schema_1::NEWEST + 1 + round, "revisions go on");
        log.close().await.expect("closes");
    }
    let log = open(&path).await;
    log.compact(last)
        .await
        .expect("what was half compacted is compacted on");
    schema_1::assert_present(&log).await;
}

/// The schema of the database at `path`, and how many writes are in it.
async fn tables(path: &Path) -> (Vec<String>, i64) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("opens");
    let schema = sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        .fetch_all(&mut connection)
        .await
        .expect("reads");
    let writes = sqlx::query_scalar("SELECT count(*) FROM log")
        .fetch_one(&mut connection)
        .await
        .expect("reads");
    connection.close().await.expect("closes");
    (schema, writes)
}

/// Gives the database at `path` a migration that this version does not know.
async fn age(path: &Path) {
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .expect("opens");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
            VALUES (99, 'later', true, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .expect("written");
    connection.close().await.expect("closes");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("state.db");
    let log = open(&path).await;
    log.put("a", Bytes::from("1"), Expect::Any).await.expect("puts");
    log.close().await.expect("closes");
    age(&path).await;
    let before = tables(&path).await;
    let refused = SqliteLog::open(&path, SqliteOptions::default()).await.map(drop);
    let refused = refused.expect_err("it is too new");
    assert!(matches!(refused, StoreError::TooNew { found: 99, .. }), "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("state.db") && said.contains("99"), "{said}");
    assert_eq!(tables(&path).await, before, "nothing in it was changed");
}
