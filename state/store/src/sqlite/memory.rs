//! The read model: what every key holds now, and who watches.
//!
//! One lock guards values, revision, horizon and the list of watchers together. That is what makes a watch seamless: a
//! watcher is registered at a revision that no later event can share.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::mpsc;

use super::recent::Recent;
use super::rules::{Reach, Rules};
use crate::log::{Change, KeyValue, Page, Revision, StoreError};

/// The present state of one key.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) value: Bytes,
    pub(super) created: Revision,
    pub(super) modified: Revision,
    /// The write whose value is on disk: `modified`, unless it was refreshed since.
    pub(super) stored: Revision,
    /// When it was written, in Unix milliseconds.
    pub(super) at: i64,
}

impl Current {
    pub(super) fn at(&self, key: &str) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: self.value.clone(),
            created: self.created,
            modified: self.modified,
        }
    }
}

/// One write, committed or about to be.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) revision: Revision,
    pub(super) key: String,
    pub(super) created: Revision,
    /// The write before this one of the same key's life; 0 when this row creates the key.
    pub(super) previous: Revision,
    /// `None` marks a deletion.
    pub(super) value: Option<Bytes>,
    /// When it is made, in Unix milliseconds.
    pub(super) at: i64,
    /// What of it is on disk.
    pub(super) lasting: Lasting,
}

/// What of a write is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    /// The write, beside what it supersedes.
    History,
    /// The write in the place of the one on disk, which is this (0: none).
    Newest(Revision),
    /// Nothing: this write stays on disk.
    Memory(Revision),
}

/// What is read from disk when a store opens.
pub(super) struct Loaded {
    pub(super) keys: BTreeMap<String, Current>,
    pub(super) revision: Revision,
    pub(super) oldest: Revision,
    pub(super) gaps: Vec<(Revision, Revision)>,
}

/// Where the answer to a read is.
pub(super) enum Read<T> {
    /// Here.
    Here(T),
    /// In SQL, at this past revision.
    Past(Revision),
    /// In both: here for the keys that keep no history, in SQL for the rest.
    Both(T, Revision),
}

struct Watcher {
    prefix: String,
    sender: mpsc::Sender<Change>,
    lagged: Arc<AtomicBool>,
}

/// A registered watcher's end.
pub(super) struct Subscription {
    /// The newest revision at registration: later changes arrive by `receiver`.
    pub(super) known: Revision,
    pub(super) receiver: mpsc::Receiver<Change>,
    /// Set before the channel closes, when it closes because it was full.
    pub(super) lagged: Arc<AtomicBool>,
}

struct State {
    keys: BTreeMap<String, Current>,
    revision: Revision,
    oldest: Revision,
    /// Revisions without a state, first and last.
    gaps: Vec<(Revision, Revision)>,
    recent: Recent,
    watchers: Vec<Watcher>,
    closed: bool,
}

/// The lock and what it guards.
pub(super) struct Memory {
    state: RwLock<State>,
    rules: Rules,
    watch_buffer: usize,
}

impl Memory {
    pub(super) fn new(loaded: Loaded, rules: Rules, watch_buffer: usize) -> Memory {
        let Loaded {
            keys,
            revision,
            oldest,
            gaps,
        } = loaded;
        Memory {
            state: RwLock::new(State {
                recent: Recent::new(revision),
                keys,
                revision,
                oldest,
                gaps,
                watchers: Vec::new(),
                closed: false,
            }),
            rules,
            watch_buffer: watch_buffer.max(1),
        }
    }

    /// How keys are kept.
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns revision, oldest revision, number of keys, number of watchers.
    pub(super) fn figures(&self) -> (Revision, Revision, u64, u64) {
        let state = self.state.read();
        (
            state.revision,
            state.oldest,
            state.keys.len() as u64,
            state.watchers.len() as u64,
        )
    }

    /// Fails when `revision` can no longer be read completely.
    pub(super) fn check_readable(&self, revision: Revision) -> Result<(), StoreError> {
        self.state.read().readable(revision)
    }

