//! Garbage collection: what is owned goes when its last owner goes.
//!
//! The graph is fed by metadata watches of every kind that can be watched and deleted, those of custom definitions included. An
//! owner that the graph does not hold is asked for at the API before anything is deleted for its absence, and a deletion names the
//! uid that it means; so a slow watch never deletes what is still owned.

mod graph;
mod watches;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::cluster::{Cluster, Kind, Propagation};
use crate::drive::back_off;
use crate::error::Error;
use crate::kinds::Kinds;
use crate::metrics::ControllerMetrics;
use crate::wiring::{Departures, Wiring};
use graph::{FOREGROUND, Graph, Node, ORPHAN, Owner, Step};

/// How many objects are looked at once.
const PARALLEL: usize = 16;

/// The graph, and the queue of what needs a look.
pub struct Collector {
    cluster: Cluster,
    graph: Mutex<Graph>,
    waiting: Mutex<HashSet<Arc<str>>>,
    sender: mpsc::UnboundedSender<Arc<str>>,
    failures: Mutex<HashMap<Arc<str>, u32>>,
    /// First lists that are still to come; below zero before discovery. Nothing is decided before all are in.
    lists: AtomicI64,
    kinds: watch::Receiver<Kinds>,
    departures: Arc<Departures>,
    metrics: ControllerMetrics,
}

/// Wires garbage collection up; it announces what the cluster serves.
pub fn wire(wiring: &mut Wiring) {
    let (cluster, kinds) = (wiring.cluster.clone(), wiring.kinds.clone());
    let (sender, receiver) = mpsc::unbounded_channel();
    let collector = Arc::new(Collector {
        cluster: cluster.clone(),
        graph: Mutex::default(),
        waiting: Mutex::default(),
        sender,
        failures: Mutex::default(),
        lists: AtomicI64::new(-1),
        kinds: kinds.subscribe(),
        departures: wiring.departures.clone(),
        metrics: wiring.metrics("garbage-collector"),
    });
    wiring.spawn("garbage-collector", run(collector, receiver, cluster, kinds));
}

async fn run(
    collector: Arc<Collector>,
    receiver: mpsc::UnboundedReceiver<Arc<str>>,
    cluster: Cluster,
    kinds: watch::Sender<Kinds>,
) {
    let watches = watches::run(collector.clone(), cluster, kinds);
    let work = UnboundedReceiverStream::new(receiver).for_each_concurrent(PARALLEL, move |uid| {
        let collector = collector.clone();
        async move { collector.look(uid).await }
    });
    futures::future::join(watches, work).await;
}

impl Collector {
    fn apply(&self, node: Option<Node>) {
        if let Some(node) = node {
            let look = self.graph.lock().apply(node);
            self.ask(look);
        }
    }

    fn remove(&self, uid: &str) {
        let (node, look) = self.graph.lock().remove(uid);
        self.ask(look);
        self.announce(node.iter());
    }

    fn relisted(&self, kind: &Kind, present: &HashSet<Arc<str>>) {
        let (gone, look) = self.graph.lock().retain(kind, present);
        self.ask(look);
        self.announce(gone.iter());
    }

    fn kind_gone(&self, kind: &Kind) {
        self.relisted(kind, &HashSet::new());
    }

