//! What controllers are put together from: hubs, queues, loops.
//!
//! A controller's `wire` says what wakes it ([`Wiring::listen`]) and hands over its loop ([`Wiring::drive`], [`Wiring::spawn`]). A kind
//! that any of them reads is watched once; the loops begin when every kind's first list is in, so that nothing is decided on
//! half a picture.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::config::ControllersConfig;
use crate::drive::{Key, Reconcile, Trigger, Triggers, drive, queue};
use crate::error::Error;
use crate::events::Recorder;
use crate::hub::{Held, Hub, Opening, Seen, ready};
use crate::kinds::Kinds;
use crate::metrics::{ControllerMetrics, Metrics};
use crate::pods;

/// Told of each object, of whatever kind, that is gone: with its namespace.
type OnDeparture = Box<dyn Fn(&str) + Send + Sync>;

/// Who wants to know that something is gone from a namespace.
#[derive(Default)]
pub struct Departures {
    listeners: RwLock<Vec<OnDeparture>>,
}

impl Departures {
    /// Adds a callback; must not block.
    pub fn listen(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        self.listeners.write().push(Box::new(listener));
    }

    /// Says that an object of `namespace` is gone.
    pub fn announce(&self, namespace: &str) {
        for listener in &*self.listeners.read() {
            listener(namespace);
        }
    }
}

/// The watch of a kind before it runs, whatever the kind.
trait Watched: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    /// Returns what resolves with the first list, and the watch itself.
    fn open(self: Box<Self>, client: Client) -> (BoxFuture<'static, Result<(), Error>>, BoxFuture<'static, ()>);
}

impl<K: Held> Watched for Opening<K> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn open(self: Box<Self>, client: Client) -> (BoxFuture<'static, Result<(), Error>>, BoxFuture<'static, ()>) {
        let hub = self.hub();
        (
            async move { ready(&hub).await }.boxed(),
            self.run(K::api(client), K::wanted()).boxed(),
        )
    }
}

/// The parts, and what was made of them so far.
pub struct Wiring {
    /// What the controllers were started with.
    pub config: ControllersConfig,
    /// Where to write.
    pub cluster: Cluster,
    /// Where to record events.
    pub recorder: Recorder,
    /// Which kinds the cluster serves; garbage collection announces it.
    pub kinds: watch::Sender<Kinds>,
    /// What garbage collection's watches see go.
    pub departures: Arc<Departures>,
    metrics: Metrics,
    stopped: watch::Receiver<bool>,
    watched: HashMap<TypeId, Box<dyn Watched>>,
    loops: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

impl Wiring {
    /// Starts with nothing wired; drivers end when `stopped` turns true or its sender goes.
    pub fn new(config: ControllersConfig, metrics: Metrics, stopped: watch::Receiver<bool>) -> Wiring {
        let cluster = Cluster::new(config.client.clone());
        Wiring {
            recorder: Recorder::start(cluster.clone(), config.now.clone()),
            cluster,
            config,
            kinds: watch::Sender::new(Kinds::default()),
            departures: Arc::default(),
            metrics,
            stopped,
            watched: HashMap::new(),
            loops: Vec::new(),
        }
    }

    fn with<K: Held, T>(&mut self, use_it: impl FnOnce(&mut Opening<K>) -> T) -> T {
        let watched = self
            .watched
            .entry(TypeId::of::<K>())
            .or_insert_with(|| Box::new(Opening::<K>::new()));
        match watched.as_any().downcast_mut::<Opening<K>>() {
            Some(opening) => use_it(opening),
            None => unreachable!("the map's key is the kind's type"),
        }
    }

    /// Returns the objects of a kind, watched from the start on.
    pub fn hub<K: Held>(&mut self) -> Arc<Hub<K>> {
        self.with(|opening| opening.hub())
    }

    /// Calls `listener` with each change of a kind.
    pub fn listen<K: Held>(&mut self, listener: impl Fn(&Arc<K>, Option<&Arc<K>>, Seen) + Send + Sync + 'static) {
        self.with(|opening| opening.listen(listener));
    }

    /// Fires `trigger` with each change of an object of a controller's own kind, and calls `gone` when it is gone.
    pub fn listen_self<K: Held>(&mut self, trigger: &Trigger, gone: impl Fn(&Key) + Send + Sync + 'static) {
        let trigger = trigger.clone();
        self.listen::<K>(move |object, _, seen| match seen {
            Seen::Applied => trigger.fire(Key::of(&**object)),
            Seen::Gone => gone(&Key::of(&**object)),
        });
    }

    /// Returns a controller's figures.
    pub fn metrics(&self, controller: &str) -> ControllerMetrics {
        self.metrics.of(controller)
    }

    /// Makes a controller's queue.
    pub fn queue(&self, controller: &str) -> (Trigger, Triggers) {
        queue(self.metrics(controller))
    }

    /// Runs a controller's reconcile for what its queue names.
    pub fn drive<K: Held>(
        &mut self,
        controller: &'static str,
        triggers: Triggers,
        concurrency: u16,
        reconcile: Reconcile<K>,
    ) {
        let (hub, stopped) = (self.hub::<K>(), self.stopped.clone());
        self.spawn(
            controller,
            drive(controller, hub, triggers, concurrency, stopped, reconcile),
        );
    }

    /// Runs a loop of a controller's own.
    pub fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.loops.push((name, work.boxed()));
    }

    /// Starts the watches, waits for their first lists, then starts the loops. A task returns its name when it ends.
    ///
    /// # Errors
    /// [`Error::WatchEnded`] when a watch ends before its first list.
    pub async fn run(self, tasks: &mut JoinSet<&'static str>) -> Result<(), Error> {
        let mut lists = Vec::new();
        for watched in self.watched.into_values() {
            let (list, watch) = watched.open(self.config.client.clone());
            lists.push(list);
            tasks.spawn(watch.map(|()| "a watch"));
        }
        futures::future::try_join_all(lists).await?;
        for (name, work) in self.loops {
            tasks.spawn(work.map(move |()| name));
        }
        Ok(())
    }
}

/// Fires the controller of a kind when an object's owner reference names one of that kind, now or before.
pub fn fire_owners(trigger: &Trigger, kind: &str, metadata: &ObjectMeta, previous: Option<&ObjectMeta>) {
    for metadata in [Some(metadata), previous].into_iter().flatten() {
        if let Some(owner) = pods::controller_of(metadata)
            && owner.kind == kind
        {
            let namespace = metadata.namespace.clone().unwrap_or_default();
            trigger.fire(Key::new(namespace, owner.name.clone()));
        }
    }
}
