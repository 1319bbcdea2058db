//! Files that are not what was written: cut off, with other bits, or something else altogether.
//!
//! A store that opens over such a file gives what is right or says that it cannot. SQLite keeps no checksum of its pages, so that a bit of
//! a plain value may have turned unseen; of a sealed one it may not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use setpoint_store::{Expect, Log as _, SqliteLog, StoreError};

use crate::ENGINE;
use crate::writing::{chain, try_open, value};

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Every value that each key ever had.
type Values = BTreeMap<String, Vec<Bytes>>;

/// A store's files by their names.
type Files = Vec<(&'static str, Vec<u8>)>;

const NAMES: [&str; 2] = ["state.db", "state.db-wal"];

fn read(dir: &Path) -> Files {
    NAMES
        .iter()
        .filter_map(|name| Some((*name, std::fs::read(dir.join(name)).ok()?)))
        .collect()
}

/// Writes a store; returns its files while it is open and after it was closed.
async fn write() -> (Files, Files, Values) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = try_open(dir.path()).await.expect("opens");
    let mut values = Values::new();
    for number in 0..240_u64 {
        let prefix = ["secrets", "core/pods", "leases"][number as usize % 3];
        let key = format!("{prefix}/{}", number % 20);
        let value = value(number, 30 + number as usize * 41 % 3000);
        log.put(&key, value.clone(), Expect::Any).await.expect("puts");
        values.entry(key).or_default().push(value);
        if number == 100 {
            log.delete("core/pods/1", Expect::Any).await.expect("deletes");
        }
    }
    let open = read(dir.path());
    log.close().await.expect("closes");
    (open, read(dir.path()), values)
}

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Damages bytes in one of several ways; says how.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) -> &'static str {
    let at = dice.below(bytes.len().max(1));
    match dice.below(6) {
        0 => {
            bytes.truncate(at.max(1));
            "cut off"
        }
        1 => {
            bytes[at] ^= 1 << dice.below(8);
            "with one bit turned"
        }
        2 => {
            for _ in 0..64 {
                let at = dice.below(bytes.len());
                bytes[at] = dice.below(256) as u8;
            }
            "with bytes changed here and there"
        }
        3 => {
            let page = at / 4096 * 4096;
            let end = (page + 4096).min(bytes.len());
            bytes[page..end].fill(0);
            "with a page of zeros"
        }
        4 => {
            let half = bytes.len() / 2;
            bytes[half..].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
            "with noise for its second half"
        }
        _ => {
            bytes.iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
            "of noise"
        }
    }
}

fn assert_clear(error: &StoreError, what: &str) {
    let said = chain(error);
    assert!(said.contains("state.db"), "{what}: {said}");
    match error {
        StoreError::Damaged { .. } => {}
        StoreError::Engine { .. } | StoreError::TooNew { .. } if !ENGINE.damage_is_told => {}
        other => panic!("{what}: {other:?}"),
    }
}

/// Reads everything; what is given of a sealed key must have been put there.
async fn look(log: &SqliteLog, values: &Values, what: &str) {
    let right = |key: &str, found: &Bytes| {
        let sealed = key.starts_with("secrets/") && ENGINE.seals;
        assert!(
            !sealed || values.get(key).is_some_and(|values| values.contains(found)),
            "{what}: {key} holds what nobody put there"
        );
    };
    match log.list("", None, 0, None).await {
        Ok(page) => page.items.iter().for_each(|kv| right(&kv.key, &kv.value)),
        Err(error) => assert_clear(&error, what),
    }
    for revision in (1..=log.revision().min(260)).step_by(7) {
        for key in values.keys().step_by(5) {
            match log.get(key, Some(revision)).await {
                Ok(found) => found.iter().for_each(|kv| right(&kv.key, &kv.value)),
                Err(StoreError::Compacted { .. }) => {}
                Err(error) => assert_clear(&error, what),
            }
        }
    }
    match log.put("secrets/new", Bytes::from("new"), Expect::Any).await {
        Ok(revision) => {
            let found = log.get("secrets/new", None).await.expect("reads").expect("it was put");
            assert_eq!((found.modified, found.value), (revision, Bytes::from("new")));
        }
        Err(error) => assert_clear(&error, what),
    }
}

/// Opens what was damaged and looks at it; returns whether it opened.
async fn judge(files: &Files, values: &Values, what: &str) -> bool {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).expect("writes");
    }
    let opened = match try_open(dir.path()).await {
        Ok(log) => {
            look(&log, values, what).await;
            if let Err(error) = log.close().await {
                assert_clear(&error, what);
            }
            true
        }
        Err(error) => {
            assert_clear(&error, what);
            false
        }
    };
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{what}: something panicked");
    opened
}

/// Damages the file of a name many times over.
async fn damaged(rounds: u64, name: &str, open: bool) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        hook(panic);
    }));
    let (left, closed, values) = write().await;
    let whole = if open { left } else { closed };
    assert!(judge(&whole, &values, "whole").await);
    let mut opened = 0;
    for seed in 0..rounds {
        let (mut files, mut dice) = (whole.clone(), Dice(seed));
        let (_, bytes) = files
            .iter_mut()
            .find(|(of, _)| *of == name)
            .expect("there is such a file");
        let how = damage(bytes, &mut dice);
        let what = format!("{name} {how}, seed {seed}");
        opened += u32::from(judge(&files, &values, &what).await);
    }
    eprintln!("{opened} of {rounds} opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_no_wrong_answer() {
    damaged(150, "state.db", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_with_a_log_is_no_wrong_answer() {
    damaged(60, "state.db", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_no_wrong_answer() {
    damaged(80, "state.db-wal", true).await;
}

#[tokio::test]
async fn a_file_of_something_else_is_left_alone() {
    let cases: [&[u8]; 4] = [
        b"once upon a time",
        b"SQLite format 3\0",
        &[0; 8192],
        b"\x7fELF\x02\x01\x01",
    ];
    for bytes in cases {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state.db");
        let bytes = bytes.repeat(1 + 300 / bytes.len());
        std::fs::write(&path, &bytes).expect("writes");
        if let Err(error) = try_open(dir.path()).await.map(drop) {
            assert_clear(&error, "something else");
            assert!(std::fs::read(&path).expect("reads") == bytes, "it is changed");
        } else {
            panic!("{bytes:?} is no database and opened");
        }
    }
}
