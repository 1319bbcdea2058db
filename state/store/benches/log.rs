//! What the log costs, beside SQLite alone and etcd in the same run, on the same disk: `cargo bench -p setpoint-store --bench log`.
//!
//! SQLite alone is one connection with the same settings that inserts the same values: one transaction a value, and one for
//! as many values as the log had writers. etcd (Debian's `etcd-server`) is one member on this host, reached by gRPC: 1, 64 and 512
//! callers share eight connections. An argument is the number of keys (100,000); a smaller one makes a quick run.

#[path = "log/etcd.rs"]
mod etcd;
#[path = "log/grpc.rs"]
mod grpc;
#[path = "log/measure.rs"]
mod measure;

use std::path::Path;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use setpoint_store::{Expect, Log as _, SqliteLog, SqliteOptions, WatchEvent};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use etcd::Etcd;
use grpc::Client;
use measure::{Times, mebibytes};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long each rate is measured.
const SPELL: Duration = Duration::from_secs(3);
/// About what a pod weighs.
const VALUE: usize = 1500;
const RUNS: usize = 30;
const LIST: usize = 10_000;
const CONNECTIONS: usize = 8;
const PODS: &str = "core/pods/default/";
/// Tells a process that it is to open this store and say what memory it takes.
const WEIGH: &str = "SETPOINT_BENCH_WEIGH";

/// A value that packs as a pod does: mostly the same words, some that are its own.
fn value(number: usize) -> Bytes {
    let mut text = String::with_capacity(VALUE + 64);
    let mut line = number;
    while text.len() < VALUE {
        line = line.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(&format!(
            r#"{{"name":"SETTING","value":"{:08x}","optional":false}},"#,
            line >> 32
        ));
    }
    text.truncate(VALUE);
    Bytes::from(text)
}

fn row(what: &str, ours: &str, floor: &str, etcd: &str) {
    println!("| {what:<44} | {ours:>22} | {floor:>22} | {etcd:>22} |");
}

/// Where values are put.
#[derive(Clone)]
enum Target {
    Ours(SqliteLog),
    Etcd(Client),
}

impl Target {
    async fn put(&self, key: &str, value: Bytes) -> Outcome<()> {
        match self {
            Target::Ours(log) => log.put(key, value, Expect::Any).await.map(drop)?,
            Target::Etcd(client) => client.put(key, &value).await?,
        }
        Ok(())
    }
}

/// Writes with so many writers at once; returns writes a second, and how long each took.
async fn writes(targets: &[Target], writers: usize) -> Outcome<(f64, Times)> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let target = targets[writer % targets.len()].clone();
        tasks.spawn(async move {
            let (key, value) = (format!("core/writes/w{writers}/{writer}"), value(writer));
            let (mut count, mut times) = (0_u32, Times::default());
            while started.elapsed() < SPELL {
                let called = Instant::now();
                target.put(&key, value.clone()).await?;
                times.push(called.elapsed());
                count += 1;
            }
            Outcome::Ok((count, times))
        });
    }
    let (mut total, mut times) = (0, Times::default());
    while let Some(done) = tasks.join_next().await {
        let (count, more) = done??;
        total += count;
        times.extend(more);
    }
    Ok((f64::from(total) / started.elapsed().as_secs_f64(), times))
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

/// The floor: so many rows in each transaction; returns rows a second, and how long each transaction took.
async fn raw_writes(connection: &mut SqliteConnection, rows: usize) -> Outcome<(f64, Times)> {
    let (started, mut total, mut times) = (Instant::now(), 0_u32, Times::default());
    let value = value(1);
    while started.elapsed() < SPELL {
        let called = Instant::now();
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for _ in 0..rows {
            sqlx::query("INSERT INTO floor (value) VALUES (?)")
                .bind(&value[..])
                .execute(&mut *transaction)
                .await?;
            total += 1;
        }
        transaction.commit().await?;
        times.push(called.elapsed());
    }
    Ok((f64::from(total) / started.elapsed().as_secs_f64(), times))
}

