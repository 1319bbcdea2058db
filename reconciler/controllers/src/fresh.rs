//! Which writes of its own a controller must see in the cache before it decides again.
//!
//! This is what Kubernetes calls expectations, by revision instead of by count: after a write at revision `r` about a key, that
//! key is not decided again until the hub has applied `r`. The event that brings the hub there wakes the key as well.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::drive::Key;

/// After this long a write is no longer waited for: a list after a lost watch may have skipped its revision.
const PATIENCE: Duration = Duration::from_secs(5);

/// The revisions that are waited for, by key.
#[derive(Default)]
pub struct Freshness {
    floors: Mutex<HashMap<Key, (u64, Instant)>>,
}

impl Freshness {
    /// Notes a write about `key` at `revision`.
    pub fn wrote(&self, key: &Key, revision: u64) {
        let mut floors = self.floors.lock();
        let floor = floors.entry(key.clone()).or_insert((0, Instant::now()));
        *floor = (floor.0.max(revision), Instant::now());
    }

    /// Returns how long to wait for events at most when `key` cannot be decided yet; `None` when it can.
    pub fn stale(&self, key: &Key, seen: u64) -> Option<Duration> {
        let mut floors = self.floors.lock();
        let (floor, since) = *floors.get(key)?;
        let waited = since.elapsed();
        if seen >= floor || waited >= PATIENCE {
            floors.remove(key);
            return None;
        }
        Some(PATIENCE - waited)
    }

    /// Forgets a key that is gone.
    pub fn forget(&self, key: &Key) {
        self.floors.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_until_its_own_write_was_seen() {
        let fresh = Freshness::default();
        let key = Key::new("default", "web");
        assert!(fresh.stale(&key, 0).is_none());
        fresh.wrote(&key, 7);
        fresh.wrote(&key, 5);
        assert!(fresh.stale(&key, 6).is_some());
        assert!(fresh.stale(&key, 7).is_none());
        assert!(fresh.stale(&key, 0).is_none(), "it is settled then");
    }
}
