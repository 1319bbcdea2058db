//! Events (core/v1): what `kubectl describe` shows below an object.
//!
//! Recording never delays a reconcile: events pass through a bounded queue to one task. The same event again counts up
//! the one that is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource, ResourceExt as _};
use serde_json::json;
use tokio::sync::mpsc;

use crate::cluster::{Cluster, Kind};
use crate::config::Now;

/// How many events may wait.
const QUEUE: usize = 1024;
/// How many events are remembered so that they can be counted up.
const REMEMBERED: usize = 1024;

/// Whether an event is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// As it should be.
    Normal,
    /// Something that a person may want to look at.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    uid: String,
    level: Level,
    reason: &'static str,
    message: String,
}

struct Message {
    about: ObjectReference,
    component: &'static str,
    identity: Identity,
}

/// Records events. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the task that writes; it ends when the last recorder is dropped.
    pub fn start(cluster: Cluster, now: Now) -> Recorder {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(write(cluster, now, receiver));
        Recorder {
            sender,
            dropped: Arc::default(),
        }
    }

    /// Records an event about `object`.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        level: Level,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let about = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(object.name_any()),
            namespace: object.namespace(),
            uid: object.uid(),
            resource_version: object.resource_version(),
            field_path: None,
        };
        let identity = Identity {
            uid: about.uid.clone().unwrap_or_default(),
            level,
            reason,
            message: message.into(),
        };
        if self
            .sender
            .try_send(Message {
                about,
                component,
                identity,
            })
            .is_err()
        {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(dropped, "an event was dropped: too many wait");
        }
    }
}

struct Remembered {
    namespace: String,
    name: String,
    count: i32,
}

async fn write(cluster: Cluster, now: Now, mut messages: mpsc::Receiver<Message>) {
    let kind = Kind::of::<Event>();
    let mut known: HashMap<Identity, Remembered> = HashMap::new();
    let mut serial: u64 = 0;
    while let Some(Message {
        about,
        component,
        identity,
    }) = messages.recv().await
    {
        let at = now();
        if let Some(seen) = known.get_mut(&identity) {
            seen.count += 1;
            let patch = json!({ "count": seen.count, "lastTimestamp": Time(at) });
            match cluster
                .patch(&kind, Some(&seen.namespace), &seen.name, None, &patch)
                .await
            {
                Ok(_) => continue,
                // It has expired: write it anew.
                Err(error) if error.is_not_found() => {
                    known.remove(&identity);
                }
                Err(error) => {
                    tracing::debug!(error = error.reason_text(), "cannot count an event up");
                    continue;
                }
            }
        }
        serial += 1;
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let name = format!(
            "{}.{:x}",
            about.name.as_deref().unwrap_or_default(),
            at.as_nanosecond() as u64 ^ (serial << 52)
        );
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: about,
            reason: Some(identity.reason.to_owned()),
            message: Some(identity.message.clone()),
            type_: Some(
                match identity.level {
                    Level::Normal => "Normal",
                    Level::Warning => "Warning",
                }
                .to_owned(),
            ),
            count: Some(1),
            first_timestamp: Some(Time(at)),
            last_timestamp: Some(Time(at)),
            source: Some(EventSource {
                component: Some(component.to_owned()),
                host: None,
            }),
            reporting_component: Some(component.to_owned()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        match cluster.create(&kind, Some(&namespace), &event).await {
            Ok(_) => {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(
                    identity,
                    Remembered {
                        namespace,
                        name,
                        count: 1,
                    },
                );
            }
            // A namespace that goes away takes no more events: nothing is lost by that.
            Err(error) => tracing::debug!(error = error.reason_text(), "cannot write an event"),
        }
    }
}
