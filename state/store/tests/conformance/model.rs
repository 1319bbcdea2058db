//! The simplest engine: every state that there ever was, in memory, under one lock.
//!
//! It is held to the suite as the others are. What it passes can be asked of an engine; what it had to be taught is what the contract says.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use parking_lot::Mutex;
use setpoint_store::{
    Change, Changes, Expect, KeyValue, Log, Moment, Page, Revision, Rule, StoreError, WatchEvent, WatchStream, Window,
};
use tokio::sync::watch;

use crate::engine::{Clock, Engine, Running, Settings, Traits};

/// How many revisions of keys without history it remembers.
const RECENT: u64 = 2000;

/// The model as an engine.
pub struct Model;

struct Open(Arc<ModelLog>);

#[async_trait(?Send)]
impl Engine for Model {
    fn traits(&self) -> Traits {
        Traits {
            survives_reopen: false,
            rules: true,
            times: true,
            parts: true,
            any_prefix: true,
        }
    }

    async fn start(&self, settings: Settings) -> Box<dyn Running> {
        Box::new(Open(Arc::new(ModelLog::new(settings))))
    }
}

#[async_trait(?Send)]
impl Running for Open {
    fn log(&self) -> Arc<dyn Log> {
        self.0.clone()
    }

    async fn reopen(&mut self) {
        unreachable!("the model keeps nothing: its traits say so");
    }
}

#[derive(Default)]
struct State {
    /// Every change with its time, revision `n` at index `n - 1`.
    changes: Vec<(Option<Timestamp>, Change)>,
    oldest: Revision,
    keys: BTreeMap<String, KeyValue>,
    /// When each key was written last.
    written: BTreeMap<String, (Timestamp, Revision)>,
}

struct ModelLog {
    settings: Settings,
    state: Arc<Mutex<State>>,
    newest: watch::Sender<Revision>,
}

impl State {
    fn newest(&self) -> Revision {
        self.changes.len() as Revision
    }

    fn readable(&self, rules: &[Rule], prefix: &str, at: Revision) -> Result<(), StoreError> {
        if at > self.newest() {
            return Err(StoreError::Future {
                requested: at,
                newest: self.newest(),
            });
        }
        let touches = |rule: &Rule| rule.prefix.starts_with(prefix) || prefix.starts_with(&rule.prefix);
        let recent = self.newest().saturating_sub(RECENT);
        let oldest = if rules.iter().any(|rule| !rule.history && touches(rule)) {
            self.oldest.max(recent)
        } else {
            self.oldest
        };
        if at < oldest {
            return Err(StoreError::Compacted { requested: at, oldest });
        }
        Ok(())
    }

    fn at(&self, revision: Revision) -> BTreeMap<String, KeyValue> {
        let mut keys = BTreeMap::new();
        for (_, change) in self.changes.iter().take(revision as usize) {
            match change {
                Change::Put { current, .. } => keys.insert(current.key.clone(), current.clone()),
                Change::Delete { previous, .. } => keys.remove(&previous.key),
            };
        }
        keys
    }

    fn write(
        &mut self,
        key: &str,
        value: Option<Bytes>,
        expect: Expect,
        now: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let found = self.keys.get(key).cloned();
        let holds = match (expect, &found) {
            (Expect::Any, found) => value.is_some() || found.is_some(),
            (Expect::Absent, found) => found.is_none() && value.is_some(),
            (Expect::Revision(wanted), found) => found.as_ref().is_some_and(|found| found.modified == wanted),
        };
        if !holds {
            return Err(StoreError::Conflict {
                key: key.to_owned(),
                current: found,
            });
        }
        let revision = self.newest() + 1;
        let change = match (value, found) {
            (Some(value), found) => {
                let current = KeyValue {
                    key: key.to_owned(),
                    value,
                    created: found.as_ref().map_or(revision, |found| found.created),
                    modified: revision,
                };
                self.keys.insert(key.to_owned(), current.clone());
                self.written
                    .insert(key.to_owned(), (now.unwrap_or(Timestamp::UNIX_EPOCH), revision));
                Change::Put {
                    current,
                    previous: found,
                }
            }
            (None, Some(previous)) => {
                self.keys.remove(key);
                self.written.remove(key);
                Change::Delete { previous, revision }
            }
            (None, None) => unreachable!("refused above"),
        };
        self.changes.push((now, change));
        Ok(())
    }

    /// Deletes what the rules no longer want.
    fn tidy(&mut self, rules: &[Rule], now: Option<Timestamp>) {
        for rule in rules {
            let mut keys: Vec<(Revision, Timestamp, String)> = self
                .written
                .iter()
                .filter(|(key, _)| key.starts_with(&rule.prefix))
                .map(|(key, (at, revision))| (*revision, *at, key.clone()))
                .collect();
            keys.sort();
            let surplus = rule.at_most.map_or(0, |most| keys.len().saturating_sub(most));
            for (index, (_, at, key)) in keys.into_iter().enumerate() {
                let age = now.map_or(0, |now| now.duration_since(at).as_secs());
                let expired = rule.expire.is_some_and(|expire| age >= expire.as_secs() as i64);
                if index < surplus || expired {
                    self.write(&key, None, Expect::Any, now).expect("it is there");
                }
            }
        }
    }
}

