//! The scheduler: which node an unbound pod runs on, and why it waits.
//!
//! One loop. Every wake-up takes the state of the nodes from the caches, adds what was bound a moment ago and the caches do not
//! show yet, and places all waiting pods in order; so a burst cannot overcommit a node. A pod that fits nowhere is looked at again
//! when something changes that can help (a node, or a pod that frees what it held), never by polling.

pub(crate) mod affinity;
mod fit;
mod resources;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};

use crate::cluster::{Cluster, Kind, PatchKind};
use crate::config::Now;
use crate::deployment::whole_seconds;
use crate::drive::{Key, back_off};
use crate::error::{Class, Error};
use crate::events::{Level, Recorder};
use crate::hub::{Hub, Seen};
use crate::metrics::ControllerMetrics;
use crate::pods::{self, node_of};
use crate::volumes::scheduling::{Bindings, Promises};
use crate::wiring::Wiring;

pub use fit::{NodeState, place, place_where};

/// What the scheduler calls itself, and what a pod names to be scheduled by it.
pub const NAME: &str = "default-scheduler";

/// What wakes the scheduler; shared with the hubs' listeners.
#[derive(Default)]
pub struct Wake {
    notify: Notify,
    helped: AtomicBool,
    waiting: Mutex<HashSet<Key>>,
    /// Told of each change of claims, and of pods that go.
    storage: watch::Sender<()>,
}

impl Wake {
    /// Notes a change of a pod.
    pub fn pod(&self, pod: &Pod, previous: Option<&Arc<Pod>>, seen: Seen) {
        let key = Key::of(pod);
        let holds = |pod: &Pod| node_of(pod).is_some() && !pods::is_terminal(pod);
        let freed = match seen {
            // Even one that was bound a moment ago and never seen so.
            Seen::Gone => true,
            Seen::Applied => previous.is_some_and(|previous| holds(previous)) && !holds(pod),
        };
        if freed {
            self.helped.store(true, Ordering::Release);
        }
        if seen == Seen::Gone || pods::is_terminating(pod) {
            self.storage.send_replace(());
        }
        let waits = seen == Seen::Applied && is_ours(pod);
        let news = if waits {
            self.waiting.lock().insert(key)
        } else {
            self.waiting.lock().remove(&key)
        };
        if freed || (waits && (news || spec_changed(pod, previous))) {
            if waits && !news {
                self.helped.store(true, Ordering::Release);
            }
            self.notify.notify_one();
        }
    }

    /// Notes a change of claims, volumes or classes.
    pub fn storage(&self) {
        self.storage.send_replace(());
        self.node();
    }

    /// Notes a change of a node.
    pub fn node(&self) {
        self.helped.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

fn spec_changed(pod: &Pod, previous: Option<&Arc<Pod>>) -> bool {
    previous.is_some_and(|previous| previous.spec != pod.spec || previous.metadata.labels != pod.metadata.labels)
}

/// Whether the pod waits for this scheduler.
fn is_ours(pod: &Pod) -> bool {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduler_name.as_deref())
        .unwrap_or(NAME);
    node_of(pod).is_none() && name == NAME && pods::is_active(pod)
}

/// Where a pod was bound to, until the cache shows it.
struct Assumed {
    pod: Arc<Pod>,
    node: String,
    promises: Promises,
}

/// The scheduler.
pub struct Scheduler {
    /// Where to write.
    pub cluster: Cluster,
    /// The clock.
    pub now: Now,
    /// Where to record events.
    pub recorder: Recorder,
    /// All pods.
    pub pods: Arc<Hub<Pod>>,
    /// All nodes.
    pub nodes: Arc<Hub<Node>>,
    /// All claims.
    pub claims: Arc<Hub<PersistentVolumeClaim>>,
    /// All volumes.
    pub volumes: Arc<Hub<PersistentVolume>>,
    /// All classes.
    pub classes: Arc<Hub<StorageClass>>,
    /// Its figures.
    pub metrics: ControllerMetrics,
    /// What wakes it.
    pub wake: Arc<Wake>,
}

/// Wires the scheduler up.
pub fn wire(wiring: &mut Wiring) {
    let wake = Arc::new(Wake::default());
    let waker = wake.clone();
    wiring.listen::<Pod>(move |pod, previous, seen| waker.pod(pod, previous, seen));
    let waker = wake.clone();
    wiring.listen::<Node>(move |node, previous, seen| {
        // A heartbeat alone helps no pod.
        let has = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
        let same = previous.is_some_and(|previous| {
            previous.spec == node.spec && previous.metadata.labels == node.metadata.labels && has(previous) == has(node)
        });
        if seen == Seen::Gone || !same {
            waker.node();
        }
    });
    let waker = wake.clone();
    wiring.listen::<PersistentVolumeClaim>(move |_, _, _| waker.storage());
    let waker = wake.clone();
    wiring.listen::<PersistentVolume>(move |_, _, _| waker.storage());
    let waker = wake.clone();
    wiring.listen::<StorageClass>(move |_, _, _| waker.storage());
    let scheduler = Scheduler {
        cluster: wiring.cluster.clone(),
        now: wiring.config.now.clone(),
        recorder: wiring.recorder.clone(),
        pods: wiring.hub(),
        nodes: wiring.hub(),
        claims: wiring.hub(),
        volumes: wiring.hub(),
        classes: wiring.hub(),
        metrics: wiring.metrics("scheduler"),
        wake,
    };
    wiring.spawn("scheduler", scheduler.run());
}

#[derive(Default)]
struct Memory {
    assumed: Mutex<HashMap<String, Assumed>>,
    /// Why a pod waits, by uid.
    unplaced: Mutex<HashMap<String, String>>,
    failures: Mutex<HashMap<String, u32>>,
}

impl Memory {
    /// Counts a failure of a pod, and returns how many there were in a row.
    fn fails(&self, uid: String) -> u32 {
        let mut failures = self.failures.lock();
        let count = failures.entry(uid).or_insert(0);
        *count += 1;
        *count
    }
}

impl Scheduler {
    /// Runs until the task is dropped.
    pub async fn run(self) {
        let scheduler = Arc::new(self);
        let memory = Arc::new(Memory::default());
        loop {
            scheduler.round(&memory);
            scheduler.wake.notify.notified().await;
        }
    }

