//! Events about pods, through the API: best effort, aggregated by count, never in the way of the work itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sources::REQUEST_LIMIT;
use crate::{Now, roles, status};

/// How many events may wait; more are dropped.
const QUEUE: usize = 512;
/// How many different events are remembered for counting.
const REMEMBERED: usize = 4096;
/// How long an event waits before it is written, so that it does not stand before the status in the line for the disk.
const LAG: Duration = Duration::from_millis(100);
/// A longer message is cut, as the API would refuse it.
const MESSAGE_LIMIT: usize = 1024;

/// Whether an event is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    name: String,
    uid: String,
    field: Option<String>,
    severity: Severity,
    reason: String,
    message: String,
}

/// Takes events and writes them in the background. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Noted>,
    now: Now,
}

/// An event and when it happened.
struct Noted {
    key: Key,
    at: Timestamp,
    due: Instant,
}

impl Recorder {
    /// Starts the writer, until `stop`.
    pub fn start(client: Client, node: String, now: Now, stop: CancellationToken) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            node,
            known: HashMap::new(),
        };
        tokio::spawn(writer.run(receiver, stop));
        Self { queue, now }
    }

    /// Notes an event about a pod, or about one of its containers.
    pub fn note(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let mut message: String = message.into();
        if message.len() > MESSAGE_LIMIT {
            let cut = (0..=MESSAGE_LIMIT)
                .rev()
                .find(|at| message.is_char_boundary(*at))
                .unwrap_or(0);
            message.truncate(cut);
        }
        let field = container.map(|name| {
            let role = roles::role(pod, name).unwrap_or(roles::Role::Main);
            format!("spec.{}{{{name}}}", role.list())
        });
        let key = Key {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            field,
            severity,
            reason: reason.to_owned(),
            message,
        };
        let noted = Noted {
            key,
            at: (self.now)(),
            due: Instant::now() + LAG,
        };
        if self.queue.try_send(noted).is_err() {
            tracing::debug!(reason, "an event was dropped, too many wait");
        }
    }
}

struct Writer {
    client: Client,
    node: String,
    known: HashMap<Arc<Key>, (String, i32)>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Noted>, stop: CancellationToken) {
        loop {
            let next = async {
                let noted = queue.recv().await?;
                tokio::time::sleep_until(noted.due).await;
                Some(noted)
            };
            let noted = tokio::select! {
                () = stop.cancelled() => return,
                noted = next => noted,
            };
            let Some(noted) = noted else { return };
            if let Ok(Err(error)) | Err(error) = tokio::time::timeout(REQUEST_LIMIT, self.write(noted.key, noted.at))
                .await
                .map(|result| result.map_err(|error| crate::containers::chain(&error)))
                .map_err(|_| "no answer in time".to_owned())
            {
                tracing::debug!(error, "an event could not be written");
            }
        }
    }

    async fn write(&mut self, key: Key, now: Timestamp) -> Result<(), kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        if let Some((name, count)) = self.known.get_mut(&key) {
            *count = count.saturating_add(1);
            let patch = json!({"count": count, "lastTimestamp": status::whole_seconds(now)});
            match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(answer)) if answer.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let time = status::whole_seconds(now);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}{:04x}",
                    key.name,
                    now.as_nanosecond(),
                    self.known.len()
                )),
                namespace: Some(key.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(key.namespace.clone()),
                name: Some(key.name.clone()),
                uid: Some(key.uid.clone()),
                field_path: key.field.clone(),
                resource_version: None,
            },
            type_: Some(match key.severity {
                Severity::Normal => "Normal".to_owned(),
                Severity::Warning => "Warning".to_owned(),
            }),
            reason: Some(key.reason.clone()),
            message: Some(key.message.clone()),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time),
            count: Some(1),
            ..Event::default()
        };
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        self.known.insert(Arc::new(key), (name, 1));
        Ok(())
    }
}
