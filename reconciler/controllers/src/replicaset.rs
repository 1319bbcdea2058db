//! ReplicaSets: so many pods of one template, no more and no fewer.
//!
//! [`decide`] is pure. A pod counts as long as it has neither ended nor been asked to end, so a deleted or failed pod is replaced
//! at once. [`crate::fresh`] keeps a cache that does not show our own pods yet from making more of them.

mod rank;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind, Propagation};
use crate::config::Now;
use crate::deployment::whole_seconds;
use crate::drive::{Key, Outcome, Reconcile};
use crate::error::Error;
use crate::events::{Level, Recorder};
use crate::fresh::Freshness;
use crate::hub::Hub;
use crate::pods::{self, Availability};
use crate::wiring::{Wiring, fire_owners};

/// What the controller calls itself in events.
pub const NAME: &str = "replicaset-controller";
/// The most pods that one look creates or deletes.
const BURST: usize = 500;
/// How many requests of one look run at once.
const PARALLEL: usize = 16;

/// What is decided upon.
pub struct Observed {
    /// The ReplicaSet.
    pub set: Arc<ReplicaSet>,
    /// The pods of its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// Pods that were asked to end, by uid, whatever the cache says of them.
    pub deleted: HashSet<String>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create so many pods.
    Create(usize),
    /// Delete a pod.
    Delete {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Change a pod's owners.
    SetOwners {
        /// Its name.
        name: String,
        /// The whole patch.
        patch: Value,
    },
    /// Look again after this time, even if nothing changes.
    Again(Duration),
}

/// The actions and the counts for the status.
#[derive(Debug)]
pub struct Decision {
    /// What to do.
    pub actions: Vec<Action>,
    /// The counts, without conditions.
    pub status: ReplicaSetStatus,
}

/// Chooses the next actions.
pub fn decide(observed: &Observed, selector: &Selector, now: Timestamp) -> Decision {
    let set = &*observed.set;
    let uid = set.uid().unwrap_or_default();
    let deleting = set.metadata.deletion_timestamp.is_some();
    let spec = &set.spec;
    let mut actions = Vec::new();
    let mut active: Vec<&Arc<Pod>> = Vec::new();
    let mut terminating = 0;
    for pod in &observed.pods {
        let matches = selector.matches(pod.labels());
        match pods::controller_of(&pod.metadata) {
            Some(owner) if owner.uid == uid => {
                let asked_to_end = pod.uid().is_some_and(|uid| observed.deleted.contains(&uid));
                if !matches {
                    if !deleting && !pods::is_terminating(pod) {
                        let owners: Vec<_> = pod
                            .owner_references()
                            .iter()
                            .filter(|owner| owner.uid != uid)
                            .cloned()
                            .collect();
                        actions.push(set_owners(pod, &owners));
                    }
                } else if pods::is_terminal(pod) {
                    // Neither a replica nor on its way.
                } else if pods::is_terminating(pod) || asked_to_end {
                    terminating += 1;
                } else {
                    active.push(pod);
                }
            }
            None if matches && !deleting && pods::is_active(pod) => {
                let mut owners = pod.owner_references().to_vec();
                owners.push(owner_reference(set));
                actions.push(set_owners(pod, &owners));
                active.push(pod);
            }
            _ => {}
        }
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mut again: Option<Duration> = None;
    let (mut ready, mut available, mut labelled) = (0, 0, 0);
    let template = spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    for pod in &active {
        if template.is_none_or(|labels| labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))) {
            labelled += 1;
        }
        ready += i32::from(pods::is_ready(pod));
        match pods::availability(pod, min_ready, now) {
            Availability::Available => available += 1,
            Availability::In(wait) => again = Some(again.map_or(wait, |before| before.min(wait))),
            Availability::Unavailable => {}
        }
    }
    let status = ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: some(labelled),
        ready_replicas: some(ready),
        available_replicas: some(available),
        terminating_replicas: some(terminating),
        observed_generation: set.metadata.generation,
        conditions: None,
    };
    if !deleting {
        if active.len() < wanted {
            actions.push(Action::Create((wanted - active.len()).min(BURST)));
        } else {
            let surplus = (active.len() - wanted).min(BURST);
            if surplus > 0 {
                actions.extend(
                    rank::first_to_go(&active, &observed.pods, set, surplus)
                        .into_iter()
                        .map(|pod| Action::Delete {
                            name: pod.name_any(),
                            uid: pod.uid().unwrap_or_default(),
                        }),
                );
            }
        }
    }
    actions.extend(again.map(Action::Again));
    Decision { actions, status }
}

fn some(count: i32) -> Option<i32> {
    (count > 0).then_some(count)
}

fn set_owners(pod: &Pod, owners: &[OwnerReference]) -> Action {
    Action::SetOwners {
        name: pod.name_any(),
        patch: json!({ "metadata": { "uid": pod.uid(), "ownerReferences": owners } }),
    }
}

