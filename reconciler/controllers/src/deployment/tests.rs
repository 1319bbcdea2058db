//! The Deployment's decisions against a world that obeys them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::sets::{Plan, bounds};
use super::{Action, Observed, decide};

fn deployment(replicas: i32, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "d", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": strategy,
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "web:v1" }] },
            },
        },
    }))
    .expect("a deployment")
}

fn image(deployment: &mut Deployment, image: &str) {
    let spec = deployment.spec.template.spec.as_mut().expect("a spec");
    spec.containers[0].image = Some(image.into());
    deployment.metadata.generation = deployment.metadata.generation.map(|generation| generation + 1);
}

/// A cluster in which ReplicaSets have pods at once, ready when the test says so.
struct World {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    clock: i64,
}

impl World {
    fn new(deployment: Deployment) -> World {
        World {
            deployment,
            sets: BTreeMap::new(),
            clock: 1000,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock).expect("in range")
    }

    fn decide(&self) -> Vec<Action> {
        let observed = Observed {
            deployment: Arc::new(self.deployment.clone()),
            sets: self.sets.values().cloned().map(Arc::new).collect(),
            pods: Vec::new(),
        };
        decide(&observed, self.now())
    }

    /// Acts once; returns whether there was anything to do besides waiting.
    fn step(&mut self) -> bool {
        let actions = self.decide();
        let mut acted = false;
        for action in actions {
            acted |= !matches!(action, Action::Event(..) | Action::Again(_));
            match action {
                Action::CreateSet(mut set) => {
                    self.clock += 1;
                    set.metadata.uid = Some(format!("s{}", self.clock));
                    set.metadata.generation = Some(1);
                    set.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now()));
                    set.status = Some(ReplicaSetStatus {
                        observed_generation: Some(1),
                        ..Default::default()
                    });
                    let name = set.metadata.name.clone().expect("a name");
                    assert!(self.sets.insert(name, *set).is_none(), "a set is created once");
                }
                Action::PatchSet { name, patch } => {
                    let set = self.sets.remove(&name).expect("the set is there");
                    self.sets.insert(name, merged(set, patch));
                }
                Action::DeleteSet { name, .. } => drop(self.sets.remove(&name).expect("the set is there")),
                Action::PatchDeployment(patch) | Action::PatchStatus(patch) => {
                    self.deployment = merged(self.deployment.clone(), patch);
                }
                Action::Event(..) | Action::Again(_) => {}
            }
        }
        acted
    }

    /// Gives each set its pods; those of `ready` sets become available, up to `most` more in all.
    fn pods(&mut self, ready: impl Fn(&str) -> bool, mut most: i32) {
        for (name, set) in &mut self.sets {
            let wanted = set.spec.replicas.unwrap_or(0);
            let status = set.status.get_or_insert_default();
            status.replicas = wanted;
            let before = status.available_replicas.unwrap_or(0).min(wanted);
            let more = if ready(name) { (wanted - before).min(most) } else { 0 };
            most -= more;
            status.available_replicas = Some(before + more);
            status.ready_replicas = status.available_replicas;
        }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let acted = self.step();
            self.pods(|_| true, i32::MAX);
            if !acted && !self.step() {
                return;
            }
        }
        panic!("the deployment does not settle: {:?}", self.decide());
    }

    fn total(&self) -> i32 {
        self.sets.values().map(|set| set.spec.replicas.unwrap_or(0)).sum()
    }

    fn available(&self) -> i32 {
        self.sets
            .values()
            .map(|set| {
                let available = set
                    .status
                    .as_ref()
                    .and_then(|status| status.available_replicas)
                    .unwrap_or(0);
                available.min(set.spec.replicas.unwrap_or(0))
            })
            .sum()
    }

    fn condition(&self, kind: &str) -> Option<(String, String)> {
        let conditions = self.deployment.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions
            .iter()
            .find(|condition| condition.type_.as_deref() == Some(kind))?;
        Some((condition.status.clone()?, condition.reason.clone()?))
    }

    fn sizes(&self) -> Vec<i32> {
        let mut sizes: Vec<i32> = self.sets.values().map(|set| set.spec.replicas.unwrap_or(0)).collect();
        sizes.sort_unstable();
        sizes
    }
}

