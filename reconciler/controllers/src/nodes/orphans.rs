//! Pods of nodes that do not exist: nobody runs them, so they are removed after a grace.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use serde_json::json;
use tokio::sync::Notify;

use crate::cluster::{Cluster, Kind, Propagation};
use crate::config::Now;
use crate::drive::back_off;
use crate::error::{Class, Error};
use crate::hub::{Hub, Seen};
use crate::metrics::ControllerMetrics;
use crate::pods::node_of;
use crate::wiring::Wiring;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// Nodes that have been missing for the whole grace.
    pub lost: Vec<String>,
    /// When the next one will have been.
    pub again: Option<Duration>,
}

/// Notes which nodes are missing (`missing` is kept between calls) and says which are lost.
pub fn decide(
    bound: impl IntoIterator<Item = String>,
    exists: impl Fn(&str) -> bool,
    missing: &mut HashMap<String, Timestamp>,
    grace: Duration,
    now: Timestamp,
) -> Decision {
    let bound: std::collections::BTreeSet<String> = bound.into_iter().filter(|node| !exists(node)).collect();
    missing.retain(|node, _| bound.contains(node));
    let mut decision = Decision {
        lost: Vec::new(),
        again: None,
    };
    for node in bound {
        let since = *missing.entry(node.clone()).or_insert(now);
        let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        if waited >= grace {
            decision.lost.push(node);
        } else {
            let left = grace - waited;
            decision.again = Some(decision.again.map_or(left, |again| again.min(left)));
        }
    }
    decision
}

/// The thin part.
pub struct Controller {
    /// Where to write.
    pub cluster: Cluster,
    /// The clock.
    pub now: Now,
    /// All pods.
    pub pods: Arc<Hub<Pod>>,
    /// All nodes.
    pub nodes: Arc<Hub<Node>>,
    /// How long a node may be missing.
    pub grace: Duration,
    /// Its figures.
    pub metrics: ControllerMetrics,
}

/// Wires the controller up.
pub fn wire(wiring: &mut Wiring) {
    let controller = Controller {
        cluster: wiring.cluster.clone(),
        now: wiring.config.now.clone(),
        pods: wiring.hub(),
        nodes: wiring.hub(),
        grace: wiring.config.missing_node_grace,
        metrics: wiring.metrics("pod-gc"),
    };
    let wake = Arc::new(Notify::new());
    let waker = wake.clone();
    wiring.listen::<Node>(move |_, _, seen| {
        if seen == Seen::Gone {
            waker.notify_one();
        }
    });
    let (waker, nodes) = (wake.clone(), controller.nodes.clone());
    wiring.listen::<Pod>(move |pod, _, _| {
        if node_of(pod).is_some_and(|node| nodes.get(None, node).is_none()) {
            waker.notify_one();
        }
    });
    wiring.spawn("pod-gc", controller.run(wake));
}

/// Whether the pod was told to go at once already: something else holds it.
fn is_going(pod: &Pod) -> bool {
    crate::pods::is_terminating(pod) && pod.metadata.deletion_grace_period_seconds == Some(0)
}

impl Controller {
    /// Runs until the task is dropped; `wake` says that a node went or a pod of an unknown node came.
    pub async fn run(self, wake: Arc<Notify>) {
        let mut missing = HashMap::new();
        let mut failures = 0;
        loop {
            let wait = match self.look(&mut missing).await {
                Ok(again) => {
                    failures = 0;
                    again
                }
                Err(error) => {
                    failures += 1;
                    self.metrics.errors.inc();
                    tracing::warn!(error = error.reason_text(), "cannot remove pods of lost nodes");
                    Some(back_off(Class::Transient, failures))
                }
            };
            self.metrics.reconciles.inc();
            match wait {
                // Whichever comes first.
                Some(wait) => drop(tokio::time::timeout(wait, wake.notified()).await),
                None => wake.notified().await,
            }
        }
    }

    async fn look(&self, missing: &mut HashMap<String, Timestamp>) -> Result<Option<Duration>, Error> {
        let pods = self.pods.all();
        let bound = pods.iter().filter_map(|pod| node_of(pod).map(str::to_owned));
        let exists = |node: &str| self.nodes.get(None, node).is_some();
        let decision = decide(bound, exists, missing, self.grace, (self.now)());
        let (nodes, kind) = (Kind::of::<Node>(), Kind::of::<Pod>());
        for node in decision.lost {
            if self.cluster.metadata(&nodes, None, &node).await?.is_some() {
                continue;
            }
            for pod in pods
                .iter()
                .filter(|pod| node_of(pod) == Some(node.as_str()) && !is_going(pod))
            {
                let (namespace, name) = (pod.namespace(), pod.name_any());
                if !crate::pods::is_terminal(pod) {
                    let patch = json!({ "status": { "phase": "Failed" } });
                    match self
                        .cluster
                        .patch(&kind, namespace.as_deref(), &name, Some("status"), &patch)
                        .await
                    {
                        Err(error) if !error.is_not_found() => return Err(error),
                        _ => {}
                    }
                }
                let (uid, propagation) = (pod.uid(), Propagation::Background);
                self.cluster
                    .delete(&kind, namespace.as_deref(), &name, uid.as_deref(), propagation, Some(0))
                    .await?;
            }
        }
        Ok(decision.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_lost_only_after_the_whole_grace() {
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        let mut missing = HashMap::new();
        let grace = Duration::from_secs(40);
        let bound = || ["here".to_owned(), "away".to_owned()];
        let exists = |node: &str| node == "here";
        let first = decide(bound(), exists, &mut missing, grace, at(0));
        assert_eq!(
            first,
            Decision {
                lost: vec![],
                again: Some(grace)
            }
        );
        let then = decide(bound(), exists, &mut missing, grace, at(40));
        assert_eq!(
            then,
            Decision {
                lost: vec!["away".into()],
                again: None
            }
        );
        // Back again, and away again: the grace begins anew.
        decide(bound(), |_| true, &mut missing, grace, at(41));
        assert_eq!(
            decide(bound(), exists, &mut missing, grace, at(42)).lost,
            Vec::<String>::new()
        );
    }
}
