//! Writing to a log on a disk that may fail, and remembering what was answered.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use setpoint_store::{
    Change, Expect, Keys, Log as _, Revision, Rule, SqliteLog, SqliteOptions, StoreError, WatchEvent,
};

use crate::ENGINE;

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// What keeps no history.
pub const LEASE: &str = "leases/node";

/// The keys of all stores here: they lie on a disk that works.
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary directory");
    Keys::open(&dir.path().join("keys")).expect("keys")
});

/// How the store is opened here.
fn options() -> SqliteOptions {
    let leases = Rule {
        history: false,
        ..Rule::new("leases/")
    };
    let secrets = Rule {
        sealed: true,
        ..Rule::new("secrets/")
    };
    SqliteOptions {
        busy_timeout: Duration::from_millis(200),
        rules: vec![leases, secrets],
        keys: Some(KEYS.clone()),
        ..SqliteOptions::default()
    }
}

/// Opens the log on a disk; does not wait for ever.
pub async fn try_open(dir: &Path) -> Result<SqliteLog, StoreError> {
    tokio::time::timeout(DEADLINE, SqliteLog::open(&dir.join("state.db"), options()))
        .await
        .expect("an answer in time")
}

/// A value of a size that is not what another number has, and does not pack.
pub fn value(number: u64, size: usize) -> Bytes {
    let mut state = number;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let mut value = number.to_string().into_bytes();
    value.extend(noise.take(size));
    Bytes::from(value)
}

/// The whole chain of an error, as a person reads it.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// What was answered.
#[derive(Default)]
pub struct Answered {
    /// Each write by its revision: the key and the value.
    writes: BTreeMap<Revision, (String, Bytes)>,
    /// What each key held last, and what was tried since: one of them is there.
    keys: BTreeMap<String, Vec<Bytes>>,
    number: u64,
}

impl Answered {
    /// The newest revision.
    pub fn newest(&self) -> Revision {
        self.writes.keys().next_back().copied().unwrap_or(0)
    }

    /// Puts a value at a key of some; returns why not.
    pub async fn put(&mut self, log: &SqliteLog, size: usize) -> Result<(), StoreError> {
        self.number += 1;
        let key = format!("core/pods/{}", self.number % 50);
        let value = value(self.number, size);
        let answer = tokio::time::timeout(DEADLINE, log.put(&key, value.clone(), Expect::Any));
        let answer = answer.await.expect("an answer in time");
        self.note(key, value, answer)
    }

    /// Puts many values at once; returns why the ones that were refused were.
    pub async fn put_many(&mut self, log: &SqliteLog, count: u64, size: usize) -> Vec<StoreError> {
        let from = self.number + 1;
        self.number += count;
        let puts = (from..from + count).map(|number| async move {
            let (key, value) = (format!("many/{}", number % count), value(number, size));
            let answer = log.put(&key, value.clone(), Expect::Any).await;
            (key, value, answer)
        });
        let answers = tokio::time::timeout(DEADLINE, join_all(puts));
        let mut refused = Vec::new();
        for (key, value, answer) in answers.await.expect("answers in time") {
            refused.extend(self.note(key, value, answer).err());
        }
        refused
    }

    fn note(&mut self, key: String, value: Bytes, answer: Result<Revision, StoreError>) -> Result<(), StoreError> {
        let held = self.keys.entry(key.clone()).or_default();
        match answer {
            Ok(revision) => {
                *held = vec![value.clone()];
                assert!(
                    self.writes.insert(revision, (key, value)).is_none(),
                    "{revision} was issued twice"
                );
                Ok(())
            }
            Err(error) => {
                held.push(value);
                Err(error)
            }
        }
    }

    /// Checks that the log has everything that was answered, now and in the past.
    pub async fn check(&self, log: &SqliteLog) {
        for (key, possible) in &self.keys {
            let found = log.get(key, None).await.expect("reads").map(|kv| kv.value);
            let tried = possible.len() > 1 || !self.writes.values().any(|(written, _)| written == key);
            assert!(
                found.as_ref().map_or(tried, |found| possible.contains(found)),
                "{key} does not hold what was answered"
            );
        }
        for (revision, (key, value)) in self.writes.iter().rev().take(200) {
            match log.get(key, Some(*revision)).await {
                Ok(found) => assert!(found.is_some_and(|kv| kv.value == *value), "{key} at {revision}"),
                Err(StoreError::Compacted { .. }) => {}
                Err(StoreError::Engine { .. } | StoreError::Full { .. } | StoreError::ReadOnly { .. })
                    if !ENGINE.reads_go_on => {}
                Err(error) => panic!("{key} at {revision}: {}", chain(&error)),
            }
        }
        assert!(log.revision() >= self.newest());
    }

    /// Checks that a watch from the beginning tells all that was answered.
    pub async fn check_watch(&self, log: &SqliteLog) {
        let mut stream = log.watch("", 0).await.expect("a watch");
        let mut waiting = self.writes.clone();
        while !waiting.is_empty() {
            let event = tokio::time::timeout(DEADLINE, stream.next());
            let event = match event.await.expect("an event in time").expect("goes on") {
                Ok(event) => event,
                Err(StoreError::Engine { .. } | StoreError::Full { .. } | StoreError::ReadOnly { .. })
                    if !ENGINE.reads_go_on =>
                {
                    return;
                }
                Err(error) => panic!("{}", chain(&error)),
            };
            if let WatchEvent::Change(Change::Put { current, .. }) = event
                && let Some((key, value)) = waiting.remove(&current.modified)
            {
                assert!(key == current.key && value == current.value, "at {}", current.modified);
            }
        }
        assert!(
            stream
                .next()
                .now_or_never()
                .is_none_or(|event| event.is_some_and(|event| event.is_ok()))
        );
    }

    /// Writes until it works again, which it must by itself.
    pub async fn put_again(&mut self, log: &SqliteLog) {
        let until = tokio::time::Instant::now() + DEADLINE;
        while let Err(error) = self.put(log, 4000).await {
            assert!(
                tokio::time::Instant::now() < until,
                "it does not go on: {}",
                chain(&error)
            );
            tokio::task::yield_now().await;
        }
    }
}
