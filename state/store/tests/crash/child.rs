//! The process that is killed: this file of tests, started again with one test that does nothing unless it was told where to.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use setpoint_store::{
    Batch, Expect, History as _, Keys, Log as _, Rule, SqliteHistory, SqliteLog, SqliteOptions, StoreError,
};

use crate::script::{self, Act, LEASES, LIFE, SECRETS, Step, WRITERS};

/// Where the child works.
pub const DIR: &str = "SETPOINT_STORE_CRASH_DIR";
/// Which of its lives it is.
pub const ROUND: &str = "SETPOINT_STORE_CRASH_ROUND";

fn told() -> Option<(PathBuf, u64)> {
    let dir = std::env::var(DIR).ok()?;
    let round = std::env::var(ROUND).ok()?;
    Some((dir.into(), round.parse().expect("a number")))
}

/// How the store is opened, by the child and by whoever looks at what it left. Little history is kept, so that there is always some to
/// forget.
fn options(dir: &Path) -> SqliteOptions {
    let leases = Rule {
        history: false,
        ..Rule::new(LEASES)
    };
    let secrets = Rule {
        sealed: true,
        ..Rule::new(SECRETS)
    };
    SqliteOptions {
        keep_bytes: 1 << 20,
        maintenance_interval: Duration::ZERO,
        pack_behind: 20,
        rules: vec![leases, secrets],
        keys: Some(keys(dir)),
        ..SqliteOptions::default()
    }
}

fn keys(dir: &Path) -> Keys {
    Keys::open(&dir.join("keys")).expect("keys")
}

/// Opens the history of a place.
pub async fn open_history(dir: &Path) -> SqliteHistory {
    let keys = Some(keys(dir));
    SqliteHistory::open(&dir.join("history.db"), keys).await.expect("opens")
}

/// Opens the log of a place.
pub async fn open(dir: &Path) -> SqliteLog {
    SqliteLog::open(&dir.join("state.db"), options(dir))
        .await
        .expect("opens")
}

/// Opens the log of a place as one in which everything keeps its history.
pub async fn open_without_rules(dir: &Path) -> SqliteLog {
    let options = SqliteOptions {
        keys: Some(keys(dir)),
        ..SqliteOptions::default()
    };
    SqliteLog::open(&dir.join("state.db"), options).await.expect("opens")
}

/// Says that something is done. One write, so that a kill cuts between lines or in the last one.
fn say(line: &str) {
    std::io::stdout()
        .write_all(format!("{line}\n").as_bytes())
        .expect("a reader");
}

/// Takes a step and says that it is done.
async fn perform(log: &SqliteLog, step: Step) {
    let (key, value) = (step.key(), step.value());
    let current = log.get(&key, None).await.expect("reads");
    let expect = current.map_or(Expect::Absent, |current| Expect::Revision(current.modified));
    let outcome = match step.act {
        Act::Put => log.put(&key, value, Expect::Any).await,
        Act::Swap => log.put(&key, value, expect).await,
        Act::Refresh => log.refresh(&key, value, expect).await,
        Act::Delete => log.delete(&key, Expect::Any).await,
    };
    match outcome {
        Ok(revision) => say(&format!("done {} {} {revision}", step.writer, step.number)),
        // Nothing was there to delete.
        Err(StoreError::Conflict { current: None, .. }) if step.act == Act::Delete => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// Does what the script says until it is killed, and says what it was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_until_it_is_killed() {
    let Some((dir, round)) = told() else { return };
    let keys = keys(&dir);
    let options = SqliteOptions {
        keys: Some(keys.clone()),
        ..options(&dir)
    };
    let log = SqliteLog::open(&dir.join("state.db"), options).await.expect("opens");
    let writers = (0..WRITERS).map(|writer| {
        let (log, keys) = (log.clone(), keys.clone());
        tokio::spawn(async move {
            for number in round * LIFE.. {
                perform(&log, script::step(writer, number)).await;
                if writer == 0 && number % 40 == 39 {
                    let keep_from = log.revision().saturating_sub(60);
                    log.compact(keep_from).await.expect("compacts");
                }
                if writer == 1 && number % 150 == 149 {
                    keys.rotate().expect("a new key");
                    log.reseal().await.expect("seals again");
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("a writer");
    }
}

/// Opens a store and closes it again, over and over: what opening, migrating and closing write is cut anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opens_and_closes_until_it_is_killed() {
    let Some((dir, round)) = told() else { return };
    for number in round * LIFE.. {
        let log = open(&dir).await;
        perform(&log, script::step(0, number)).await;
        log.close().await.expect("closes");
    }
}

/// How many entries the series keeps.
pub const KEPT: usize = 40;

/// The batch of a number: everything in it is of that number.
pub fn batch(number: u64) -> Batch {
    let value = Bytes::from(format!("{number} ").repeat(1 + number as usize % 700));
    Batch {
        blobs: vec![value.clone()],
        put: vec![
            ("apps".to_owned(), (number % 16).to_string(), value.clone()),
            (
                "newest".to_owned(),
                "number".to_owned(),
                Bytes::from(number.to_string()),
            ),
        ],
        delete: vec![("apps".to_owned(), ((number + 8) % 16).to_string())],
        append: vec![("all".to_owned(), value)],
        keep_series: vec![("all".to_owned(), KEPT)],
        ..Batch::default()
    }
}

/// Commits batches until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_until_it_is_killed() {
    let Some((dir, round)) = told() else { return };
    let history = open_history(&dir).await;
    for number in round * LIFE.. {
        history.commit(batch(number)).await.expect("commits");
        say(&format!("done 0 {number} 0"));
        if number % 30 == 29 {
            let newest = history.series("all", None, KEPT).await.expect("reads");
            let keep = newest.iter().map(|(_, value)| setpoint_store::digest(value)).collect();
            history.keep_only_blobs(&keep).await.expect("collects");
        }
    }
}
