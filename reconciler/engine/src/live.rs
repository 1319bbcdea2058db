//! What runs, as far as the engine has to know it at once: versions of the apps' objects, and how their pods are.
//!
//! Nothing of an object is kept but its version and its app: a change wakes the app, which reads the object again. Pods and
//! what makes them are kept as slim facts, since one pod's crash decides about a revision.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::ApiResource;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use parking_lot::{Mutex, RwLock};
use setpoint_plan::{ObjectKey, ObjectRef, PodFacts};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::{APP_LABEL, OWNER_ANNOTATION};
use crate::target::{Target, TargetError};

/// How long a first list is waited for.
const FIRST_LIST: std::time::Duration = std::time::Duration::from_secs(5);

/// The wait before a watch that failed is started again; it doubles.
const FIRST_WAIT: std::time::Duration = std::time::Duration::from_millis(250);
/// The longest such wait.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Called with the app whose objects or pods changed: its `namespace/name`.
pub type Wake = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    /// `None` when it is gone: an object that came and went between two looks must not seem untouched.
    revision: Option<String>,
    owner: String,
    uid: String,
    change: u64,
}

/// An object's version as last heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Grows with everything that is heard of any object; 0 when nothing was heard of this one.
    pub change: u64,
    /// Its version; `None` when it is gone or was never heard of.
    pub revision: Option<String>,
}

#[derive(Default)]
struct Known {
    objects: HashMap<ObjectKey, Version>,
    /// Apps by the uid of their objects: what pods lead back to.
    owners: HashMap<String, String>,
    changes: u64,
}

impl Known {
    fn change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }
}

/// A kind that is followed.
#[derive(Clone)]
struct Followed {
    /// Whether a list is in and the watch goes on.
    listed: watch::Receiver<bool>,
    /// Whether a list was waited for in vain.
    late: bool,
}

impl Followed {
    fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }
}

type Watched = HashMap<(String, String), Followed>;

/// A ReplicaSet, as far as it tells which pods are new.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Generation {
    owner: String,
    revision: u64,
}

#[derive(Default)]
struct Pods {
    /// Pods by the uid of what controls them, or by their own.
    pods: HashMap<String, BTreeMap<String, PodFacts>>,
    /// ReplicaSets by uid.
    generations: HashMap<String, Generation>,
}

/// Apps that want objects which others have.
#[derive(Default)]
struct Wanting {
    /// By object.
    waiting: HashMap<ObjectKey, BTreeSet<String>>,
    /// Those whose object was let go since they last asked.
    released: BTreeSet<String>,
}

/// The versions of what runs. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    target: Target,
    known: Arc<RwLock<Known>>,
    pods: Arc<RwLock<Pods>>,
    /// By group and kind.
    watched: Arc<Mutex<Watched>>,
    wanting: Arc<Mutex<Wanting>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    wake: Wake,
    /// Whether the first lists of pods and of ReplicaSets are in.
    listed: Arc<(watch::Sender<bool>, watch::Sender<bool>)>,
}

impl Live {
    /// Prepares for a cluster; nothing is watched yet.
    pub fn new(target: Target, wake: Wake) -> Live {
        Live {
            target,
            known: Arc::default(),
            pods: Arc::default(),
            watched: Arc::default(),
            wanting: Arc::default(),
            tasks: Arc::new(Mutex::new(JoinSet::new())),
            wake,
            listed: Arc::new((watch::channel(false).0, watch::channel(false).0)),
        }
    }

    /// Ends every watch.
    pub fn stop(&self) {
        self.tasks.lock().abort_all();
    }

    /// Watches pods and ReplicaSets.
    pub fn watch_pods(&self) {
        let client = self.target.client().clone();
        let mut tasks = self.tasks.lock();
        tasks.spawn(self.clone().follow_pods(client.clone()));
        tasks.spawn(self.clone().follow_generations(client));
    }

