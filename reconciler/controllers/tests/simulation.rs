//! Random scripts against the pure deciders of Deployments and ReplicaSets, in a world that only obeys them.
//!
//! Reconciles come in any order and as rarely as the script likes, so every decision meets statuses that lag behind.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::core::Selector;
use proptest::prelude::*;
use serde_json::{Value, json};
use setpoint_controllers::{deployment, pods, replicaset};

#[derive(Clone, Debug)]
enum Move {
    Scale(i32),
    Image(u8),
    Pause(bool),
    /// A pod vanishes.
    Kill(usize),
    /// A pod turns ready, or no longer is.
    Ready(usize, bool),
    /// All pods that end are gone, and the others are ready.
    Nodes,
    Deployment,
    Set(usize),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        1 => (0..9i32).prop_map(Move::Scale),
        1 => (0..3u8).prop_map(Move::Image),
        1 => any::<bool>().prop_map(Move::Pause),
        1 => any::<usize>().prop_map(Move::Kill),
        4 => (any::<usize>(), proptest::bool::weighted(0.8)).prop_map(|(pod, ready)| Move::Ready(pod, ready)),
        1 => Just(Move::Nodes),
        6 => Just(Move::Deployment),
        6 => any::<usize>().prop_map(Move::Set),
    ]
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..4i32).prop_map(|count| json!(count)),
        (0..=100i32).prop_map(|percent| json!(format!("{percent}%")))
    ]
}

