//! The pods of this node: follows the API, keeps one worker per pod, wakes it when something of its happens, and takes away what runs without a
//! pod.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::Mutex;
use setpoint_runtime::spec::{RuntimeEvent, SandboxState};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::containers::chain;
use crate::static_pods::{self, Statics};
use crate::worker::{self, Shared, Update};

struct Handle {
    updates: watch::Sender<Update>,
    wake: Arc<Notify>,
}

/// The pods of a node by UID. Cheap to clone.
#[derive(Clone)]
pub struct Pods {
    shared: Arc<Shared>,
    workers: Arc<Mutex<HashMap<String, Handle>>>,
    statics: Statics,
    /// Whether the API's list of this node's pods has been read.
    listed: Arc<AtomicBool>,
    /// What ran before and has not been claimed by a pod.
    adopted: Arc<Mutex<HashMap<String, SandboxState>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Pods {
    /// Prepares to keep the pods of a node; nothing runs until [`Pods::follow`].
    pub fn new(shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            shared,
            workers: Arc::default(),
            statics: Statics::default(),
            listed: Arc::default(),
            adopted: Arc::default(),
            tasks,
            stop,
        }
    }

    /// Returns the newest known object of a pod, if it is on this node.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let workers = self.workers.lock();
        let matches = |update: &Update| {
            update.pod.metadata.name.as_deref() == Some(name)
                && update.pod.metadata.namespace.as_deref() == Some(namespace)
        };
        let mut found: Vec<Update> = workers
            .values()
            .map(|handle| handle.updates.borrow().clone())
            .filter(matches)
            .collect();
        // A pod that is being removed may still be there beside a new one of the same name.
        found.sort_by_key(|update| update.gone);
        found.into_iter().next().map(|update| update.pod)
    }

    /// The static pods of the node.
    pub(crate) fn statics(&self) -> &Statics {
        &self.statics
    }

    /// Whether the API's list of this node's pods has been read.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// Ends a static pod that is not declared any more, as one that is deleted: with its grace period.
    pub(crate) fn end_static(&self, hash: &str) {
        let end = |handle: &Handle| {
            handle.updates.send_modify(|update| {
                let mut pod = Pod::clone(&update.pod);
                let now = Time((self.shared.now)());
                pod.metadata.deletion_timestamp.get_or_insert(now);
                update.pod = Arc::new(pod);
            });
        };
        let known = self.workers.lock().get(hash).map(end).is_some();
        // What ran before the daemon's start may wait for a mirror that never came.
        let unclaimed = self.adopted.lock().remove(hash).filter(|_| !known);
        if let Some(sandbox) = unclaimed {
            self.remove_orphan(sandbox);
        }
    }

    /// Follows the API and the runtime until the agent stops. `adopted` is what ran before.
    pub async fn follow(self, node: String, adopted: Vec<SandboxState>) {
        self.adopted
            .lock()
            .extend(adopted.into_iter().map(|sandbox| (sandbox.spec.id.clone(), sandbox)));
        let mut events = self.shared.containers.events();
        let api: Api<Pod> = Api::all(self.shared.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let stream = watcher(api, config).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listed = HashSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                event = events.recv() => self.route(event),
                event = stream.next() => match event {
                    None => return,
                    Some(Err(error)) => {
                        tracing::warn!(node, error = chain(&error), "the watch of this node's pods broke off, it is taken up again");
                    }
                    Some(Ok(watcher::Event::Init)) => {
                        listed.clear();
                        self.statics.forget_mirrors();
                    }
                    Some(Ok(watcher::Event::InitApply(pod))) => {
                        listed.extend(pod.metadata.uid.clone());
                        self.see(pod);
                    }
                    Some(Ok(watcher::Event::InitDone)) => {
                        self.forget_all_but(&listed);
                        self.shared.host_ports.all_known();
                        // What runs for a static pod waits for its mirror.
                        let orphans: Vec<SandboxState> = {
                            let mut adopted = self.adopted.lock();
                            let orphans = adopted.extract_if(|uid, _| !self.statics.has(uid));
                            orphans.map(|(_, sandbox)| sandbox).collect()
                        };
                        for sandbox in orphans {
                            self.remove_orphan(sandbox);
                        }
                        self.remove_forgotten_files();
                        self.listed.store(true, Ordering::Release);
                        self.statics.changed.notify_one();
                    }
                    Some(Ok(watcher::Event::Apply(pod))) => self.see(pod),
                    Some(Ok(watcher::Event::Delete(pod))) => self.delete(&pod),
                },
            }
        }
    }

    /// Wakes whom a runtime event concerns; what happened is read anew.
    fn route(&self, event: Result<RuntimeEvent, broadcast::error::RecvError>) {
        let workers = self.workers.lock();
        match event {
            Ok(RuntimeEvent::ContainerExited { sandbox, .. } | RuntimeEvent::SandboxDied { sandbox }) => {
                if let Some(handle) = workers.get(&sandbox) {
                    handle.wake.notify_one();
                }
            }
            // Some were missed: everyone looks.
            Err(_) => workers.values().for_each(|handle| handle.wake.notify_one()),
        }
    }

    /// Takes a pod as the API has it.
    fn see(&self, pod: Pod) {
        if static_pods::mirrored(&pod).is_none() {
            return self.apply(pod);
        }
        let key = static_pods::key(&pod);
        let Some(runs) = self.statics.see(pod) else { return };
        // The former pod of that name ends first; what it leaves starts this one.
        let is_own = |uid: &String| Some(uid) == runs.metadata.uid.as_ref();
        let other = |(uid, handle): (&String, &Handle)| {
            let update = handle.updates.borrow();
            let is_ending = update.gone || update.pod.metadata.deletion_timestamp.is_some();
            static_pods::key(&update.pod) == key && (is_ending || !is_own(uid))
        };
        // It may not be known yet that what ran before is nobody's any more.
        let adopted = |(uid, sandbox): (&String, &SandboxState)| {
            let spec = &sandbox.spec;
            !is_own(uid)
                && key
                    .as_ref()
                    .is_some_and(|key| *key == (spec.namespace.clone(), spec.name.clone()))
        };
        if !self.workers.lock().iter().any(other) && !self.adopted.lock().iter().any(adopted) {
            self.apply(runs);
        }
    }

    fn apply(&self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let update = Update {
            pod: Arc::new(pod),
            gone: false,
        };
        if let Some(handle) = self.workers.lock().get(&uid) {
            handle.updates.send_replace(update);
            return;
        }
        let sandbox = self.adopted.lock().remove(&uid);
        if let Some(addresses) = sandbox
            .as_ref()
            .filter(|sandbox| sandbox.pid != 0)
            .and_then(|sandbox| sandbox.spec.addresses())
        {
            // Before any worker begins: what runs has its ports before what is new.
            self.shared.host_ports.reserve(&uid, &update.pod);
            self.shared.host_ports.open(&uid, addresses);
        }
        self.start(uid, update, sandbox);
    }

    fn delete(&self, pod: &Pod) {
        if static_pods::mirrored(pod).is_some() {
            self.statics.lose(pod);
        }
        let Some(uid) = &pod.metadata.uid else { return };
        if let Some(handle) = self.workers.lock().get(uid) {
            // The last object that was seen tells how it was deleted.
            handle.updates.send_replace(Update {
                pod: Arc::new(pod.clone()),
                gone: true,
            });
        }
    }

    fn forget_all_but(&self, listed: &HashSet<String>) {
        let workers = self.workers.lock();
        for (_, handle) in workers
            .iter()
            .filter(|(uid, _)| !listed.contains(*uid) && !self.statics.has(uid))
        {
            handle.updates.send_modify(|update| update.gone = true);
        }
    }

    /// Removes the files of pods that went while no agent ran, or that one did not get to remove.
    fn remove_forgotten_files(&self) {
        let places = self.shared.places.clone();
        let found = match places.pods() {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the folders of pods cannot be listed");
                return;
            }
        };
        let workers = self.workers.lock();
        let kept: BTreeSet<String> = workers.keys().cloned().chain(self.statics.hashes()).collect();
        let forgotten: Vec<String> = found.into_iter().filter(|uid| !kept.contains(uid)).collect();
        let containers = self.shared.containers.clone();
        self.tasks.spawn(async move { containers.forget_all_but(&kept).await });
        drop(workers);
        if forgotten.is_empty() {
            return;
        }
        self.tasks.spawn_blocking(move || {
            for uid in forgotten {
                if let Err(error) = places.remove_pod(&uid) {
                    tracing::warn!(
                        pod = uid,
                        error = chain(&error),
                        "the files of a former pod cannot be removed"
                    );
                }
            }
        });
    }

    /// A sandbox whose pod is no longer in the API is ended like a pod that was removed by force.
    fn remove_orphan(&self, sandbox: SandboxState) {
        tracing::info!(
            namespace = sandbox.spec.namespace,
            pod = sandbox.spec.name,
            "this pod is no longer in the API, what runs of it is removed"
        );
        let containers: HashSet<&str> = sandbox
            .containers
            .iter()
            .map(|container| container.name.as_str())
            .collect();
        let definitions = containers
            .into_iter()
            .map(|name| k8s_openapi::api::core::v1::Container {
                name: name.to_owned(),
                ..Default::default()
            });
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(sandbox.spec.name.clone()),
                namespace: Some(sandbox.spec.namespace.clone()),
                uid: Some(sandbox.spec.id.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(k8s_openapi::api::core::v1::PodSpec {
                containers: definitions.collect(),
                ..Default::default()
            }),
            status: None,
        };
        self.start(
            sandbox.spec.id.clone(),
            Update {
                pod: Arc::new(pod),
                gone: true,
            },
            Some(sandbox),
        );
    }

    fn start(&self, uid: String, update: Update, adopted: Option<SandboxState>) {
        let wake = Arc::new(Notify::new());
        let receiver = {
            let mut workers = self.workers.lock();
            // A static pod may be begun by the watch and by the end of its forerunner at once.
            if let Some(handle) = workers.get(&uid) {
                handle.updates.send_replace(update);
                return;
            }
            let (updates, receiver) = watch::channel(update);
            let handle = Handle {
                updates,
                wake: wake.clone(),
            };
            workers.insert(uid.clone(), handle);
            receiver
        };
        let (pods, stop) = (self.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let last = receiver.clone();
            worker::run(pods.shared.clone(), receiver, wake, adopted, stop.clone()).await;
            if stop.is_cancelled() {
                // The pod runs on, and keeps its ports.
                return;
            }
            // Before the next pod of this name can take them.
            pods.shared.host_ports.release(&uid);
            pods.workers.lock().remove(&uid);
            let key = static_pods::key(&last.borrow().pod);
            if let Some(next) = key.and_then(|key| pods.statics.next(&key)) {
                pods.apply(next);
            }
        });
    }
}
