//! Hearing of ConfigMaps and Secrets that change: those that the node's pods refer to, each by a watch of its own.
//!
//! A node may not see others, so that there is no watch of all. A watch lasts as long as somebody follows the object
//! ([`Following`]); what it tells is a name, the content is read by whom it concerns.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::References;

/// How many changes a receiver may be behind before it has to look at everything again.
const BEHIND: usize = 1024;

/// An object that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A ConfigMap.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A Secret.
    Secret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Change {
    /// Returns the namespace of what changed.
    pub fn namespace(&self) -> &str {
        match self {
            Self::ConfigMap { namespace, .. } | Self::Secret { namespace, .. } => namespace,
        }
    }
}

/// How many follow an object, and what ends its watch.
struct Watched {
    followers: usize,
    stop: CancellationToken,
}

struct Inner {
    /// `None` hears of nothing by itself.
    client: Option<Client>,
    sender: broadcast::Sender<Change>,
    watched: Mutex<HashMap<Change, Watched>>,
    stop: CancellationToken,
}

/// Tells of changes of what is followed. Cheap to clone.
#[derive(Clone)]
pub struct Changes {
    inner: Arc<Inner>,
}

impl Changes {
    /// Follows nothing yet; every watch ends with `stop`. Without a client only [`Changes::tell`] tells.
    pub fn new(client: Option<Client>, stop: CancellationToken) -> Self {
        let inner = Inner {
            client,
            sender: broadcast::channel(BEHIND).0,
            watched: Mutex::default(),
            stop,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Hears what is told from now on. A receiver that falls behind has to look at everything again.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.sender.subscribe()
    }

    /// Tells of a change.
    pub fn tell(&self, change: Change) {
        // Nobody listening is fine: the pods that it concerned are gone.
        drop(self.inner.sender.send(change));
    }

    /// Watches what is referred to in a namespace until the answer is dropped.
    pub fn follow(&self, namespace: &str, references: &References) -> Following {
        let maps = references.config_maps.iter().map(|name| Change::ConfigMap {
            namespace: namespace.to_owned(),
            name: name.clone(),
        });
        let secrets = references.secrets.iter().map(|name| Change::Secret {
            namespace: namespace.to_owned(),
            name: name.clone(),
        });
        let objects: Vec<Change> = maps.chain(secrets).collect();
        let mut watched = self.inner.watched.lock();
        for object in &objects {
            let entry = watched.entry(object.clone()).or_insert_with(|| {
                let stop = self.inner.stop.child_token();
                self.watch(object, stop.clone());
                Watched { followers: 0, stop }
            });
            entry.followers += 1;
        }
        drop(watched);
        Following {
            changes: self.clone(),
            objects,
        }
    }

    fn watch(&self, object: &Change, stop: CancellationToken) {
        let Some(client) = self.inner.client.clone() else {
            return;
        };
        let (changes, told) = (self.clone(), object.clone());
        match object {
            Change::ConfigMap { namespace, name } => {
                let api: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, namespace);
                tokio::spawn(forward(api, name.clone(), changes, told, stop));
            }
            Change::Secret { namespace, name } => {
                let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, namespace);
                tokio::spawn(forward(api, name.clone(), changes, told, stop));
            }
        }
    }

    /// How many objects are watched.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.inner.watched.lock().len()
    }
}

/// Objects that are watched as long as this lives.
pub struct Following {
    changes: Changes,
    objects: Vec<Change>,
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut watched = self.changes.inner.watched.lock();
        for object in &self.objects {
            let Some(entry) = watched.get_mut(object) else { continue };
            entry.followers = entry.followers.saturating_sub(1);
            if entry.followers == 0 {
                entry.stop.cancel();
                watched.remove(object);
            }
        }
    }
}

async fn forward<K>(
    api: Api<PartialObjectMeta<K>>,
    name: String,
    changes: Changes,
    change: Change,
    stop: CancellationToken,
) where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(api, config).default_backoff();
    let mut events = std::pin::pin!(events);
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            // That it is there is news, too: whoever read before the watch began may have read what was before.
            Some(Ok(watcher::Event::Apply(_) | watcher::Event::InitApply(_) | watcher::Event::Delete(_))) => {
                changes.tell(change.clone());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::debug!(
                ?change,
                error = crate::containers::chain(&error),
                "the watch of an object broke off, it is taken up again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_watched_once_until_the_last_who_follows_it_is_gone() {
        let changes = Changes::new(None, CancellationToken::new());
        let references = |secrets: &[&str]| References {
            secrets: secrets.iter().map(|&name| name.to_owned()).collect(),
            ..References::default()
        };
        let first = changes.follow("a", &references(&["x", "y"]));
        let second = changes.follow("a", &references(&["x"]));
        let elsewhere = changes.follow("b", &references(&["x"]));
        assert_eq!(changes.count(), 3);
        drop(first);
        assert_eq!(changes.count(), 2);
        drop((second, elsewhere));
        assert_eq!(changes.count(), 0);
    }
}