fn merged<T: serde::Serialize + serde::de::DeserializeOwned>(object: &T, patch: &Value) -> T {
    fn merge(into: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *into = patch.clone();
            return;
        };
        if !into.is_object() {
            *into = json!({});
        }
        let Value::Object(into) = into else { return };
        for (key, value) in patch {
            if value.is_null() {
                into.remove(key);
            } else {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
    let mut value = serde_json::to_value(object).expect("serializable");
    merge(&mut value, patch);
    serde_json::from_value(value).expect("of the same kind")
}

struct World {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    pods: BTreeMap<String, Pod>,
    /// The size when the Deployment was last decided upon.
    decided_for: Option<i32>,
    clock: i64,
}

impl World {
    fn new(replicas: i32, surge: Value, unavailable: Value) -> World {
        let deployment = json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "d", "generation": 1 },
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 2,
                "progressDeadlineSeconds": 600,
                "selector": { "matchLabels": { "app": "web" } },
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "web", "image": "web:0" }] },
                },
            },
        });
        World {
            deployment: serde_json::from_value(deployment).expect("a deployment"),
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            decided_for: None,
            clock: 1000,
        }
    }

    fn tick(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp::from_second(self.clock).expect("in range")
    }

    fn change(&mut self, change: impl FnOnce(&mut Deployment)) {
        let before = self.deployment.spec.clone();
        change(&mut self.deployment);
        if self.deployment.spec != before {
            self.deployment.metadata.generation = self.deployment.metadata.generation.map(|number| number + 1);
        }
    }

    fn wanted(&self) -> i32 {
        self.deployment.spec.replicas.unwrap_or(1)
    }

    /// Returns (maxSurge, maxUnavailable) as the API documents them.
    fn bounds(&self) -> (i32, i32) {
        use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
        let rolling = self
            .deployment
            .spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.clone())
            .unwrap_or_default();
        let resolve = |amount: Option<IntOrString>, up: bool| match amount {
            Some(IntOrString::Int(count)) => count,
            Some(IntOrString::String(text)) => {
                let percent: i32 = text.trim_end_matches('%').parse().expect("a percentage");
                (self.wanted() * percent + if up { 99 } else { 0 }) / 100
            }
            None => unreachable!("both are given"),
        };
        let (surge, unavailable) = (
            resolve(rolling.max_surge, true),
            resolve(rolling.max_unavailable, false),
        );
        (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
    }

    fn total(&self) -> i32 {
        self.sets.values().map(|set| set.spec.replicas.unwrap_or(1)).sum()
    }

    /// Returns how many pods are known to be available and are to stay.
    fn available(&self) -> i32 {
        let known = |set: &ReplicaSet| {
            set.status
                .as_ref()
                .and_then(|status| status.available_replicas)
                .unwrap_or(0)
        };
        self.sets
            .values()
            .map(|set| known(set).min(set.spec.replicas.unwrap_or(1)))
            .sum()
    }

    /// Lets the Deployment's controller decide and act; returns whether it wrote anything.
    fn deployment(&mut self) -> Result<bool, TestCaseError> {
        let now = self.tick();
        let (total, available) = (self.total(), self.available());
        let scaling = self.decided_for.is_some_and(|size| size != self.wanted());
        let observed = deployment::Observed {
            deployment: Arc::new(self.deployment.clone()),
            sets: self.sets.values().cloned().map(Arc::new).collect(),
            pods: self.pods.values().cloned().map(Arc::new).collect(),
        };
        let mut wrote = false;
        for action in deployment::decide(&observed, now) {
            wrote |= !matches!(action, deployment::Action::Event(..) | deployment::Action::Again(_));
            match action {
                deployment::Action::CreateSet(mut set) => {
                    let name = set.name_any();
                    set.metadata.uid = Some(format!("uid-{name}-{}", self.clock));
                    set.metadata.generation = Some(1);
                    set.metadata.creation_timestamp = Some(Time(now));
                    prop_assert!(self.sets.insert(name, *set).is_none(), "a set is created once");
                }
                deployment::Action::PatchSet { name, patch } => {
                    let before = &self.sets[&name];
                    let mut set = merged(before, &patch);
                    if set.spec != before.spec {
                        set.metadata.generation = set.metadata.generation.map(|number| number + 1);
                    }
                    self.sets.insert(name, set);
                }
                deployment::Action::DeleteSet { name, .. } => {
                    let set = self.sets.remove(&name).expect("it is there");
                    prop_assert_eq!(set.spec.replicas, Some(0), "history that is deleted runs nothing");
                }
                deployment::Action::PatchDeployment(patch) | deployment::Action::PatchStatus(patch) => {
                    self.deployment = merged(&self.deployment, &patch);
                }
                deployment::Action::Event(..) | deployment::Action::Again(_) => {}
            }
        }
        let (surge, unavailable) = self.bounds();
        if self.total() > total {
            prop_assert!(
                self.total() <= self.wanted() + surge,
                "{} of {}+{surge}",
                self.total(),
                self.wanted()
            );
        }
        if !scaling {
            let least = self.wanted() - unavailable;
            prop_assert!(
                self.available() >= available.min(least),
                "{available} became {}, wanted {}-{unavailable}",
                self.available(),
                self.wanted()
            );
        }
        self.decided_for = Some(self.wanted());
        Ok(wrote)
    }

    /// Lets the controller of one set decide and act; returns whether it wrote anything.
    fn set(&mut self, name: &str) -> Result<bool, TestCaseError> {
        let now = self.tick();
        let set = self.sets[name].clone();
        let uid = set.uid().expect("a uid");
        let selector = Selector::try_from(set.spec.selector.clone()).expect("a selector");
        let observed = replicaset::Observed {
            set: Arc::new(set.clone()),
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            deleted: HashSet::new(),
        };
        let replicaset::Decision { actions, status } = replicaset::decide(&observed, &selector, now);
        let mut wrote = false;
        for action in actions {
            match action {
                replicaset::Action::Create(count) => {
                    wrote = true;
                    for _ in 0..count {
                        self.clock += 1;
                        let pod = format!("{name}-{}", self.clock);
                        let labels = set
                            .spec
                            .template
                            .as_ref()
                            .and_then(|template| template.metadata.clone());
                        let object = json!({
                            "metadata": {
                                "name": pod, "namespace": "default", "uid": pod,
                                "labels": labels.and_then(|metadata| metadata.labels),
                                "ownerReferences": [{
                                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true,
                                }],
                            },
                            "spec": { "containers": [] },
                            "status": { "phase": "Pending" },
                        });
                        self.pods.insert(pod, serde_json::from_value(object).expect("a pod"));
                    }
                }
                replicaset::Action::Delete { name, .. } => {
                    wrote = true;
                    let pod = self.pods.get_mut(&name).expect("it is there");
                    prop_assert!(!pods::is_terminating(pod), "a pod is deleted once");
                    pod.metadata.deletion_timestamp = Some(Time(now));
                }
                other => prop_assert!(false, "nobody's labels change: {other:?}"),
            }
        }
        let active = self.pods.values().filter(|pod| {
            pods::is_active(pod) && pods::controller_of(&pod.metadata).is_some_and(|owner| owner.uid == uid)
        });
        prop_assert_eq!(
            i32::try_from(active.count()).ok(),
            set.spec.replicas,
            "no more and no fewer"
        );
        let patch = json!({ "status": status });
        let changed = merged(&set, &json!({ "status": null }));
        let changed = merged(&changed, &patch);
        wrote |= changed != set;
        self.sets.insert(name.to_owned(), changed);
        Ok(wrote)
    }

    /// Turns a pod's readiness; returns whether that changed anything.
    fn ready(&mut self, name: &str, ready: bool) -> bool {
        let now = self.tick();
        let pod = self.pods.get_mut(name).expect("it is there");
        let turns = pods::is_ready(pod) != ready && !pods::is_terminating(pod);
        if turns {
            let condition = PodCondition {
                type_: "Ready".into(),
                status: if ready { "True" } else { "False" }.into(),
                last_transition_time: Some(Time(now)),
                ..PodCondition::default()
            };
            pod.status = Some(PodStatus {
                phase: Some("Running".into()),
                conditions: Some(vec![condition]),
                ..PodStatus::default()
            });
        }
        turns
    }

    /// Ends what ends and makes the rest ready; returns whether there was anything to do.
    fn nodes(&mut self) -> bool {
        let before = self.pods.len();
        self.pods.retain(|_, pod| !pods::is_terminating(pod));
        let names: Vec<String> = self.pods.keys().cloned().collect();
        let turned = names.into_iter().filter(|name| self.ready(name, true)).count();
        turned > 0 || self.pods.len() != before
    }

    fn nth<T>(objects: &BTreeMap<String, T>, index: usize) -> Option<String> {
        objects.keys().nth(index.checked_rem(objects.len())?).cloned()
    }

    fn play(&mut self, step: Move) -> Result<(), TestCaseError> {
        match step {
            Move::Scale(replicas) => self.change(|web| web.spec.replicas = Some(replicas)),
            Move::Pause(paused) => self.change(|web| web.spec.paused = Some(paused)),
            Move::Image(tag) => self.change(|web| {
                let spec = web.spec.template.spec.as_mut().expect("a spec");
                spec.containers[0].image = Some(format!("web:{tag}"));
            }),
            Move::Kill(index) => {
                if let Some(name) = World::nth(&self.pods, index) {
                    self.pods.remove(&name);
                }
            }
            Move::Ready(index, ready) => {
                if let Some(name) = World::nth(&self.pods, index) {
                    self.ready(&name, ready);
                }
            }
            Move::Nodes => {
                self.nodes();
            }
            Move::Deployment => {
                self.deployment()?;
            }
            Move::Set(index) => {
                if let Some(name) = World::nth(&self.sets, index) {
                    self.set(&name)?;
                }
            }
        }
        Ok(())
    }

    /// Lets everybody work until nobody writes any more.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..300 {
            let mut wrote = self.deployment()?;
            for name in self.sets.keys().cloned().collect::<Vec<_>>() {
                wrote |= self.set(&name)?;
            }
            wrote |= self.nodes();
            if !wrote {
                return Ok(());
            }
        }
        Err(TestCaseError::fail("it does not settle"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: the bounds hold, the end is what was asked for, and then nothing writes any more.
    #[test]
    fn any_script_keeps_the_bounds_and_ends_as_desired(
        replicas in 0..9i32,
        surge in amount(),
        unavailable in amount(),
        script in proptest::collection::vec(moves(), 1..50),
    ) {
        let mut world = World::new(replicas, surge, unavailable);
        world.settle()?;
        for step in script {
            world.play(step)?;
        }
        world.change(|web| web.spec.paused = None);
        world.settle()?;
        let image = |containers: &Value| containers[0]["image"].clone();
        let wanted = image(&json!(world.deployment.spec.template.spec.as_ref().map(|spec| &spec.containers)));
        for set in world.sets.values() {
            let template = set.spec.template.as_ref().and_then(|template| template.spec.as_ref());
            let current = image(&json!(template.map(|spec| &spec.containers))) == wanted;
            prop_assert_eq!(set.spec.replicas, Some(if current { world.wanted() } else { 0 }));
        }
        prop_assert!(world.sets.len() <= 3, "history has a limit");
        let status = world.deployment.status.clone().unwrap_or_default();
        for count in [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas] {
            prop_assert_eq!(count.unwrap_or(0), world.wanted());
        }
        prop_assert_eq!(status.observed_generation, world.deployment.metadata.generation);
        prop_assert!(!world.deployment()?, "nothing is left to write");
    }
}
