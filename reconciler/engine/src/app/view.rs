//! How an app's objects are: read when their version changed, compared with what they should be.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use setpoint_plan::{Baseline, Desired, Health, HealthStatus, ObjectKey, ObjectRef, changes, health, verdict};

use super::{AppError, AppMemory, Kept};
use crate::api::OWNER_ANNOTATION;
use crate::engine::Shared;
use crate::images::{self, Images, Shown};
use crate::live::Heard;
use crate::rendered;
use crate::state::{Millis, Observed, Revision, Surplus, Trouble, View};

/// How long containers without a readiness probe have to run before they count as well.
const PROOF: Millis = 3_000;
/// How many objects of an app are read at a time.
pub(super) const READS: usize = 8;

/// The objects that an app should have, as bytes, and what is needed of them all the time.
#[derive(Clone)]
pub(crate) struct Goal {
    pub digest: String,
    images: Images,
    objects: Bytes,
    origins: Option<Bytes>,
    pub references: Arc<Vec<ObjectRef>>,
    pub keys: Arc<BTreeSet<ObjectKey>>,
    stages: Arc<Vec<usize>>,
    /// Whether containers are ready as soon as they run, because nothing probes them.
    unproved: bool,
}

impl Goal {
    /// Reads a revision's bytes.
    ///
    /// # Errors
    /// When they are not kept, or damaged.
    pub async fn load(shared: &Shared, revision: &Revision) -> Result<Goal, AppError> {
        let objects = shared
            .records
            .blob(&revision.digest)
            .await?
            .ok_or_else(|| AppError::Lost {
                digest: revision.digest.clone(),
            })?;
        let origins = shared.records.blob(&revision.origins).await?;
        Goal::of(revision.digest.clone(), revision.images.clone(), objects, origins)
    }

    /// Says whether this is what a revision means now.
    pub fn is(&self, revision: &Revision) -> bool {
        self.digest == revision.digest && self.images.fixed == revision.images.fixed
    }

    /// Takes bytes up.
    ///
    /// # Errors
    /// When they are damaged.
    pub fn of(digest: String, images: Images, objects: Bytes, origins: Option<Bytes>) -> Result<Goal, AppError> {
        let desired = rendered::read(&digest, &objects, origins.as_deref())?;
        let references = desired
            .iter()
            .map(Desired::reference)
            .collect::<Result<Vec<_>, _>>()
            .map_err(crate::rendered::PrepareError::from)?;
        let stages = rendered::stages(&desired).map_err(crate::rendered::PrepareError::from)?;
        Ok(Goal {
            digest,
            images,
            objects,
            origins,
            keys: Arc::new(references.iter().map(ObjectRef::key).collect()),
            unproved: desired.iter().any(|desired| is_unproved(&desired.object)),
            references: Arc::new(references),
            stages: Arc::new(stages),
        })
    }

    /// Returns a view of what was seen last.
    pub fn known(&self, seen: &HashMap<ObjectKey, Seen>) -> View {
        let objects = self
            .references
            .iter()
            .zip(self.stages.iter())
            .filter_map(|(reference, stage)| {
                let seen = seen.get(&reference.key())?;
                Some(Observed {
                    object: reference.clone(),
                    stage: *stage,
                    in_sync: seen.in_sync,
                    deleting: seen.deleting,
                    health: seen.health.clone(),
                })
            });
        View {
            objects: objects.collect(),
            ..View::default()
        }
    }

    /// Returns the objects. They are read anew each time: as values they are many times as large.
    ///
    /// # Errors
    /// When the bytes are damaged, which they were not when they were taken up.
    pub fn desired(&self) -> Result<Vec<Desired>, AppError> {
        let mut desired = rendered::read(&self.digest, &self.objects, self.origins.as_deref())?;
        for desired in &mut desired {
            self.images.fix(&mut desired.object);
        }
        Ok(desired)
    }
}