    pub(super) fn get(&self, key: &str, at: Option<Revision>) -> Result<Read<Option<KeyValue>>, StoreError> {
        let state = self.state.read();
        let current = state.keys.get(key);
        let past = state.past(at)?;
        match past {
            // What has not been written since is as it was.
            Some(past) if current.is_none_or(|current| current.modified > past) => {
                if self.rules.history(key) {
                    return Ok(Read::Past(past));
                }
                let keys = state.recently(key, past)?;
                Ok(Read::Here(keys.get(key).cloned()))
            }
            _ => Ok(Read::Here(current.map(|current| current.at(key)))),
        }
    }

    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Read<Page>, StoreError> {
        let state = self.state.read();
        let take = if limit == 0 { usize::MAX } else { limit };
        let Some(past) = state.past(at)? else {
            let mut entries = state.range(prefix, after);
            let items = entries
                .by_ref()
                .take(take)
                .map(|(key, current)| current.at(key))
                .collect();
            return Ok(Read::Here(Page {
                items,
                revision: state.revision,
                more: entries.next().is_some(),
            }));
        };
        let reach = self.rules.reach(prefix);
        if reach == Reach::All {
            return Ok(Read::Past(past));
        }
        let mut items: Vec<KeyValue> = state
            .recently(prefix, past)?
            .into_values()
            .filter(|found| !self.rules.history(&found.key) && after.is_none_or(|after| found.key.as_str() > after))
            .collect();
        let page = |items, more| Page {
            items,
            revision: past,
            more,
        };
        if reach == Reach::Some {
            return Ok(Read::Both(page(items, false), past));
        }
        let more = items.len() > take;
        items.truncate(take);
        Ok(Read::Here(page(items, more)))
    }

    /// Counts the keys of a prefix; of the past those that keep no history.
    pub(super) fn count(&self, prefix: &str, at: Option<Revision>) -> Result<Read<u64>, StoreError> {
        let state = self.state.read();
        let Some(past) = state.past(at)? else {
            return Ok(Read::Here(state.range(prefix, None).count() as u64));
        };
        let reach = self.rules.reach(prefix);
        if reach == Reach::All {
            return Ok(Read::Past(past));
        }
        let keys = state.recently(prefix, past)?;
        let count = keys.keys().filter(|key| !self.rules.history(key)).count() as u64;
        Ok(match reach {
            Reach::None => Read::Here(count),
            _ => Read::Both(count, past),
        })
    }

    /// The recent changes of keys of a prefix that keep no history in `(after, upto]`; fails when they are not all known.
    pub(super) fn recent(&self, prefix: &str, after: Revision, upto: Revision) -> Result<Vec<Change>, StoreError> {
        if self.rules.reach(prefix) == Reach::All {
            return Ok(Vec::new());
        }
        let state = self.state.read();
        state.known_since(after)?;
        Ok(state.recent.between(prefix, after, upto))
    }

    /// The keys of a prefix that were written last at or before a time in Unix milliseconds, and the longest unwritten ones beyond `most`.
    pub(super) fn stale(&self, prefix: &str, before: Option<i64>, most: Option<usize>) -> Vec<(String, Revision)> {
        let state = self.state.read();
        let mut keys: Vec<_> = state
            .range(prefix, None)
            .map(|(key, current)| (current.modified, current.at, key))
            .collect();
        keys.sort_unstable();
        let surplus = most.map_or(0, |most| keys.len().saturating_sub(most));
        keys.into_iter()
            .enumerate()
            .filter(|(index, (_, at, _))| *index < surplus || before.is_some_and(|before| *at <= before))
            .map(|(_, (modified, _, key))| (key.clone(), modified))
            .collect()
    }

    /// What a crash would lose: the keys whose value on disk is not their newest.
    pub(super) fn unsaved(&self) -> Vec<(String, Current)> {
        let state = self.state.read();
        let unsaved = state
            .keys
            .iter()
            .filter(|(_, current)| current.stored != current.modified);
        unsaved.map(|(key, current)| (key.clone(), current.clone())).collect()
    }

    /// Looks up what the writer decides against.
    pub(super) fn current(&self, key: &str) -> Option<Current> {
        self.state.read().keys.get(key).cloned()
    }

