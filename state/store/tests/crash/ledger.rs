//! What is known of a log that is killed again and again, and what must be found in it.

use std::collections::BTreeMap;

use setpoint_store::{Log as _, Revision, SqliteLog, StoreError};

use crate::parent::Done;
use crate::script::{self, Act, KEYS, LIFE, Step, WRITERS};

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    /// What the step of this number wrote; its revision when somebody was told.
    Step(u64, Option<Revision>),
}

impl Held {
    fn fits(self, found: Held) -> bool {
        match (self, found) {
            (Held::Step(number, None), Held::Step(other, _)) => number == other,
            (held, found) => held == found,
        }
    }
}

/// What the children were answered so far.
#[derive(Default)]
pub struct Ledger {
    /// The newest revision that anybody was told of, in all lives.
    newest: Revision,
    /// What each key held when a life began.
    before: BTreeMap<String, Held>,
    /// How many answers there were.
    pub answers: usize,
}

impl Ledger {
    /// Checks the log that a life left.
    ///
    /// # Panics
    /// When anything that was answered is not as it was answered, or anything is there that nobody wrote.
    pub async fn check(&mut self, log: &SqliteLog, round: u64, mut done: Vec<Done>) {
        done.sort_by_key(|(.., revision)| *revision);
        for pair in done.windows(2) {
            assert!(pair[0].2 < pair[1].2, "a revision was issued twice: {pair:?}");
        }
        if let Some((.., first)) = done.first() {
            assert!(
                *first > self.newest,
                "revision {first} was issued although {} had been",
                self.newest
            );
        }
        self.answers += done.len();
        self.newest = done.last().map_or(self.newest, |(.., last)| *last);

        let page = log.list("", None, 0, None).await.expect("lists");
        let mut listed: BTreeMap<String, Held> = BTreeMap::new();
        for kv in &page.items {
            let number = script::number(&kv.key, &kv.value);
            assert!(kv.created <= kv.modified && kv.modified <= page.revision);
            listed.insert(kv.key.clone(), Held::Step(number, Some(kv.modified)));
        }
        for writer in 0..WRITERS {
            for key in 0..KEYS {
                let name = script::name(writer, key);
                let found = listed.remove(&name).unwrap_or(Held::Nothing);
                let possible = self.possible(round, writer, key, &done);
                assert!(
                    possible.iter().any(|held| held.fits(found)),
                    "{name} holds {found:?} after life {round}; it can only be one of {possible:?}"
                );
                self.before.insert(name, found);
            }
        }
        assert!(listed.is_empty(), "keys that nobody wrote: {listed:?}");
        past(log, &done).await;
    }

    /// Notes what revision the store itself is at: none up to it may come again.
    pub fn opened(&mut self, log: &SqliteLog) {
        self.newest = self.newest.max(log.revision());
    }

    /// Lists what a key may hold: what its last durable answer left, or anything that was asked for after that.
    fn possible(&self, round: u64, writer: u64, key: u64, done: &[Done]) -> Vec<Held> {
        let before = self.before.get(&script::name(writer, key));
        let mut possible = vec![before.copied().unwrap_or(Held::Nothing)];
        let mut next = round * LIFE;
        for (_, number, revision) in done.iter().filter(|(by, ..)| *by == writer) {
            next = number + 1;
            let step = script::step(writer, *number);
            if step.key != key {
                continue;
            }
            // What is not there yet is put, not refreshed.
            let volatile = volatile(step) && possible.last() != Some(&Held::Nothing);
            if !volatile {
                possible.clear();
            }
            possible.push(match step.act {
                Act::Delete => Held::Nothing,
                _ => Held::Step(*number, Some(*revision)),
            });
        }
        // One step was under way of which nothing was heard; before it there may have been deletions of nothing, of which nothing is.
        loop {
            let step = script::step(writer, next);
            if step.key == key {
                possible.push(match step.act {
                    Act::Delete => Held::Nothing,
                    _ => Held::Step(next, None),
                });
            }
            if step.act != Act::Delete {
                return possible;
            }
            next += 1;
        }
    }
}

/// Whether an answer to a step does not mean that it is on disk.
fn volatile(step: Step) -> bool {
    step.act == Act::Refresh && step.key == KEYS - 1
}

/// Looks for some of the answered writes at their own revisions.
async fn past(log: &SqliteLog, done: &[Done]) {
    for (writer, number, revision) in done.iter().rev().take(12) {
        let step = script::step(*writer, *number);
        if step.key == KEYS - 1 {
            continue;
        }
        match log.get(&step.key(), Some(*revision)).await {
            Ok(found) if step.act == Act::Delete => assert_eq!(found, None, "deleted at {revision}"),
            Ok(Some(found)) => {
                assert_eq!(found.modified, *revision);
                assert_eq!(script::number(&found.key, &found.value), *number);
            }
            Err(StoreError::Compacted { .. }) => {}
            other => panic!("{} at {revision}: {other:?}", step.key()),
        }
    }
}