/// Says whether an object runs containers that are ready as soon as they run.
fn is_unproved(object: &Value) -> bool {
    // These are well when their containers have ended.
    if matches!(object["kind"].as_str(), Some("Job" | "CronJob")) {
        return false;
    }
    let Some(pod) = images::pod_pointer(object).and_then(|pointer| object.pointer(pointer)) else {
        return false;
    };
    let patient = object["spec"]["minReadySeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds > 0);
    let containers = pod["containers"].as_array();
    !patient
        && containers
            .into_iter()
            .flatten()
            .any(|container| container["readinessProbe"].is_null())
}

/// How an object was when it was last read.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its version then; `None` when it was not there.
    version: Option<String>,
    /// The last change that the watch had told of it before it was read.
    heard: u64,
    pub uid: String,
    pub in_sync: bool,
    pub deleting: bool,
    health: Health,
    /// Whether its controller has seen it as it is.
    observed: bool,
    /// The generation of its pods that it means.
    generation: Option<u64>,
    /// Whether it is a kind that makes pods, or is one.
    makes_pods: bool,
}

impl Seen {
    /// Compares a live object with what it should be.
    pub fn of(desired: &Value, live: Option<&Value>, heard: u64, kept: &Kept) -> Seen {
        let Some(live) = live else {
            return Seen {
                version: None,
                heard,
                uid: String::new(),
                in_sync: false,
                deleting: false,
                health: Health {
                    status: HealthStatus::Missing,
                    reason: "it is not there".to_owned(),
                },
                observed: true,
                generation: None,
                makes_pods: false,
            };
        };
        let metadata = &live["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let generation = metadata["generation"].as_i64();
        let observed = live["status"]["observedGeneration"].as_i64();
        // A controller may have seen a new template and not made its pods yet: those that there are, are the old ones.
        let made = live["kind"] != "Deployment"
            || live["status"]["updatedReplicas"]
                .as_i64()
                .is_some_and(|count| count > 0);
        Seen {
            version: Some(text("resourceVersion")),
            heard,
            uid: text("uid"),
            in_sync: changes(desired, live, &kept.plan).is_empty(),
            deleting: !metadata["deletionTimestamp"].is_null(),
            health: health::of(live),
            observed: made
                && match (generation, observed) {
                    (Some(generation), Some(observed)) => observed >= generation,
                    _ => true,
                },
            generation: metadata["annotations"]["deployment.kubernetes.io/revision"]
                .as_str()
                .and_then(|revision| revision.parse().ok()),
            makes_pods: images::pod_pointer(desired).is_some(),
        }
    }

    /// Says whether it failed, or will not get well by waiting.
    pub fn is_degraded(&self) -> bool {
        self.health.status == HealthStatus::Degraded
    }

    /// Says whether both are the same version of an object.
    fn is_same(&self, other: &Seen) -> bool {
        self.version.is_some() && self.version == other.version && self.uid == other.uid
    }

    /// Says whether the object is still as it was read, as far as the watch knows.
    fn is_fresh(&self, heard: &Heard) -> bool {
        if heard.change == self.heard {
            return true;
        }
        let (Some(read), Some(heard)) = (&self.version, &heard.revision) else {
            return false;
        };
        if read == heard {
            return true;
        }
        // The watch may be behind what was read or written itself.
        match (read.parse::<u64>(), heard.parse::<u64>()) {
            (Ok(read), Ok(heard)) => heard < read,
            _ => false,
        }
    }
}

/// Looks at what runs, as seen from a revision.
pub(super) async fn observe(
    shared: &Arc<Shared>,
    kept: &Kept,
    memory: &mut AppMemory,
    revision: &Revision,
) -> Result<View, AppError> {
    let goal = match &memory.goal {
        Some(goal) if goal.is(revision) => goal.clone(),
        _ => {
            let goal = match Goal::load(shared, revision).await {
                Ok(goal) => goal,
                Err(error) => {
                    // What is lost can be rendered again, if it is what git names; else there is nothing to go back to.
                    if matches!(error, AppError::Lost { .. }) {
                        match memory
                            .state
                            .wanted
                            .as_ref()
                            .is_some_and(|wanted| wanted.digest == revision.digest)
                        {
                            true => memory.state.input = None,
                            false => memory.state.lose(&revision.digest),
                        }
                    }
                    return Err(error);
                }
            };
            memory.seen.clear();
            memory.goal = Some(goal.clone());
            goal
        }
    };
    refresh(shared, kept, memory, &goal).await?;
    if let Some(number) = memory.state.sync.as_ref().map(|sync| sync.number)
        && memory.counted != Some(number)
    {
        // It was begun before a restart: what its pods had gone through by then is not known any more, and counts for nothing.
        memory.baselines = super::act::baselines(shared, memory);
        memory.unwell = memory.unwell_now();
        memory.counted = Some(number);
    }
    let (surplus, unserved) = surplus(shared, kept, memory, &goal).await?;
    let mut objects = Vec::with_capacity(goal.references.len());
    let mut trouble: Option<Trouble> = None;
    for (reference, stage) in goal.references.iter().zip(goal.stages.iter()) {
        let Some(seen) = memory.seen.get(&reference.key()) else {
            continue;
        };
        if seen.health.status != HealthStatus::Healthy && seen.observed && seen.in_sync {
            let found = troubled(shared, &memory.baselines, seen);
            // One that will not pass says more than one that may.
            if trouble.as_ref().is_none_or(|before| before.passing) {
                trouble = found.or(trouble);
            }
        }
        let mut health = seen.health.clone();
        if seen.is_degraded() && memory.state.sync.is_some() && memory.unwell.contains(&reference.key()) {
            health.status = HealthStatus::Progressing;
        }
        objects.push(Observed {
            object: reference.clone(),
            stage: *stage,
            in_sync: seen.in_sync,
            deleting: seen.deleting,
            health,
        });
    }
    let (images, newest) = images(shared, memory);
    let now = memory.now(shared);
    let ready = objects.iter().all(Observed::is_ready);
    memory.ready_since = if ready { memory.ready_since.or(Some(now)) } else { None };
    Ok(View {
        proved_at: memory.ready_since.filter(|_| goal.unproved).map(|since| since + PROOF),
        objects,
        trouble,
        surplus,
        images,
        newest,
        unserved,
    })
}

/// Returns the images of all pods of an app, and of the newest.
fn images(shared: &Shared, memory: &AppMemory) -> (Shown, Shown) {
    let (mut all, mut newest) = (Shown::new(), Shown::new());
    for seen in memory.seen.values().filter(|seen| seen.makes_pods) {
        images::show(&mut all, &shared.live.all_pods(&seen.uid));
        let pods = shared.live.new_pods(&seen.uid, seen.generation);
        images::show(&mut newest, &pods.unwrap_or_default());
    }
    (all, newest)
}

/// Reads every object whose version changed since it was last read.
async fn refresh(shared: &Arc<Shared>, kept: &Kept, memory: &mut AppMemory, goal: &Goal) -> Result<(), AppError> {
    let mut kinds: Vec<&ObjectRef> = Vec::new();
    for reference in goal.references.iter() {
        if !kinds
            .iter()
            .any(|kind| kind.kind == reference.kind && kind.group == reference.group)
        {
            kinds.push(reference);
        }
    }
    let mut watched: HashSet<(&str, &str)> = HashSet::new();
    let mut unheard = false;
    for kind in kinds {
        match shared.live.watch(kind).await? {
            true => {
                watched.insert((&kind.group, &kind.kind));
            }
            false => unheard = true,
        }
    }
    memory.unheard = unheard;
    let doubted = std::mem::take(&mut memory.doubted);
    let stale: Vec<usize> = goal
        .references
        .iter()
        .enumerate()
        .filter(|(_, reference)| {
            let key = reference.key();
            let heard = shared.live.heard(&key);
            // Where nobody tells of changes, nothing is known without reading it.
            let told = !doubted && watched.contains(&(reference.group.as_str(), reference.kind.as_str()));
            !(told && memory.seen.get(&key).is_some_and(|seen| seen.is_fresh(&heard)))
        })
        .map(|(place, _)| place)
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    let desired = goal.desired()?;
    let mut reads: Vec<BoxFuture<'_, Result<(ObjectKey, Seen), AppError>>> = Vec::with_capacity(stale.len());
    for place in stale {
        let (Some(reference), Some(desired)) = (goal.references.get(place), desired.get(place)) else {
            continue;
        };
        let read = async move {
            let heard = shared.live.heard(&reference.key()).change;
            let live = shared.target.get(reference).await?;
            Ok((reference.key(), Seen::of(&desired.object, live.as_ref(), heard, kept)))
        };
        reads.push(read.boxed());
    }
    let read: Vec<(ObjectKey, Seen)> = stream::iter(reads).buffer_unordered(READS).try_collect().await?;
    for (key, mut seen) in read {
        // What the cluster makes different from what was applied was accepted as it is in this version.
        let before = memory.seen.get(&key).filter(|before| before.is_same(&seen));
        seen.in_sync |= before.is_some_and(|before| before.in_sync);
        memory.seen.insert(key, seen);
    }
    Ok(())
}

/// Returns what the inventory has beyond the goal, is there, and is this app's: in the order of deletion; and that of which this
/// cannot be told, since its kind is not served.
async fn surplus(
    shared: &Shared,
    kept: &Kept,
    memory: &AppMemory,
    goal: &Goal,
) -> Result<(Vec<Surplus>, Vec<ObjectRef>), AppError> {
    let mut live = BTreeMap::new();
    let mut inventory = Vec::new();
    let mut unserved = Vec::new();
    let beyond: Vec<ObjectRef> = memory.state.surplus(&goal.keys).cloned().collect();
    for object in beyond {
        shared.live.watch(&object).await?;
        if !shared.target.serves(&object).await? {
            unserved.push(object);
            continue;
        }
        if let Some(found) = shared.target.get(&object).await? {
            live.insert(object.key(), found);
            inventory.push(object);
        }
    }
    Ok((deletions(&live, &inventory, kept), unserved))
}

/// Returns which objects of an inventory may be deleted, in the order of deletion.
pub(super) fn deletions(live: &BTreeMap<ObjectKey, Value>, inventory: &[ObjectRef], kept: &Kept) -> Vec<Surplus> {
    let policy = setpoint_plan::Policy {
        prune: true,
        ..kept.plan.clone()
    };
    let mine = |object: &ObjectRef| {
        live.get(&object.key())
            .is_some_and(|live| live["metadata"]["annotations"][OWNER_ANNOTATION] == policy.owner.as_str())
    };
    let Ok(plan) = setpoint_plan::plan(&[], live, inventory, &policy) else {
        // Only desired objects can keep a plan from being made.
        return Vec::new();
    };
    plan.steps
        .into_iter()
        .filter(|step| matches!(step.change, setpoint_plan::Change::Delete) && mine(&step.object))
        .filter(|step| step.object.kind != "CustomResourceDefinition" || may_go(live.get(&step.object.key())))
        .map(|step| Surplus {
            deleting: live
                .get(&step.object.key())
                .is_some_and(|live| !live["metadata"]["deletionTimestamp"].is_null()),
            object: step.object,
        })
        .collect()
}

/// Says whether a definition may be deleted, and every object of its kind with it, whoever made that: only where it says so itself.
fn may_go(definition: Option<&Value>) -> bool {
    definition
        .is_some_and(|definition| definition["metadata"]["annotations"][setpoint_plan::PRUNE_ANNOTATION] == "true")
}

/// Says why the newest pods of a workload do not get well.
fn troubled(shared: &Shared, baselines: &HashMap<String, Baseline>, seen: &Seen) -> Option<Trouble> {
    let pods = shared.live.new_pods(&seen.uid, seen.generation)?;
    let empty = Baseline::default();
    let failure = verdict(&pods, baselines.get(&seen.uid).unwrap_or(&empty))?;
    Some(Trouble {
        reason: failure.reason,
        passing: failure.passing,
    })
}