    /// Places what waits.
    fn round(self: &Arc<Self>, memory: &Arc<Memory>) {
        let helped = self.wake.helped.swap(false, Ordering::AcqRel);
        let keys: Vec<Key> = self.wake.waiting.lock().iter().cloned().collect();
        let mut waiting: Vec<Arc<Pod>> = keys
            .iter()
            .filter_map(|key| self.pods.get(key.namespace(), &key.name))
            .filter(|pod| is_ours(pod))
            .collect();
        {
            let assumed = memory.assumed.lock();
            let unplaced = memory.unplaced.lock();
            waiting.retain(|pod| {
                let uid = pod.uid().unwrap_or_default();
                !assumed.contains_key(&uid) && (helped || !unplaced.contains_key(&uid))
            });
        }
        self.metrics
            .queued
            .set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        self.forget(memory);
        if waiting.is_empty() {
            return;
        }
        waiting.sort_by_cached_key(|pod| {
            let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
            let created = pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::MAX, |time| time.0);
            (std::cmp::Reverse(priority), created, pod.namespace(), pod.name_any())
        });
        let mut states = self.states(memory);
        for pod in waiting {
            self.metrics.reconciles.inc();
            if pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()))
            {
                let why = "Scheduling is blocked due to non-empty scheduling gates";
                self.waits(memory, &pod, "SchedulingGated", why.into());
                continue;
            }
            match self.choose(memory, &pod, &states) {
                Ok((index, bindings)) => {
                    let node = states[index].name().to_owned();
                    states[index].add(&pod);
                    let uid = pod.uid().unwrap_or_default();
                    memory.unplaced.lock().remove(&uid);
                    memory.assumed.lock().insert(
                        uid,
                        Assumed {
                            pod: pod.clone(),
                            node: node.clone(),
                            promises: bindings.promises.clone(),
                        },
                    );
                    let (scheduler, memory) = (self.clone(), memory.clone());
                    tokio::spawn(async move { scheduler.bind(&memory, pod, node, bindings).await });
                }
                Err(why) => self.waits(memory, &pod, "Unschedulable", why),
            }
        }
    }

    /// Returns the nodes with what runs on them, what was assumed included.
    fn states(&self, memory: &Memory) -> Vec<NodeState> {
        let mut states: Vec<NodeState> = self.nodes.all().into_iter().map(NodeState::new).collect();
        let by_name: HashMap<String, usize> = states
            .iter()
            .enumerate()
            .map(|(index, state)| (state.name().to_owned(), index))
            .collect();
        let assumed = memory.assumed.lock();
        let mut shown = HashSet::new();
        for pod in self.pods.all() {
            if let Some(index) = node_of(&pod).and_then(|node| by_name.get(node))
                && !pods::is_terminal(&pod)
            {
                states[*index].add(&pod);
                shown.extend(pod.uid());
            }
        }
        for (uid, held) in assumed.iter() {
            if let Some(index) = by_name.get(&held.node)
                && !shown.contains(uid)
            {
                states[*index].add(&held.pod);
            }
        }
        states
    }

    /// Forgets assumptions that the cache shows by now, and pods that are gone.
    fn forget(&self, memory: &Memory) {
        let settled = |pod: &Pod| {
            let live = self.pods.get(pod.namespace().as_deref(), &pod.name_any());
            live.is_none_or(|live| live.uid() != pod.uid() || node_of(&live).is_some())
        };
        memory.assumed.lock().retain(|_, assumed| !settled(&assumed.pod));
        let mut unplaced = memory.unplaced.lock();
        if unplaced.len() > self.wake.waiting.lock().len() {
            let present: HashSet<String> = self.pods.all().iter().filter_map(|pod| pod.uid()).collect();
            unplaced.retain(|uid, _| present.contains(uid));
            memory.failures.lock().retain(|uid, _| present.contains(uid));
        }
    }

    async fn bind(self: Arc<Self>, memory: &Memory, pod: Arc<Pod>, node: String, bindings: Bindings) {
        let (namespace, name, uid) = (pod.namespace(), pod.name_any(), pod.uid().unwrap_or_default());
        if let Err(failure) = self.bind_volumes(&pod, &node, bindings).await {
            memory.assumed.lock().remove(&uid);
            return self.volumes_failed(memory, &pod, uid, failure).await;
        }
        let binding = json!({
            "kind": "Binding",
            "apiVersion": "v1",
            "metadata": { "name": name, "namespace": namespace, "uid": uid },
            "target": { "kind": "Node", "name": node },
        });
        self.metrics.in_flight.inc();
        let kind = Kind::of::<Pod>();
        let outcome = self
            .cluster
            .create_subresource(&kind, namespace.as_deref(), &name, "binding", &binding)
            .await;
        self.metrics.in_flight.dec();
        match outcome {
            Ok(_) => {
                memory.failures.lock().remove(&uid);
                let message = format!(
                    "Successfully assigned {}/{name} to {node}",
                    namespace.as_deref().unwrap_or_default()
                );
                self.recorder.record(NAME, &*pod, Level::Normal, "Scheduled", message);
            }
            Err(error) => {
                memory.assumed.lock().remove(&uid);
                if error.is_not_found() {
                    // It is gone, and what was held for it is free.
                    return self.wake.node();
                }
                self.metrics.errors.inc();
                let failures = memory.fails(uid);
                let message = format!("binding rejected: {}", error.reason_text());
                self.recorder
                    .record(NAME, &*pod, Level::Warning, "FailedScheduling", message);
                tokio::time::sleep(back_off(Class::Transient.max_of(error.class()), failures)).await;
                self.wake.node();
            }
        }
    }

    /// Says why a pod waits, once.
    fn waits(self: &Arc<Self>, memory: &Arc<Memory>, pod: &Arc<Pod>, reason: &'static str, why: String) {
        let uid = pod.uid().unwrap_or_default();
        let told = memory
            .unplaced
            .lock()
            .insert(uid, why.clone())
            .is_some_and(|before| before == why);
        let condition = pods::condition(pod, "PodScheduled");
        let shown = condition.is_some_and(|condition| {
            condition.status == "False"
                && condition.reason.as_deref() == Some(reason)
                && condition.message.as_deref() == Some(why.as_str())
        });
        if told || shown {
            return;
        }
        if reason == "Unschedulable" {
            self.recorder
                .record(NAME, &**pod, Level::Warning, "FailedScheduling", why.clone());
        }
        let (scheduler, pod) = (self.clone(), pod.clone());
        tokio::spawn(async move {
            if let Err(error) = scheduler.tell(&pod, reason, &why).await {
                scheduler.metrics.errors.inc();
                tracing::debug!(error = error.reason_text(), "cannot say why a pod waits");
            }
        });
    }

    async fn tell(&self, pod: &Pod, reason: &str, why: &str) -> Result<(), Error> {
        let patch = json!({ "status": { "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": why,
            "lastTransitionTime": Time(whole_seconds((self.now)())),
        }] } });
        let (kind, namespace) = (Kind::of::<Pod>(), pod.namespace());
        let strategic = PatchKind::Strategic;
        let name = pod.name_any();
        match self
            .cluster
            .patch_as(strategic, &kind, namespace.as_deref(), &name, Some("status"), &patch)
            .await
        {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Class {
    /// A binding that was refused for good is tried as rarely as a terminal error asks for.
    fn max_of(self, other: Class) -> Class {
        if other == Class::Terminal { other } else { self }
    }
}
