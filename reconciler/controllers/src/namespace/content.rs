//! Deletion of a namespace: its content goes first, of every kind there is, then the namespace.
//!
//! Looked at again whenever garbage collection's watches see an object of the namespace go; the slow look besides is a
//! safety net for kinds that cannot be watched.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::{Cluster, Kind, Propagation};
use crate::config::Now;
use crate::drive::{Key, Outcome, Reconcile};
use crate::error::Error;
use crate::kinds::{Kinds, Served};
use crate::wiring::Wiring;

const FINALIZER: &str = "kubernetes";
const PARALLEL: usize = 8;
const SAFETY_NET: Duration = Duration::from_secs(5);

/// What is left of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The kind as `deployments.apps`.
    pub resource: String,
    /// How many objects.
    pub count: usize,
    /// Their finalizers.
    pub finalizers: Vec<String>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing is left: take the finalizer off.
    Finalize(Vec<String>),
    /// Say in the status what is left.
    PatchStatus(Value),
    /// Nothing new to do or to say.
    Wait,
}

/// Chooses what to do about a namespace that is being deleted.
pub fn decide(namespace: &Namespace, left: &[Left], now: Timestamp) -> Action {
    if left.is_empty() {
        let mut finalizers = namespace
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.clone())
            .unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        return Action::Finalize(finalizers);
    }
    let content = left
        .iter()
        .map(|left| format!("{} has {} resource instances", left.resource, left.count))
        .collect::<Vec<_>>()
        .join(", ");
    let mut held: Vec<(String, usize)> = Vec::new();
    for finalizer in left.iter().flat_map(|left| &left.finalizers) {
        match held.iter_mut().find(|(name, _)| name == finalizer) {
            Some((_, count)) => *count += 1,
            None => held.push((finalizer.clone(), 1)),
        }
    }
    let finalizers = held
        .iter()
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect::<Vec<_>>()
        .join(", ");
    let condition = |kind: &str, status: bool, reason: &str, message: String| {
        json!({
            "type": kind, "status": if status { "True" } else { "False" }, "reason": reason, "message": message,
            "lastTransitionTime": Time(now),
        })
    };
    let (finalizers_remain, finalizers_text) = match finalizers.is_empty() {
        true => (false, "All content-preserving finalizers finished".to_owned()),
        false => (
            true,
            format!("Some content in the namespace has finalizers remaining: {finalizers}"),
        ),
    };
    let conditions = [
        condition(
            "NamespaceContentRemaining",
            true,
            "SomeResourcesRemain",
            format!("Some resources are remaining: {content}"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            finalizers_remain,
            if finalizers_remain {
                "SomeFinalizersRemain"
            } else {
                "ContentHasNoFinalizers"
            },
            finalizers_text,
        ),
    ];
    let held = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let known = conditions.iter().all(|wanted| {
        held.iter().any(|held| {
            wanted["type"] == json!(held.type_)
                && wanted["status"] == json!(held.status)
                && wanted["message"] == json!(held.message)
        })
    });
    if known {
        Action::Wait
    } else {
        Action::PatchStatus(json!({ "status": { "conditions": conditions } }))
    }
}

/// The thin part.
pub struct Controller {
    cluster: Cluster,
    now: Now,
    kinds: watch::Receiver<Kinds>,
}

/// Wires the controller up.
pub fn wire(wiring: &mut Wiring) {
    let (trigger, queue) = wiring.queue("namespace");
    let (kinds, now) = (wiring.kinds.subscribe(), wiring.config.now.clone());
    let controller = Arc::new(Controller::new(wiring.cluster.clone(), now, kinds));
    wiring.listen_self::<Namespace>(&trigger, |_| {});
    let namespaces = wiring.hub::<Namespace>();
    wiring.departures.listen(move |namespace| {
        let going = namespaces
            .get(None, namespace)
            .is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some());
        if going {
            trigger.fire(Key::new("", namespace));
        }
    });
    wiring.drive("namespace", queue, 4, controller.reconcile());
}

impl Controller {
    /// Puts the parts together.
    pub fn new(cluster: Cluster, now: Now, kinds: watch::Receiver<Kinds>) -> Controller {
        Controller { cluster, now, kinds }
    }

    /// Returns the reconcile for the driver.
    pub fn reconcile(self: Arc<Self>) -> Reconcile<Namespace> {
        Arc::new(move |namespace| {
            let controller = self.clone();
            async move { controller.look(namespace).await }.boxed()
        })
    }

