//! Resizes of running pods (`pods/resize`): which containers are to have other limits than they were given, and whether the node can give them. Pure.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use crate::decide;
use crate::observed::{Observed, Resize};
use crate::resources;

/// The condition of a pod whose resize the node cannot grant.
pub const PENDING: &str = "PodResizePending";
/// The condition of a pod that is being resized.
pub const IN_PROGRESS: &str = "PodResizeInProgress";

/// The resources that can be changed, as quantities and `resizePolicy` name them.
const NAMES: [&str; 2] = ["cpu", "memory"];

/// What a node has for its pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Processors in thousandths.
    pub cpu_millis: i128,
    /// Memory in bytes.
    pub memory: i128,
}

/// A container that is to have other limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Its attempt.
    pub attempt: u32,
    /// What it is to have.
    pub resources: ResourceRequirements,
    /// Whether it has to be restarted for that.
    pub restart: bool,
}

/// Returns the containers that can be resized.
fn resizable(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| decide::is_sidecar(container));
    spec.containers.iter().chain(sidecars)
}

/// Returns whether a container was given something else than the object asks for, whether it runs or not.
fn is_wanted(spec: &PodSpec, observed: &Observed) -> bool {
    let differs = |container: &Container| {
        let wanted = container.resources.clone().unwrap_or_default();
        let known = observed.containers.get(&container.name);
        let applied = known.and_then(|known| known.applied.as_ref());
        applied.is_some_and(|applied| {
            NAMES
                .iter()
                .any(|name| amounts(&wanted, name) != amounts(applied, name))
        })
    };
    resizable(spec).any(differs)
}

/// Returns the containers that run with other limits than the object asks for.
pub fn changes(spec: &PodSpec, observed: &Observed) -> Vec<Change> {
    let change = |container: &Container| {
        let known = observed.containers.get(&container.name)?;
        let wanted = container.resources.clone().unwrap_or_default();
        let applied = known.applied.as_ref()?;
        let current = known.current.as_ref().filter(|current| current.exit.is_none())?;
        if known.busy.is_some() || known.kill.is_some() {
            return None;
        }
        let changed = |name: &&str| amounts(&wanted, name) != amounts(applied, name);
        let changed: Vec<&str> = NAMES.into_iter().filter(changed).collect();
        let mut policies = container.resize_policy.iter().flatten();
        let restart = policies.any(|policy| {
            changed.contains(&policy.resource_name.as_str()) && policy.restart_policy == "RestartContainer"
        });
        (!changed.is_empty()).then(|| Change {
            name: container.name.clone(),
            attempt: current.attempt,
            resources: wanted,
            restart,
        })
    };
    resizable(spec).filter_map(change).collect()
}

fn amounts(of: &ResourceRequirements, name: &str) -> (Option<i128>, Option<i128>) {
    (resources::request(Some(of), name), resources::limit(Some(of), name))
}

/// Returns what a pod requests of what a node has.
pub fn requested(spec: &PodSpec) -> Capacity {
    Capacity {
        cpu_millis: resources::pod_request(spec, "cpu"),
        memory: resources::pod_request(spec, "memory") / 1000,
    }
}

/// Returns the spec with what its containers were given in place of what they are to have.
pub fn allocated(spec: &PodSpec, observed: &Observed) -> PodSpec {
    let mut spec = spec.clone();
    let inits = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(inits) {
        let known = observed.containers.get(&container.name);
        // One that is about to be restarted for it has it already.
        let known = known.filter(|known| known.kill.is_none());
        if let Some(applied) = known.and_then(|known| known.applied.clone()) {
            container.resources = Some(applied);
        }
    }
    spec
}

/// Says how a resize stands: settled when nothing is to be changed, pending when the node cannot grant it now or ever, else as it was.
pub fn assess(spec: &PodSpec, observed: &Observed) -> Resize {
    if observed.resize == Resize::Doing {
        return Resize::Doing;
    }
    if !is_wanted(spec, observed) {
        return Resize::Settled;
    }
    if let Some(capacity) = observed.capacity {
        let requested = requested(spec);
        if let Some(message) = lacking(requested, capacity) {
            return Resize::Infeasible(message);
        }
        if let Some(message) = crowded(requested, observed.others, capacity) {
            return Resize::Deferred(message);
        }
    }
    match &observed.resize {
        Resize::Infeasible(_) | Resize::Deferred(_) => Resize::Settled,
        other => other.clone(),
    }
}

