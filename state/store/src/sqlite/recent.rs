//! The recent changes of keys that keep no history: all that is known of their past, and no more of it than memory should hold.

use std::collections::{BTreeMap, VecDeque};

use crate::log::{Change, KeyValue, Revision};

/// At most so many changes are kept.
const KEEP: usize = 1024;
/// At most so many bytes of values are kept alive by them.
const KEEP_BYTES: usize = 512 << 10;

/// Changes in revision order, none missing after `since`.
pub(super) struct Recent {
    changes: VecDeque<Change>,
    bytes: usize,
    since: Revision,
}

impl Recent {
    /// Begins at a revision: what was before is not known.
    pub(super) fn new(since: Revision) -> Recent {
        Recent {
            changes: VecDeque::new(),
            bytes: 0,
            since,
        }
    }

    /// The revision after which all is known.
    pub(super) fn since(&self) -> Revision {
        self.since
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += held(&change);
        self.changes.push_back(change);
        while self.changes.len() > KEEP || self.bytes > KEEP_BYTES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= held(&oldest);
            self.since = oldest.revision();
        }
    }

    /// The changes of a prefix in `(after, upto]`.
    pub(super) fn between(&self, prefix: &str, after: Revision, upto: Revision) -> Vec<Change> {
        let from = self.changes.partition_point(|change| change.revision() <= after);
        self.changes
            .range(from..)
            .take_while(|change| change.revision() <= upto)
            .filter(|change| change.key().starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Takes keys of a prefix as they are now back to how they were just after revision `at`.
    pub(super) fn undo(&self, prefix: &str, at: Revision, keys: &mut BTreeMap<String, KeyValue>) {
        let undone = self.changes.iter().rev().take_while(|change| change.revision() > at);
        for change in undone.filter(|change| change.key().starts_with(prefix)) {
            let before = match change {
                Change::Put { previous, .. } => previous.as_ref(),
                Change::Delete { previous, .. } => Some(previous),
            };
            match before {
                Some(before) => keys.insert(before.key.clone(), before.clone()),
                None => keys.remove(change.key()),
            };
        }
    }
}

/// How many bytes a change keeps alive that nothing else does: the value that it replaced.
fn held(change: &Change) -> usize {
    match change {
        Change::Put { previous, .. } => previous.as_ref().map_or(0, |previous| previous.value.len()),
        Change::Delete { previous, .. } => previous.value.len(),
    }
}
