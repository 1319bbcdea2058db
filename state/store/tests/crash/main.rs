//! A writing process is killed at random, again and again: whatever it had been answered is there afterwards, nothing is there by half,
//! and no revision is issued twice.
//!
//! `SETPOINT_CRASH_KILLS` says how many kills all tests make together (2000). What is left is looked at in a copy most of the time, so
//! that the next child finds it just as the kill left it, log and all.

mod child;
mod ledger;
mod parent;
#[path = "../fixtures/schema_1.rs"]
mod schema_1;
mod script;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use setpoint_store::{History as _, digest};

use ledger::Ledger;
use parent::{Dice, Moment, assert_whole, copy, kill, kills};
use script::LIFE;

/// Kills a child that writes to the log, and looks at what it left, `kills` times.
async fn killed(test: &str, kills: u64, moment: impl Fn(&mut Dice) -> Moment) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mirror = tempfile::tempdir().expect("a temporary directory");
    let (mut dice, mut ledger) = (Dice::new(), Ledger::default());
    for round in 0..kills {
        let done = kill(test, dir.path(), round, moment(&mut dice)).await;
        if dice.below(4) == 0 {
            let log = child::open(dir.path()).await;
            ledger.check(&log, round, done).await;
            ledger.opened(&log);
            log.close().await.expect("closes");
        } else {
            copy(dir.path(), mirror.path(), "state.db");
            let log = child::open(mirror.path()).await;
            ledger.check(&log, round, done).await;
            log.close().await.expect("closes");
        }
        if round % 25 == 24 {
            copy(dir.path(), mirror.path(), "state.db");
            child::open(mirror.path()).await.close().await.expect("closes");
            assert_whole(&mirror.path().join("state.db")).await;
        }
    }
    eprintln!("{kills} kills, {} answers", ledger.answers);
}

#[tokio::test]
async fn acknowledged_writes_survive_kills_at_any_moment() {
    killed("child::writes_until_it_is_killed", kills(300), Dice::moment).await;
}

#[tokio::test]
async fn acknowledged_writes_survive_kills_amid_many_writes() {
    let later = |dice: &mut Dice| Moment::AfterFirst(Duration::from_micros(dice.below(25_000)));
    killed("child::writes_until_it_is_killed", kills(200), later).await;
}

#[tokio::test]
async fn a_store_that_is_killed_while_it_opens_and_closes_opens_again() {
    let moment = |dice: &mut Dice| Moment::AfterFirst(Duration::from_micros(dice.below(15_000)));
    killed("child::opens_and_closes_until_it_is_killed", kills(150), moment).await;
}

#[tokio::test]
async fn a_store_that_is_killed_at_its_first_start_starts_then() {
    let mut dice = Dice::new();
    for _ in 0..kills(75) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = Ledger::default();
        for round in 0..2 {
            let moment = Moment::AfterStart(Duration::from_micros(dice.below(20_000)));
            let done = kill("child::opens_and_closes_until_it_is_killed", dir.path(), round, moment).await;
            let log = child::open(dir.path()).await;
            ledger.check(&log, round, done).await;
            ledger.opened(&log);
            log.close().await.expect("closes");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_killed_while_it_is_migrated_is_migrated_then() {
    let mut dice = Dice::new();
    for _ in 0..kills(50) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        schema_1::lay(&dir.path().join("state.db")).await;
        for round in 0..2 {
            let moment = Moment::AfterStart(Duration::from_micros(dice.below(20_000)));
            let done = kill("child::opens_and_closes_until_it_is_killed", dir.path(), round, moment).await;
            assert!(done.iter().all(|(.., revision)| *revision > schema_1::NEWEST));
        }
        let log = child::open_without_rules(dir.path()).await;
        schema_1::assert_present(&log).await;
        schema_1::assert_past(&log).await;
        log.close().await.expect("closes");
        assert_whole(&dir.path().join("state.db")).await;
    }
}

/// What the batches that are known to be committed have made.
#[derive(Default)]
struct Committed {
    /// The newest batches, as many as the series keeps.
    numbers: VecDeque<u64>,
    records: BTreeMap<String, Bytes>,
}

impl Committed {
    fn add(&mut self, number: u64) {
        let batch = child::batch(number);
        for (_, key) in batch.delete {
            self.records.remove(&key);
        }
        for (_, key, value) in batch.put.into_iter().filter(|(collection, ..)| collection == "apps") {
            self.records.insert(key, value);
        }
        self.numbers.push_back(number);
        if self.numbers.len() > child::KEPT {
            self.numbers.pop_front();
        }
    }
}

#[tokio::test]
async fn acknowledged_batches_survive_kills_and_none_is_there_in_part() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mirror = tempfile::tempdir().expect("a temporary directory");
    let (mut dice, mut committed) = (Dice::new(), Committed::default());
    for round in 0..kills(200) {
        let moment = dice.moment();
        let done = kill("child::commits_until_it_is_killed", dir.path(), round, moment).await;
        let next = done.last().map_or(round * LIFE, |(_, number, _)| number + 1);
        done.into_iter().for_each(|(_, number, _)| committed.add(number));
        let place = if dice.below(4) == 0 {
            dir.path()
        } else {
            copy(dir.path(), mirror.path(), "history.db");
            mirror.path()
        };
        check_history(place, &mut committed, next).await;
        if round % 25 == 24 {
            assert_whole(&place.join("history.db")).await;
        }
    }
}

/// Checks that the history is what the committed batches made it, or those and the one that was under way.
async fn check_history(dir: &Path, committed: &mut Committed, next: u64) {
    let history = child::open_history(dir).await;
    let newest = history.record("newest", "number").await.expect("reads");
    let newest = newest.map(|text| String::from_utf8_lossy(&text).parse::<u64>().expect("a number"));
    if newest == Some(next) {
        committed.add(next);
    }
    assert_eq!(newest, committed.numbers.back().copied(), "{next} was under way");
    let entries = history.series("all", None, usize::MAX).await.expect("reads");
    assert!(
        entries.windows(2).all(|pair| pair[0].0 == pair[1].0 + 1),
        "a number is left out"
    );
    assert_eq!(entries.len(), committed.numbers.len());
    for ((_, value), number) in entries.iter().zip(committed.numbers.iter().rev()) {
        assert!(*value == child::batch(*number).append[0].1, "the entry of {number}");
    }
    let found = history.records("apps").await.expect("reads");
    assert!(
        found.iter().map(|(key, _)| key).eq(committed.records.keys()),
        "the records' keys"
    );
    assert!(
        found.iter().map(|(_, value)| value).eq(committed.records.values()),
        "the records' values"
    );
    if let Some((_, value)) = entries.first() {
        assert!(
            history.blob(&digest(value)).await.expect("reads").as_ref() == Some(value),
            "the newest blob"
        );
    }
    history.close().await.expect("closes");
}