    /// Waits for the first lists of pods and ReplicaSets, but not for ever.
    pub async fn pods_listed(&self) {
        let (mut pods, mut sets) = (self.listed.0.subscribe(), self.listed.1.subscribe());
        let both = async {
            drop(pods.wait_for(|listed| *listed).await);
            drop(sets.wait_for(|listed| *listed).await);
        };
        if tokio::time::timeout(FIRST_LIST, both).await.is_err() {
            tracing::warn!("the pods are not listed yet; going on without");
        }
    }

    /// Makes sure that a kind is watched, and says whether it is: the first list is in, and the watch goes on.
    ///
    /// A first list is waited for, but only once: what does not come then must not hold up every look.
    ///
    /// # Errors
    /// When the cluster cannot say how it serves the kind. One that is not served is not watched.
    pub async fn watch(&self, object: &ObjectRef) -> Result<bool, TargetError> {
        let key = (object.group.clone(), object.kind.clone());
        let known = self.watched.lock().get(&key).cloned();
        let mut followed = match known {
            Some(followed) => followed,
            None => {
                let served = self.target.served(&object.group, &object.version, &object.kind).await?;
                let Some(served) = served else { return Ok(false) };
                let mut watched = self.watched.lock();
                match watched.get(&key) {
                    Some(followed) => followed.clone(),
                    None => {
                        let (sender, listed) = watch::channel(false);
                        let followed = Followed { listed, late: false };
                        watched.insert(key.clone(), followed.clone());
                        self.tasks.lock().spawn(self.clone().follow(served.resource, sender));
                        followed
                    }
                }
            }
        };
        if followed.is_listed() || followed.late {
            return Ok(followed.is_listed());
        }
        // A list that does not come must not hold up the rest: without it everything is read.
        let wait = followed.listed.wait_for(|listed| *listed);
        if tokio::time::timeout(FIRST_LIST, wait).await.is_err() {
            tracing::debug!(kind = %object.kind, "the first list of a kind is late");
            if let Some(followed) = self.watched.lock().get_mut(&key) {
                followed.late = true;
            }
        }
        Ok(followed.is_listed())
    }

    /// Returns an object's version as last heard of.
    pub fn heard(&self, object: &ObjectKey) -> Heard {
        let known = self.known.read();
        let version = known.objects.get(object);
        version.map_or_else(Heard::default, |version| Heard {
            change: version.change,
            revision: version.revision.clone(),
        })
    }

    /// Wakes an app when another one has let an object go: see [`take_released`](Self::take_released).
    pub fn await_release(&self, object: &ObjectKey, app: &str) {
        let mut wanting = self.wanting.lock();
        wanting
            .waiting
            .entry(object.clone())
            .or_default()
            .insert(app.to_owned());
    }

    /// Says, once, whether an object that an app waited for was let go.
    pub fn take_released(&self, app: &str) -> bool {
        self.wanting.lock().released.remove(app)
    }

    fn release(&self, object: &ObjectKey) {
        let waiting = {
            let mut wanting = self.wanting.lock();
            let Some(waiting) = wanting.waiting.remove(object) else {
                return;
            };
            wanting.released.extend(waiting.iter().cloned());
            waiting
        };
        for app in waiting {
            (self.wake)(&app);
        }
    }

    /// Returns the pods that run a workload in its newest form, `generation` as its controller numbers it; `None` while
    /// that one is not seen yet.
    pub fn new_pods(&self, workload_uid: &str, generation: Option<u64>) -> Option<Vec<PodFacts>> {
        let pods = self.pods.read();
        let newest = pods
            .generations
            .iter()
            .filter(|(_, made)| made.owner == workload_uid)
            .max_by_key(|(_, made)| made.revision);
        let controller = match (newest, generation) {
            (Some((_, newest)), Some(generation)) if newest.revision < generation => return None,
            (Some((uid, _)), _) => uid.as_str(),
            (None, Some(_)) => return None,
            (None, None) => workload_uid,
        };
        pods.pods.get(controller).map(|pods| pods.values().cloned().collect())
    }

