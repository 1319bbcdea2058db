//! Starting the child, killing it at a moment of its own, and reading what it had been answered.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::child::{DIR, ROUND};

/// A step that the child was told is done: the writer, the step's number, the revision.
pub type Done = (u64, u64, u64);

/// When the child is killed.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// So long after it was started, wherever it is then.
    AfterStart(Duration),
    /// So long after it said that something is done.
    AfterFirst(Duration),
}

/// Returns how many kills a test makes: `share` of a thousand of all.
pub fn kills(share: u64) -> u64 {
    let all = match std::env::var("SETPOINT_CRASH_KILLS") {
        Ok(all) => all.parse().expect("SETPOINT_CRASH_KILLS is a number"),
        Err(_) => 2000,
    };
    (all * share / 1000).max(1)
}

/// Numbers that differ from one run to the next; a run with `SETPOINT_SEED` has those of another again.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Dice {
        let seed = match std::env::var("SETPOINT_SEED") {
            Ok(seed) => seed.parse().expect("SETPOINT_SEED is a number"),
            // The address of a fresh process's stack is as good as any: moments of kills cannot be had twice anyway.
            Err(_) => u64::from(std::process::id()) << 20,
        };
        eprintln!("SETPOINT_SEED={seed}");
        Dice(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub fn moment(&mut self) -> Moment {
        let after = Duration::from_micros(self.below(8_000));
        match self.below(3) {
            0 => Moment::AfterStart(after * 2),
            _ => Moment::AfterFirst(after),
        }
    }
}

/// Runs a test of this binary as the child, kills it at its moment, and returns what it had been answered.
///
/// # Panics
/// When the child ends before it is killed: it met something that it should not have.
pub async fn kill(test: &str, dir: &Path, round: u64, moment: Moment) -> Vec<Done> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut stdout = child.stdout.take().expect("piped");
    let mut said = Vec::new();
    let deadline = tokio::time::sleep(Duration::from_secs(60));
    tokio::pin!(deadline);
    let after = match moment {
        Moment::AfterStart(after) => after,
        Moment::AfterFirst(after) => {
            while !said.windows(5).any(|window| window == b"done ") {
                let read = tokio::select! {
                    read = stdout.read_buf(&mut said) => read.expect("reads"),
                    () = &mut deadline => panic!("nothing was done in a minute"),
                };
                if read == 0 {
                    let ended = child.wait_with_output().await.expect("reaps");
                    panic!("the child ended: {}", String::from_utf8_lossy(&ended.stderr));
                }
            }
            after
        }
    };
    let mut stderr = child.stderr.take().expect("piped");
    let ended = tokio::time::timeout(after, async {
        // The pipe is read all the while, so that the child never waits for it.
        while stdout.read_buf(&mut said).await.expect("reads") > 0 {}
    })
    .await
    .is_ok();
    // Killing what has just ended by itself is an error, and is told as the end that it is.
    let killed = child.start_kill();
    let rest = tokio::time::timeout(Duration::from_secs(60), stdout.read_to_end(&mut said));
    rest.await.expect("the pipe ends with the child").expect("reads");
    child.wait().await.expect("reaps");
    let mut complaint = String::new();
    stderr.read_to_string(&mut complaint).await.expect("text");
    assert!(
        !ended && killed.is_ok() && !complaint.contains("panicked"),
        "the child ended: {complaint}"
    );
    done(&said)
}

/// Reads the whole lines of what the child said; the last may be cut.
fn done(said: &[u8]) -> Vec<Done> {
    let said = String::from_utf8_lossy(said);
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |line: &str| -> Option<Done> {
        let (_, rest) = line.split_once("done ")?;
        let mut numbers = rest.split(' ').map(|number| number.parse::<u64>().expect("a number"));
        Some((numbers.next()?, numbers.next()?, numbers.next()?))
    };
    whole.lines().filter_map(line).collect()
}

/// Copies a database as a kill left it, so that it can be looked at and the next child still finds it so.
pub fn copy(from: &Path, to: &Path, name: &str) {
    let names = ["", "-wal", "-shm", "-journal"].map(|suffix| format!("{name}{suffix}"));
    for name in names.iter().map(String::as_str).chain(["keys"]) {
        let (from, to) = (from.join(name), to.join(name));
        if to.exists() {
            std::fs::remove_file(&to).expect("removes");
        }
        if from.exists() {
            std::fs::copy(&from, &to).expect("copies");
        }
    }
}

/// Asks SQLite itself whether a closed database is whole.
pub async fn assert_whole(path: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("opens");
    let (said,): (String,) = sqlx::query_as("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .expect("checks");
    assert_eq!(said, "ok");
    sqlx::Connection::close(connection).await.expect("closes");
}