    async fn look(&self, namespace: Arc<Namespace>) -> Outcome {
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(None);
        }
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.as_deref())
            .unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(None);
        }
        // Asked anew: a definition may have come since the last time, and nothing of it may stay behind.
        let kinds = match Kinds::discover(self.cluster.client().clone()).await {
            Ok(kinds) => kinds,
            Err(error) => {
                if self.kinds.borrow().iter().next().is_none() {
                    return Err(error);
                }
                self.kinds.borrow().clone()
            }
        };
        let name = namespace.name_any();
        let wanted: Vec<Served> = kinds
            .iter()
            .filter(|kind| kind.namespaced && kind.deletable)
            .cloned()
            .collect();
        let mut left = Vec::new();
        let mut emptied = stream::iter(wanted)
            .map(|kind| self.empty(kind, &name))
            .buffer_unordered(PARALLEL);
        while let Some(rest) = emptied.next().await {
            left.extend(rest?);
        }
        left.sort_by(|a, b| a.resource.cmp(&b.resource));
        match decide(&namespace, &left, (self.now)()) {
            Action::Finalize(finalizers) => {
                self.cluster
                    .finalize_namespace(&name, namespace.metadata.uid.as_deref(), &finalizers)
                    .await?;
                Ok(None)
            }
            Action::PatchStatus(patch) => {
                let kind = Kind::of::<Namespace>();
                match self.cluster.patch(&kind, None, &name, Some("status"), &patch).await {
                    Ok(_) => Ok(Some(SAFETY_NET)),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Action::Wait => Ok(Some(SAFETY_NET)),
        }
    }

    /// Asks everything of a kind to go; returns what is left.
    async fn empty(&self, served: Served, namespace: &str) -> Result<Option<Left>, Error> {
        let kind = &served.kind;
        let mut objects = self.list(kind, namespace).await?;
        if objects.iter().any(|object| object.deletion_timestamp.is_none()) {
            if served.deletes_collection {
                match self.cluster.delete_collection(kind, namespace).await {
                    Err(error) if error.is_not_found() => {}
                    other => other?,
                }
            } else {
                for object in objects.iter().filter(|object| object.deletion_timestamp.is_none()) {
                    let name = object.name.as_deref().unwrap_or_default();
                    let uid = object.uid.as_deref();
                    self.cluster
                        .delete(kind, Some(namespace), name, uid, Propagation::Background, None)
                        .await?;
                }
            }
            objects = self.list(kind, namespace).await?;
        }
        if objects.is_empty() {
            return Ok(None);
        }
        let group = kind.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        Ok(Some(Left {
            resource: format!("{}.{group}", kind.plural),
            count: objects.len(),
            finalizers: objects
                .into_iter()
                .flat_map(|object| object.finalizers.unwrap_or_default())
                .collect(),
        }))
    }

    async fn list(&self, kind: &Kind, namespace: &str) -> Result<Vec<ObjectMeta>, Error> {
        match self.cluster.remaining(kind, namespace).await {
            // The kind went away meanwhile, and its objects with it.
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        serde_json::from_value(json!({
            "metadata": { "name": "a" }, "spec": { "finalizers": ["kubernetes", "example.com/mine"] },
        }))
        .expect("a namespace")
    }

    #[test]
    fn an_empty_namespace_loses_our_finalizer_only() {
        let action = decide(&namespace(), &[], Timestamp::UNIX_EPOCH);
        assert_eq!(action, Action::Finalize(vec!["example.com/mine".into()]));
    }

    #[test]
    fn the_status_says_what_is_left_once() {
        let left = [Left {
            resource: "pods.".into(),
            count: 2,
            finalizers: vec!["x".into(), "x".into()],
        }];
        let Action::PatchStatus(patch) = decide(&namespace(), &left, Timestamp::UNIX_EPOCH) else {
            panic!("a status is due")
        };
        let mut told = namespace();
        told.status = serde_json::from_value(patch["status"].clone()).expect("a status");
        assert_eq!(decide(&told, &left, Timestamp::UNIX_EPOCH), Action::Wait);
        let message = patch["status"]["conditions"][1]["message"].as_str().unwrap_or_default();
        assert!(message.ends_with("x in 2 resource instances"), "{message}");
    }
}
