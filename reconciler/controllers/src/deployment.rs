//! Deployments: a template and a number become ReplicaSets, and one template becomes the next.
//!
//! [`decide`] is pure: from the Deployment, its ReplicaSets and whether old pods still run it chooses the next actions. It
//! follows Kubernetes' controller (`pkg/controller/deployment`) in rounding, order, annotations, conditions and reasons. Two
//! laws hold in every state: there are never more pods than `replicas + maxSurge`, and a scale-down never takes the
//! available ones below `replicas - maxUnavailable`.

mod rolling;
mod sets;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind, Propagation};
use crate::config::Now;
use crate::drive::{Key, Outcome, Reconcile};
use crate::error::Error;
use crate::events::{Level, Recorder};
use crate::fresh::Freshness;
use crate::hub::{Hub, Seen};
use crate::pods;
use crate::wiring::{Wiring, fire_owners};

/// What the controller calls itself in events.
pub const NAME: &str = "deployment-controller";

/// What is decided upon.
pub struct Observed {
    /// The Deployment.
    pub deployment: Arc<Deployment>,
    /// The ReplicaSets that it controls.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// The pods of its namespace; needed by the strategy Recreate only, which waits for the old ones to end.
    pub pods: Vec<Arc<Pod>>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the ReplicaSet of the present template.
    CreateSet(Box<ReplicaSet>),
    /// Merge a patch into a ReplicaSet.
    PatchSet {
        /// Its name.
        name: String,
        /// The merge patch.
        patch: Value,
    },
    /// Delete a ReplicaSet that history no longer needs.
    DeleteSet {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Merge a patch into the Deployment.
    PatchDeployment(Value),
    /// Merge a patch into the Deployment's status.
    PatchStatus(Value),
    /// Record an event.
    Event(Level, &'static str, String),
    /// Look again after this time, even if nothing changes.
    Again(Duration),
}

/// Chooses the next actions.
pub fn decide(observed: &Observed, now: Timestamp) -> Vec<Action> {
    let deployment = &*observed.deployment;
    let spec = &deployment.spec;
    let mut actions = Vec::new();
    let mut plan = sets::Plan::new(deployment, spec, &observed.sets, now);
    if deployment.metadata.deletion_timestamp.is_some() {
        plan.finish(status::Progress::Keep, &mut actions);
        return actions;
    }
    plan.note_pause();
    let recreate = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
    if spec.paused == Some(true) || plan.is_scaling() {
        plan.adopt_revision();
        rolling::scale(&mut plan);
        if spec.paused == Some(true) {
            plan.trim_history(&mut actions);
        }
        plan.finish(status::Progress::Keep, &mut actions);
        return actions;
    }
    if recreate {
        plan.adopt_revision();
        if !plan.empty_old() && !plan.old_pods_run(&observed.pods) {
            plan.ensure_new();
            plan.fill_new();
        }
    } else {
        plan.ensure_new();
        rolling::step(&mut plan);
    }
    if plan.is_complete() {
        plan.trim_history(&mut actions);
    }
    plan.finish(status::Progress::Judge, &mut actions);
    actions
}

/// Which ReplicaSets to adopt and which to let go, as patches.
fn claims(
    deployment: &Deployment,
    selector: &Selector,
    sets: &[Arc<ReplicaSet>],
) -> (Vec<Arc<ReplicaSet>>, Vec<Action>) {
    let uid = deployment.uid().unwrap_or_default();
    let deleting = deployment.metadata.deletion_timestamp.is_some();
    let mut mine = Vec::new();
    let mut actions = Vec::new();
    for set in sets {
        let matches = selector.matches(set.labels());
        match pods::controller_of(&set.metadata) {
            Some(owner) if owner.uid == uid => {
                if matches || set.metadata.deletion_timestamp.is_some() {
                    mine.push(set.clone());
                } else if !deleting {
                    let owners: Vec<_> = set
                        .owner_references()
                        .iter()
                        .filter(|owner| owner.uid != uid)
                        .cloned()
                        .collect();
                    actions.push(Action::PatchSet {
                        name: set.name_any(),
                        patch: json!({ "metadata": { "uid": set.uid(), "ownerReferences": owners } }),
                    });
                }
            }
            Some(_) => {}
            None if matches && !deleting && set.metadata.deletion_timestamp.is_none() => {
                let mut owners = set.owner_references().to_vec();
                owners.push(sets::owner_reference(deployment));
                actions.push(Action::PatchSet {
                    name: set.name_any(),
                    patch: json!({ "metadata": { "uid": set.uid(), "ownerReferences": owners } }),
                });
            }
            None => {}
        }
    }
    (mine, actions)
}

/// The thin part: reads the hubs, decides, acts.
pub struct Controller {
    /// Where to write.
    pub cluster: Cluster,
    /// The clock.
    pub now: Now,
    /// Where to record events.
    pub recorder: Recorder,
    /// All Deployments.
    pub deployments: Arc<Hub<Deployment>>,
    /// All ReplicaSets.
    pub sets: Arc<Hub<ReplicaSet>>,
    /// All pods.
    pub pods: Arc<Hub<Pod>>,
    fresh_sets: Freshness,
    fresh_self: Freshness,
}

/// Wires the controller up.
pub fn wire(wiring: &mut Wiring) {
    let (trigger, queue) = wiring.queue("deployment");
    let controller = Arc::new(Controller::new(
        wiring.cluster.clone(),
        wiring.config.now.clone(),
        wiring.recorder.clone(),
        wiring.hub(),
        wiring.hub(),
        wiring.hub(),
    ));
    let forgetful = controller.clone();
    wiring.listen_self::<Deployment>(&trigger, move |key| forgetful.gone(key));
    let (fire, hub) = (trigger.clone(), controller.deployments.clone());
    wiring.listen::<ReplicaSet>(move |set, previous, _| {
        fire_owners(
            &fire,
            "Deployment",
            &set.metadata,
            previous.map(|previous| &previous.metadata),
        );
        if pods::controller_of(&set.metadata).is_none() {
            // An orphaned set may be anybody's.
            for deployment in hub.in_namespace(&set.namespace().unwrap_or_default()) {
                fire.fire(Key::of(&*deployment));
            }
        }
    });
    // A Deployment that recreates waits for the last old pod to be gone.
    let sets = controller.sets.clone();
    wiring.listen::<Pod>(move |pod, _, seen| {
        if (seen == Seen::Gone || pods::is_terminal(pod))
            && let Some(owner) = pods::controller_of(&pod.metadata)
            && let Some(set) = sets.get(pod.namespace().as_deref(), &owner.name)
        {
            fire_owners(&trigger, "Deployment", &set.metadata, None);
        }
    });
    let concurrency = wiring.config.concurrency;
    wiring.drive("deployment", queue, concurrency, controller.reconcile());
}

impl Controller {
    /// Puts the parts together.
    pub fn new(
        cluster: Cluster,
        now: Now,
        recorder: Recorder,
        deployments: Arc<Hub<Deployment>>,
        sets: Arc<Hub<ReplicaSet>>,
        pods: Arc<Hub<Pod>>,
    ) -> Controller {
        Controller {
            cluster,
            now,
            recorder,
            deployments,
            sets,
            pods,
            fresh_sets: Freshness::default(),
            fresh_self: Freshness::default(),
        }
    }

    /// Returns the reconcile for the driver.
    pub fn reconcile(self: Arc<Self>) -> Reconcile<Deployment> {
        Arc::new(move |deployment| {
            let controller = self.clone();
            async move { controller.look(deployment).await }.boxed()
        })
    }

    /// Forgets a Deployment that is gone.
    fn gone(&self, key: &Key) {
        self.fresh_sets.forget(key);
        self.fresh_self.forget(key);
    }

    async fn look(&self, deployment: Arc<Deployment>) -> Outcome {
        let key = Key::of(&*deployment);
        if let Some(wait) = self
            .fresh_sets
            .stale(&key, self.sets.seen())
            .or_else(|| self.fresh_self.stale(&key, self.deployments.seen()))
        {
            return Ok(Some(wait));
        }
        let spec = &deployment.spec;
        let selector = Selector::try_from(spec.selector.clone()).map_err(|error| Error::Selector {
            kind: "Deployment",
            name: format!("{}/{}", key.namespace, key.name),
            reason: error.to_string(),
        })?;
        if selector.selects_all() {
            self.recorder.record(
                NAME,
                &*deployment,
                Level::Warning,
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            );
            return Ok(None);
        }
        let (sets, claims) = claims(&deployment, &selector, &self.sets.in_namespace(&key.namespace));
        let actions = if claims.is_empty() {
            let recreate = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
            let pods = if recreate {
                self.pods.in_namespace(&key.namespace)
            } else {
                Vec::new()
            };
            let observed = Observed {
                deployment: deployment.clone(),
                sets,
                pods,
            };
            decide(&observed, whole_seconds((self.now)()))
        } else {
            claims
        };
        self.act(&deployment, &key, actions).await
    }

    async fn act(&self, deployment: &Deployment, key: &Key, actions: Vec<Action>) -> Outcome {
        let (sets, deployments) = (Kind::of::<ReplicaSet>(), Kind::of::<Deployment>());
        let namespace = key.namespace();
        let mut again: Option<Duration> = None;
        for action in actions {
            match action {
                Action::CreateSet(set) => match self.cluster.create(&sets, namespace, &set).await {
                    Ok(written) => self.fresh_sets.wrote(key, written.revision()),
                    Err(error) if error.is_already_exists() => {
                        return self.collided(deployment, key, &set).await;
                    }
                    Err(error) => {
                        self.recorder.record(
                            NAME,
                            deployment,
                            Level::Warning,
                            "ReplicaSetCreateError",
                            format!(
                                "Failed to create new replica set {:?}: {}",
                                set.name_any(),
                                error.reason_text()
                            ),
                        );
                        return Err(error);
                    }
                },
                Action::PatchSet { name, patch } => {
                    let written = self.cluster.patch(&sets, namespace, &name, None, &patch).await?;
                    self.fresh_sets.wrote(key, written.revision());
                }
                Action::DeleteSet { name, uid } => {
                    self.cluster
                        .delete(&sets, namespace, &name, Some(&uid), Propagation::Background, None)
                        .await?;
                }
                Action::PatchDeployment(patch) => {
                    let written = self
                        .cluster
                        .patch(&deployments, namespace, &key.name, None, &patch)
                        .await?;
                    self.fresh_self.wrote(key, written.revision());
                }
                Action::PatchStatus(patch) => {
                    let written = self
                        .cluster
                        .patch(&deployments, namespace, &key.name, Some("status"), &patch)
                        .await?;
                    self.fresh_self.wrote(key, written.revision());
                }
                Action::Event(level, reason, message) => {
                    self.recorder.record(NAME, deployment, level, reason, message);
                }
                Action::Again(wait) => again = Some(again.map_or(wait, |before| before.min(wait))),
            }
        }
        Ok(again)
    }

    /// The name of the new set is taken: by a set of ours that the cache does not show yet, or by a hash collision.
    async fn collided(&self, deployment: &Deployment, key: &Key, set: &ReplicaSet) -> Outcome {
        let api: kube::Api<ReplicaSet> = kube::Api::namespaced(self.cluster.client().clone(), &key.namespace);
        let live = api.get_opt(&set.name_any()).await.map_err(|source| Error::Api {
            operation: "read",
            kind: "replicasets".into(),
            name: set.name_any(),
            source: Box::new(source),
        })?;
        let ours = live.as_ref().is_some_and(|live| {
            pods::controller_of(&live.metadata).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref()
                && sets::same_template(live.spec.template.as_ref(), set.spec.template.as_ref())
        });
        match live {
            Some(live) if ours => self.fresh_sets.wrote(key, crate::cluster::revision(&live.metadata)),
            Some(_) => {
                let count = deployment
                    .status
                    .as_ref()
                    .and_then(|status| status.collision_count)
                    .unwrap_or(0)
                    .saturating_add(1);
                let patch = json!({ "status": { "collisionCount": count } });
                let kind = Kind::of::<Deployment>();
                let written = self
                    .cluster
                    .patch(&kind, key.namespace(), &key.name, Some("status"), &patch)
                    .await?;
                self.fresh_self.wrote(key, written.revision());
            }
            None => {}
        }
        Ok(Some(Duration::from_millis(50)))
    }
}

/// Times in a status have whole seconds; a status compared with what was stored must agree.
pub(crate) fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
