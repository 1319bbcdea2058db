//! The ReplicaSets of a Deployment as a plan that is changed step by step and then turned into actions.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus,
};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::Action;
use crate::events::Level;
use crate::hash::{fnv32, safe_name};
use crate::pods;

/// The label that tells the pods of one template from another's.
pub const TEMPLATE_HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of the Deployment that are its own and not its sets'.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// One ReplicaSet and what becomes of it.
pub(super) struct Set {
    pub(super) name: String,
    /// As it is; `None` when it is about to be created.
    pub(super) object: Option<Arc<ReplicaSet>>,
    /// As it is to be: `spec.replicas`.
    pub(super) replicas: i32,
    /// As they are to be.
    pub(super) annotations: BTreeMap<String, String>,
    min_ready_seconds: i32,
}

impl Set {
    fn of(object: &Arc<ReplicaSet>) -> Set {
        Set {
            name: object.name_any(),
            object: Some(object.clone()),
            replicas: object.spec.replicas.unwrap_or(1),
            annotations: object.annotations().clone(),
            min_ready_seconds: object.spec.min_ready_seconds.unwrap_or(0),
        }
    }

    pub(super) fn status(&self) -> Option<&ReplicaSetStatus> {
        self.object.as_ref()?.status.as_ref()
    }

    /// Returns how many pods there are.
    pub(super) fn actual(&self) -> i32 {
        self.status().map_or(0, |status| status.replicas)
    }

    /// Returns how many available pods may be counted on: a status may be older than the last scale-down.
    pub(super) fn available(&self) -> i32 {
        self.status()
            .and_then(|status| status.available_replicas)
            .unwrap_or(0)
            .min(self.replicas)
    }

    fn was(&self) -> i32 {
        self.object.as_ref().map_or(0, |object| Set::of(object).replicas)
    }

    pub(super) fn created(&self) -> (Timestamp, &str) {
        let at = self
            .object
            .as_ref()
            .and_then(|object| object.metadata.creation_timestamp.as_ref());
        (at.map_or(Timestamp::MAX, |at| at.0), &self.name)
    }

    fn number(&self, annotation: &str) -> Option<i64> {
        self.annotations.get(annotation)?.parse().ok()
    }

    /// Returns the largest size that the Deployment had when this set was last scaled.
    pub(super) fn annotated_max(&self) -> Option<i64> {
        self.number(MAX)
    }
}

