//! A watch that notes the moment at which each state of an object arrives, whatever is waited for meanwhile.

use std::fmt::Debug;
use std::time::Instant;

use anyhow::Context;
use futures::StreamExt;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::ApiResource;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::instance::DEADLINE;

/// A watch on objects of a kind; it ends when this is dropped.
pub struct Watch<K> {
    arrived: UnboundedReceiver<(Instant, K)>,
    task: JoinHandle<()>,
}

impl<K> Watch<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Clone,
{
    /// Begins to watch; objects that are there already arrive first.
    pub fn start(api: Api<K>, labels: &str) -> Watch<K> {
        let mut config = watcher::Config::default();
        if !labels.is_empty() {
            config = config.labels(labels);
        }
        let mut events = watcher(api, config).default_backoff().boxed();
        let (send, arrived) = unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        if send.send((Instant::now(), object)).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => eprintln!("a watch begins anew, which the run under way pays for: {error}"),
                }
            }
        });
        Watch { arrived, task }
    }

    /// Waits until an object arrives that is as wanted; returns the moment at which it did, and the object.
    pub async fn until(&mut self, what: &str, mut wanted: impl FnMut(&K) -> bool) -> anyhow::Result<(Instant, K)> {
        let look = async {
            while let Some((moment, object)) = self.arrived.recv().await {
                if wanted(&object) {
                    return Ok((moment, object));
                }
            }
            anyhow::bail!("the watch ended")
        };
        tokio::time::timeout(DEADLINE, look)
            .await
            .with_context(|| format!("waited too long until {what}"))?
    }

    /// Forgets what has arrived; returns how much that was.
    pub fn skip(&mut self) -> usize {
        let mut count = 0;
        while self.arrived.try_recv().is_ok() {
            count += 1;
        }
        count
    }
}

impl<K> Drop for Watch<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The metadata of objects of any kind.
pub type Metadata = PartialObjectMeta<DynamicObject>;

/// Watches objects of a kind in a namespace of which only the metadata matters.
pub fn metadata(client: &Client, namespace: &str, kind: &ApiResource) -> Watch<Metadata> {
    Watch::start(Api::namespaced_with(client.clone(), namespace, kind), "")
}
