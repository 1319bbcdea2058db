//! What every engine behind [`Log`] must do, run on the one that ships.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, future};
use setpoint_store::{Change, Expect, Log, Revision, SqliteLog, SqliteOptions, StoreError, WatchEvent, WatchStream};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

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

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

async fn next(stream: &mut WatchStream) -> Result<Change, StoreError> {
    loop {
        let event = tokio::time::timeout(DEADLINE, stream.next())
            .await
            .expect("a change in time")
            .expect("the watch goes on")?;
        if let WatchEvent::Change(change) = event {
            return Ok(change);
        }
    }
}

async fn value(log: &dyn Log, key: &str, at: Option<Revision>) -> Option<String> {
    let found = log.get(key, at).await.expect("a read");
    found.map(|kv| String::from_utf8(kv.value.to_vec()).expect("text"))
}

async fn keys(log: &dyn Log, prefix: &str, at: Option<Revision>) -> Vec<String> {
    let page = log.list(prefix, None, 0, at).await.expect("a list");
    page.items.into_iter().map(|kv| kv.key).collect()
}

/// The suite: holds for any empty log.
async fn conformance(log: Arc<dyn Log>) {
    compare_and_swap_holds(&*log).await;
    the_past_stays_readable(&*log).await;
    lists_come_in_pages(&*log).await;
    watchers_see_each_change_once(log.clone()).await;
    compaction_ends_the_past(&*log).await;
}

