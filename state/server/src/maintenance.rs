//! What is done now and then without being asked: Events older than an hour are deleted.
//!
//! An Event's age is read from its revision: each minute the newest revision is noted, and what was not written since
//! the note of an hour ago is old. After a start the notes begin anew, so that Events live up to an hour longer.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use setpoint_store::Revision;

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
    let mut expiry = Expiry::new(MOST);
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        expiry.look(&Registry { inner }).await;
    }
}

/// The notes of the last hour.
struct Expiry {
    notes: VecDeque<Revision>,
    most: usize,
}

impl Expiry {
    fn new(most: usize) -> Expiry {
        Expiry {
            notes: VecDeque::with_capacity(OLD + 1),
            most,
        }
    }

    /// Notes the newest revision and deletes what is old by now.
    async fn look(&mut self, registry: &Registry) {
        let cache = registry.cache();
        self.notes.push_back(cache.revision());
        let limit = if self.notes.len() > OLD {
            self.notes.pop_front()
        } else {
            None
        };
        let mut events = cache.list(EVENTS, None);
        events.sort_unstable_by_key(|event| event.revision);
        let surplus = events.len().saturating_sub(self.most);
        let Some(row) = registry.scheme().any_version("", "events") else {
            return;
        };
        for (at, event) in events.iter().enumerate() {
            if at >= surplus && limit.is_none_or(|limit| event.revision > limit) {
                break;
            }
            if let Err(status) = registry::delete_as_system(registry, &row, &event.namespace, &event.name).await {
                tracing::warn!(event = %event.key, error = %status, "cannot delete an old Event");
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use setpoint_api::Scheme;
    use setpoint_store::{SqliteLog, SqliteOptions};

    use super::*;
    use crate::registry::RegistryConfig;

    async fn registry(dir: &tempfile::TempDir) -> Registry {
        let log = SqliteLog::open(&dir.path().join("state.db"), SqliteOptions::default())
            .await
            .expect("a store");
        Registry::start(RegistryConfig {
            log: Arc::new(log),
            scheme: Scheme::builtin(),
            now: Arc::new(|| "2024-01-01T00:00:00Z".parse().expect("a time")),
            service_cidr: "10.96.0.0/24".to_owned(),
            node_port_range: 30000..=30010,
            admission: Vec::new(),
            tokens: None,
            api_address: None,
        })
        .await
        .expect("a registry")
    }

    async fn event(registry: &Registry, name: &str) {
        let object = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
        assert!(registry.create_if_absent(object).await.expect("created"));
    }

    fn names(registry: &Registry) -> Vec<String> {
        let events = registry.cache().list(EVENTS, None);
        events.iter().map(|event| event.name.to_string()).collect()
    }

    #[tokio::test]
    async fn an_event_goes_an_hour_after_it_was_last_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let registry = registry(&dir).await;
        let mut expiry = Expiry::new(MOST);
        event(&registry, "old").await;
        for _ in 0..OLD / 2 {
            expiry.look(&registry).await;
        }
        event(&registry, "new").await;
        for _ in 0..OLD / 2 {
            expiry.look(&registry).await;
        }
        assert_eq!(names(&registry), ["new", "old"]);
        expiry.look(&registry).await;
        assert_eq!(names(&registry), ["new"]);
    }

    #[tokio::test]
    async fn too_many_events_push_out_the_oldest() {
        let dir = tempfile::tempdir().expect("a directory");
        let registry = registry(&dir).await;
        for name in ["c", "b", "a"] {
            event(&registry, name).await;
        }
        Expiry::new(2).look(&registry).await;
        assert_eq!(names(&registry), ["a", "b"]);
    }
}
