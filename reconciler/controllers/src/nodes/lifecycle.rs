//! Node lifecycle: a node that stops renewing its lease counts as unreachable, and its pods are evicted in time.
//!
//! Time runs from when a renewal was *seen*, not from what the lease says: clocks may differ, and after a restart of this process
//! every node gets a full grace. It is measured by a clock that stands still while the machine sleeps; and where this process stood
//! still (it could have heard nobody), a node gets a full grace as well.
//!
//! A pod that says nothing about the taints not-ready and unreachable tolerates them for five minutes, as Kubernetes'
//! admission would have written into it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::taints::{NOT_READY, UNREACHABLE, UNSCHEDULABLE, tolerates};
use crate::cluster::{Cluster, Kind, PatchKind, Propagation};
use crate::config::Now;
use crate::deployment::whole_seconds;
use crate::drive::{Key, Outcome, Reconcile};
use crate::events::{Level, Recorder};
use crate::hub::{Hub, Seen};
use crate::pods;
use crate::wiring::Wiring;

const NAME: &str = "node-controller";
const DEFAULT_TOLERATION: Duration = Duration::from_secs(300);
/// A look that comes so much later than it was due means that this process stood still.
const LATE: Duration = Duration::from_secs(10);
/// The namespace of the nodes' leases.
pub const LEASES: &str = "kube-node-lease";

