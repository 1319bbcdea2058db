//! The log against a model that keeps every state there ever was.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt as _;
use proptest::prelude::*;
use setpoint_store::{Change, Expect, Log as _, Revision, SqliteLog, SqliteOptions, StoreError, WatchEvent};

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
    let mut log = SqliteLog::open(&path, SqliteOptions::default()).await.expect("opens");
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
                let outcome = log.put(&key, Bytes::from(vec![value]), expect).await;
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
                log = SqliteLog::open(&path, SqliteOptions::default()).await.expect("opens");
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
            .map(|kv| (kv.key, (kv.created, kv.modified, kv.value[0])))
            .collect();
        assert_eq!(&listed, state, "at revision {revision}");
        for key in (0..6).map(|key| format!("k/{key}")) {
            let found = log.get(&key, Some(revision)).await.expect("gets");
            assert_eq!(
                found.map(|kv| (kv.created, kv.modified, kv.value[0])),
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
                let before = state.insert(current.key, (current.created, current.modified, current.value[0]));
                assert_eq!(previous.map(|kv| (kv.created, kv.modified, kv.value[0])), before);
            }
            Change::Delete { previous, revision } => {
                assert_eq!(revision, expected);
                let before = state.remove(&previous.key);
                assert_eq!(Some((previous.created, previous.modified, previous.value[0])), before);
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