async fn compare_and_swap_holds(log: &dyn Log) {
    let first = log.put("cas/a", bytes("1"), Expect::Absent).await.expect("creates");
    match log.put("cas/a", bytes("2"), Expect::Absent).await {
        Err(StoreError::Conflict {
            key,
            current: Some(current),
        }) => {
            assert_eq!(
                (key.as_str(), current.modified, current.created),
                ("cas/a", first, first)
            );
        }
        other => panic!("expected a conflict, got {other:?}"),
    }
    let second = log
        .put("cas/a", bytes("2"), Expect::Revision(first))
        .await
        .expect("swaps");
    assert!(second > first);
    assert!(matches!(
        log.put("cas/a", bytes("3"), Expect::Revision(first)).await,
        Err(StoreError::Conflict { .. })
    ));
    assert!(matches!(
        log.delete("cas/a", Expect::Revision(first)).await,
        Err(StoreError::Conflict { .. })
    ));
    assert!(matches!(
        log.delete("cas/none", Expect::Any).await,
        Err(StoreError::Conflict { current: None, .. })
    ));
    assert!(matches!(
        log.put("cas/none", bytes("x"), Expect::Revision(first)).await,
        Err(StoreError::Conflict { current: None, .. })
    ));
    let found = log.get("cas/a", None).await.expect("reads").expect("exists");
    assert_eq!(
        (found.created, found.modified, &found.value[..]),
        (first, second, &b"2"[..])
    );
    let deleted = log.delete("cas/a", Expect::Revision(second)).await.expect("deletes");
    let again = log
        .put("cas/a", bytes("4"), Expect::Absent)
        .await
        .expect("creates again");
    let found = log.get("cas/a", None).await.expect("reads").expect("exists");
    assert!(again > deleted);
    assert_eq!((found.created, found.modified), (again, again));

    // Many writers swap the same key: each revision is won once.
    let base = log.put("cas/race", bytes("0"), Expect::Absent).await.expect("creates");
    let outcomes =
        future::join_all((0..50).map(|i| log.put("cas/race", bytes(i.to_string()), Expect::Revision(base)))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

async fn the_past_stays_readable(log: &dyn Log) {
    let one = log.put("past/a", bytes("1"), Expect::Any).await.expect("puts");
    let two = log.put("past/b", bytes("1"), Expect::Any).await.expect("puts");
    let three = log.put("past/a", bytes("2"), Expect::Any).await.expect("puts");
    let four = log.delete("past/b", Expect::Any).await.expect("deletes");
    assert_eq!(value(log, "past/a", Some(one)).await.as_deref(), Some("1"));
    assert_eq!(value(log, "past/a", Some(two)).await.as_deref(), Some("1"));
    assert_eq!(value(log, "past/a", Some(three)).await.as_deref(), Some("2"));
    assert_eq!(value(log, "past/b", Some(one)).await, None);
    assert_eq!(value(log, "past/b", Some(three)).await.as_deref(), Some("1"));
    assert_eq!(value(log, "past/b", Some(four)).await, None);
    assert_eq!(keys(log, "past/", Some(three)).await, ["past/a", "past/b"]);
    assert_eq!(keys(log, "past/", Some(four)).await, ["past/a"]);
    assert_eq!(keys(log, "past/", None).await, ["past/a"]);
    let future = log.revision() + 1;
    assert!(matches!(
        log.get("past/a", Some(future)).await,
        Err(StoreError::Future { .. })
    ));
    assert!(matches!(
        log.list("past/", None, 0, Some(future)).await,
        Err(StoreError::Future { .. })
    ));
    assert!(matches!(
        log.watch("past/", future).await,
        Err(StoreError::Future { .. })
    ));
}

async fn lists_come_in_pages(log: &dyn Log) {
    for i in 0..10 {
        log.put(&format!("page/{i:02}"), bytes("x"), Expect::Any)
            .await
            .expect("puts");
    }
    log.put("pagf", bytes("x"), Expect::Any).await.expect("puts");
    let past = log.revision();
    log.delete("page/05", Expect::Any).await.expect("deletes");
    for (at, expected) in [(None, 9), (Some(past), 10)] {
        let mut seen = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = log.list("page/", after.as_deref(), 3, at).await.expect("a page");
            assert!(page.items.len() <= 3);
            assert!(at.is_none_or(|at| at == page.revision));
            seen.extend(page.items.into_iter().map(|kv| kv.key));
            after = seen.last().cloned();
            if !page.more {
                break;
            }
        }
        assert_eq!(seen.len(), expected);
        assert!(seen.is_sorted());
    }
}

async fn watchers_see_each_change_once(log: Arc<dyn Log>) {
    let from = log.revision();
    log.put("watch/before", bytes("x"), Expect::Any).await.expect("puts");
    let writers = (0..8).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for i in 0..50 {
                let key = format!("watch/{writer}-{}", i % 5);
                if i % 7 == 6 {
                    log.delete(&key, Expect::Any).await.ok();
                } else {
                    log.put(&key, bytes(i.to_string()), Expect::Any).await.expect("puts");
                }
            }
        })
    });
    let writers = future::join_all(writers);
    // Watches begin before, amid and after the writers.
    let mut early = log.watch("watch/", from).await.expect("a watch");
    let amid = {
        let log = log.clone();
        async move {
            let mut streams = Vec::new();
            for _ in 0..20 {
                streams.push(log.watch("watch/", from).await.expect("a watch"));
                tokio::task::yield_now().await;
            }
            streams
        }
    };
    let (written, mut streams) = future::join(writers, amid).await;
    written.into_iter().for_each(|writer| writer.expect("a writer"));
    streams.push(log.watch("watch/", from).await.expect("a watch"));
    let last = log.put("watch/last", bytes("x"), Expect::Any).await.expect("puts");
    let expected = drain(&mut early, last).await;
    for mut stream in streams {
        assert_eq!(drain(&mut stream, last).await, expected);
    }
    // Replaying the changes gives what a list gives.
    let mut model = BTreeMap::new();
    for change in expected {
        match change {
            Change::Put { current, previous } => {
                assert_eq!(model.insert(current.key.clone(), current), previous);
            }
            Change::Delete { previous, .. } => assert_eq!(model.remove(&previous.key), Some(previous)),
        }
    }
    let listed = log.list("watch/", None, 0, None).await.expect("a list").items;
    assert_eq!(model.into_values().collect::<Vec<_>>(), listed);
}