impl ModelLog {
    fn new(settings: Settings) -> ModelLog {
        ModelLog {
            settings,
            state: Arc::default(),
            newest: watch::channel(0).0,
        }
    }

    fn write(&self, key: &str, value: Option<Bytes>, expect: Expect) -> Result<Revision, StoreError> {
        let now = self.settings.clock.as_ref().map(Clock::now);
        let mut state = self.state.lock();
        state.write(key, value, expect, now)?;
        let revision = state.newest();
        state.tidy(&self.settings.rules, now);
        self.newest.send_replace(state.newest());
        Ok(revision)
    }
}

#[async_trait]
impl Log for ModelLog {
    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, StoreError> {
        let state = self.state.lock();
        let Some(at) = at.filter(|at| *at != state.newest()) else {
            return Ok(state.keys.get(key).cloned());
        };
        state.readable(&self.settings.rules, key, at)?;
        Ok(state.at(at).remove(key))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let state = self.state.lock();
        let revision = at.unwrap_or(state.newest());
        if revision != state.newest() {
            state.readable(&self.settings.rules, prefix, revision)?;
        }
        let keys = if revision == state.newest() {
            state.keys.clone()
        } else {
            state.at(revision)
        };
        let mut items: Vec<KeyValue> = keys
            .into_values()
            .filter(|kv| kv.key.starts_with(prefix) && after.is_none_or(|after| kv.key.as_str() > after))
            .collect();
        let more = limit != 0 && items.len() > limit;
        if more {
            items.truncate(limit);
        }
        Ok(Page { items, revision, more })
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.write(key, Some(value), expect)
    }

    async fn count(&self, prefix: &str, at: Option<Revision>) -> Result<u64, StoreError> {
        Ok(self.list(prefix, None, 0, at).await?.items.len() as u64)
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Revision, StoreError> {
        self.write(key, None, expect)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let known = {
            let state = self.state.lock();
            if from != state.newest() {
                state.readable(&self.settings.rules, prefix, from)?;
            }
            state.newest()
        };
        let (state, prefix, newest) = (self.state.clone(), prefix.to_owned(), self.newest.subscribe());
        let next = move |(mut position, mut told, mut newest): (Revision, bool, watch::Receiver<Revision>)| {
            let (state, prefix) = (state.clone(), prefix.clone());
            async move {
                loop {
                    let change = state.lock().changes.get(position as usize).cloned();
                    if position >= known && !told {
                        told = true;
                        return Some((Ok(WatchEvent::Progress(position)), (position, told, newest)));
                    }
                    match change {
                        Some((_, change)) => {
                            position += 1;
                            if change.key().starts_with(&prefix) {
                                return Some((Ok(WatchEvent::Change(change)), (position, told, newest)));
                            }
                        }
                        None => newest.wait_for(|newest| *newest > position).await.map(drop).ok()?,
                    }
                }
            }
        };
        Ok(stream::unfold((from, false, newest), next).boxed())
    }

    async fn changes(
        &self,
        prefix: &str,
        after: Revision,
        upto: Revision,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        let state = self.state.lock();
        state.readable(&[], prefix, after)?;
        let silent = |key: &str| {
            let mut rules = self.settings.rules.iter();
            rules.any(|rule| !rule.history && key.starts_with(&rule.prefix))
        };
        let upto = upto.min(state.newest());
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut changes: Vec<(Option<Timestamp>, Change)> = state
            .changes
            .iter()
            .filter(|(_, change)| change.revision() > after && change.revision() <= upto)
            .filter(|(_, change)| change.key().starts_with(prefix) && !silent(change.key()))
            .cloned()
            .collect();
        let upto = match changes.get(limit) {
            Some((_, beyond)) => beyond.revision() - 1,
            None => upto,
        };
        changes.truncate(limit);
        Ok(Changes { changes, upto })
    }

    async fn moment(&self, time: Timestamp) -> Result<Option<Moment>, StoreError> {
        let state = self.state.lock();
        let by_then = state.changes.iter().rev().find_map(|(at, change)| {
            let at = at.filter(|at| *at <= time)?;
            Some(Moment {
                revision: change.revision(),
                at,
            })
        });
        Ok(by_then.filter(|moment| moment.revision >= state.oldest))
    }

    async fn window(&self) -> Result<Window, StoreError> {
        let state = self.state.lock();
        let keys: HashSet<&str> = state.changes.iter().map(|(_, change)| change.key()).collect();
        Ok(Window {
            newest: state.newest(),
            oldest: state.oldest,
            since: (state.oldest as usize)
                .checked_sub(1)
                .and_then(|index| state.changes[index].0),
            bytes: keys.len() as u64,
            keep_bytes: 0,
            keep_age: std::time::Duration::ZERO,
        })
    }

    async fn compact(&self, keep_from: Revision) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if keep_from > state.newest() {
            return Err(StoreError::Future {
                requested: keep_from,
                newest: state.newest(),
            });
        }
        state.oldest = state.oldest.max(keep_from);
        Ok(())
    }

    fn revision(&self) -> Revision {
        self.state.lock().newest()
    }
}