fn merged<T: serde::Serialize + serde::de::DeserializeOwned>(object: T, patch: Value) -> T {
    fn merge(into: &mut Value, patch: Value) {
        match patch {
            Value::Object(patch) => {
                if !into.is_object() {
                    *into = json!({});
                }
                for (key, value) in patch {
                    if value.is_null() {
                        into.as_object_mut().expect("an object").remove(&key);
                    } else {
                        merge(&mut into[key], value);
                    }
                }
            }
            other => *into = other,
        }
    }
    let mut value = serde_json::to_value(object).expect("JSON");
    merge(&mut value, patch);
    serde_json::from_value(value).expect("the same type")
}

fn condition(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.into(), reason.into()))
}

#[test]
fn percentages_round_as_kubernetes_rounds_them() {
    let percent = |text: &str| Some(IntOrString::String(text.into()));
    for (surge, unavailable, replicas, expected) in [
        ("25%", "25%", 3, (1, 0)),
        ("25%", "25%", 10, (3, 2)),
        ("0%", "25%", 2, (0, 1)),
        ("1%", "1%", 1, (1, 0)),
        ("0%", "0%", 5, (0, 1)),
        ("100%", "100%", 4, (4, 4)),
    ] {
        let (surge, unavailable) = (percent(surge), percent(unavailable));
        assert_eq!(bounds(surge.as_ref(), unavailable.as_ref(), replicas), expected);
    }
    assert_eq!(bounds(None, None, 4), (1, 1));
    assert_eq!(
        bounds(Some(&IntOrString::Int(2)), Some(&IntOrString::Int(9)), 4),
        (2, 4)
    );
}

#[test]
fn a_new_deployment_gets_one_set_of_its_size_and_completes() {
    let mut world = World::new(deployment(3, json!({ "type": "RollingUpdate" })));
    assert!(world.step());
    assert_eq!(world.sizes(), [3]);
    assert_eq!(
        world.condition("Progressing"),
        condition("True", "NewReplicaSetCreated")
    );
    assert_eq!(
        world.condition("Available"),
        condition("False", "MinimumReplicasUnavailable")
    );
    world.settle();
    assert_eq!(
        world.condition("Progressing"),
        condition("True", "NewReplicaSetAvailable")
    );
    assert_eq!(
        world.condition("Available"),
        condition("True", "MinimumReplicasAvailable")
    );
    let status = world.deployment.status.clone().expect("a status");
    assert_eq!(
        (status.replicas, status.updated_replicas, status.available_replicas),
        (Some(3), Some(3), Some(3))
    );
    assert_eq!(status.unavailable_replicas, None);
    let annotations = world.deployment.metadata.annotations.clone().expect("annotations");
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "1");
    assert!(!world.step(), "there is nothing left to do: {:?}", world.decide());
}

