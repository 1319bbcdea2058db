//! Where a watcher's events come from: the log while it is behind, then its kind's ring.

use std::sync::Arc;

use futures::StreamExt;
use setpoint_api::{Resource, Status};
use setpoint_store::{Change, KeyValue, Log, Revision, StoreError, WatchEvent, WatchStream};
use tokio::sync::watch;

use crate::cache::{Cache, Missed, ObjectEvent, Stored, split_key};
use crate::registry::from_store;

/// At most so many changes are taken at once.
const BATCH: usize = 64;

/// What came next.
pub(super) enum Next {
    /// Changes in order; may be empty.
    Events(Vec<Arc<ObjectEvent>>),
    /// The watch cannot go on from where it is.
    Failed(Status),
    /// The watch ends; the client comes back.
    End,
}

pub(super) struct Source {
    log: Arc<dyn Log>,
    cache: Arc<Cache>,
    resource: String,
    /// What the log's keys begin with that this watcher can see.
    prefix: String,
    row: Arc<Resource>,
    /// Everything up to here was handed on.
    position: Revision,
    changed: watch::Receiver<Revision>,
    /// The log's own stream, until the ring reaches back to the position.
    behind: Option<WatchStream>,
    started: bool,
}

impl Source {
    pub(super) fn new(
        log: Arc<dyn Log>,
        cache: Arc<Cache>,
        (resource, namespace): (String, Option<&str>),
        row: Arc<Resource>,
        position: Revision,
        changed: watch::Receiver<Revision>,
    ) -> Source {
        let prefix = match namespace {
            Some(namespace) => format!("{resource}/{namespace}/"),
            None => format!("{resource}/"),
        };
        Source {
            log,
            cache,
            prefix,
            resource,
            row,
            position,
            changed,
            behind: None,
            started: false,
        }
    }

    /// The revision up to which everything was handed on. Counts what is known not to concern the kind.
    pub(super) fn position(&mut self) -> Revision {
        if self.behind.is_none()
            && let Ok((events, through)) = self.cache.changes(&self.resource, self.position, 1)
            && events.is_empty()
        {
            self.position = through;
        }
        self.position
    }

    /// Waits for the next changes. Dropped between two of its waits, it has lost nothing.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if let Some(stream) = &mut self.behind {
                let Some(item) = stream.next().await else {
                    return Next::End;
                };
                match item {
                    Ok(item) => {
                        let events = match item {
                            WatchEvent::Change(change) => {
                                let event = self.event(change);
                                self.position = event.revision;
                                vec![event]
                            }
                            WatchEvent::Progress(revision) => {
                                self.position = self.position.max(revision);
                                Vec::new()
                            }
                        };
                        // Once the ring has all that comes next, it is the cheaper source.
                        if self.cache.changes(&self.resource, self.position, 1).is_ok() {
                            self.behind = None;
                        }
                        return Next::Events(events);
                    }
                    Err(StoreError::Compacted { requested, oldest }) => {
                        return Next::Failed(Status::too_old(requested, oldest));
                    }
                    Err(StoreError::WatchLagged { .. } | StoreError::Closed) => return Next::End,
                    Err(error) => return Next::Failed(from_store(&error)),
                }
            }
            self.changed.mark_unchanged();
            match self.cache.changes(&self.resource, self.position, BATCH) {
                Ok((events, through)) => {
                    self.started = true;
                    self.position = through;
                    if !events.is_empty() {
                        return Next::Events(events);
                    }
                }
                // It was in time once, and then read too slowly.
                Err(Missed { .. }) if self.started => return Next::End,
                Err(Missed { .. }) => {
                    match self.log.watch(&self.prefix, self.position).await {
                        Ok(stream) => {
                            self.started = true;
                            self.behind = Some(stream);
                        }
                        Err(StoreError::Compacted { requested, oldest }) => {
                            return Next::Failed(Status::too_old(requested, oldest));
                        }
                        Err(error) => return Next::Failed(from_store(&error)),
                    }
                    continue;
                }
            }
            if self.changed.changed().await.is_err() || !self.cache.is_live() {
                return Next::End;
            }
        }
    }

    fn event(&self, change: Change) -> Arc<ObjectEvent> {
        let stored = |kv: KeyValue| {
            let key = split_key(&kv.key).map_or(kv.key.as_str(), |(_, key)| key);
            // What is still there as it was written then was parsed already.
            if let Some((namespace, name)) = key.split_once('/')
                && let Some(current) = self.cache.get(&self.resource, namespace.trim_start_matches('-'), name)
                && current.revision == kv.modified
            {
                return current;
            }
            Arc::new(Stored::new(key, kv.modified, kv.value.clone(), Some(&self.row)))
        };
        Arc::new(match change {
            Change::Put { current, previous } => {
                ObjectEvent::new(current.modified, Some(stored(current)), previous.map(stored))
            }
            Change::Delete { previous, revision } => ObjectEvent::new(revision, None, Some(stored(previous))),
        })
    }
}
