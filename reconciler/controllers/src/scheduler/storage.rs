//! Pods with persistent volumes: which nodes their claims allow, and binding the claims before the pod.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;

use super::{Memory, NAME, NodeState, Scheduler, place, place_where};
use crate::drive::back_off;
use crate::error::{Class, Error};
use crate::events::Level;
use crate::pods::{self, node_of};
use crate::volumes::actions::carry_out;
use crate::volumes::scheduling::{Bindings, PodClaims, Promises, Storage, claims_for};
use crate::volumes::{SELECTED_NODE, claims_of, is_fully_bound};

/// How long a pod's claims may take to be bound once its node is chosen.
const BIND_LIMIT: Duration = Duration::from_secs(600);
const USED_ALONE: &str = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

/// Why a pod's claims were not bound.
pub(super) enum Unbound {
    /// The API refused a write.
    Refused(Error),
    /// What was chosen holds no longer: choose anew.
    Changed,
    /// It took too long.
    Late,
}

impl Scheduler {
    /// Chooses a node for a pod, and what has to be done about its claims there.
    pub(super) fn choose(&self, memory: &Memory, pod: &Pod, states: &[NodeState]) -> Result<(usize, Bindings), String> {
        if claims_of(pod).is_empty() || states.is_empty() {
            return place(pod, states).map(|index| (index, Bindings::default()));
        }
        let (volumes, classes) = (self.volumes.all(), self.classes.all());
        let mut promises = Promises::default();
        for assumed in memory.assumed.lock().values() {
            promises.extend(&assumed.promises);
        }
        let find = |namespace: &str, name: &str| self.claims.get(Some(namespace), name);
        let storage = Storage {
            claim: &find,
            volumes: &volumes,
            classes: &classes,
            promises: &promises,
        };
        let claims =
            claims_for(pod, &storage).map_err(|why| format!("0/{} nodes are available: {why}.", states.len()))?;
        let used_alone = self.is_used_alone(memory, pod, &claims);
        let further = |node: &Node| {
            if used_alone {
                return vec![USED_ALONE.to_owned()];
            }
            claims.on(node, &storage).err().unwrap_or_default()
        };
        let index = place_where(pod, states, &further)?;
        let bindings = claims.on(states[index].node(), &storage).unwrap_or_default();
        Ok((index, bindings))
    }

    /// Whether another pod has a claim that only one may use at a time.
    fn is_used_alone(&self, memory: &Memory, pod: &Pod, claims: &PodClaims) -> bool {
        if claims.alone().is_empty() {
            return false;
        }
        let namespace = pod.namespace().unwrap_or_default();
        let uses = |other: &Pod| {
            other.uid() != pod.uid()
                && !pods::is_terminal(other)
                && other.namespace().as_deref() == Some(&namespace)
                && claims_of(other).iter().any(|(name, _)| claims.alone().contains(name))
        };
        let running = self.pods.in_namespace(&namespace);
        running.iter().any(|other| node_of(other).is_some() && uses(other))
            || memory.assumed.lock().values().any(|assumed| uses(&assumed.pod))
    }

    /// Has the claims of a pod bound for its node; returns once they are.
    pub(super) async fn bind_volumes(&self, pod: &Arc<Pod>, node: &str, bindings: Bindings) -> Result<(), Unbound> {
        if bindings.awaited.is_empty() {
            return Ok(());
        }
        let written = carry_out(&self.cluster, &self.recorder, bindings.actions)
            .await
            .map_err(Unbound::Refused)?;
        let mut changes = self.wake.storage.subscribe();
        let bound = async {
            loop {
                changes.mark_unchanged();
                if let Some(outcome) = self.look_at_claims(pod, node, &bindings.awaited, written.claims) {
                    return outcome;
                }
                // The sender lives as long as the scheduler.
                if changes.changed().await.is_err() {
                    return Err(Unbound::Changed);
                }
            }
        };
        match tokio::time::timeout(BIND_LIMIT, bound).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Unbound::Late),
        }
    }

    /// Whether the claims are bound, or will not be; `None` as long as neither is known.
    fn look_at_claims(&self, pod: &Pod, node: &str, awaited: &[String], written: u64) -> Option<Result<(), Unbound>> {
        let namespace = pod.namespace();
        let live = self.pods.get(namespace.as_deref(), &pod.name_any());
        if !live.is_some_and(|live| live.uid() == pod.uid() && pods::is_active(&live)) {
            return Some(Err(Unbound::Changed));
        }
        if self.claims.seen() < written {
            return None;
        }
        let mut all = true;
        for name in awaited {
            let Some(claim) = self.claims.get(namespace.as_deref(), name) else {
                return Some(Err(Unbound::Changed));
            };
            if is_fully_bound(&claim) {
                continue;
            }
            all = false;
            // Who makes volumes takes the choice back where it cannot.
            let elsewhere = claim
                .annotations()
                .get(SELECTED_NODE)
                .is_none_or(|chosen| chosen != node);
            if claim.metadata.deletion_timestamp.is_some() || (elsewhere && !self.is_promised(&claim)) {
                return Some(Err(Unbound::Changed));
            }
        }
        all.then_some(Ok(()))
    }

    /// Whether a volume is kept for the claim.
    fn is_promised(&self, claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim) -> bool {
        // The volumes may be seen later than the claims: until then the promise is believed.
        let volumes = self.volumes.all();
        volumes.iter().any(|volume| crate::volumes::is_for(volume, claim)) || self.volumes.seen() < self.claims.seen()
    }

    /// Says why a pod's claims were not bound, and has it tried again.
    pub(super) async fn volumes_failed(&self, memory: &Memory, pod: &Pod, uid: String, failure: Unbound) {
        let (class, message) = match failure {
            Unbound::Changed => return self.wake.node(),
            Unbound::Refused(error) if error.is_conflict() || error.is_not_found() => (Class::Conflict, None),
            Unbound::Refused(error) => (error.class(), Some(error.reason_text())),
            Unbound::Late => (Class::Transient, Some("context deadline exceeded".to_owned())),
        };
        self.metrics.errors.inc();
        if let Some(message) = message {
            let message = format!("running PreBind plugin \"VolumeBinding\": binding volumes: {message}");
            self.recorder
                .record(NAME, pod, Level::Warning, "FailedScheduling", message);
        }
        tokio::time::sleep(back_off(class, memory.fails(uid))).await;
        self.wake.node();
    }
}
