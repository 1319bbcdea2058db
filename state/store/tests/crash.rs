//! A writer is killed amid its writes: whatever it had been answered is there afterwards.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use setpoint_store::{Batch, Expect, History as _, Log as _, SqliteHistory, SqliteLog, SqliteOptions, digest};

const DIR: &str = "SETPOINT_STORE_CRASH_DIR";

/// The child's part: does nothing unless the test below started it.
#[tokio::test(flavor = "multi_thread")]
async fn writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let log = SqliteLog::open(&Path::new(&dir).join("state.db"), SqliteOptions::default())
        .await
        .expect("opens");
    let writers = (0..8).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for i in 0.. {
                let key = format!("k/{writer}/{i}");
                let revision = log
                    .put(&key, Bytes::from(key.clone()), Expect::Absent)
                    .await
                    .expect("puts");
                writeln!(std::io::stdout().lock(), "acknowledged {revision} {key}").expect("a reader");
            }
        })
    });
    futures::future::join_all(writers).await;
}

/// The child's part, for the history.
#[tokio::test(flavor = "multi_thread")]
async fn commits_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let history = SqliteHistory::open(&Path::new(&dir).join("history.db"), None)
        .await
        .expect("opens");
    for i in 0.. {
        let value = Bytes::from(format!("value {i}"));
        let batch = Batch {
            blobs: vec![value.clone()],
            put: vec![("apps".to_owned(), i.to_string(), value.clone())],
            append: vec![("all".to_owned(), value)],
            ..Batch::default()
        };
        history.commit(batch).await.expect("commits");
        writeln!(std::io::stdout().lock(), "acknowledged {} {i}", i + 1).expect("a reader");
    }
}

/// Runs a test of this file as a child, kills it once it had `count` answers, and returns what it was answered.
fn kill_amid(test: &str, dir: &Path, count: usize) -> Vec<(u64, String)> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acknowledged = Vec::new();
    let parse = |line: String| -> Option<(u64, String)> {
        let (_, rest) = line.split_once("acknowledged ")?;
        let (revision, key) = rest.split_once(' ')?;
        Some((revision.parse().ok()?, key.to_owned()))
    };
    while acknowledged.len() < count {
        let line = lines.next().expect("the child lives").expect("text");
        acknowledged.extend(parse(line));
    }
    child.kill().expect("kills");
    child.wait().expect("reaps");
    // The pipe still holds what was printed before the kill; the last line may be cut.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let whole = rest.len().saturating_sub(1);
    acknowledged.extend(rest.into_iter().take(whole).filter_map(parse));
    acknowledged
}

#[tokio::test]
async fn acknowledged_batches_survive_a_kill_and_none_is_there_in_part() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let acknowledged = kill_amid("commits_until_it_is_killed", dir.path(), 200);
    let history = SqliteHistory::open(&dir.path().join("history.db"), None)
        .await
        .expect("opens");
    let entries = history.series("all", None, usize::MAX).await.expect("reads");
    assert!(entries.len() >= acknowledged.len());
    let records = history.records("apps").await.expect("reads");
    assert_eq!(records.len(), entries.len());
    for (number, value) in &entries {
        let key = (number - 1).to_string();
        assert_eq!(history.record("apps", &key).await.expect("reads").as_ref(), Some(value));
        assert_eq!(history.blob(&digest(value)).await.expect("reads").as_ref(), Some(value));
    }
    assert!(
        acknowledged
            .iter()
            .all(|(number, _)| entries.iter().any(|(there, _)| there == number))
    );
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let acknowledged = kill_amid("writes_until_it_is_killed", dir.path(), 300);
    let log = SqliteLog::open(&dir.path().join("state.db"), SqliteOptions::default())
        .await
        .expect("opens");
    for (revision, key) in &acknowledged {
        let found = log
            .get(key, None)
            .await
            .expect("reads")
            .expect("an acknowledged write is there");
        assert_eq!((found.modified, found.value.as_ref()), (*revision, key.as_bytes()));
    }
    let newest = log.revision();
    assert!(acknowledged.iter().all(|(revision, _)| *revision <= newest));
    assert_eq!(
        log.put("k/next", Bytes::new(), Expect::Absent).await.expect("goes on"),
        newest + 1
    );
}
