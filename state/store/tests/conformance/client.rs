//! What the properties say in a word: writes that must pass, reads as text, watches drained.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use setpoint_store::{Change, Expect, KeyValue, Log, Revision, StoreError, WatchEvent, WatchStream};

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Text as a value.
pub fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

/// A put that must pass.
pub async fn put(log: &dyn Log, key: &str, text: impl Into<String>) -> Revision {
    log.put(key, bytes(text), Expect::Any).await.expect("puts")
}

/// A deletion that must pass.
pub async fn delete(log: &dyn Log, key: &str) -> Revision {
    log.delete(key, Expect::Any).await.expect("deletes")
}

/// What a key holds, as text.
pub async fn value(log: &dyn Log, key: &str, at: Option<Revision>) -> Option<String> {
    let found = log.get(key, at).await.expect("a read");
    found.map(|kv| String::from_utf8(kv.value.to_vec()).expect("text"))
}

/// The whole list of a prefix.
pub async fn list(log: &dyn Log, prefix: &str, at: Option<Revision>) -> Vec<KeyValue> {
    log.list(prefix, None, 0, at).await.expect("a list").items
}

/// The keys of a prefix.
pub async fn keys(log: &dyn Log, prefix: &str, at: Option<Revision>) -> Vec<String> {
    list(log, prefix, at).await.into_iter().map(|kv| kv.key).collect()
}

/// The next event, or what ended the watch.
pub async fn event(stream: &mut WatchStream) -> Result<WatchEvent, StoreError> {
    tokio::time::timeout(DEADLINE, stream.next())
        .await
        .expect("an event in time")
        .expect("the watch goes on")
}

/// The next change; bookmarks are passed over.
pub async fn next(stream: &mut WatchStream) -> Result<Change, StoreError> {
    loop {
        if let WatchEvent::Change(change) = event(stream).await? {
            return Ok(change);
        }
    }
}

/// The changes up to the one of revision `last`, which must come.
pub async fn drain(stream: &mut WatchStream, last: Revision) -> Vec<Change> {
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

/// Applies a change to a state; the change must fit it.
pub fn apply(state: &mut BTreeMap<String, KeyValue>, change: &Change) {
    match change.clone() {
        Change::Put { current, previous } => {
            assert_eq!(state.insert(current.key.clone(), current), previous);
        }
        Change::Delete { previous, .. } => assert_eq!(state.remove(&previous.key), Some(previous)),
    }
}

/// Writes beside what is looked at until `done`: an engine may tidy up after a write only.
pub async fn nudge_until(log: &dyn Log, what: &str, mut done: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(DEADLINE, async {
        while !done().await {
            put(log, "nudge/now", "x").await;
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Whether an answer is that this revision is no longer there.
pub fn compacted<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Compacted { .. }))
}

/// Whether an answer is that this revision is not there yet.
pub fn future<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Future { .. }))
}

/// Whether an answer is a conflict.
pub fn conflict<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Conflict { .. }))
}

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as this seed says.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
