//! The log against a model that keeps every state there ever was.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt as _;
use proptest::prelude::*;
use setpoint_store::{
    Change, Expect, Keys, Log as _, Revision, Rule, SqliteLog, SqliteOptions, StoreError, WatchEvent,
};

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, value: u8, expect: Guess },
    Delete { key: u8, expect: Guess },
    Compact { back: u8 },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Guess {
    Any,
    Absent,
    Right,
    Wrong,
}

fn guess() -> impl Strategy<Value = Guess> {
    prop_oneof![3 => Just(Guess::Any), 2 => Just(Guess::Absent), 3 => Just(Guess::Right), 1 => Just(Guess::Wrong)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..6u8, any::<u8>(), guess()).prop_map(|(key, value, expect)| Step::Put { key, value, expect }),
        5 => (0..6u8, guess()).prop_map(|(key, expect)| Step::Delete { key, expect }),
        1 => (0..20u8).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Reopen),
    ]
}

/// A value that is worth compressing.
fn body(value: u8) -> Bytes {
    let lines: Vec<String> = (0..20).map(|n| format!("line {n} of a value: {}", n * 7919)).collect();
    Bytes::from(format!("{}\n{value}", lines.join("\n")))
}

fn number(body: &[u8]) -> u8 {
    let text = std::str::from_utf8(body).expect("text");
    text.rsplit('\n').next().expect("a line").parse().expect("a number")
}

type State = BTreeMap<String, (Revision, Revision, u8)>;

fn expect(guess: Guess, state: &State, key: &str) -> Expect {
    match guess {
        Guess::Any => Expect::Any,
        Guess::Absent => Expect::Absent,
        Guess::Right => state
            .get(key)
            .map_or(Expect::Absent, |(_, modified, _)| Expect::Revision(*modified)),
        Guess::Wrong => Expect::Revision(1_000_000),
    }
}

fn holds(expect: Expect, state: &State, key: &str) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => !state.contains_key(key),
        Expect::Revision(wanted) => state.get(key).is_some_and(|(_, modified, _)| *modified == wanted),
    }
}

async fn agree(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("state.db");
    let keys = Keys::open(&dir.path().join("store.key")).expect("a key");
    // Values are packed at once, some are sealed: what the past holds has been through all of it.
    let options = SqliteOptions {
        pack_behind: 2,
        rules: vec![
            Rule {
                sealed: true,
                ..Rule::new("k/1")
            },
            Rule {
                sealed: true,
                ..Rule::new("k/2")
            },
        ],
        keys: Some(keys),
        ..SqliteOptions::default()
    };
    let mut log = SqliteLog::open(&path, options.clone()).await.expect("opens");
    let mut states: Vec<State> = vec![State::new()];
    let mut oldest: Revision = 0;
    for step in steps {
        let newest = states.len() as Revision - 1;
        let mut state = states[newest as usize].clone();
        match step {
            Step::Put {
                key,
                value,
                expect: guess,
            } => {
                let key = format!("k/{key}");
                let expect = expect(guess, &state, &key);
                let outcome = log.put(&key, body(value), expect).await;
                if holds(expect, &state, &key) {
                    assert_eq!(outcome.expect("puts"), newest + 1);
                    let created = state.get(&key).map_or(newest + 1, |(created, ..)| *created);
                    state.insert(key, (created, newest + 1, value));
                    states.push(state);
                } else {
                    assert!(matches!(outcome, Err(StoreError::Conflict { .. })));
                }
            }
            Step::Delete { key, expect: guess } => {
                let key = format!("k/{key}");
                let expect = expect(guess, &state, &key);
                let outcome = log.delete(&key, expect).await;
                if state.contains_key(&key) && holds(expect, &state, &key) {
                    assert_eq!(outcome.expect("deletes"), newest + 1);
                    state.remove(&key);
                    states.push(state);
                } else {
                    assert!(matches!(outcome, Err(StoreError::Conflict { .. })));
                }
            }
            Step::Compact { back } => {
                let keep_from = newest.saturating_sub(u64::from(back));
                log.compact(keep_from).await.expect("compacts");
                oldest = oldest.max(keep_from);
            }
            Step::Reopen => {
                log.close().await.expect("closes");
                log = SqliteLog::open(&path, options.clone()).await.expect("opens");
            }
        }
    }
    let newest = states.len() as Revision - 1;
    assert_eq!(log.revision(), newest);
    for (revision, state) in (0..).zip(&states) {
        let listed = log.list("k/", None, 0, Some(revision)).await;
        if revision < oldest {
            assert!(matches!(listed, Err(StoreError::Compacted { .. })));
            continue;
        }
        let listed: State = listed
            .expect("lists")
            .items
            .into_iter()
            .map(|kv| (kv.key, (kv.created, kv.modified, number(&kv.value))))
            .collect();
        assert_eq!(&listed, state, "at revision {revision}");
        for key in (0..6).map(|key| format!("k/{key}")) {
            let found = log.get(&key, Some(revision)).await.expect("gets");
            assert_eq!(
                found.map(|kv| (kv.created, kv.modified, number(&kv.value))),
                state.get(&key).copied()
            );
        }
    }
    // A watch from the horizon leads from the state there to the state now.
    let mut state = states[oldest as usize].clone();
    let mut stream = log.watch("k/", oldest).await.expect("watches");
    for expected in oldest + 1..=newest {
        let WatchEvent::Change(change) = stream.next().await.expect("goes on").expect("no error") else {
            panic!("the past is not through before {newest}");
        };
        match change {
            Change::Put { current, previous } => {
                assert_eq!(current.modified, expected);
                let before = state.insert(current.key, (current.created, current.modified, number(&current.value)));
                assert_eq!(previous.map(|kv| (kv.created, kv.modified, number(&kv.value))), before);
            }
            Change::Delete { previous, revision } => {
                assert_eq!(revision, expected);
                let before = state.remove(&previous.key);
                assert_eq!(
                    Some((previous.created, previous.modified, number(&previous.value))),
                    before
                );
            }
        }
    }
    assert_eq!(&state, &states[newest as usize]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(agree(steps));
    }
}