    /// Makes writes visible, in order, and hands them to the watchers.
    pub(super) fn apply(&self, rows: Vec<Row>) {
        let mut state = self.state.write();
        let state = &mut *state;
        for row in rows {
            debug_assert!(row.revision > state.revision, "revisions only grow");
            state.revision = row.revision;
            let change = match row.value {
                Some(value) => {
                    let current = Current {
                        value,
                        created: row.created,
                        modified: row.revision,
                        stored: match row.lasting {
                            Lasting::Memory(stored) => stored,
                            Lasting::History | Lasting::Newest(_) => row.revision,
                        },
                        at: row.at,
                    };
                    let after = current.at(&row.key);
                    let previous = state.keys.insert(row.key, current).map(|before| before.at(&after.key));
                    Change::Put {
                        current: after,
                        previous,
                    }
                }
                None => match state.keys.remove(&row.key) {
                    Some(before) => Change::Delete {
                        previous: before.at(&row.key),
                        revision: row.revision,
                    },
                    // The writer issues no deletion of what does not exist.
                    None => continue,
                },
            };
            state.watchers.retain(|watcher| watcher.hand(&change));
            if row.lasting != Lasting::History {
                state.recent.push(change);
            }
        }
    }

    /// Registers a watcher; what happened in `(from, known]` is the caller's to replay.
    pub(super) fn subscribe(&self, prefix: &str, from: Revision) -> Result<Subscription, StoreError> {
        let mut state = self.state.write();
        state.readable(from)?;
        if self.rules.reach(prefix) != Reach::All {
            state.known_since(from)?;
        }
        let (sender, receiver) = mpsc::channel(self.watch_buffer);
        let lagged = Arc::new(AtomicBool::new(false));
        state.watchers.retain(|watcher| !watcher.sender.is_closed());
        state.watchers.push(Watcher {
            prefix: prefix.to_owned(),
            sender,
            lagged: lagged.clone(),
        });
        Ok(Subscription {
            known: state.revision,
            receiver,
            lagged,
        })
    }

    /// Moves the horizon: nothing older than `oldest` is readable from here on.
    pub(super) fn forget_before(&self, oldest: Revision) {
        let mut state = self.state.write();
        state.oldest = state.oldest.max(oldest);
    }

    /// Ends every watch and every later read.
    pub(super) fn close(&self) {
        let mut state = self.state.write();
        state.closed = true;
        state.watchers.clear();
    }
}

impl State {
    fn readable(&self, revision: Revision) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::Closed);
        }
        if revision > self.revision {
            return Err(StoreError::Future {
                requested: revision,
                newest: self.revision,
            });
        }
        if revision < self.oldest {
            return Err(StoreError::Compacted {
                requested: revision,
                oldest: self.oldest,
            });
        }
        if let Some((_, last)) = self
            .gaps
            .iter()
            .find(|(first, last)| (*first..=*last).contains(&revision))
        {
            return Err(StoreError::Compacted {
                requested: revision,
                oldest: last + 1,
            });
        }
        Ok(())
    }

    /// Fails when changes after `revision` of keys that keep no history are not all known.
    fn known_since(&self, revision: Revision) -> Result<(), StoreError> {
        if revision >= self.recent.since() {
            return Ok(());
        }
        Err(StoreError::Compacted {
            requested: revision,
            oldest: self.recent.since(),
        })
    }

    /// The keys of a prefix as they were at a recent revision; right only for keys that keep no history.
    fn recently(&self, prefix: &str, at: Revision) -> Result<BTreeMap<String, KeyValue>, StoreError> {
        self.known_since(at)?;
        let mut keys = self
            .range(prefix, None)
            .map(|(key, current)| (key.clone(), current.at(key)))
            .collect();
        self.recent.undo(prefix, at, &mut keys);
        Ok(keys)
    }

    /// The keys of a prefix, after one of them when given.
    fn range<'s>(&'s self, prefix: &'s str, after: Option<&'s str>) -> impl Iterator<Item = (&'s String, &'s Current)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.keys
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Returns the past revision that `at` means, `None` for the present.
    fn past(&self, at: Option<Revision>) -> Result<Option<Revision>, StoreError> {
        let at = at.unwrap_or(self.revision);
        self.readable(at)?;
        Ok((at != self.revision).then_some(at))
    }
}

impl Watcher {
    /// Hands a change over; returns whether the watcher stays.
    fn hand(&self, change: &Change) -> bool {
        if !change.key().starts_with(&self.prefix) {
            return true;
        }
        match self.sender.try_send(change.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
        }
    }
}
