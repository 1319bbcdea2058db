//! The loops: what wakes them, and the thin part around the decisions.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;

use super::actions::{Action, Newest, Object, carry_out};
use super::{HOSTNAME, claim, claim_ref, claims_of, ephemeral, protection, provision, volume, volume_name};
use crate::cluster::{Cluster, Kind};
use crate::drive::{Key, Outcome, Trigger};
use crate::error::Error;
use crate::events::{Level, Recorder};
use crate::fresh::Freshness;
use crate::hub::{Hub, Seen};
use crate::pods::node_of;
use crate::wiring::Wiring;

/// What the controller calls itself in events.
pub(super) const NAME: &str = "persistentvolume-controller";
/// How long reading the pods of a namespace may take.
const LIST_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Whether it is a claim, and which object.
type About = (bool, Key);
/// The reason and message of an event.
type News = (&'static str, String);

struct Controller {
    cluster: Cluster,
    recorder: Recorder,
    claims: Arc<Hub<PersistentVolumeClaim>>,
    volumes: Arc<Hub<PersistentVolume>>,
    classes: Arc<Hub<StorageClass>>,
    nodes: Arc<Hub<Node>>,
    pods: Arc<Hub<Pod>>,
    /// What was written about a claim's binding must be seen in both kinds before it is decided again.
    claims_written: Freshness,
    volumes_written: Freshness,
    /// What was said last about a claim or volume that waits, so that it is said once.
    said: Mutex<HashMap<About, News>>,
}

/// Wires the controllers up.
pub fn wire(wiring: &mut Wiring) {
    let (claims, claim_queue) = wiring.queue("persistentvolumeclaims");
    let (volumes, volume_queue) = wiring.queue("persistentvolumes");
    let (pods, pod_queue) = wiring.queue("ephemeral-volumes");
    let controller = Arc::new(Controller {
        cluster: wiring.cluster.clone(),
        recorder: wiring.recorder.clone(),
        claims: wiring.hub(),
        volumes: wiring.hub(),
        classes: wiring.hub(),
        nodes: wiring.hub(),
        pods: wiring.hub(),
        claims_written: Freshness::default(),
        volumes_written: Freshness::default(),
        said: Mutex::default(),
    });
    listen(wiring, &controller, &claims, &volumes, &pods);
    let concurrency = wiring.config.concurrency;
    let one = controller.clone();
    wiring.drive::<PersistentVolumeClaim>(
        "persistentvolumeclaims",
        claim_queue,
        concurrency,
        Arc::new(move |claim| {
            let controller = one.clone();
            async move { controller.claim(claim).await }.boxed()
        }),
    );
    let one = controller.clone();
    wiring.drive::<PersistentVolume>(
        "persistentvolumes",
        volume_queue,
        concurrency,
        Arc::new(move |volume| {
            let controller = one.clone();
            async move { controller.volume(volume).await }.boxed()
        }),
    );
    wiring.drive::<Pod>(
        "ephemeral-volumes",
        pod_queue,
        concurrency,
        Arc::new(move |pod| {
            let controller = controller.clone();
            async move { controller.pod(pod).await }.boxed()
        }),
    );
}

/// What wakes whom: each object its own decision, and those of the objects that are decided by what it says.
fn listen(wiring: &mut Wiring, controller: &Arc<Controller>, claims: &Trigger, volumes: &Trigger, pods: &Trigger) {
    let unbound = |controller: &Controller, claims: &Trigger| {
        for claim in controller.claims.all() {
            if !super::is_fully_bound(&claim) {
                claims.fire(Key::of(&*claim));
            }
        }
    };
    let (one, own, others, users) = (controller.clone(), claims.clone(), volumes.clone(), pods.clone());
    wiring.listen::<PersistentVolumeClaim>(move |claim, previous, seen| {
        let key = Key::of(&**claim);
        match seen {
            Seen::Applied => own.fire(key.clone()),
            Seen::Gone => one.forget(true, &key),
        }
        for claim in [Some(claim), previous].into_iter().flatten() {
            if !volume_name(claim).is_empty() {
                others.fire(Key::new("", volume_name(claim)));
            }
        }
        if seen == Seen::Gone {
            for volume in one.volumes.all() {
                if claim_ref(&volume).is_some_and(|reference| reference.uid == claim.metadata.uid) {
                    others.fire(Key::of(&*volume));
                }
            }
            // A pod whose own claim was deleted under it gets another.
            if let Some(owner) = crate::pods::controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod") {
                users.fire(Key::new(key.namespace, owner.name.clone()));
            }
        }
    });
    let (one, own, others) = (controller.clone(), volumes.clone(), claims.clone());
    wiring.listen::<PersistentVolume>(move |volume, previous, seen| {
        match seen {
            Seen::Applied => own.fire(Key::of(&**volume)),
            Seen::Gone => one.forget(false, &Key::of(&**volume)),
        }
        for volume in [Some(volume), previous].into_iter().flatten() {
            if let Some(reference) = claim_ref(volume) {
                let namespace = reference.namespace.clone().unwrap_or_default();
                others.fire(Key::new(namespace, reference.name.clone().unwrap_or_default()));
            }
        }
        // One that nobody has may be what others wait for; so may one that they name.
        if claim_ref(volume).is_none() || seen == Seen::Gone {
            unbound(&one, &others);
        }
    });
    let (one, others) = (controller.clone(), claims.clone());
    wiring.listen::<StorageClass>(move |_, _, _| unbound(&one, &others));
    let (one, others, going) = (controller.clone(), claims.clone(), volumes.clone());
    wiring.listen::<Node>(move |node, previous, seen| {
        let folder = |node: &Node| provision::folder_of(node).map(str::to_owned);
        let same = previous.is_some_and(|previous| {
            folder(previous) == folder(node) && previous.metadata.labels == node.metadata.labels
        });
        if seen == Seen::Gone || !same {
            unbound(&one, &others);
        }
        if seen == Seen::Gone {
            for volume in one.volumes.all() {
                if volume.metadata.deletion_timestamp.is_some() {
                    going.fire(Key::of(&*volume));
                }
            }
        }
    });
    let (others, own) = (claims.clone(), pods.clone());
    wiring.listen::<Pod>(move |pod, previous, seen| {
        let used = claims_of(pod);
        if seen == Seen::Applied && used.iter().any(|(_, ephemeral)| *ephemeral) {
            own.fire(Key::of(&**pod));
        }
        let bound = |pod: &Pod| (node_of(pod).is_some(), crate::pods::is_terminal(pod));
        let same = previous.is_some_and(|previous| bound(previous) == bound(pod));
        if seen == Seen::Gone || !same {
            let namespace = pod.namespace().unwrap_or_default();
            for (name, _) in used {
                others.fire(Key::new(namespace.clone(), name));
            }
        }
    });
}