    fn announce<'a>(&self, gone: impl Iterator<Item = &'a Node>) {
        for node in gone {
            if let Some(namespace) = &node.namespace {
                self.departures.announce(namespace);
            }
        }
    }

    /// Says how many first lists to wait for.
    fn expect_lists(&self, lists: usize) {
        self.lists
            .store(i64::try_from(lists).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    fn list_done(&self) {
        if self.lists.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.look_at_owned();
        }
    }

    /// Asks for a look at everything that is owned.
    fn look_at_owned(&self) {
        let look = self.graph.lock().owned();
        self.ask(look);
    }

    fn ask(&self, look: Vec<Arc<str>>) {
        if self.lists.load(Ordering::SeqCst) > 0 {
            // The last list asks for all of them.
            return;
        }
        let mut waiting = self.waiting.lock();
        for uid in look {
            if waiting.insert(uid.clone()) {
                // The receiver is gone only when everything stops.
                drop(self.sender.send(uid));
            }
        }
        self.metrics
            .queued
            .set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
    }

    async fn look(self: Arc<Self>, uid: Arc<str>) {
        {
            let mut waiting = self.waiting.lock();
            waiting.remove(&uid);
            self.metrics
                .queued
                .set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        }
        let step = self.graph.lock().step(&uid);
        if step == Step::Nothing {
            self.failures.lock().remove(&uid);
            return;
        }
        self.metrics.in_flight.inc();
        let outcome = self.act(step).await;
        self.metrics.in_flight.dec();
        self.metrics.reconciles.inc();
        match outcome {
            Ok(()) => {
                self.failures.lock().remove(&uid);
            }
            Err(error) => {
                self.metrics.errors.inc();
                let failures = {
                    let mut failures = self.failures.lock();
                    let count = failures.entry(uid.clone()).or_insert(0);
                    *count += 1;
                    *count
                };
                let wait = back_off(error.class(), failures);
                tracing::debug!(
                    uid = &*uid,
                    error = error.reason_text(),
                    retry_ms = wait.as_millis() as u64,
                    "garbage collection tries again"
                );
                let collector = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    collector.ask(vec![uid]);
                });
            }
        }
    }

    async fn act(&self, step: Step) -> Result<(), Error> {
        match step {
            Step::Nothing => Ok(()),
            Step::Release(node) => self.drop_finalizer(&node, FOREGROUND).await,
            Step::Orphan { owner, dependents } => {
                for dependent in dependents {
                    self.drop_owners(&dependent, &[&owner.uid]).await?;
                }
                self.drop_finalizer(&owner, ORPHAN).await
            }
            Step::Check {
                node,
                unknown,
                waiting,
                present,
                has_dependents,
            } => {
                let mut solid = present;
                let mut void: Vec<&str> = Vec::new();
                for owner in &unknown {
                    match self.exists(&node, owner).await? {
                        Some(true) => solid += 1,
                        Some(false) => void.push(&owner.uid),
                        // Nobody can say whether an owner of an unknown kind is there.
                        None => solid += 1,
                    }
                }
                if solid > 0 {
                    void.extend(waiting.iter().map(|owner| &*owner.uid));
                    return if void.is_empty() {
                        Ok(())
                    } else {
                        self.drop_owners(&node, &void).await
                    };
                }
                let propagation = if !waiting.is_empty() && has_dependents {
                    Propagation::Foreground
                } else {
                    Propagation::Background
                };
                tracing::debug!(
                    kind = node.kind.plural,
                    namespace = node.namespace.as_deref().unwrap_or_default(),
                    name = &*node.name,
                    "deleting: no owner is left"
                );
                let namespace = node.namespace.as_deref();
                self.cluster
                    .delete(&node.kind, namespace, &node.name, Some(&node.uid), propagation, None)
                    .await?;
                Ok(())
            }
        }
    }

    /// Asks the API whether an owner is there; `None` when its kind is not known.
    async fn exists(&self, dependent: &Node, owner: &Owner) -> Result<Option<bool>, Error> {
        let served = self.kinds.borrow().find(&owner.api_version, &owner.kind).cloned();
        let Some(served) = served else { return Ok(None) };
        let namespace = if served.namespaced {
            match dependent.namespace.as_deref() {
                Some(namespace) => Some(namespace),
                // A namespaced owner of a cluster-wide object cannot be.
                None => return Ok(Some(false)),
            }
        } else {
            None
        };
        let live = self.cluster.metadata(&served.kind, namespace, &owner.name).await?;
        Ok(Some(live.is_some_and(|live| live.uid.as_deref() == Some(&*owner.uid))))
    }

    async fn drop_owners(&self, node: &Node, uids: &[&str]) -> Result<(), Error> {
        let namespace = node.namespace.as_deref();
        let Some(live) = self.cluster.metadata(&node.kind, namespace, &node.name).await? else {
            return Ok(());
        };
        if live.uid.as_deref() != Some(&*node.uid) {
            return Ok(());
        }
        let mut owners = live.owner_references.unwrap_or_default();
        let before = owners.len();
        owners.retain(|owner| !uids.contains(&owner.uid.as_str()));
        if owners.len() == before {
            return Ok(());
        }
        let patch = json!({ "metadata": {
            "uid": live.uid, "resourceVersion": live.resource_version, "ownerReferences": owners,
        } });
        self.tolerate_absence(
            self.cluster
                .patch(&node.kind, namespace, &node.name, None, &patch)
                .await,
        )
    }

    async fn drop_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), Error> {
        let namespace = node.namespace.as_deref();
        let Some(live) = self.cluster.metadata(&node.kind, namespace, &node.name).await? else {
            return Ok(());
        };
        if live.uid.as_deref() != Some(&*node.uid) {
            return Ok(());
        }
        let mut finalizers = live.finalizers.unwrap_or_default();
        finalizers.retain(|held| held != finalizer);
        let patch = json!({ "metadata": {
            "uid": live.uid, "resourceVersion": live.resource_version, "finalizers": finalizers,
        } });
        self.tolerate_absence(
            self.cluster
                .patch(&node.kind, namespace, &node.name, None, &patch)
                .await,
        )
    }

    fn tolerate_absence<T>(&self, outcome: Result<T, Error>) -> Result<(), Error> {
        match outcome {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }
}