/// The sets, the conditions, and what is to become of them.
pub(super) struct Plan<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) now: Timestamp,
    /// Oldest first.
    pub(super) sets: Vec<Set>,
    /// The set of the present template.
    pub(super) newest: Option<usize>,
    pub(super) conditions: Vec<DeploymentCondition>,
    revision: Option<String>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        deployment: &'a Deployment,
        spec: &'a DeploymentSpec,
        objects: &[Arc<ReplicaSet>],
        now: Timestamp,
    ) -> Plan<'a> {
        let mut sets: Vec<Set> = objects.iter().map(Set::of).collect();
        sets.sort_by(|a, b| a.created().cmp(&b.created()));
        let newest = sets.iter().position(|set| {
            let template = set.object.as_ref().and_then(|object| object.spec.template.as_ref());
            same_template(template, Some(&spec.template))
        });
        let conditions = deployment
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        Plan {
            deployment,
            spec,
            now,
            sets,
            newest,
            conditions,
            revision: None,
        }
    }

    /// Returns the wanted number of replicas.
    pub(super) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Returns the indices of all sets but the newest, oldest first.
    pub(super) fn old(&self) -> Vec<usize> {
        (0..self.sets.len())
            .filter(|index| Some(*index) != self.newest)
            .collect()
    }

    /// Returns (maxSurge, maxUnavailable), rounded as Kubernetes does: the one up, the other down, never both zero.
    pub(super) fn bounds(&self) -> (i32, i32) {
        let strategy = self.spec.strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return (0, 0);
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        bounds(surge, unavailable, self.replicas())
    }

    /// Whether the Deployment's size changed since its sets were last scaled.
    pub(super) fn is_scaling(&self) -> bool {
        let replicas = i64::from(self.replicas());
        self.sets
            .iter()
            .any(|set| set.replicas > 0 && set.number(DESIRED).is_some_and(|desired| desired != replicas))
    }

    /// Gives the newest set the next revision and the Deployment's annotations; the Deployment carries its revision.
    pub(super) fn adopt_revision(&mut self) {
        let Some(newest) = self.newest else { return };
        let next = self.next_revision();
        let annotations = self.copied_annotations();
        let set = &mut self.sets[newest];
        set.annotations.extend(annotations);
        let current = set.number(REVISION);
        if current.is_none_or(|current| current < next) {
            if let Some(current) = current {
                let history = set.annotations.entry(REVISION_HISTORY.to_owned()).or_default();
                if !history.is_empty() {
                    history.push(',');
                }
                history.push_str(&current.to_string());
            }
            set.annotations.insert(REVISION.to_owned(), next.to_string());
        }
        set.min_ready_seconds = self.spec.min_ready_seconds.unwrap_or(0);
        self.revision = set.annotations.get(REVISION).cloned();
        if self.spec.progress_deadline_seconds.is_some() && self.condition("Progressing").is_none() {
            let message = format!("Found new replica set {:?}", self.sets[newest].name);
            self.set_condition("Progressing", "True", "FoundNewReplicaSet", message);
        }
    }

    /// Makes sure that there is a set of the present template, at the size that the bounds allow now.
    pub(super) fn ensure_new(&mut self) {
        if self.newest.is_some() {
            return self.adopt_revision();
        }
        let collisions = self
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count);
        let hash = template_hash(&self.spec.template, collisions);
        let mut annotations = self.copied_annotations();
        let revision = self.next_revision().to_string();
        annotations.insert(REVISION.to_owned(), revision.clone());
        self.revision = Some(revision);
        let name = format!("{}-{hash}", self.deployment.name_any());
        self.newest = Some(self.sets.len());
        self.sets.push(Set {
            name: name.clone(),
            object: None,
            replicas: 0,
            annotations,
            min_ready_seconds: self.spec.min_ready_seconds.unwrap_or(0),
        });
        if self.spec.progress_deadline_seconds.is_some() {
            self.set_condition(
                "Progressing",
                "True",
                "NewReplicaSetCreated",
                format!("Created new replica set {name:?}"),
            );
        }
    }

    /// Scales the newest set to all replicas, whatever else runs.
    pub(super) fn fill_new(&mut self) {
        let replicas = self.replicas();
        if let Some(newest) = self.newest {
            self.resize(newest, replicas);
        }
    }

    /// Scales every old set to nothing; returns whether there was one to scale.
    pub(super) fn empty_old(&mut self) -> bool {
        let mut scaled = false;
        for index in self.old() {
            if self.sets[index].replicas > 0 {
                self.resize(index, 0);
                scaled = true;
            }
        }
        scaled
    }

    /// Whether pods of an old set still run or are still ending.
    pub(super) fn old_pods_run(&self, all: &[Arc<Pod>]) -> bool {
        let old: Vec<&str> = self
            .old()
            .into_iter()
            .filter_map(|index| self.sets[index].object.as_ref()?.metadata.uid.as_deref())
            .collect();
        self.old().into_iter().any(|index| self.sets[index].actual() > 0)
            || all.iter().any(|pod| {
                !pods::is_terminal(pod)
                    && pods::controller_of(&pod.metadata).is_some_and(|owner| old.contains(&owner.uid.as_str()))
            })
    }

    /// Sets the size of a set and says in its annotations for which size of the Deployment.
    pub(super) fn resize(&mut self, index: usize, replicas: i32) {
        let (surge, _) = self.bounds();
        let desired = self.replicas();
        let set = &mut self.sets[index];
        set.replicas = replicas.max(0);
        set.annotations.insert(DESIRED.to_owned(), desired.to_string());
        set.annotations
            .insert(MAX.to_owned(), desired.saturating_add(surge).to_string());
    }

    /// Deletes the sets that are empty and older than the history that is kept.
    pub(super) fn trim_history(&self, actions: &mut Vec<Action>) {
        let limit = usize::try_from(self.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let mut old: Vec<&Set> = self
            .old()
            .into_iter()
            .map(|index| &self.sets[index])
            .filter(|set| {
                set.object
                    .as_ref()
                    .is_some_and(|object| object.metadata.deletion_timestamp.is_none())
            })
            .collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|set| set.number(REVISION).unwrap_or(0));
        for set in old.into_iter().take(surplus) {
            let Some(object) = &set.object else { continue };
            let observed = set.status().and_then(|status| status.observed_generation).unwrap_or(0);
            if set.actual() == 0 && set.replicas == 0 && observed >= object.metadata.generation.unwrap_or(0) {
                actions.push(Action::DeleteSet {
                    name: set.name.clone(),
                    uid: object.uid().unwrap_or_default(),
                });
            }
        }
    }

    /// Returns the actions that make the sets, and the Deployment's annotation, as planned.
    pub(super) fn changes(&self, actions: &mut Vec<Action>) {
        for (index, set) in self.sets.iter().enumerate() {
            let was = set.was();
            if set.replicas != was {
                let way = if set.replicas > was { "up" } else { "down" };
                actions.push(Action::Event(
                    Level::Normal,
                    "ScalingReplicaSet",
                    format!("Scaled {way} replica set {} from {was} to {}", set.name, set.replicas),
                ));
            }
            let Some(object) = &set.object else {
                actions.push(Action::CreateSet(Box::new(self.new_set(set))));
                continue;
            };
            let mut patch = Map::new();
            if set.annotations != *object.annotations() {
                patch.insert("metadata".into(), json!({ "annotations": set.annotations }));
            }
            let mut spec = Map::new();
            if set.replicas != was {
                spec.insert("replicas".into(), json!(set.replicas));
            }
            let min_ready = object.spec.min_ready_seconds.unwrap_or(0);
            if Some(index) == self.newest && set.min_ready_seconds != min_ready {
                spec.insert("minReadySeconds".into(), json!(set.min_ready_seconds));
            }
            if !spec.is_empty() {
                patch.insert("spec".into(), Value::Object(spec));
            }
            if !patch.is_empty() {
                actions.push(Action::PatchSet {
                    name: set.name.clone(),
                    patch: Value::Object(patch),
                });
            }
        }
        if let Some(revision) = &self.revision
            && self.deployment.annotations().get(REVISION) != Some(revision)
        {
            actions.push(Action::PatchDeployment(
                json!({ "metadata": { "annotations": { REVISION: revision } } }),
            ));
        }
    }

    fn new_set(&self, set: &Set) -> ReplicaSet {
        let hash = set.name.rsplit('-').next().unwrap_or_default().to_owned();
        let mut template = self.spec.template.clone();
        let metadata = template.metadata.get_or_insert_default();
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        selector
            .match_labels
            .get_or_insert_default()
            .insert(TEMPLATE_HASH.to_owned(), hash);
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(set.name.clone()),
                namespace: self.deployment.namespace(),
                labels: Some(labels),
                annotations: Some(set.annotations.clone()),
                owner_references: Some(vec![owner_reference(self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(set.replicas),
                min_ready_seconds: (set.min_ready_seconds > 0).then_some(set.min_ready_seconds),
                selector,
                template: Some(template),
            },
            status: None,
        }
    }

    fn next_revision(&self) -> i64 {
        self.old()
            .into_iter()
            .filter_map(|index| self.sets[index].number(REVISION))
            .max()
            .unwrap_or(0)
            + 1
    }

    fn copied_annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = self.deployment.annotations().clone();
        annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
        annotations
    }
}