#[test]
fn going_back_takes_the_old_set_up_again_under_a_new_revision() {
    let mut world = World::new(deployment(3, json!({ "type": "RollingUpdate" })));
    world.settle();
    let first = world.sets.keys().next().cloned().expect("a set");
    image(&mut world.deployment, "web:v2");
    world.settle();
    assert_eq!(world.sizes(), [0, 3]);
    image(&mut world.deployment, "web:v1");
    world.settle();
    assert_eq!(world.sets[&first].spec.replicas, Some(3));
    let annotations = world.sets[&first].metadata.annotations.clone().expect("annotations");
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn history_is_trimmed_to_its_limit() {
    let mut world = World::new(deployment(1, json!({ "type": "RollingUpdate" })));
    world.deployment.spec.revision_history_limit = Some(2);
    for version in 0..6 {
        image(&mut world.deployment, &format!("web:v{version}"));
        world.settle();
    }
    assert_eq!(world.sets.len(), 3);
}

#[test]
fn recreate_waits_until_the_old_pods_are_gone() {
    let mut world = World::new(deployment(2, json!({ "type": "Recreate" })));
    world.settle();
    image(&mut world.deployment, "web:v2");
    assert!(world.step());
    assert_eq!(world.sizes(), [0], "the old ones go first");
    world.step();
    assert_eq!(world.sets.len(), 1, "their pods are still there");
    world.settle();
    assert_eq!(world.sizes(), [0, 2]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll_out() {
    let mut world = World::new(deployment(3, json!({ "type": "RollingUpdate" })));
    world.settle();
    world.deployment.spec.paused = Some(true);
    image(&mut world.deployment, "web:v2");
    world.deployment.spec.replicas = Some(5);
    world.settle();
    assert_eq!(world.sizes(), [5]);
    assert_eq!(world.condition("Progressing"), condition("Unknown", "DeploymentPaused"));
    world.deployment.spec.paused = None;
    world.settle();
    assert_eq!(world.sizes(), [0, 5]);
    assert_eq!(
        world.condition("Progressing"),
        condition("True", "NewReplicaSetAvailable")
    );
}

#[test]
fn a_stuck_roll_out_says_so_after_its_deadline() {
    let mut world = World::new(deployment(3, json!({ "type": "RollingUpdate" })));
    world.settle();
    image(&mut world.deployment, "web:broken");
    for _ in 0..10 {
        world.step();
        world.pods(|_| false, 0);
    }
    let waits = world.decide().into_iter().find_map(|action| match action {
        Action::Again(wait) => Some(wait),
        _ => None,
    });
    world.clock += i64::try_from(waits.expect("it looks again").as_secs()).expect("small");
    world.step();
    assert_eq!(
        world.condition("Progressing"),
        condition("False", "ProgressDeadlineExceeded")
    );
    assert_eq!(
        world.condition("Available"),
        condition("True", "MinimumReplicasAvailable")
    );
}

#[test]
fn scaling_amid_a_roll_out_keeps_the_proportions() {
    let mut world = World::new(deployment(10, json!({ "type": "RollingUpdate" })));
    world.settle();
    image(&mut world.deployment, "web:v2");
    world.step();
    let before = world.sizes();
    assert_eq!(before.len(), 2);
    world.pods(|_| false, 0);
    world.deployment.spec.replicas = Some(20);
    world.step();
    let after = world.sizes();
    assert_eq!(after.iter().sum::<i32>(), 25, "20 and a surge of a quarter: {after:?}");
    assert!(after[0] >= before[0] && after[1] > before[1], "{before:?} {after:?}");
}

#[test]
fn a_collision_changes_the_name() {
    let mut deployment = deployment(1, json!({}));
    let name = |deployment: &Deployment| {
        let mut plan = Plan::new(deployment, &deployment.spec, &[], Timestamp::UNIX_EPOCH);
        plan.ensure_new();
        plan.sets[0].name.clone()
    };
    let before = name(&deployment);
    assert_eq!(before, name(&deployment));
    deployment.status = Some(k8s_openapi::api::apps::v1::DeploymentStatus {
        collision_count: Some(1),
        ..Default::default()
    });
    assert_ne!(before, name(&deployment));
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..6i32).prop_map(|count| json!(count)),
        (0..=100i32).prop_map(|percent| json!(format!("{percent}%")))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// However slowly and in whatever order pods become ready, an update stays within its bounds and ends.
    #[test]
    fn a_rolling_update_stays_within_its_bounds(
        replicas in 0..12i32,
        surge in amount(),
        unavailable in amount(),
        pace in proptest::collection::vec(0..4i32, 1..30),
    ) {
        let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } });
        let mut world = World::new(deployment(replicas, rolling));
        world.settle();
        let (surge, unavailable) = {
            let plan = Plan::new(&world.deployment, &world.deployment.spec, &[], world.now());
            plan.bounds()
        };
        image(&mut world.deployment, "web:v2");
        for most in pace {
            world.step();
            prop_assert!(world.total() <= replicas + surge, "{} of {replicas}+{surge}", world.total());
            prop_assert!(world.available() >= replicas - unavailable, "{} of {replicas}-{unavailable}", world.available());
            world.pods(|_| true, most);
        }
        world.settle();
        let sizes = world.sizes();
        prop_assert_eq!(sizes.iter().sum::<i32>(), replicas);
        prop_assert_eq!(sizes.last().copied(), Some(replicas));
    }
}
