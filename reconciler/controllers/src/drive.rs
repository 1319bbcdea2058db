//! The one driver: turns "this key may need a look" into reconciles, one at a time per key.
//!
//! Scheduling is kube-runtime's Controller; this module feeds it keys (each waits at most once), counts, and decides when to
//! try again after an error. A reconcile takes the object as the hub holds it *after* the key has left the queue, so a change
//! that comes later always leads to another look.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::error::{Class, Error};
use crate::hub::{Held, Hub};
use crate::metrics::ControllerMetrics;

/// Namespace (empty for cluster-wide objects) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace; empty for cluster-wide objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// Names an object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Names `object`.
    pub fn of<K: Held>(object: &K) -> Key {
        Key::new(object.namespace().unwrap_or_default(), object.name_any())
    }

    /// Returns the namespace; `None` for cluster-wide objects.
    pub fn namespace(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }
}

/// The end that asks for a look at a key. Cheap to clone.
#[derive(Clone)]
pub struct Trigger {
    waiting: Arc<Mutex<HashSet<Key>>>,
    sender: mpsc::UnboundedSender<Key>,
    metrics: ControllerMetrics,
}

/// The end that the driver reads.
pub struct Triggers {
    trigger: Trigger,
    receiver: mpsc::UnboundedReceiver<Key>,
}

/// Makes the two ends of a controller's queue. A key that waits already is not queued again, which bounds it.
pub fn queue(metrics: ControllerMetrics) -> (Trigger, Triggers) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let trigger = Trigger {
        waiting: Arc::default(),
        sender,
        metrics,
    };
    (trigger.clone(), Triggers { trigger, receiver })
}

impl Trigger {
    /// Asks for a look at `key`.
    pub fn fire(&self, key: Key) {
        let mut waiting = self.waiting.lock();
        if waiting.insert(key.clone()) {
            self.metrics
                .queued
                .set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
            // The driver is gone only when everything stops.
            drop(self.sender.send(key));
        }
    }

    fn taken(&self, key: &Key) {
        let mut waiting = self.waiting.lock();
        waiting.remove(key);
        self.metrics
            .queued
            .set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
    }
}

/// What a reconcile ends with: when to look again even if nothing changes.
pub type Outcome = Result<Option<Duration>, Error>;

/// A controller's reconcile.
pub type Reconcile<K> = Arc<dyn Fn(Arc<K>) -> BoxFuture<'static, Outcome> + Send + Sync>;

struct Context<K: Held> {
    controller: &'static str,
    trigger: Trigger,
    hub: Arc<Hub<K>>,
    reconcile: Reconcile<K>,
    failures: Mutex<HashMap<Key, u32>>,
    metrics: ControllerMetrics,
}

/// Runs a controller until `shutdown` turns true.
pub async fn drive<K: Held>(
    controller: &'static str,
    hub: Arc<Hub<K>>,
    triggers: Triggers,
    concurrency: u16,
    mut shutdown: watch::Receiver<bool>,
    reconcile: Reconcile<K>,
) {
    let Triggers { trigger, receiver } = triggers;
    let metrics = trigger.metrics.clone();
    let store = hub.store().clone();
    let context = Arc::new(Context {
        controller,
        trigger,
        hub,
        reconcile,
        failures: Mutex::default(),
        metrics,
    });
    let references = UnboundedReceiverStream::new(receiver).map(|key| {
        let reference = ObjectRef::<K>::new(&key.name);
        if key.namespace.is_empty() {
            reference
        } else {
            reference.within(&key.namespace)
        }
    });
    let seen = context.clone();
    Controller::for_shared_stream(stream::pending(), store)
        .reconcile_on(references)
        .with_config(Config::default().concurrency(concurrency))
        .graceful_shutdown_on(async move {
            // An error means that the sender is gone: the same as a shutdown.
            drop(shutdown.wait_for(|stop| *stop).await);
        })
        .run(run_one::<K>, on_error::<K>, context)
        .for_each(move |outcome| {
            if let Err(kube::runtime::controller::Error::ObjectNotFound(reference)) = outcome {
                // Gone before its turn came.
                let key = Key::new(reference.namespace.unwrap_or_default(), reference.name);
                seen.trigger.taken(&key);
                seen.failures.lock().remove(&key);
            }
            std::future::ready(())
        })
        .await;
}

async fn run_one<K: Held>(object: Arc<K>, context: Arc<Context<K>>) -> Result<Action, Error> {
    let key = Key::of(&*object);
    context.trigger.taken(&key);
    let Some(object) = context.hub.get(key.namespace(), &key.name) else {
        return Ok(Action::await_change());
    };
    context.metrics.in_flight.inc();
    let outcome = (context.reconcile)(object).await;
    context.metrics.in_flight.dec();
    context.metrics.reconciles.inc();
    let again = outcome?;
    context.failures.lock().remove(&key);
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

fn on_error<K: Held>(object: Arc<K>, error: &Error, context: Arc<Context<K>>) -> Action {
    context.metrics.errors.inc();
    let key = Key::of(&*object);
    let failures = {
        let mut failures = context.failures.lock();
        let failures = failures.entry(key.clone()).or_insert(0);
        *failures += 1;
        *failures
    };
    let wait = back_off(error.class(), failures);
    if error.class() == Class::Conflict {
        tracing::debug!(
            controller = context.controller,
            namespace = key.namespace,
            name = key.name,
            error = error.reason_text(),
            "read again"
        );
    } else {
        tracing::warn!(
            controller = context.controller,
            namespace = key.namespace,
            name = key.name,
            error = error.reason_text(),
            retry_ms = wait.as_millis() as u64,
            "a reconcile failed"
        );
    }
    Action::requeue(wait)
}

/// How long to wait after the `failures`-th failure in a row. Even what cannot pass is looked at again, rarely: the cause may
/// lie outside the object (a quota, a webhook, a permission).
pub fn back_off(class: Class, failures: u32) -> Duration {
    let (first, most) = match class {
        Class::Conflict => (Duration::from_millis(2), Duration::from_secs(10)),
        Class::Transient => (Duration::from_millis(50), Duration::from_secs(30)),
        Class::Terminal => (Duration::from_millis(500), Duration::from_secs(60)),
    };
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most)
}