    /// Returns all pods of a workload.
    pub fn all_pods(&self, workload_uid: &str) -> Vec<PodFacts> {
        let pods = self.pods.read();
        let made = pods.generations.iter().filter(|(_, made)| made.owner == workload_uid);
        made.map(|(uid, _)| uid.as_str())
            .chain([workload_uid])
            .filter_map(|controller| pods.pods.get(controller))
            .flat_map(|pods| pods.values().cloned())
            .collect()
    }

    /// Follows a kind for ever. Whatever goes wrong ends in a list: a watch that goes on does not say since when it does.
    async fn follow(self, resource: ApiResource, listed: watch::Sender<bool>) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.target.client().clone(), &resource);
        let mut wait = FIRST_WAIT;
        loop {
            let config = watcher::Config::default().labels(APP_LABEL);
            let mut events = watcher(api.clone(), config).boxed();
            let mut before: HashSet<ObjectKey> = HashSet::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Apply(object)) => self.applied(&resource, &object),
                    Ok(watcher::Event::Delete(object)) => self.gone(&key_of(&resource, &object)),
                    Ok(watcher::Event::Init) => before = self.known_of(&resource),
                    Ok(watcher::Event::InitApply(object)) => {
                        before.remove(&key_of(&resource, &object));
                        self.applied(&resource, &object);
                    }
                    Ok(watcher::Event::InitDone) => {
                        for key in before.drain() {
                            self.gone(&key);
                        }
                        wait = FIRST_WAIT;
                        listed.send_replace(true);
                    }
                    Err(error) => {
                        tracing::warn!(kind = %resource.kind, error = &error as &dyn std::error::Error, "a watch failed and starts again");
                        break;
                    }
                }
            }
            listed.send_replace(false);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// Returns the objects of a kind that are there as far as it was heard.
    fn known_of(&self, resource: &ApiResource) -> HashSet<ObjectKey> {
        let known = self.known.read();
        let same = |key: &ObjectKey| key.kind == resource.kind && key.group == resource.group;
        let there = known
            .objects
            .iter()
            .filter(|(key, version)| same(key) && version.revision.is_some());
        there.map(|(key, _)| key.clone()).collect()
    }

    fn applied(&self, resource: &ApiResource, object: &PartialObjectMeta<DynamicObject>) {
        let key = key_of(resource, object);
        let owner = object.annotations().get(OWNER_ANNOTATION).cloned().unwrap_or_default();
        let revision = object.resource_version();
        let uid = object.uid().unwrap_or_default();
        let mut known = self.known.write();
        let before = known.objects.get(&key).cloned();
        if before
            .as_ref()
            .is_some_and(|before| before.revision == revision && before.owner == owner)
        {
            return;
        }
        let change = known.change();
        known.owners.insert(uid.clone(), owner.clone());
        known.objects.insert(
            key.clone(),
            Version {
                revision,
                owner: owner.clone(),
                uid,
                change,
            },
        );
        drop(known);
        // Somebody may have changed the annotation itself: the app that was named before must put that back.
        if let Some(before) = before.filter(|before| before.owner != owner) {
            (self.wake)(&before.owner);
            self.release(&key);
        }
        (self.wake)(&owner);
    }

    fn gone(&self, key: &ObjectKey) {
        let mut known = self.known.write();
        let change = known.change();
        let Some(version) = known.objects.get_mut(key) else {
            return;
        };
        version.revision = None;
        version.change = change;
        let (uid, owner) = (version.uid.clone(), version.owner.clone());
        known.owners.remove(&uid);
        drop(known);
        (self.wake)(&owner);
        self.release(key);
    }

    /// Forgets what was known of an app that is gone.
    pub fn forget(&self, app: &str) {
        let mut known = self.known.write();
        known.owners.retain(|_, owner| owner != app);
        known.objects.retain(|_, version| version.owner != app);
        drop(known);
        let mut wanting = self.wanting.lock();
        wanting.released.remove(app);
        wanting.waiting.retain(|_, waiting| {
            waiting.remove(app);
            !waiting.is_empty()
        });
    }

    async fn follow_pods(self, client: Client) {
        let api: Api<Pod> = Api::all(client);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut fresh: Option<HashMap<String, BTreeMap<String, PodFacts>>> = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(pod)) => {
                    let (controller, name) = place_of(&pod);
                    let facts = PodFacts::of(&pod);
                    let before = self
                        .pods
                        .write()
                        .pods
                        .entry(controller.clone())
                        .or_default()
                        .insert(name, facts.clone());
                    if before.as_ref() != Some(&facts) {
                        self.wake_owner(&controller);
                    }
                }
                Ok(watcher::Event::Delete(pod)) => {
                    let (controller, name) = place_of(&pod);
                    let mut pods = self.pods.write();
                    if let Some(of_controller) = pods.pods.get_mut(&controller) {
                        of_controller.remove(&name);
                        if of_controller.is_empty() {
                            pods.pods.remove(&controller);
                        }
                    }
                    drop(pods);
                    self.wake_owner(&controller);
                }
                Ok(watcher::Event::Init) => fresh = Some(HashMap::new()),
                Ok(watcher::Event::InitApply(pod)) => {
                    let (controller, name) = place_of(&pod);
                    fresh
                        .get_or_insert_default()
                        .entry(controller)
                        .or_default()
                        .insert(name, PodFacts::of(&pod));
                }
                Ok(watcher::Event::InitDone) => {
                    let listed = fresh.take().unwrap_or_default();
                    let controllers: Vec<String> = listed.keys().cloned().collect();
                    self.pods.write().pods = listed;
                    self.listed.0.send_replace(true);
                    for controller in controllers {
                        self.wake_owner(&controller);
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the watch of pods failed and starts again"
                    );
                }
            }
        }
    }

    async fn follow_generations(self, client: Client) {
        let api: Api<PartialObjectMeta<ReplicaSet>> = Api::all(client);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut fresh: HashMap<String, Generation> = HashMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(set)) => {
                    let Some((uid, generation)) = generation_of(&set) else {
                        continue;
                    };
                    let before = self.pods.write().generations.insert(uid.clone(), generation.clone());
                    if before.as_ref() != Some(&generation) {
                        self.wake_owner(&uid);
                    }
                }
                Ok(watcher::Event::Delete(set)) => {
                    if let Some(uid) = set.uid() {
                        self.pods.write().generations.remove(&uid);
                    }
                }
                Ok(watcher::Event::Init) => fresh.clear(),
                Ok(watcher::Event::InitApply(set)) => fresh.extend(generation_of(&set)),
                Ok(watcher::Event::InitDone) => {
                    self.pods.write().generations = std::mem::take(&mut fresh);
                    self.listed.1.send_replace(true);
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the watch of ReplicaSets failed and starts again"
                    );
                }
            }
        }
    }

    fn wake_owner(&self, controller: &str) {
        let workload = {
            let pods = self.pods.read();
            pods.generations
                .get(controller)
                .map_or_else(|| controller.to_owned(), |generation| generation.owner.clone())
        };
        let owner = self.known.read().owners.get(&workload).cloned();
        if let Some(owner) = owner {
            (self.wake)(&owner);
        }
    }
}

fn key_of(resource: &ApiResource, object: &PartialObjectMeta<DynamicObject>) -> ObjectKey {
    ObjectKey {
        group: resource.group.clone(),
        kind: resource.kind.clone(),
        namespace: object.namespace(),
        name: object.name_any(),
    }
}

/// Returns a ReplicaSet's uid and what it is of its workload; `None` when it is nobody's.
fn generation_of(set: &PartialObjectMeta<ReplicaSet>) -> Option<(String, Generation)> {
    let owner = set
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true))?;
    let revision = set
        .annotations()
        .get("deployment.kubernetes.io/revision")
        .and_then(|revision| revision.parse().ok())
        .unwrap_or_default();
    let generation = Generation {
        owner: owner.uid.clone(),
        revision,
    };
    Some((set.uid()?, generation))
}

/// Returns under which uid a pod is kept, and its name.
fn place_of(pod: &Pod) -> (String, String) {
    let controller = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone());
    (controller.or_else(|| pod.uid()).unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests;
