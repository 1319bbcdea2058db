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

/// Returns the containers that run with other limits than the object asks for.
pub fn changes(spec: &PodSpec, observed: &Observed) -> Vec<Change> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| decide::is_sidecar(container));
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
    spec.containers.iter().chain(sidecars).filter_map(change).collect()
}

fn amounts(of: &ResourceRequirements, name: &str) -> (Option<i128>, Option<i128>) {
    (resources::request(Some(of), name), resources::limit(Some(of), name))
}

/// Says how a resize stands: settled when nothing is to be changed, pending when the node can never grant it, else as it was.
pub fn assess(spec: &PodSpec, observed: &Observed) -> Resize {
    if observed.resize == Resize::Doing {
        return Resize::Doing;
    }
    if changes(spec, observed).is_empty() {
        return Resize::Settled;
    }
    if let Some(message) = lacking(spec, observed.capacity) {
        return Resize::Infeasible(message);
    }
    match &observed.resize {
        Resize::Infeasible(_) => Resize::Settled,
        other => other.clone(),
    }
}

/// Says what the node does not have, in the kubelet's words.
fn lacking(spec: &PodSpec, capacity: Option<Capacity>) -> Option<String> {
    let capacity = capacity?;
    let requested = |name: &str| resources::pod_request(spec, name);
    let cpu = requested("cpu");
    if cpu > capacity.cpu_millis {
        let has = capacity.cpu_millis;
        return Some(format!(
            "Node didn't have enough capacity: cpu, requested: {cpu}, capacity: {has}"
        ));
    }
    let memory = requested("memory") / 1000;
    (memory > capacity.memory).then(|| {
        let has = capacity.memory;
        format!("Node didn't have enough capacity: memory, requested: {memory}, capacity: {has}")
    })
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
        let back = spec(json!({"cpu": "1", "memory": "64Mi"}), json!([]));
        assert_eq!(assess(&back, &observed), Resize::Settled);
    }
}