/// What is decided upon.
pub struct Observed {
    /// The node.
    pub node: Arc<Node>,
    /// The pods bound to it.
    pub pods: Vec<Arc<Pod>>,
    /// When it was last seen to report.
    pub seen: Timestamp,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Set conditions of the node (a strategic patch of its status).
    PatchStatus(Value),
    /// Replace the node's taints.
    PatchTaints(Vec<Taint>),
    /// Say that a pod is not ready.
    MarkNotReady {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Delete a pod that no longer tolerates the node.
    Evict {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Look again after this time.
    Again(Duration),
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// Chooses the next actions. `grace` is how long a node may be silent.
pub fn decide(observed: &Observed, grace: Duration, now: Timestamp) -> Vec<Action> {
    let node = &*observed.node;
    let mut actions = Vec::new();
    if node.metadata.deletion_timestamp.is_some() {
        return actions;
    }
    let silent = Duration::try_from(now.duration_since(observed.seen)).unwrap_or_default();
    let stale = silent >= grace;
    if !stale {
        actions.push(Action::Again(grace - silent));
    }
    let mut ready = condition(node, "Ready").map_or("", |condition| condition.status.as_str());
    if stale && ready != "Unknown" {
        ready = "Unknown";
        actions.push(Action::PatchStatus(unknown(node, now)));
    }
    if ready == "Unknown" {
        for pod in observed.pods.iter().filter(|pod| pods::is_ready(pod)) {
            actions.push(Action::MarkNotReady {
                namespace: pod.namespace().unwrap_or_default(),
                name: pod.name_any(),
            });
        }
    }
    let held = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let taints = taints(node, &held, ready, now);
    evictions(&observed.pods, &taints, now, &mut actions);
    if taints != held {
        actions.push(Action::PatchTaints(taints));
    }
    actions
}

/// Returns the patch that makes every condition unknown.
fn unknown(node: &Node, now: Timestamp) -> Value {
    let now = whole_seconds(now);
    let conditions: Vec<Value> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .into_iter()
        .map(|kind| {
            let (reason, message) = match condition(node, kind) {
                Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
                None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
            };
            json!({
                "type": kind, "status": "Unknown", "reason": reason, "message": message,
                "lastTransitionTime": Time(now),
            })
        })
        .collect();
    json!({ "status": { "conditions": conditions } })
}

/// Returns the taints that the node should have: those of others untouched, ours by its conditions.
fn taints(node: &Node, held: &[Taint], ready: &str, now: Timestamp) -> Vec<Taint> {
    let pressure = |kind: &str| condition(node, kind).is_some_and(|condition| condition.status == "True");
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let ours: [(&str, &str, bool); 9] = [
        (NOT_READY, "NoSchedule", matches!(ready, "False" | "")),
        (NOT_READY, "NoExecute", ready == "False"),
        (UNREACHABLE, "NoSchedule", ready == "Unknown"),
        (UNREACHABLE, "NoExecute", ready == "Unknown"),
        (
            "node.kubernetes.io/memory-pressure",
            "NoSchedule",
            pressure("MemoryPressure"),
        ),
        (
            "node.kubernetes.io/disk-pressure",
            "NoSchedule",
            pressure("DiskPressure"),
        ),
        ("node.kubernetes.io/pid-pressure", "NoSchedule", pressure("PIDPressure")),
        (
            "node.kubernetes.io/network-unavailable",
            "NoSchedule",
            pressure("NetworkUnavailable"),
        ),
        (UNSCHEDULABLE, "NoSchedule", cordoned),
    ];
    let is = |taint: &Taint, key: &str, effect: &str| taint.key == key && taint.effect == effect;
    let mut taints: Vec<Taint> = held
        .iter()
        .filter(|taint| {
            !ours
                .iter()
                .any(|(key, effect, wanted)| !wanted && is(taint, key, effect))
        })
        .cloned()
        .collect();
    for (key, effect, wanted) in ours {
        if wanted && !taints.iter().any(|taint| is(taint, key, effect)) {
            taints.push(Taint {
                key: key.to_owned(),
                value: None,
                effect: effect.to_owned(),
                time_added: Some(Time(whole_seconds(now))),
            });
        }
    }
    taints
}

/// Evicts the pods that do not, or no longer, tolerate the node's NoExecute taints.
fn evictions(pods: &[Arc<Pod>], taints: &[Taint], now: Timestamp, actions: &mut Vec<Action>) {
    let taints: Vec<&Taint> = taints.iter().filter(|taint| taint.effect == "NoExecute").collect();
    if taints.is_empty() {
        return;
    }
    for pod in pods.iter().filter(|pod| pods::is_active(pod)) {
        let Some(due) = taints.iter().filter_map(|taint| due(pod, taint, now)).min() else {
            continue;
        };
        if due <= now {
            actions.push(Action::Evict {
                namespace: pod.namespace().unwrap_or_default(),
                name: pod.name_any(),
                uid: pod.uid().unwrap_or_default(),
            });
        } else {
            actions.push(Action::Again(
                Duration::try_from(due.duration_since(now)).unwrap_or_default(),
            ));
        }
    }
}

/// Returns when the pod no longer tolerates the taint; `None` means never.
fn due(pod: &Pod, taint: &Taint, now: Timestamp) -> Option<Timestamp> {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let matching: Vec<_> = tolerations
        .iter()
        .filter(|toleration| tolerates(toleration, taint))
        .collect();
    let patience = if matching.is_empty() {
        if taint.key != NOT_READY && taint.key != UNREACHABLE {
            return Some(now);
        }
        DEFAULT_TOLERATION
    } else {
        let least = matching
            .iter()
            .filter_map(|toleration| toleration.toleration_seconds)
            .min()?;
        Duration::from_secs(u64::try_from(least).unwrap_or(0))
    };
    let since = taint.time_added.as_ref().map_or(now, |time| time.0);
    since.checked_add(patience).ok()
}

/// The thin part.
pub struct Controller {
    cluster: Cluster,
    now: Now,
    recorder: Recorder,
    pods: Arc<Hub<Pod>>,
    grace: Duration,
    seen: Mutex<HashMap<String, Instant>>,
}

/// Wires the controller up.
pub fn wire(wiring: &mut Wiring) {
    let (trigger, queue) = wiring.queue("node-lifecycle");
    let controller = Arc::new(Controller::new(
        wiring.cluster.clone(),
        wiring.config.now.clone(),
        wiring.recorder.clone(),
        wiring.hub(),
        wiring.config.node_grace,
    ));
    let forgetful = controller.clone();
    wiring.listen_self::<Node>(&trigger, move |key| forgetful.gone(&key.name));
    let (fire, listener) = (trigger.clone(), controller.clone());
    wiring.listen::<Lease>(move |lease, previous, seen| {
        let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        if seen == Seen::Applied && previous.is_none_or(|previous| renewed(previous) != renewed(lease)) {
            listener.reported(&lease.name_any());
            if previous.is_none() {
                fire.fire(Key::new("", lease.name_any()));
            }
        }
    });
    let listener = controller.clone();
    wiring.listen::<Node>(move |node, previous, seen| {
        // The agent also reports by its status.
        let beat = |node: &Node| {
            let status = node.status.as_ref();
            let conditions = status
                .and_then(|status| status.conditions.as_deref())
                .unwrap_or_default();
            let beats = conditions.iter().map(|condition| condition.last_heartbeat_time.clone());
            beats.max()
        };
        if seen == Seen::Applied && previous.is_some_and(|previous| beat(previous) != beat(node)) {
            listener.reported(&node.name_any());
        }
    });
    // A pod that is bound to a node that evicts, or was bound before its taint was seen.
    let nodes = wiring.hub::<Node>();
    wiring.listen::<Pod>(move |pod, previous, _| {
        let Some(name) = pods::node_of(pod) else { return };
        if previous.is_some_and(|previous| pods::node_of(previous).is_some()) {
            return;
        }
        let evicts = nodes.get(None, name).is_some_and(|node| {
            let taints = node
                .spec
                .as_ref()
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default();
            taints.iter().any(|taint| taint.effect == "NoExecute")
        });
        if evicts {
            trigger.fire(Key::new("", name));
        }
    });
    wiring.drive("node-lifecycle", queue, 4, controller.reconcile());
}

/// Whether a silence says more about this process than about the node: a look is due when the grace ends, not long after.
fn stood_still(silent: Duration, grace: Duration, ready: &str) -> bool {
    ready != "Unknown" && silent > grace + LATE
}

impl Controller {
    /// Puts the parts together.
    pub fn new(cluster: Cluster, now: Now, recorder: Recorder, pods: Arc<Hub<Pod>>, grace: Duration) -> Controller {
        Controller {
            cluster,
            now,
            recorder,
            pods,
            grace,
            seen: Mutex::default(),
        }
    }

    /// Returns the reconcile for the driver.
    pub fn reconcile(self: Arc<Self>) -> Reconcile<Node> {
        Arc::new(move |node| {
            let controller = self.clone();
            async move { controller.look(node).await }.boxed()
        })
    }

    /// Notes that the node reported just now.
    pub fn reported(&self, node: &str) {
        self.seen.lock().insert(node.to_owned(), Instant::now());
    }

    /// Forgets a node that is gone.
    pub fn gone(&self, node: &str) {
        self.seen.lock().remove(node);
    }

    async fn look(&self, node: Arc<Node>) -> Outcome {
        let name = node.name_any();
        let now = (self.now)();
        let mut silent = self
            .seen
            .lock()
            .entry(name.clone())
            .or_insert_with(Instant::now)
            .elapsed();
        let ready = condition(&node, "Ready").map_or("", |condition| condition.status.as_str());
        if stood_still(silent, self.grace, ready) {
            tracing::warn!(node = name, "this process stood still; the node gets a new grace");
            self.reported(&name);
            silent = Duration::ZERO;
        }
        let seen = now.checked_sub(silent).unwrap_or(now);
        let mut pods = self.pods.all();
        pods.retain(|pod| pods::node_of(pod) == Some(name.as_str()));
        let observed = Observed {
            node: node.clone(),
            pods,
            seen,
        };
        let (nodes, kind) = (Kind::of::<Node>(), Kind::of::<Pod>());
        let mut again: Option<Duration> = None;
        for action in decide(&observed, self.grace, now) {
            match action {
                Action::PatchStatus(patch) => {
                    let strategic = PatchKind::Strategic;
                    self.cluster
                        .patch_as(strategic, &nodes, None, &name, Some("status"), &patch)
                        .await?;
                    let message = format!("Node {name} status is now: NodeNotReady");
                    self.recorder
                        .record(NAME, &*node, Level::Normal, "NodeNotReady", message);
                }
                Action::PatchTaints(taints) => {
                    let version = &node.metadata.resource_version;
                    let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
                    self.cluster.patch(&nodes, None, &name, None, &patch).await?;
                }
                Action::MarkNotReady { namespace, name } => {
                    let patch = json!({ "status": { "conditions": [{
                        "type": "Ready", "status": "False", "reason": "NodeNotReady",
                        "lastTransitionTime": Time(whole_seconds(now)),
                    }] } });
                    let strategic = PatchKind::Strategic;
                    match self
                        .cluster
                        .patch_as(strategic, &kind, Some(&namespace), &name, Some("status"), &patch)
                        .await
                    {
                        Err(error) if !error.is_not_found() => return Err(error),
                        _ => {}
                    }
                }
                Action::Evict { namespace, name, uid } => {
                    let propagation = Propagation::Background;
                    if let Some(pod) = self.pods.get(Some(&namespace), &name) {
                        let message = format!("Marking for deletion Pod {namespace}/{name}");
                        self.recorder.record(
                            "taint-eviction-controller",
                            &*pod,
                            Level::Normal,
                            "TaintManagerEviction",
                            message,
                        );
                    }
                    self.cluster
                        .delete(&kind, Some(&namespace), &name, Some(&uid), propagation, None)
                        .await?;
                }
                Action::Again(wait) => again = Some(again.map_or(wait, |before| before.min(wait))),
            }
        }
        Ok(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    fn node(ready: &str, taints: Value) -> Arc<Node> {
        let node = json!({
            "metadata": { "name": "n" },
            "spec": { "taints": taints },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn pod(tolerations: Value) -> Arc<Pod> {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "default", "uid": "u" },
            "spec": { "containers": [], "nodeName": "n", "tolerations": tolerations },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    const GRACE: Duration = Duration::from_secs(40);

    #[test]
    fn who_stood_still_himself_blames_nobody() {
        assert!(!stood_still(GRACE + Duration::from_secs(1), GRACE, "True"));
        assert!(stood_still(GRACE + Duration::from_secs(30), GRACE, "True"));
        assert!(!stood_still(GRACE + Duration::from_secs(30), GRACE, "Unknown"));
    }

    #[test]
    fn a_node_that_reports_is_left_alone_until_its_grace_ends() {
        let observed = Observed {
            node: node("True", json!([])),
            pods: vec![pod(json!([]))],
            seen: at(100),
        };
        assert_eq!(
            decide(&observed, GRACE, at(110)),
            [Action::Again(Duration::from_secs(30))]
        );
    }

    #[test]
    fn a_silent_node_becomes_unreachable_and_its_pods_unready() {
        let observed = Observed {
            node: node("True", json!([])),
            pods: vec![pod(json!([]))],
            seen: at(100),
        };
        let actions = decide(&observed, GRACE, at(140));
        assert!(
            matches!(&actions[0], Action::PatchStatus(patch) if patch["status"]["conditions"][0]["status"] == "Unknown")
        );
        assert!(matches!(&actions[1], Action::MarkNotReady { .. }));
        assert!(matches!(actions[2], Action::Again(wait) if wait == DEFAULT_TOLERATION));
        let Action::PatchTaints(taints) = &actions[3] else {
            panic!("taints are due: {actions:?}")
        };
        assert_eq!(
            taints.iter().map(|taint| taint.effect.as_str()).collect::<Vec<_>>(),
            ["NoSchedule", "NoExecute"]
        );
    }

    #[test]
    fn a_pod_goes_when_its_toleration_ends() {
        let taints = json!([{ "key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "1970-01-01T00:01:40Z" }]);
        let tolerations = json!([{ "key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 60 }]);
        let observed = Observed {
            node: node("Unknown", taints),
            pods: vec![pod(tolerations)],
            seen: at(0),
        };
        let evicts = |now| {
            decide(&observed, GRACE, at(now))
                .iter()
                .any(|action| matches!(action, Action::Evict { .. }))
        };
        assert!(!evicts(159));
        assert!(evicts(160));
    }

    #[test]
    fn a_taint_of_somebody_else_evicts_at_once_and_stays() {
        let taints = json!([{ "key": "mine", "effect": "NoExecute" }]);
        let observed = Observed {
            node: node("True", taints),
            pods: vec![pod(json!([]))],
            seen: at(100),
        };
        let actions = decide(&observed, GRACE, at(110));
        assert!(matches!(actions[1], Action::Evict { .. }), "{actions:?}");
        assert_eq!(actions.len(), 2);
    }
}