impl Controller {
    fn forget(&self, is_claim: bool, key: &Key) {
        self.said.lock().remove(&(is_claim, key.clone()));
        if is_claim {
            self.claims_written.forget(key);
            self.volumes_written.forget(key);
        }
    }

    async fn claim(&self, claim: Arc<PersistentVolumeClaim>) -> Outcome {
        let key = Key::of(&*claim);
        let behind = [
            self.claims_written.stale(&key, self.claims.seen()),
            self.volumes_written.stale(&key, self.volumes.seen()),
        ];
        if let Some(wait) = behind.into_iter().flatten().min() {
            return Ok(Some(wait));
        }
        if let Some(finalizers) = self.claim_finalizers(&claim).await? {
            let patch = json!({ "metadata": { "finalizers": finalizers } });
            let action = Action::Patch {
                object: Object::Claim(claim),
                patch,
            };
            let written = unless_gone(carry_out(&self.cluster, &self.recorder, vec![action]).await)?;
            self.note(&key, written);
            return Ok(None);
        }
        let (volumes, classes, nodes) = (self.volumes.all(), self.classes.all(), self.nodes.all());
        let waiting: Vec<String> = self
            .pods
            .in_namespace(&key.namespace)
            .iter()
            .filter(|pod| node_of(pod).is_none() && claims_of(pod).iter().any(|(name, _)| *name == key.name))
            .map(|pod| pod.name_any())
            .collect();
        let scene = claim::Scene {
            volumes: &volumes,
            classes: &classes,
            nodes: &nodes,
            waiting: &waiting,
        };
        let actions = self.news(true, &key, claim::decide(&claim, &scene));
        if actions.is_empty() {
            return Ok(None);
        }
        let written = unless_gone(carry_out(&self.cluster, &self.recorder, actions).await)?;
        self.note(&key, written);
        Ok(None)
    }

    fn note(&self, key: &Key, written: Newest) {
        for (fresh, revision) in [
            (&self.claims_written, written.claims),
            (&self.volumes_written, written.volumes),
        ] {
            if revision > 0 {
                fresh.wrote(key, revision);
            }
        }
    }

    /// Leaves out what was said about an object already.
    fn news(&self, is_claim: bool, key: &Key, mut actions: Vec<Action>) -> Vec<Action> {
        let mut said = self.said.lock();
        let slot = (is_claim, key.clone());
        actions.retain(|action| match action {
            Action::Event { reason, message, .. } => {
                let news = (*reason, message.clone());
                said.insert(slot.clone(), news.clone()) != Some(news)
            }
            _ => true,
        });
        actions
    }

