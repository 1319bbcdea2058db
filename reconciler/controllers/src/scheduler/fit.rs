//! Whether a pod fits a node, which of the nodes suits it best, and why none does. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;

use super::affinity;
use super::resources::{self, Amounts};
use crate::nodes::taints::{UNSCHEDULABLE, tolerates, untolerated};

/// A port on the node itself: protocol, address (empty for all), number.
type HostPort = (String, String, i32);

/// A node and what is taken of it.
#[derive(Clone, Debug)]
pub struct NodeState {
    node: Arc<Node>,
    allocatable: Amounts,
    taken: Amounts,
    pods: i64,
    ports: HashSet<HostPort>,
}

impl NodeState {
    /// Takes a node on which nothing runs yet.
    pub fn new(node: Arc<Node>) -> NodeState {
        let status = node.status.as_ref();
        let quantities = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        let allocatable = resources::amounts(quantities);
        NodeState {
            node,
            allocatable,
            taken: Amounts::new(),
            pods: 0,
            ports: HashSet::new(),
        }
    }

    /// Returns the node's name.
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Counts a pod that runs there, or will.
    pub fn add(&mut self, pod: &Pod) {
        resources::add(&mut self.taken, &resources::of_pod(pod));
        self.pods += 1;
        self.ports.extend(host_ports(pod));
    }

    fn free(&self, resource: &str) -> i64 {
        let held = |amounts: &Amounts| amounts.get(resource).copied().unwrap_or(0);
        held(&self.allocatable) - held(&self.taken)
    }

    /// Returns why the pod does not fit, in Kubernetes' words; empty when it does.
    fn objections(&self, pod: &Pod, request: &Amounts) -> Vec<String> {
        let spec = self.node.spec.as_ref();
        let tolerations = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default();
        let cordon = k8s_openapi::api::core::v1::Taint {
            key: UNSCHEDULABLE.into(),
            value: None,
            effect: "NoSchedule".into(),
            time_added: None,
        };
        let cordoned = spec.and_then(|spec| spec.unschedulable) == Some(true);
        if cordoned && !tolerations.iter().any(|toleration| tolerates(toleration, &cordon)) {
            return vec!["node(s) were unschedulable".into()];
        }
        let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let hard = taints
            .iter()
            .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
        if let Some(taint) = untolerated(hard, tolerations) {
            let value = taint.value.as_deref().unwrap_or_default();
            return vec![format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)];
        }
        if !affinity::required(pod, self.node.labels(), self.name()) {
            return vec!["node(s) didn't match Pod's node affinity/selector".into()];
        }
        if host_ports(pod)
            .iter()
            .any(|wanted| self.ports.iter().any(|taken| clash(wanted, taken)))
        {
            return vec!["node(s) didn't have free ports for the requested pod ports".into()];
        }
        let mut objections = Vec::new();
        if self.allocatable.get("pods").is_some_and(|most| self.pods >= *most) {
            objections.push("Too many pods".into());
        }
        for (resource, amount) in request {
            if *amount > 0 && *amount > self.free(resource) {
                objections.push(format!("Insufficient {resource}"));
            }
        }
        objections
    }

    /// Returns how well the pod suits: the freer the node would stay the better, then the pod's preferences.
    fn score(&self, pod: &Pod, request: &Amounts) -> i64 {
        let free = |resource: &str| -> i64 {
            let most = self.allocatable.get(resource).copied().unwrap_or(0);
            if most <= 0 {
                return 0;
            }
            let left = self.free(resource) - request.get(resource).copied().unwrap_or(0);
            left.max(0).saturating_mul(100) / most
        };
        let least_allocated = (free("cpu") + free("memory")) / 2;
        let preferred = affinity::preferred(pod, self.node.labels(), self.name());
        let tolerations = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default();
        let taints = self
            .node
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.as_deref())
            .unwrap_or_default();
        let disliked = taints
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule")
            .filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
            .count();
        least_allocated + 2 * preferred - 300 * i64::try_from(disliked).unwrap_or(0)
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let host_network = spec.host_network == Some(true);
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port
                .host_port
                .filter(|number| *number > 0)
                .or(host_network.then_some(port.container_port))?;
            let address = port
                .host_ip
                .clone()
                .filter(|ip| ip != "0.0.0.0" && ip != "::")
                .unwrap_or_default();
            Some((port.protocol.clone().unwrap_or_else(|| "TCP".into()), address, number))
        })
        .collect()
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    a.0 == b.0 && a.2 == b.2 && (a.1.is_empty() || b.1.is_empty() || a.1 == b.1)
}

/// Chooses the node for a pod: its index, or why there is none, worded as Kubernetes words it.
///
/// # Errors
/// The message of the pod's condition and event.
pub fn place(pod: &Pod, nodes: &[NodeState]) -> Result<usize, String> {
    place_where(pod, nodes, &|_| Vec::new())
}

/// As [`place`], where a node must suit in other respects, too: `further` says why it does not, empty when it does.
///
/// # Errors
/// As for [`place`].
pub fn place_where(pod: &Pod, nodes: &[NodeState], further: &dyn Fn(&Node) -> Vec<String>) -> Result<usize, String> {
    if nodes.is_empty() {
        return Err("no nodes available to schedule pods".into());
    }
    let request = resources::of_pod(pod);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(i64, usize)> = None;
    for (index, node) in nodes.iter().enumerate() {
        let mut objections = node.objections(pod, &request);
        if objections.is_empty() {
            objections = further(&node.node);
        }
        if objections.is_empty() {
            let score = node.score(pod, &request);
            let better = match best {
                None => true,
                Some((most, at)) => (score, -node.pods) > (most, -nodes[at].pods),
            };
            if better {
                best = Some((score, index));
            }
        }
        for objection in objections {
            *reasons.entry(objection).or_insert(0) += 1;
        }
    }
    if let Some((_, index)) = best {
        return Ok(index);
    }
    let mut reasons: Vec<String> = reasons
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.sort();
    Err(format!(
        "0/{} nodes are available: {}.",
        nodes.len(),
        reasons.join(", ")
    ))
}