/// The amounts of two or three capacities, by the resource's name.
fn by_name<const N: usize>(all: [Capacity; N]) -> [(&'static str, [i128; N]); 2] {
    [
        ("cpu", all.map(|one| one.cpu_millis)),
        ("memory", all.map(|one| one.memory)),
    ]
}

/// Says what the node does not have at all, in the kubelet's words.
fn lacking(requested: Capacity, capacity: Capacity) -> Option<String> {
    let all = by_name([requested, capacity]).into_iter();
    let lacking = |(name, [requested, capacity]): (&str, [i128; 2])| {
        (requested > capacity)
            .then(|| format!("Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"))
    };
    all.filter_map(lacking).next()
}

/// Says of what other pods have too much for a pod to have this, in the kubelet's words.
pub fn crowded(requested: Capacity, used: Capacity, capacity: Capacity) -> Option<String> {
    let all = by_name([requested, used, capacity]).into_iter();
    let crowded = |(name, [requested, used, capacity]): (&str, [i128; 3])| {
        (requested > 0 && requested > capacity - used).then(|| {
            format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            )
        })
    };
    all.filter_map(crowded).next()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use setpoint_runtime::spec::ContainerState;

    use super::*;
    use crate::observed::Container as Known;

    fn spec(limits: Value, policy: Value) -> PodSpec {
        let resources = json!({"limits": limits, "requests": limits});
        serde_json::from_value(json!({"containers": [{"name": "a", "resources": resources, "resizePolicy": policy}]}))
            .expect("a spec")
    }

    fn running(applied: Value) -> Observed {
        let mut known = Known {
            applied: Some(serde_json::from_value(applied).expect("resources")),
            ..Known::default()
        };
        known.take(ContainerState {
            mounted: Vec::new(),
            name: "a".to_owned(),
            attempt: 3,
            image: String::new(),
            pid: 1,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            exit: None,
        });
        Observed {
            containers: [("a".to_owned(), known)].into(),
            capacity: Some(Capacity {
                cpu_millis: 2000,
                memory: 1 << 30,
            }),
            ..Observed::default()
        }
    }

    #[test]
    fn only_what_differs_in_value_is_changed_and_restarted_as_its_policy_says() {
        let observed = running(json!({"limits": {"cpu": "1", "memory": "64Mi"}}));
        let same = spec(json!({"cpu": "1000m", "memory": "64Mi"}), json!([]));
        assert_eq!(changes(&same, &observed), []);
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}, {"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        let more_cpu = changes(
            &spec(json!({"cpu": "1500m", "memory": "64Mi"}), policy.clone()),
            &observed,
        );
        assert_eq!(
            (more_cpu.len(), more_cpu[0].restart, more_cpu[0].attempt),
            (1, false, 3)
        );
        let more_memory = changes(&spec(json!({"cpu": "1", "memory": "128Mi"}), policy), &observed);
        assert!(more_memory[0].restart);
    }

    #[test]
    fn what_the_node_does_not_have_is_infeasible_until_it_is_asked_for_no_more() {
        let mut observed = running(json!({"limits": {"cpu": "1", "memory": "64Mi"}}));
        let much = spec(json!({"cpu": "3", "memory": "64Mi"}), json!([]));
        let message = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000";
        observed.resize = assess(&much, &observed);
        assert_eq!(observed.resize, Resize::Infeasible(message.to_owned()));
        let less = spec(json!({"cpu": "2", "memory": "64Mi"}), json!([]));
        assert_eq!(assess(&less, &observed), Resize::Settled);
        observed.others.memory = (1 << 30) - (32 << 20);
        let message =
            "Node didn't have enough resource: memory, requested: 67108864, used: 1040187392, capacity: 1073741824";
        assert_eq!(assess(&less, &observed), Resize::Deferred(message.to_owned()));
        let back = spec(json!({"cpu": "1", "memory": "64Mi"}), json!([]));
        assert_eq!(assess(&back, &observed), Resize::Settled);
    }
}