/// Resolves the two bounds of a rolling update for `replicas`.
pub(super) fn bounds(surge: Option<&IntOrString>, unavailable: Option<&IntOrString>, replicas: i32) -> (i32, i32) {
    let resolve = |value: Option<&IntOrString>, up: bool| -> i32 {
        let percent = match value {
            Some(IntOrString::Int(number)) => return (*number).max(0),
            Some(IntOrString::String(text)) => text
                .strip_suffix('%')
                .and_then(|percent| percent.parse::<i64>().ok())
                .unwrap_or(0),
            None => 25,
        };
        let scaled = i64::from(replicas) * percent.max(0);
        let rounded = if up {
            scaled.div_euclid(100) + i64::from(scaled % 100 != 0)
        } else {
            scaled / 100
        };
        i32::try_from(rounded).unwrap_or(i32::MAX)
    };
    let surge = resolve(surge, true);
    let unavailable = resolve(unavailable, false);
    // Both zero would never move; validation refuses it, but two percentages may round there.
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    (surge, unavailable.min(replicas))
}

/// Returns whether two templates make the same pods, whatever set they belong to.
pub(super) fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        let metadata = template.metadata.get_or_insert_default();
        if let Some(labels) = &mut metadata.labels {
            labels.remove(TEMPLATE_HASH);
        }
        metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
        metadata.annotations = metadata
            .annotations
            .take()
            .filter(|annotations| !annotations.is_empty());
        metadata.creation_timestamp = None;
        template
    };
    match (a, b) {
        (Some(a), Some(b)) => a.spec == b.spec && bare(a) == bare(b),
        _ => false,
    }
}

/// Names the template: the same bytes have the same name, unless that name was taken.
fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // A value's maps are sorted here, whatever order serde_json keeps elsewhere.
    let mut text = serde_json::to_value(template)
        .map(|value| crate::hash::canonical(&value))
        .unwrap_or_default();
    if let Some(collisions) = collisions {
        text.push_str(&collisions.to_string());
    }
    safe_name(fnv32(text.as_bytes()))
}

/// Returns the reference that makes `deployment` the controller of a set.
pub(super) fn owner_reference(deployment: &Deployment) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: deployment.name_any(),
        uid: deployment.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
