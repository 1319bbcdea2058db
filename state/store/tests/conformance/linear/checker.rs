//! Whether a history of concurrent clients could have been that of one client after the other.
//!
//! Revisions are the witness: they say in which order the writes took effect. That leaves one question for every operation: after which
//! revision did it happen? A write happened at its own, a list at the one that it names, a read while its key held what it saw. Going
//! through the operations in the order of their calls, each is placed as early as it may be: not before anything that had been answered
//! when it was called. The history is linearizable in the order of the revisions exactly when each finds a place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use setpoint_store::{Expect, Revision};

/// What a key holds: the number of the write that it came from, and the revisions that the log gave with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The number of the write, unique in a history.
    pub write: u64,
    /// The revision that created the key.
    pub created: Revision,
    /// The revision of the write.
    pub modified: Revision,
}

/// What a client asked, and what it was told.
#[derive(Clone, Debug)]
pub enum Told {
    /// A write of `write`, or a deletion when that is `None`, was done at a revision.
    Written {
        key: usize,
        write: Option<u64>,
        expect: Expect,
        at: Revision,
    },
    /// A write or deletion was refused because of what is there.
    Refused {
        key: usize,
        delete: bool,
        expect: Expect,
        found: Option<Held>,
    },
    /// A read of the present.
    Read { key: usize, found: Option<Held> },
    /// A read at a revision.
    ReadAt {
        key: usize,
        at: Revision,
        found: Option<Held>,
    },
    /// A list of all keys and the revision that it says it is of; `past` when that was asked for.
    Listed {
        at: Revision,
        past: bool,
        found: Vec<(usize, Held)>,
    },
}

/// An operation: when it was called and answered, by one counter that all clients share.
#[derive(Clone, Debug)]
pub struct Operation {
    pub called: u64,
    pub answered: u64,
    pub told: Told,
}

/// What a key holds from each revision on that changed it.
type Line = BTreeMap<Revision, Option<Held>>;

/// Checks a history that began with an empty log.
pub fn check(history: &[Operation]) -> Result<(), String> {
    let lines = lines(history)?;
    let mut called: Vec<&Operation> = history.iter().collect();
    called.sort_by_key(|operation| operation.called);
    // Answers by time, each with the place of its operation; `floor` is the latest place among those behind.
    let mut waiting: BinaryHeap<Reverse<(u64, Revision)>> = BinaryHeap::new();
    let mut floor = 0;
    for operation in called {
        while let Some(Reverse((at, place))) = waiting.peek().copied()
            && at < operation.called
        {
            waiting.pop();
            floor = floor.max(place);
        }
        let place =
            place(&lines, &operation.told, floor).map_err(|why| format!("{why}: {operation:?}, after {floor}"))?;
        waiting.push(Reverse((operation.answered, place)));
    }
    Ok(())
}

/// Builds what every key held from the writes, and checks that each write was allowed.
fn lines(history: &[Operation]) -> Result<HashMap<usize, Line>, String> {
    let mut writes: BTreeMap<Revision, &Operation> = BTreeMap::new();
    for operation in history {
        if let Told::Written { at, .. } = operation.told
            && let Some(other) = writes.insert(at, operation)
        {
            return Err(format!("revision {at} was issued twice: {other:?} and {operation:?}"));
        }
    }
    let mut lines: HashMap<usize, Line> = HashMap::new();
    for operation in writes.into_values() {
        let Told::Written { key, write, expect, at } = operation.told else {
            continue;
        };
        let line = lines.entry(key).or_default();
        let before = line.values().next_back().copied().flatten();
        if !allowed(expect, write.is_none(), before) {
            return Err(format!(
                "a write passed although the key held {before:?}: {operation:?}"
            ));
        }
        let held = write.map(|write| Held {
            write,
            created: before.map_or(at, |before| before.created),
            modified: at,
        });
        line.insert(at, held);
    }
    Ok(lines)
}

fn allowed(expect: Expect, delete: bool, before: Option<Held>) -> bool {
    match expect {
        Expect::Any => !delete || before.is_some(),
        Expect::Absent => !delete && before.is_none(),
        Expect::Revision(wanted) => before.is_some_and(|before| before.modified == wanted),
    }
}

/// Returns the earliest place from `floor` on at which an operation can have happened.
fn place(lines: &HashMap<usize, Line>, told: &Told, floor: Revision) -> Result<Revision, String> {
    match told {
        Told::Written { at, .. } if *at > floor => Ok(*at),
        Told::Written { .. } => {
            Err("a write took effect before something that was answered when it was called".to_owned())
        }
        Told::Read { key, found } => seen(lines, *key, *found, floor),
        Told::Refused {
            expect, delete, found, ..
        } if allowed(*expect, *delete, *found) => {
            Err("a write was refused although it says itself that it was allowed".to_owned())
        }
        Told::Refused { key, found, .. } => seen(lines, *key, *found, floor),
        Told::ReadAt { key, at, found } if held(lines, *key, *at) == *found => Ok((*at).max(floor)),
        Told::ReadAt { key, at, .. } => Err(format!("the key held {:?} then", held(lines, *key, *at))),
        Told::Listed { at, past: false, .. } if *at < floor => {
            Err("a list is older than something that was answered when it was asked for".to_owned())
        }
        Told::Listed { at, found, .. } => {
            let mut wanted: Vec<(usize, Held)> = lines
                .keys()
                .filter_map(|key| Some((*key, held(lines, *key, *at)?)))
                .collect();
            wanted.sort_by_key(|(key, _)| *key);
            let mut found = found.clone();
            found.sort_by_key(|(key, _)| *key);
            if found == wanted {
                Ok((*at).max(floor))
            } else {
                Err(format!("the list is not what was there at {at}: {wanted:?}"))
            }
        }
    }
}

/// Returns what a key held just after a revision.
fn held(lines: &HashMap<usize, Line>, key: usize, at: Revision) -> Option<Held> {
    lines.get(&key)?.range(..=at).next_back().and_then(|(_, held)| *held)
}

/// Returns the earliest place from `floor` on at which a key held what was seen.
fn seen(lines: &HashMap<usize, Line>, key: usize, found: Option<Held>, floor: Revision) -> Result<Revision, String> {
    if held(lines, key, floor) == found {
        return Ok(floor);
    }
    let later = lines.get(&key).into_iter().flat_map(|line| line.range(floor + 1..));
    let mut later = later.filter(|(_, held)| **held == found);
    match later.next() {
        Some((at, _)) => Ok(*at),
        None => Err(format!("the key never held {found:?} again")),
    }
}
