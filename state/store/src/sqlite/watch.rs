//! A watch: first the past from SQL, then live changes from the writer, joined without gap or duplicate.
//!
//! The watcher is registered first, which fixes the revision `known`: everything up to it is replayed, everything after it
//! arrives by the channel. While the replay runs, the channel's bound holds as well.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use futures::stream;

use super::Shared;
use super::memory::Subscription;
use super::past;
use crate::log::{Change, Revision, StoreError, WatchEvent, WatchStream};

struct Watch {
    shared: Arc<Shared>,
    prefix: String,
    subscription: Subscription,
    /// Read from SQL but not delivered yet.
    ready: VecDeque<Change>,
    /// Everything of the prefix up to here was delivered or is in `ready`.
    position: Revision,
    /// Whether it was said that the past is through.
    caught_up: bool,
    ended: bool,
}

/// Registers a watch of `prefix` after `from`.
pub(super) fn start(shared: Arc<Shared>, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
    let subscription = shared.memory.subscribe(prefix, from)?;
    let watch = Watch {
        shared,
        prefix: prefix.to_owned(),
        subscription,
        ready: VecDeque::new(),
        position: from,
        caught_up: false,
        ended: false,
    };
    Ok(stream::unfold(watch, Watch::next).boxed())
}

impl Watch {
    async fn next(mut self) -> Option<(Result<WatchEvent, StoreError>, Watch)> {
        if self.ended {
            return None;
        }
        let item = self.advance().await;
        self.ended = item.is_err();
        Some((item, self))
    }

    async fn advance(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(WatchEvent::Change(change));
            }
            if self.position >= self.subscription.known {
                break;
            }
            let known = self.subscription.known;
            let replayed = past::replay(&self.shared, &self.prefix, self.position, known, 0).await?;
            let recent = self.shared.memory.recent(&self.prefix, self.position, replayed.upto)?;
            let mut changes: Vec<Change> = replayed.changes.into_iter().map(|(_, change)| change).collect();
            changes.extend(recent);
            changes.sort_by_key(Change::revision);
            self.position = replayed.upto;
            self.ready = changes.into();
        }
        if !self.caught_up {
            self.caught_up = true;
            return Ok(WatchEvent::Progress(self.position));
        }
        match self.subscription.receiver.recv().await {
            Some(change) => {
                self.position = change.revision();
                Ok(WatchEvent::Change(change))
            }
            None if self.subscription.lagged.load(Ordering::Acquire) => {
                Err(StoreError::WatchLagged { at: self.position })
            }
            None => Err(StoreError::Closed),
        }
    }
}
