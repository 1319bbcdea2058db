//! One watch per kind, shared by all controllers: the objects as last seen, and callbacks on each change.
//!
//! kube-runtime's shared reflectors announce no deletions, and a pod that vanishes must be replaced at once; so the hub
//! drives kube-runtime's watcher and store itself and announces those too.
//!
//! Order: the store holds a change before its listeners hear of it. [`Hub::seen`] is the newest revision applied: since
//! revisions grow across the cluster, a controller that wrote at revision `r` knows that the store holds its own write as soon as
//! `seen() >= r`. That is what keeps a stale cache from creating too much.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;

use crate::cluster::revision;
use crate::error::Error;

/// What a hub can hold; which kinds do, and how little of each, stands in the module `held`.
pub trait Held: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static {
    /// Removes what no controller reads, before the object is kept.
    fn slim(&mut self) {}

    /// Returns where objects are watched: everywhere.
    fn api(client: Client) -> Api<Self> {
        Api::all(client)
    }

    /// Returns which objects are watched: all.
    fn wanted() -> watcher::Config {
        watcher::Config::default().any_semantic()
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is there, new or changed.
    Applied,
    /// It is no longer there.
    Gone,
}

/// Called with each change, the state before it included; must not block.
pub type Listener<K> = Box<dyn Fn(&Arc<K>, Option<&Arc<K>>, Seen) + Send + Sync>;

/// A copy of the whole object that kubectl keeps; no controller reads it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

type Namespaced<K> = HashMap<String, BTreeMap<String, Arc<K>>>;

/// The objects of one kind as last seen.
pub struct Hub<K: Held> {
    store: Store<K>,
    by_namespace: RwLock<Namespaced<K>>,
    seen: AtomicU64,
}

impl<K: Held> Hub<K> {
    /// Returns the objects as a store of kube-runtime.
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// Returns one object.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        self.by_namespace
            .read()
            .get(namespace.unwrap_or_default())?
            .get(name)
            .cloned()
    }

    /// Returns the objects of a namespace in order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.by_namespace
            .read()
            .get(namespace)
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Returns all objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.by_namespace
            .read()
            .values()
            .flat_map(|objects| objects.values().cloned())
            .collect()
    }

    /// Returns the newest revision that the hub has applied.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    fn insert(&self, object: &Arc<K>) -> Option<Arc<K>> {
        let mut namespaces = self.by_namespace.write();
        let previous = namespaces
            .entry(object.meta().namespace.clone().unwrap_or_default())
            .or_default()
            .insert(object.name_any(), object.clone());
        drop(namespaces);
        self.seen.fetch_max(revision(object.meta()), Ordering::AcqRel);
        previous
    }

    fn remove(&self, object: &K) -> Option<Arc<K>> {
        let mut namespaces = self.by_namespace.write();
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let objects = namespaces.get_mut(&namespace)?;
        let removed = objects.remove(&object.name_any());
        if objects.is_empty() {
            namespaces.remove(&namespace);
        }
        drop(namespaces);
        self.seen.fetch_max(revision(object.meta()), Ordering::AcqRel);
        removed
    }
}

/// A hub before its watch runs: listeners are added here.
pub struct Opening<K: Held> {
    hub: Arc<Hub<K>>,
    writer: Writer<K>,
    listeners: Vec<Listener<K>>,
}

impl<K: Held> Default for Opening<K> {
    fn default() -> Opening<K> {
        Opening::new()
    }
}

impl<K: Held> Opening<K> {
    /// Prepares a hub.
    pub fn new() -> Opening<K> {
        let writer = Writer::new(());
        let hub = Hub {
            store: writer.as_reader(),
            by_namespace: RwLock::default(),
            seen: AtomicU64::new(0),
        };
        Opening {
            hub: Arc::new(hub),
            writer,
            listeners: Vec::new(),
        }
    }

    /// Returns the hub that will fill.
    pub fn hub(&self) -> Arc<Hub<K>> {
        self.hub.clone()
    }

    /// Adds a callback.
    pub fn listen(&mut self, listener: impl Fn(&Arc<K>, Option<&Arc<K>>, Seen) + Send + Sync + 'static) {
        self.listeners.push(Box::new(listener));
    }

    /// Watches until the task is dropped.
    pub async fn run(mut self, api: Api<K>, config: watcher::Config) {
        let mut events = watcher(api, config)
            .modify(move |object| {
                object.meta_mut().managed_fields = None;
                object.annotations_mut().remove(LAST_APPLIED);
                object.slim();
            })
            .default_backoff()
            .boxed();
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let kind = K::kind(&());
                    tracing::warn!(kind = %kind, error = &error as &dyn std::error::Error, "a watch failed and starts again");
                    continue;
                }
            };
            self.writer.apply_watcher_event(&event);
            match event {
                watcher::Event::Apply(object) => self.applied(&ObjectRef::from_obj(&object)),
                watcher::Event::Delete(object) => {
                    self.hub.remove(&object);
                    let object = Arc::new(object);
                    self.announce(&object, Some(&object), Seen::Gone);
                }
                watcher::Event::Init | watcher::Event::InitApply(_) => {}
                watcher::Event::InitDone => self.relisted(),
            }
        }
    }

    fn applied(&self, reference: &ObjectRef<K>) {
        if let Some(object) = self.hub.store.get(reference) {
            let previous = self.hub.insert(&object);
            self.announce(&object, previous.as_ref(), Seen::Applied);
        }
    }

    /// Announces what a list found, and what it no longer found.
    fn relisted(&self) {
        let listed = self.hub.store.state();
        let gone: Vec<Arc<K>> = {
            let mut namespaces = self.hub.by_namespace.write();
            let mut before = std::mem::take(&mut *namespaces);
            for object in &listed {
                let namespace = object.meta().namespace.clone().unwrap_or_default();
                if let Some(objects) = before.get_mut(&namespace) {
                    objects.remove(&object.name_any());
                }
                namespaces
                    .entry(namespace)
                    .or_default()
                    .insert(object.name_any(), object.clone());
                self.hub.seen.fetch_max(revision(object.meta()), Ordering::AcqRel);
            }
            before.into_values().flat_map(BTreeMap::into_values).collect()
        };
        for object in &listed {
            self.announce(object, None, Seen::Applied);
        }
        for object in &gone {
            self.announce(object, Some(object), Seen::Gone);
        }
    }

    fn announce(&self, object: &Arc<K>, previous: Option<&Arc<K>>, seen: Seen) {
        for listener in &self.listeners {
            listener(object, previous, seen);
        }
    }
}

/// Waits until the hub holds a first list.
pub async fn ready<K: Held>(hub: &Hub<K>) -> Result<(), Error> {
    hub.store.wait_until_ready().await.map_err(|_| Error::WatchEnded {
        kind: K::kind(&()).into_owned(),
    })
}
