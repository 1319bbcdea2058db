//! What is asked of the SQLite engine alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, future};
use setpoint_store::{Expect, Keys, Log as _, Rule, SqliteLog, SqliteOptions, StoreError, WatchEvent};
use tempfile::TempDir;

use crate::client::{DEADLINE, bytes, next, value};

async fn sqlite(options: SqliteOptions) -> (TempDir, SqliteLog) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = open(&dir, options).await;
    (dir, log)
}

async fn open(dir: &TempDir, options: SqliteOptions) -> SqliteLog {
    SqliteLog::open(&dir.path().join("state.db"), options)
        .await
        .expect("the store opens")
}

#[tokio::test]
async fn what_is_sealed_is_nowhere_in_the_files() {
    let secrets = Rule {
        sealed: true,
        ..Rule::new("secrets/")
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = SqliteOptions {
        rules: vec![secrets],
        keys: Some(Keys::open(&dir.path().join("keys")).expect("keys")),
        pack_behind: 4,
        maintenance_interval: Duration::ZERO,
        ..SqliteOptions::default()
    };
    let log = open(&dir, options).await;
    for i in 0..50 {
        for prefix in ["secrets", "plain"] {
            let value = bytes(format!("{prefix}: hunter-{i}-two").repeat(20));
            log.put(&format!("{prefix}/{}", i % 3), value, Expect::Any)
                .await
                .expect("puts");
        }
    }
    let found = || {
        let mut found = (0, 0);
        for name in ["state.db", "state.db-wal"] {
            let file = std::fs::read(dir.path().join(name)).unwrap_or_default();
            let count = |what: &[u8]| file.windows(what.len()).filter(|window| *window == what).count();
            found = (found.0 + count(b"secrets: hunter"), found.1 + count(b"plain: hunter"));
        }
        found
    };
    let (sealed, plain) = found();
    assert!(
        sealed == 0 && plain > 0,
        "{sealed} of the sealed, {plain} of the others"
    );
    log.compact(log.revision() - 10).await.expect("compacts");
    log.close().await.expect("closes");
    let (sealed, plain) = found();
    assert!(
        sealed == 0 && plain > 0,
        "{sealed} of the sealed, {plain} of the others"
    );
}

#[tokio::test]
async fn a_watch_that_nobody_reads_any_more_is_forgotten() {
    let (_dir, log) = sqlite(SqliteOptions::default()).await;
    let streams = future::join_all((0..5).map(|_| log.watch("", 0))).await;
    assert_eq!(log.stats().watchers, 5);
    drop(streams);
    log.put("a", bytes("1"), Expect::Any).await.expect("puts");
    assert_eq!(log.stats().watchers, 0);
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_cut_off() {
    let (_dir, log) = sqlite(SqliteOptions {
        watch_buffer: 4,
        ..SqliteOptions::default()
    })
    .await;
    let mut stream = log.watch("", 0).await.expect("a watch");
    for i in 0..10 {
        log.put("a", bytes(i.to_string()), Expect::Any).await.expect("puts");
    }
    for expected in 1..=4 {
        assert_eq!(next(&mut stream).await.expect("buffered").revision(), expected);
    }
    assert!(matches!(
        next(&mut stream).await,
        Err(StoreError::WatchLagged { at: 4 })
    ));
    assert!(stream.next().await.is_none());
    let mut again = log.watch("", 4).await.expect("a watch from there");
    assert_eq!(next(&mut again).await.expect("replayed").revision(), 5);
}

#[tokio::test]
async fn a_change_reaches_watchers_before_its_writer_is_answered() {
    let (_dir, log) = sqlite(SqliteOptions::default()).await;
    let mut stream = log.watch("", 0).await.expect("a watch");
    assert!(matches!(stream.next().await, Some(Ok(WatchEvent::Progress(0)))));
    for i in 0..20 {
        let revision = log.put("a", bytes(i.to_string()), Expect::Any).await.expect("puts");
        let change = futures::FutureExt::now_or_never(stream.next())
            .expect("ready")
            .expect("open")
            .expect("no error");
        assert!(matches!(change, WatchEvent::Change(change) if change.revision() == revision));
    }
}

#[tokio::test]
async fn a_batch_that_fails_leaves_nothing_and_the_next_goes_on() {
    let options = SqliteOptions {
        busy_timeout: Duration::from_millis(50),
        ..SqliteOptions::default()
    };
    let (dir, log) = sqlite(options).await;
    log.put("a", bytes("1"), Expect::Any).await.expect("puts");

    let path = dir.path().join("state.db");
    let mut other = sqlx::ConnectOptions::connect(&sqlx::sqlite::SqliteConnectOptions::new().filename(&path))
        .await
        .expect("a second connection");
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .expect("takes the write lock");
    let outcomes =
        future::join_all((0..5).map(|i| log.put("a", bytes(format!("lost {i}")), Expect::Revision(1)))).await;
    for outcome in outcomes {
        let error = outcome.expect_err("no write passes");
        assert!(matches!(error, StoreError::Engine { .. }), "{error:?}");
        assert!(std::error::Error::source(&error).is_some());
    }
    assert_eq!(value(&log, "a", None).await.as_deref(), Some("1"));
    assert_eq!(log.revision(), 1);
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("lets go");
    assert_eq!(log.put("a", bytes("2"), Expect::Revision(1)).await.expect("goes on"), 2);
}

#[tokio::test]
async fn concurrent_writers_share_transactions() {
    let (_dir, log) = sqlite(SqliteOptions::default()).await;
    let writes = (0..400).map(|i| {
        let log = log.clone();
        async move { log.put(&format!("k/{i}"), bytes("x"), Expect::Absent).await }
    });
    for outcome in future::join_all(writes).await {
        outcome.expect("puts");
    }
    let stats = log.stats();
    assert_eq!((stats.writes, stats.keys, stats.revision), (400, 400, 400));
    assert!(stats.batches < 100, "{stats:?}");
}

#[tokio::test]
async fn history_is_forgotten_by_age() {
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(1_000_000));
    let now: setpoint_store::Now = {
        let clock = clock.clone();
        Arc::new(move || {
            jiff::Timestamp::from_second(clock.load(std::sync::atomic::Ordering::Relaxed)).expect("in range")
        })
    };
    let options = SqliteOptions {
        now: Some(now),
        keep_age: Duration::from_secs(3600),
        maintenance_interval: Duration::ZERO,
        ..SqliteOptions::default()
    };
    let (_dir, log) = sqlite(options).await;
    for i in 0..50 {
        log.put("a", bytes(i.to_string()), Expect::Any).await.expect("puts");
    }
    assert_eq!(log.stats().oldest, 0);
    clock.fetch_add(4000, std::sync::atomic::Ordering::Relaxed);
    tokio::time::timeout(DEADLINE, async {
        while log.stats().oldest == 0 {
            log.put("a", bytes("later"), Expect::Any).await.expect("puts");
        }
    })
    .await
    .expect("history is forgotten");
    assert!(matches!(log.watch("", 0).await, Err(StoreError::Compacted { .. })));
    assert_eq!(value(&log, "a", None).await.as_deref(), Some("later"));
}

#[tokio::test]
async fn history_is_forgotten_by_size_and_pages_are_given_back() {
    let options = SqliteOptions {
        keep_bytes: 2 << 20,
        maintenance_interval: Duration::ZERO,
        ..SqliteOptions::default()
    };
    let (_dir, log) = sqlite(options).await;
    let block = Bytes::from(vec![b'x'; 64 << 10]);
    tokio::time::timeout(DEADLINE, async {
        for i in 0..200 {
            log.put(&format!("k/{}", i % 3), block.clone(), Expect::Any)
                .await
                .expect("puts");
        }
        while log.stats().oldest < 100 {
            log.put("k/0", block.clone(), Expect::Any).await.expect("puts");
        }
    })
    .await
    .expect("history is forgotten");
    log.close().await.expect("closes");
    assert!(log.stats().bytes < 8 << 20, "{:?}", log.stats());
}
