//! What the log costs, beside the floor of SQLite itself in the same run: `cargo bench -p setpoint-store`.
//!
//! The floor is one connection with the same settings that inserts the same values: one transaction a value, and one for
//! as many values as the log had writers. An argument is the number of keys; a smaller one makes a quick run.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use setpoint_store::{Expect, Log as _, SqliteLog, SqliteOptions, WatchEvent};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long each rate is measured.
const SPELL: Duration = Duration::from_secs(2);
/// About what a pod weighs.
const VALUE: usize = 1500;
const RUNS: usize = 30;

fn value() -> Bytes {
    Bytes::from(vec![b'x'; VALUE])
}

fn row(what: &str, measured: &str, floor: &str) {
    println!("| {what:<44} | {measured:>22} | {floor:>18} |");
}

fn quantile(times: &mut [Duration], of_hundred: usize) -> f64 {
    times.sort();
    let index = (times.len() * of_hundred / 100).min(times.len().saturating_sub(1));
    times.get(index).map_or(0.0, Duration::as_secs_f64) * 1000.0
}

fn spread(mut times: Vec<Duration>) -> String {
    format!("{:.3} / {:.3} ms", quantile(&mut times, 50), quantile(&mut times, 99))
}

/// Writes with so many writers at once; returns writes a second.
async fn writes(log: &SqliteLog, writers: usize) -> Outcome<f64> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let log = log.clone();
        tasks.spawn(async move {
            let (key, mut count) = (format!("core/pods/w{writers}/{writer}"), 0_u32);
            while started.elapsed() < SPELL {
                log.put(&key, value(), Expect::Any).await?;
                count += 1;
            }
            Ok::<u32, setpoint_store::StoreError>(count)
        });
    }
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    Ok(f64::from(total) / started.elapsed().as_secs_f64())
}

async fn raw(path: &Path) -> Outcome<SqliteConnection> {
    let mut connection = SqliteConnectOptions::from_str("sqlite:")?
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
        .connect()
        .await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS floor (id INTEGER PRIMARY KEY, value BLOB NOT NULL)")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// The floor: so many rows in each transaction; returns rows a second.
async fn raw_writes(connection: &mut SqliteConnection, rows: usize) -> Outcome<f64> {
    let (started, mut total) = (Instant::now(), 0_u32);
    while started.elapsed() < SPELL {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for _ in 0..rows {
            sqlx::query("INSERT INTO floor (value) VALUES (?)")
                .bind(&value()[..])
                .execute(&mut *transaction)
                .await?;
            total += 1;
        }
        transaction.commit().await?;
    }
    Ok(f64::from(total) / started.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let keys: usize = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(20_000);
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store.db");
    let log = SqliteLog::open(&path, SqliteOptions::default()).await?;
    let mut floor = raw(&dir.path().join("floor.db")).await?;
    row("", "setpoint-store", "SQLite alone");
    row("---", "---:", "---:");
    for writers in [1, 64, 512] {
        let rate = writes(&log, writers).await?;
        let least = raw_writes(&mut floor, writers).await?;
        row(
            &format!("durable writes a second, {writers} writers"),
            &format!("{rate:.0}"),
            &format!("{least:.0}"),
        );
    }

    // The latency of a watch: from the answer of a write to the event of it, less than nothing where the event comes first.
    let mut watch = log.watch("core/events/", log.revision()).await?;
    let first = watch.next().await.ok_or("the watch ended")??;
    assert!(matches!(first, WatchEvent::Progress(_)), "there is no past");
    let mut times = Vec::new();
    for number in 0..RUNS * 10 {
        let started = Instant::now();
        let (written, event) = tokio::join!(
            log.put("core/events/default/e", Bytes::from(number.to_string()), Expect::Any),
            watch.next()
        );
        let WatchEvent::Change(event) = event.ok_or("the watch ended")?? else {
            return Err("the past was through already".into());
        };
        assert_eq!(event.revision(), written?, "each event comes once");
        times.push(started.elapsed());
    }
    row("write → its watch event, p50 / p99", &spread(times), "");

    let log = Arc::new(log);
    futures::stream::iter(0..keys)
        .map(|number| {
            let log = log.clone();
            async move {
                let key = format!("core/pods/default/pod-{number:06}");
                log.put(&key, value(), Expect::Any).await.map(drop)
            }
        })
        .buffer_unordered(512)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<Vec<()>, _>>()?;
    let mut times = Vec::new();
    for number in 0..10_000 {
        let key = format!("core/pods/default/pod-{:06}", number * 7919 % keys);
        let started = Instant::now();
        log.get(&key, None).await?.ok_or("it was written")?;
        times.push(started.elapsed());
    }
    row("get, p50 / p99", &spread(times), "");
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let page = log.list("core/pods/default/", None, 10_000, None).await?;
        assert_eq!(page.items.len(), keys.min(10_000), "the whole list");
        times.push(started.elapsed());
    }
    row("list of 10,000, p50 / p99", &spread(times), "");

    log.close().await?;
    drop(log);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let log = SqliteLog::open(&path, SqliteOptions::default()).await?;
        times.push(started.elapsed());
        assert!(log.stats().keys >= keys as u64, "all are loaded");
        log.close().await?;
    }
    let mut least = Vec::new();
    let mut plain = raw(&path).await?;
    for _ in 0..RUNS {
        let started = Instant::now();
        let rows: Vec<(i64, String, Vec<u8>)> = sqlx::query_as(
            "SELECT rev, key, value FROM log WHERE rev IN (SELECT max(rev) FROM log GROUP BY key) AND deleted = 0",
        )
        .fetch_all(&mut plain)
        .await?;
        assert!(rows.len() >= keys, "all are read");
        least.push(started.elapsed());
    }
    let what = format!("open with {keys} keys, p50 / p99");
    row(&what, &spread(times), &spread(least));
    let empty = dir.path().join("empty.db");
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let log = SqliteLog::open(&empty, SqliteOptions::default()).await?;
        times.push(started.elapsed());
        log.close().await?;
    }
    row("open without keys, p50 / p99", &spread(times), "");
    Ok(())
}