/// Puts one value at each of so many keys.
async fn fill(targets: &[Target], keys: usize) -> Outcome<()> {
    futures::stream::iter(0..keys)
        .map(|number| {
            let target = &targets[number % targets.len()];
            async move { target.put(&format!("{PODS}pod-{number:06}"), value(number)).await }
        })
        .buffer_unordered(512)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

/// The time from the call of a write to its event.
async fn ours_to_event(log: &SqliteLog) -> Outcome<Times> {
    let mut watch = log.watch("core/watched/", log.revision()).await?;
    let first = watch.next().await.ok_or("the watch ended")??;
    assert!(matches!(first, WatchEvent::Progress(_)), "there is no past");
    let mut times = Times::default();
    for number in 0..RUNS * 10 {
        let started = Instant::now();
        let (written, event) = tokio::join!(
            log.put("core/watched/e", Bytes::from(number.to_string()), Expect::Any),
            watch.next()
        );
        let WatchEvent::Change(event) = event.ok_or("the watch ended")?? else {
            return Err("the past was through already".into());
        };
        assert_eq!(event.revision(), written?, "each event comes once");
        times.push(started.elapsed());
    }
    Ok(times)
}

async fn etcd_to_event(client: &Client) -> Outcome<Times> {
    let mut watch = client.watch("core/watched/").await?;
    let mut times = Times::default();
    for number in 0..RUNS * 10 {
        let (started, text) = (Instant::now(), number.to_string());
        let (written, event) = tokio::join!(client.put("core/watched/e", text.as_bytes()), watch.event());
        written?;
        event?;
        times.push(started.elapsed());
    }
    Ok(times)
}

/// Times `RUNS` calls of something.
async fn repeated(mut call: impl AsyncFnMut() -> Outcome<()>) -> Outcome<Times> {
    let mut times = Times::default();
    for _ in 0..RUNS {
        let started = Instant::now();
        call().await?;
        times.push(started.elapsed());
    }
    Ok(times)
}

/// What a process takes that has nothing but this store open.
fn weigh(path: &Path) -> Outcome<u64> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .env(WEIGH, path)
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

async fn weigh_here(path: &Path) -> Outcome<()> {
    let log = SqliteLog::open(path, SqliteOptions::default()).await?;
    println!("{}", measure::memory(std::process::id())?);
    log.close().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    if let Some(path) = std::env::var_os(WEIGH) {
        return weigh_here(Path::new(&path)).await;
    }
    let keys: usize = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(100_000);
    let dir = tempfile::tempdir()?;
    let (ours, data) = (dir.path().join("ours"), dir.path().join("etcd"));
    std::fs::create_dir_all(&ours)?;
    let path = ours.join("store.db");
    let log = SqliteLog::open(&path, SqliteOptions::default()).await?;
    let empty = dir.path().join("empty.db");
    SqliteLog::open(&empty, SqliteOptions::default()).await?.close().await?;
    let mut floor = raw(&dir.path().join("floor.db")).await?;
    let mut etcd = Etcd::start(&data).await?;
    let mut clients = Vec::new();
    if let Some(etcd) = &etcd {
        for _ in 0..CONNECTIONS {
            clients.push(etcd.client().await?);
        }
    }
    let idle = etcd.as_ref().map(Etcd::memory).transpose()?;
    let targets = [Target::Ours(log.clone())];
    let theirs: Vec<Target> = clients.iter().cloned().map(Target::Etcd).collect();

    row("", "setpoint-store", "SQLite alone", "etcd");
    row("---", "---:", "---:", "---:");
    for writers in [1, 64, 512] {
        let (rate, mut times) = writes(&targets, writers).await?;
        let (least, mut least_times) = raw_writes(&mut floor, writers).await?;
        let (mut etcd_rate, mut etcd_times) = (String::new(), String::new());
        if !theirs.is_empty() {
            let (rate, mut times) = writes(&theirs, writers).await?;
            (etcd_rate, etcd_times) = (format!("{rate:.0}"), times.spread());
        }
        let what = format!("durable writes a second, {writers} writers");
        row(&what, &format!("{rate:.0}"), &format!("{least:.0}"), &etcd_rate);
        // A transaction of SQLite alone answers as many writers as there are.
        row("… each, p50 / p99", &times.spread(), &least_times.spread(), &etcd_times);
    }

    let mut times = ours_to_event(&log).await?;
    let etcd_times = match clients.first() {
        Some(client) => etcd_to_event(client).await?.spread(),
        None => String::new(),
    };
    row("write → its watch event, p50 / p99", &times.spread(), "", &etcd_times);

    fill(&targets, keys).await?;
    if !theirs.is_empty() {
        fill(&theirs, keys).await?;
    }
    let mut times = Times::default();
    for number in 0..10_000 {
        let key = format!("{PODS}pod-{:06}", number * 7919 % keys);
        let started = Instant::now();
        log.get(&key, None).await?.ok_or("it was written")?;
        times.push(started.elapsed());
    }
    row("get, p50 / p99", &times.spread(), "", "");
    let wanted = keys.min(LIST);
    let mut times = repeated(async || {
        let page = log.list(PODS, None, LIST, None).await?;
        assert_eq!(page.items.len(), wanted, "the whole list");
        Ok(())
    })
    .await?;
    let mut counts = repeated(async || {
        assert_eq!(log.count(PODS, None).await?, keys as u64, "all are counted");
        Ok(())
    })
    .await?;
    let (mut etcd_list, mut etcd_count) = (String::new(), String::new());
    if let Some(client) = clients.first() {
        let mut times = repeated(async || {
            assert_eq!(client.list(PODS, LIST as u64).await?, wanted, "the whole list");
            Ok(())
        })
        .await?;
        etcd_list = times.spread();
        let mut times = repeated(async || {
            assert_eq!(client.count(PODS).await?, keys as u64, "all are counted");
            Ok(())
        })
        .await?;
        etcd_count = times.spread();
    }
    row("list of 10,000, p50 / p99", &times.spread(), "", &etcd_list);
    row(
        &format!("count of {keys}, p50 / p99"),
        &counts.spread(),
        "",
        &etcd_count,
    );

    log.close().await?;
    drop(clients);
    let mut times = repeated(async || {
        let log = SqliteLog::open(&path, SqliteOptions::default()).await?;
        assert!(log.stats().keys >= keys as u64, "all are loaded");
        log.close().await?;
        Ok(())
    })
    .await?;
    let mut restarted = String::new();
    if let Some(running) = etcd.take() {
        let (again, took) = running.restart().await?;
        restarted = format!("{:.0} ms", took.as_secs_f64() * 1000.0);
        etcd = Some(again);
    }
    row(
        &format!("open with {keys} keys, p50 / p99"),
        &times.spread(),
        "",
        &restarted,
    );
    let mut times = repeated(async || {
        SqliteLog::open(&empty, SqliteOptions::default()).await?.close().await?;
        Ok(())
    })
    .await?;
    row("open without keys, p50 / p99", &times.spread(), "", "");

    let bytes = mebibytes((keys * VALUE) as u64);
    let (full, bare) = (weigh(&path)?, weigh(&empty)?);
    let etcd_memory = match (&etcd, idle) {
        (Some(etcd), Some(idle)) => mebibytes(etcd.memory()?.saturating_sub(idle)),
        _ => String::new(),
    };
    let what = format!("memory for {bytes} in {keys} keys, over an empty one");
    row(&what, &mebibytes(full.saturating_sub(bare)), "", &etcd_memory);
    let etcd_disk = etcd.as_ref().map(Etcd::disk).transpose()?;
    let etcd_disk = etcd_disk.map_or(String::new(), mebibytes);
    row(
        "on disk after all of this",
        &mebibytes(measure::disk(&ours)?),
        "",
        &etcd_disk,
    );
    Ok(())
}