async fn drain(stream: &mut WatchStream, last: Revision) -> Vec<Change> {
    let mut seen: Vec<Change> = Vec::new();
    while seen.last().is_none_or(|change| change.revision() < last) {
        let change = next(stream).await.expect("no error");
        assert!(
            seen.last().is_none_or(|before| before.revision() < change.revision()),
            "no duplicate, in order"
        );
        seen.push(change);
    }
    seen
}

async fn compaction_ends_the_past(log: &dyn Log) {
    let one = log.put("compact/a", bytes("1"), Expect::Any).await.expect("puts");
    log.put("compact/gone", bytes("1"), Expect::Any).await.expect("puts");
    log.delete("compact/gone", Expect::Any).await.expect("deletes");
    let two = log.put("compact/a", bytes("2"), Expect::Any).await.expect("puts");
    let three = log.put("compact/a", bytes("3"), Expect::Any).await.expect("puts");
    assert!(matches!(log.compact(three + 1).await, Err(StoreError::Future { .. })));
    log.compact(two).await.expect("compacts");
    log.compact(one).await.expect("compacting less is nothing");
    assert!(matches!(
        log.get("compact/a", Some(one)).await,
        Err(StoreError::Compacted { .. })
    ));
    assert!(matches!(
        log.list("", None, 0, Some(one)).await,
        Err(StoreError::Compacted { .. })
    ));
    assert!(matches!(log.watch("", one).await, Err(StoreError::Compacted { .. })));
    assert_eq!(value(log, "compact/a", Some(two)).await.as_deref(), Some("2"));
    assert_eq!(value(log, "compact/gone", Some(two)).await, None);
    assert_eq!(value(log, "compact/a", None).await.as_deref(), Some("3"));
    // What was untouched since long before the horizon is still there, in the past too.
    assert_eq!(value(log, "past/a", Some(two)).await.as_deref(), Some("2"));
    let mut stream = log.watch("compact/", two).await.expect("a watch");
    match next(&mut stream).await.expect("no error") {
        Change::Put {
            current,
            previous: Some(previous),
        } => {
            assert_eq!((current.modified, previous.modified), (three, two));
        }
        other => panic!("expected the put of {three}, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_conforms() {
    let (_dir, log) = sqlite(SqliteOptions::default()).await;
    conformance(Arc::new(log)).await;
}

#[tokio::test]
async fn a_reopened_store_goes_on_where_it_was() {
    let (dir, log) = sqlite(SqliteOptions::default()).await;
    log.put("a", bytes("1"), Expect::Any).await.expect("puts");
    log.put("a", bytes("2"), Expect::Any).await.expect("puts");
    log.put("b", bytes("1"), Expect::Any).await.expect("puts");
    let last = log.delete("b", Expect::Any).await.expect("deletes");
    log.close().await.expect("closes");
    assert!(matches!(
        log.put("a", bytes("3"), Expect::Any).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(log.get("a", None).await, Err(StoreError::Closed)));

    let log = open(&dir, SqliteOptions::default()).await;
    assert_eq!(log.revision(), last);
    assert_eq!(keys(&log, "", None).await, ["a"]);
    let mut stream = log.watch("", 1).await.expect("a watch across the restart");
    for expected in 2..=last {
        assert_eq!(next(&mut stream).await.expect("no error").revision(), expected);
    }
    assert_eq!(log.put("c", bytes("1"), Expect::Any).await.expect("puts"), last + 1);
    assert_eq!(next(&mut stream).await.expect("no error").revision(), last + 1);
}

#[tokio::test]
async fn a_revision_is_not_issued_again_after_its_row_is_compacted() {
    let (dir, log) = sqlite(SqliteOptions::default()).await;
    log.put("a", bytes("1"), Expect::Any).await.expect("puts");
    let last = log.delete("a", Expect::Any).await.expect("deletes");
    log.compact(last).await.expect("compacts");
    log.close().await.expect("closes");
    let log = open(&dir, SqliteOptions::default()).await;
    assert_eq!(log.revision(), last);
    assert_eq!(log.put("a", bytes("2"), Expect::Absent).await.expect("puts"), last + 1);
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