    /// Which finalizers a claim should have. Before a claim is let go the cluster itself is asked who uses it: a cache may be behind.
    async fn claim_finalizers(&self, claim: &PersistentVolumeClaim) -> Result<Option<Vec<String>>, Error> {
        let namespace = claim.namespace().unwrap_or_default();
        let cached = self.pods.in_namespace(&namespace);
        let wanted = protection::of_claim(claim, || cached.iter().any(|pod| protection::uses(pod, claim)));
        if wanted.is_none() || claim.metadata.deletion_timestamp.is_none() {
            return Ok(wanted);
        }
        let api: Api<Pod> = Api::namespaced(self.cluster.client().clone(), &namespace);
        let listed = tokio::time::timeout(LIST_LIMIT, api.list(&ListParams::default())).await;
        let name = || format!("{namespace}/*");
        let pods = match listed {
            Ok(Ok(pods)) => pods.items,
            Ok(Err(source)) => {
                return Err(Error::Api {
                    operation: "list",
                    kind: "pods".to_owned(),
                    name: name(),
                    source: Box::new(source),
                });
            }
            Err(_) => {
                return Err(Error::Timeout {
                    operation: "list",
                    kind: "pods".to_owned(),
                    name: name(),
                    seconds: LIST_LIMIT.as_secs(),
                });
            }
        };
        Ok(protection::of_claim(claim, || {
            pods.iter().any(|pod| protection::uses(pod, claim))
        }))
    }

    async fn volume(&self, volume: Arc<PersistentVolume>) -> Outcome {
        let key = Key::of(&*volume);
        let mut actions = Vec::new();
        if let Some(finalizers) = protection::of_volume(&volume) {
            actions.push(Action::Patch {
                object: Object::Volume(volume.clone()),
                patch: json!({ "metadata": { "finalizers": finalizers } }),
            });
        } else {
            let claim = claim_ref(&volume).and_then(|reference| {
                let name = reference.name.as_deref().unwrap_or_default();
                self.claims.get(reference.namespace.as_deref(), name)
            });
            let nodes = self.nodes.all();
            let exists = |host: &str| {
                let named = |node: &&Arc<Node>| node.labels().get(HOSTNAME).is_some_and(|name| name == host);
                nodes.iter().any(|node| named(&node))
            };
            actions.extend(volume::decide(&volume, claim.as_deref(), &exists));
            // Data goes with the volume: what the caches say is not enough.
            if actions.iter().any(|action| matches!(action, Action::DeleteVolume(_))) && !self.is_lost(&volume).await? {
                actions.retain(|action| !matches!(action, Action::DeleteVolume(_)));
            }
        }
        let actions = self.news(false, &key, actions);
        unless_gone(carry_out(&self.cluster, &self.recorder, actions).await)?;
        Ok(None)
    }

    /// Asks the API whether a volume is as it was seen, and its claim is not there.
    async fn is_lost(&self, volume: &PersistentVolume) -> Result<bool, Error> {
        let client = self.cluster.client().clone();
        let name = volume.name_any();
        let api: Api<PersistentVolume> = Api::all(client.clone());
        let now = self.live(&api, "persistentvolumes", &name).await?;
        let policy = |volume: &PersistentVolume| {
            let spec = volume.spec.as_ref()?;
            spec.persistent_volume_reclaim_policy.clone()
        };
        let same = now.is_some_and(|now| {
            now.metadata.uid == volume.metadata.uid
                && policy(&now) == policy(volume)
                && claim_ref(&now).map(|claim| &claim.uid) == claim_ref(volume).map(|claim| &claim.uid)
        });
        let Some(reference) = claim_ref(volume).filter(|_| same) else {
            return Ok(same);
        };
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(client, namespace);
        let claim = reference.name.as_deref().unwrap_or_default();
        let claim = self.live(&api, "persistentvolumeclaims", claim).await?;
        Ok(claim.is_none_or(|claim| claim.metadata.uid != reference.uid))
    }

    async fn live<K>(&self, api: &Api<K>, kind: &str, name: &str) -> Result<Option<K>, Error>
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        match tokio::time::timeout(LIST_LIMIT, api.get_opt(name)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(source)) => Err(Error::Api {
                operation: "get",
                kind: kind.to_owned(),
                name: name.to_owned(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::Timeout {
                operation: "get",
                kind: kind.to_owned(),
                name: name.to_owned(),
                seconds: LIST_LIMIT.as_secs(),
            }),
        }
    }

    async fn pod(&self, pod: Arc<Pod>) -> Outcome {
        let namespace = pod.namespace().unwrap_or_default();
        let needs = ephemeral::decide(&pod, |name| self.claims.get(Some(&namespace), name));
        let failed = |message: String| {
            self.recorder
                .record("ephemeral_volume", &*pod, Level::Warning, "FailedBinding", message);
        };
        for problem in needs.problems {
            failed(problem);
        }
        let kind = Kind::of::<PersistentVolumeClaim>();
        for claim in needs.claims {
            match self.cluster.create(&kind, Some(&namespace), &claim).await {
                Ok(_) => {}
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let name = claim["metadata"]["name"].as_str().unwrap_or_default();
                    failed(format!("ephemeral volume: create PVC {name}: {}", error.reason_text()));
                    return Err(error);
                }
            }
        }
        Ok(None)
    }
}

/// What is gone meanwhile needs nothing more.
fn unless_gone(outcome: Result<Newest, Error>) -> Result<Newest, Error> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(Newest::default()),
        other => other,
    }
}