fn owner_reference(set: &ReplicaSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: set.name_any(),
        uid: set.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Makes one more pod of the set's template.
fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![owner_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The thin part: reads the hubs, decides, acts.
pub struct Controller {
    cluster: Cluster,
    now: Now,
    recorder: Recorder,
    sets: Arc<Hub<ReplicaSet>>,
    pods: Arc<Hub<Pod>>,
    fresh: Freshness,
    fresh_self: Freshness,
    /// Pods that were asked to end and that the cache still shows otherwise, by set.
    deleted: Mutex<std::collections::HashMap<Key, HashSet<String>>>,
}

/// Wires the controller up.
pub fn wire(wiring: &mut Wiring) {
    let (trigger, queue) = wiring.queue("replicaset");
    let controller = Arc::new(Controller::new(
        wiring.cluster.clone(),
        wiring.config.now.clone(),
        wiring.recorder.clone(),
        wiring.hub(),
        wiring.hub(),
    ));
    let forgetful = controller.clone();
    wiring.listen_self::<ReplicaSet>(&trigger, move |key| forgetful.gone(key));
    let sets = controller.sets.clone();
    wiring.listen::<Pod>(move |pod, previous, _| {
        fire_owners(
            &trigger,
            "ReplicaSet",
            &pod.metadata,
            previous.map(|previous| &previous.metadata),
        );
        if pods::controller_of(&pod.metadata).is_none() && !pod.labels().is_empty() {
            // An orphan may be anybody's.
            for set in sets.in_namespace(&pod.namespace().unwrap_or_default()) {
                trigger.fire(Key::of(&*set));
            }
        }
    });
    let concurrency = wiring.config.concurrency;
    wiring.drive("replicaset", queue, concurrency, controller.reconcile());
}

impl Controller {
    /// Puts the parts together.
    pub fn new(
        cluster: Cluster,
        now: Now,
        recorder: Recorder,
        sets: Arc<Hub<ReplicaSet>>,
        pods: Arc<Hub<Pod>>,
    ) -> Controller {
        Controller {
            cluster,
            now,
            recorder,
            sets,
            pods,
            fresh: Freshness::default(),
            fresh_self: Freshness::default(),
            deleted: Mutex::default(),
        }
    }

    /// Returns the reconcile for the driver.
    pub fn reconcile(self: Arc<Self>) -> Reconcile<ReplicaSet> {
        Arc::new(move |set| {
            let controller = self.clone();
            async move { controller.look(set).await }.boxed()
        })
    }

    /// Forgets a set that is gone.
    pub fn gone(&self, key: &Key) {
        self.deleted.lock().remove(key);
        self.fresh.forget(key);
        self.fresh_self.forget(key);
    }

    async fn look(&self, set: Arc<ReplicaSet>) -> Outcome {
        let key = Key::of(&*set);
        if let Some(wait) = self.fresh.stale(&key, self.pods.seen()) {
            return Ok(Some(wait));
        }
        let spec = &set.spec;
        let selector = Selector::try_from(spec.selector.clone()).map_err(|error| Error::Selector {
            kind: "ReplicaSet",
            name: format!("{}/{}", key.namespace, key.name),
            reason: error.to_string(),
        })?;
        let pods = self.pods.in_namespace(&key.namespace);
        let deleted = self.still_shown(&key, &pods);
        let observed = Observed {
            set: set.clone(),
            pods,
            deleted,
        };
        let Decision { actions, status } = decide(&observed, &selector, (self.now)());
        let mut again: Option<Duration> = None;
        let mut failure: Option<(&'static str, Error)> = None;
        for action in &actions {
            match action {
                Action::SetOwners { name, patch } => {
                    let written = self
                        .cluster
                        .patch(&Kind::of::<Pod>(), key.namespace(), name, None, patch)
                        .await?;
                    self.fresh.wrote(&key, written.revision());
                }
                Action::Create(count) => {
                    failure = self
                        .create(&set, &key, *count)
                        .await
                        .err()
                        .map(|error| ("FailedCreate", error));
                }
                Action::Delete { .. } => {}
                Action::Again(wait) => again = Some(*wait),
            }
        }
        if let Err(error) = self.delete(&set, &key, &actions).await {
            failure = Some(("FailedDelete", error));
        }
        self.report(
            &set,
            &key,
            status,
            failure.as_ref().map(|(reason, error)| (*reason, error.reason_text())),
        )
        .await?;
        match failure {
            Some((_, error)) => Err(error),
            None => Ok(again),
        }
    }

    /// Returns the pods asked to end that the cache still shows as running, and forgets the others.
    fn still_shown(&self, key: &Key, pods: &[Arc<Pod>]) -> HashSet<String> {
        let mut all = self.deleted.lock();
        let Some(deleted) = all.get_mut(key) else {
            return HashSet::new();
        };
        let shown: HashSet<String> = pods
            .iter()
            .filter(|pod| !pods::is_terminating(pod))
            .filter_map(|pod| pod.uid())
            .collect();
        deleted.retain(|uid| shown.contains(uid));
        let still = deleted.clone();
        if still.is_empty() {
            all.remove(key);
        }
        still
    }

    async fn create(&self, set: &ReplicaSet, key: &Key, count: usize) -> Result<(), Error> {
        let pod = new_pod(set);
        let kind = Kind::of::<Pod>();
        let mut created = stream::iter(0..count)
            .map(|_| self.cluster.create(&kind, key.namespace(), &pod))
            .buffer_unordered(PARALLEL);
        while let Some(outcome) = created.next().await {
            match outcome {
                Ok(written) => {
                    self.fresh.wrote(key, written.revision());
                    let message = format!("Created pod: {}", written.metadata.name.unwrap_or_default());
                    self.recorder
                        .record(NAME, set, Level::Normal, "SuccessfulCreate", message);
                }
                Err(error) => {
                    let message = format!("Error creating: {}", error.reason_text());
                    self.recorder.record(NAME, set, Level::Warning, "FailedCreate", message);
                    // What was sent already may have been created: its answer is still wanted.
                    let rest = created.take(PARALLEL - 1).collect::<Vec<_>>();
                    for written in rest.await.into_iter().flatten() {
                        self.fresh.wrote(key, written.revision());
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn delete(&self, set: &ReplicaSet, key: &Key, actions: &[Action]) -> Result<(), Error> {
        let kind = Kind::of::<Pod>();
        let doomed: Vec<(String, String)> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Delete { name, uid } => Some((name.clone(), uid.clone())),
                _ => None,
            })
            .collect();
        let mut deletions = stream::iter(doomed)
            .map(|(name, uid)| {
                let kind = &kind;
                async move {
                    let propagation = Propagation::Background;
                    let outcome = self
                        .cluster
                        .delete(kind, key.namespace(), &name, Some(&uid), propagation, None)
                        .await;
                    (name, uid, outcome)
                }
            })
            .buffer_unordered(PARALLEL);
        let mut failed = None;
        while let Some((name, uid, outcome)) = deletions.next().await {
            match outcome {
                Ok(_) => {
                    self.deleted.lock().entry(key.clone()).or_default().insert(uid);
                    self.recorder.record(
                        NAME,
                        set,
                        Level::Normal,
                        "SuccessfulDelete",
                        format!("Deleted pod: {name}"),
                    );
                }
                Err(error) => {
                    let message = format!("Error deleting: {}", error.reason_text());
                    self.recorder.record(NAME, set, Level::Warning, "FailedDelete", message);
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Writes the status where it differs.
    async fn report(
        &self,
        set: &ReplicaSet,
        key: &Key,
        mut status: ReplicaSetStatus,
        failure: Option<(&str, String)>,
    ) -> Result<(), Error> {
        if self.fresh_self.stale(key, self.sets.seen()).is_some() {
            // The last status is not in the cache yet: when it comes, it is compared.
            return Ok(());
        }
        let before = set.status.clone().unwrap_or_default();
        status.conditions = conditions(&before, failure, whole_seconds((self.now)()));
        let normal = |status: &ReplicaSetStatus| ReplicaSetStatus {
            fully_labeled_replicas: status.fully_labeled_replicas.filter(|count| *count > 0),
            ready_replicas: status.ready_replicas.filter(|count| *count > 0),
            available_replicas: status.available_replicas.filter(|count| *count > 0),
            terminating_replicas: status.terminating_replicas.filter(|count| *count > 0),
            conditions: status.conditions.clone().filter(|conditions| !conditions.is_empty()),
            ..status.clone()
        };
        if normal(&before) == normal(&status) && set.status.is_some() {
            return Ok(());
        }
        let patch = json!({ "status": {
            "replicas": status.replicas,
            "fullyLabeledReplicas": status.fully_labeled_replicas,
            "readyReplicas": status.ready_replicas,
            "availableReplicas": status.available_replicas,
            "terminatingReplicas": status.terminating_replicas,
            "observedGeneration": status.observed_generation,
            "conditions": status.conditions,
        } });
        match self
            .cluster
            .patch(
                &Kind::of::<ReplicaSet>(),
                key.namespace(),
                &key.name,
                Some("status"),
                &patch,
            )
            .await
        {
            Ok(written) => {
                self.fresh_self.wrote(key, written.revision());
                Ok(())
            }
            // It was deleted meanwhile.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Returns the conditions with ReplicaFailure set or removed.
fn conditions(
    before: &ReplicaSetStatus,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let is_failure = |condition: &ReplicaSetCondition| condition.type_.as_deref() == Some("ReplicaFailure");
    match failure {
        Some((reason, message)) => {
            // The message may name a pod that was to be made: were it compared, each try would write, and each write wake
            // the next try at once.
            let known = conditions
                .iter()
                .any(|condition| is_failure(condition) && condition.reason.as_deref() == Some(reason));
            if !known {
                conditions.retain(|condition| !is_failure(condition));
                conditions.push(ReplicaSetCondition {
                    type_: Some("ReplicaFailure".into()),
                    status: Some("True".into()),
                    reason: Some(reason.into()),
                    message: Some(message),
                    last_transition_time: Some(Time(now)),
                });
            }
        }
        None => conditions.retain(|condition| !is_failure(condition)),
    }
    (!conditions.is_empty()).then_some(conditions)
}
