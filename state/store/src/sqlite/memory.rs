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

use crate::log::{Change, KeyValue, Page, Revision, StoreError};

/// The present state of one key.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) value: Bytes,
    pub(super) created: Revision,
    pub(super) modified: Revision,
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

/// One row of the log, committed or about to be.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) revision: Revision,
    pub(super) key: String,
    pub(super) created: Revision,
    /// The write before this one of the same key's life; 0 when this row creates the key.
    pub(super) previous: Revision,
    /// `None` marks a deletion.
    pub(super) value: Option<Bytes>,
}

/// What is read from disk when a store opens.
pub(super) struct Loaded {
    pub(super) keys: BTreeMap<String, Current>,
    pub(super) revision: Revision,
    pub(super) oldest: Revision,
}

/// Where the answer to a read is.
pub(super) enum Read<T> {
    /// Here: the present was asked for.
    Present(T),
    /// In SQL, at this past revision.
    Past(Revision),
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
    watchers: Vec<Watcher>,
    closed: bool,
}

/// The lock and what it guards.
pub(super) struct Memory {
    state: RwLock<State>,
    watch_buffer: usize,
}

impl Memory {
    pub(super) fn new(loaded: Loaded, watch_buffer: usize) -> Memory {
        let Loaded { keys, revision, oldest } = loaded;
        Memory {
            state: RwLock::new(State {
                keys,
                revision,
                oldest,
                watchers: Vec::new(),
                closed: false,
            }),
            watch_buffer: watch_buffer.max(1),
        }
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
        if let Some(past) = state.past(at)? {
            return Ok(Read::Past(past));
        }
        Ok(Read::Present(state.keys.get(key).map(|current| current.at(key))))
    }

    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Read<Page>, StoreError> {
        let state = self.state.read();
        if let Some(past) = state.past(at)? {
            return Ok(Read::Past(past));
        }
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut entries = state
            .keys
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let take = if limit == 0 { usize::MAX } else { limit };
        let items = entries
            .by_ref()
            .take(take)
            .map(|(key, current)| current.at(key))
            .collect();
        Ok(Read::Present(Page {
            items,
            revision: state.revision,
            more: entries.next().is_some(),
        }))
    }

    /// Looks up what the writer decides against.
    pub(super) fn current(&self, key: &str) -> Option<Current> {
        self.state.read().keys.get(key).cloned()
    }

    /// Makes durable rows visible, in order, and hands them to the watchers.
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
        }
    }

    /// Registers a watcher; what happened in `(from, known]` is the caller's to replay.
    pub(super) fn subscribe(&self, prefix: &str, from: Revision) -> Result<Subscription, StoreError> {
        let mut state = self.state.write();
        state.readable(from)?;
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
        Ok(())
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
