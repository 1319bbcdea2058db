//! What is done now and then without being asked: Events older than an hour are deleted.
//!
//! An Event's age is read from its revision: each minute the newest revision is noted, and what was not written since
//! the note of an hour ago is old. After a start the notes begin anew, so that Events live up to an hour longer.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use crate::registry::{self, Inner, Registry};

/// The kind of Events in cache and log.
const EVENTS: &str = "core/events";
/// How often is looked; nothing tells when an Event grows old.
const EVERY: Duration = Duration::from_secs(60);
/// How many looks ago is old.
const OLD: usize = 60;
/// Not more Events than this are kept, whatever their age.
const MOST: usize = 10_000;

/// Deletes old Events until the registry is gone.
pub(crate) async fn expire_events(inner: Weak<Inner>) {
    let mut notes = VecDeque::with_capacity(OLD + 1);
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(strong) = inner.upgrade() else { return };
        let registry = Registry { inner: strong };
        let cache = registry.cache();
        notes.push_back(cache.revision());
        let limit = if notes.len() > OLD { notes.pop_front() } else { None };
        let mut events = cache.list(EVENTS, None);
        events.sort_unstable_by_key(|event| event.revision);
        let surplus = events.len().saturating_sub(MOST);
        let Some(row) = registry.scheme().any_version("", "events") else {
            continue;
        };
        for (at, event) in events.iter().enumerate() {
            if at >= surplus && limit.is_none_or(|limit| event.revision > limit) {
                break;
            }
            if let Err(status) = registry::delete_as_system(&registry, &row, &event.namespace, &event.name).await {
                tracing::warn!(event = %event.key, error = %status, "cannot delete an old Event");
                break;
            }
        }
    }
}
