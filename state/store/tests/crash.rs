//! A writer is killed amid its writes: whatever it had been answered is there afterwards.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use setpoint_store::{Expect, Log as _, SqliteLog, SqliteOptions};

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

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
        .env(DIR, dir.path())
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
    while acknowledged.len() < 300 {
        let line = lines.next().expect("the child lives").expect("text");
        acknowledged.extend(parse(line));
    }
    child.kill().expect("kills");
    child.wait().expect("reaps");
    // The pipe still holds what was printed before the kill; the last line may be cut.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let whole = rest.len().saturating_sub(1);
    acknowledged.extend(rest.into_iter().take(whole).filter_map(parse));

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
