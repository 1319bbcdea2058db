//! Following the folder, and keeping the mirrors as it says.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::{Declared, Key, declared, mirrored};
use crate::containers::chain;
use crate::folder_watch::watch;
use crate::pods::Pods;
use crate::sources::REQUEST_LIMIT;

/// A slow safety net behind the folder's events: one that was made anew, or a file system that tells nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// How long a change may be followed by others that belong to it.
const TOGETHER: Duration = Duration::from_millis(250);
/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What the keeper needs.
pub(crate) struct Keep {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// The node's name.
    pub(crate) node: String,
    /// The API.
    pub(crate) client: Client,
    /// The pods of the node.
    pub(crate) pods: Pods,
    /// Ends it.
    pub(crate) stop: CancellationToken,
}

/// What was complained of: each thing is said once, until it is well and wrong again.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    files: HashSet<String>,
    mirrors: HashSet<String>,
}

impl Keep {
    /// Takes what the folder says.
    pub(crate) fn read(&self, said: &mut Complaints) {
        let (mut pods, faults) = match declared::read(&self.folder, &self.node) {
            Ok(read) => read,
            Err(error) => {
                // What was declared stays so: nothing ends because a disk hiccups.
                let fault = format!("{}: it cannot be read: {error}", self.folder.display());
                complain(&mut said.files, HashSet::from([fault]));
                return;
            }
        };
        // What a file said before it was broken goes on.
        for (key, before) in self.pods.statics().declared() {
            if faults.iter().any(|(file, _)| *file == before.file) {
                pods.entry(key).or_insert(before);
            }
        }
        let faults = faults
            .iter()
            .map(|(file, fault)| format!("{}: {}", self.folder.join(file).display(), chain(fault)));
        complain(&mut said.files, faults.collect());
        for hash in self.pods.statics().declare(pods) {
            self.pods.end_static(&hash);
        }
    }
}

fn complain(said: &mut HashSet<String>, now: HashSet<String>) {
    for fault in now.difference(said) {
        tracing::error!("a static pod does not run: {fault}");
    }
    *said = now;
}

/// Follows the folder and writes the mirrors until the agent stops.
pub(crate) async fn keep(keep: Keep, mut said: Complaints) {
    let watcher = watch(&keep.folder, keep.pods.statics().changed.clone());
    if let Err(error) = &watcher {
        tracing::warn!(
            folder = %keep.folder.display(),
            error = chain(error),
            "the folder of static pods cannot be watched; it is looked at every {} s",
            LOOK_AGAIN.as_secs()
        );
    }
    let changed = keep.pods.statics().changed.clone();
    loop {
        let pause = if keep.write(&mut said).await { LOOK_AGAIN } else { RETRY };
        tokio::select! {
            () = keep.stop.cancelled() => return,
            // Who writes a file empties it first.
            () = changed.notified() => tokio::time::sleep(TOGETHER).await,
            () = tokio::time::sleep(pause) => {}
        }
        keep.read(&mut said);
    }
}

impl Keep {
    /// Makes the mirrors what is declared; returns whether all are.
    async fn write(&self, said: &mut Complaints) -> bool {
        if !self.pods.is_listed() {
            // The mirrors of before are not known yet; the list wakes this.
            return true;
        }
        let (declared, mirrors) = (self.pods.statics().declared(), self.pods.statics().mirrors());
        let mut done = true;
        for (key, mirror) in &mirrors {
            let wanted = declared.get(key).map(|pod| pod.hash.as_str());
            if mirror.metadata.deletion_timestamp.is_some() || mirrored(mirror) != wanted {
                done &= self.delete(key, mirror).await;
            }
        }
        let missing: Vec<&Declared> = missing(&declared, &mirrors);
        if missing.is_empty() {
            said.mirrors.clear();
            return done;
        }
        let owner = match self.owner().await {
            Ok(owner) => owner,
            Err(error) => {
                tracing::warn!(
                    node = self.node,
                    error,
                    "the mirrors of static pods cannot be written yet"
                );
                return false;
            }
        };
        let mut faults = HashSet::new();
        for pod in missing {
            if let Err(fault) = self.create(pod, &owner).await {
                let (name, namespace) = (&pod.pod.metadata.name, &pod.pod.metadata.namespace);
                let (name, namespace) = (
                    name.as_deref().unwrap_or_default(),
                    namespace.as_deref().unwrap_or_default(),
                );
                faults.insert(format!(
                    "pod {namespace}/{name} of {} cannot be mirrored: {fault}",
                    self.folder.display()
                ));
                done = false;
            }
        }
        complain(&mut said.mirrors, faults);
        done
    }

    fn api(&self, key: &Key) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.0)
    }

    async fn owner(&self) -> Result<OwnerReference, String> {
        let api: Api<Node> = Api::all(self.client.clone());
        let node = match tokio::time::timeout(REQUEST_LIMIT, api.get(&self.node)).await {
            Ok(Ok(node)) => node,
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_) => return Err("the API gave no answer in time".to_owned()),
        };
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node.clone(),
            uid: node.metadata.uid.unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        })
    }

    async fn delete(&self, key: &Key, mirror: &Pod) -> bool {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: mirror.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match tokio::time::timeout(REQUEST_LIMIT, self.api(key).delete(&key.1, &params)).await {
            Ok(Ok(_)) => true,
            // It is gone, or another: the watch tells.
            Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => true,
            Ok(Err(error)) => {
                tracing::warn!(
                    pod = key.1,
                    error = chain(&error),
                    "the mirror of a static pod cannot be deleted"
                );
                false
            }
            Err(_) => false,
        }
    }

    async fn create(&self, declared: &Declared, owner: &OwnerReference) -> Result<(), String> {
        let mut pod = declared.pod.clone();
        pod.metadata.owner_references = Some(vec![owner.clone()]);
        let Some(key) = super::key(&pod) else { return Ok(()) };
        let api = self.api(&key);
        match tokio::time::timeout(REQUEST_LIMIT, api.create(&PostParams::default(), &pod)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(answer))) if answer.code == 409 => {
                self.is_taken(&api, &key).await.map_or(Ok(()), Err)
            }
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("the API gave no answer in time".to_owned()),
        }
    }

    /// Says what stands in a mirror's place; nothing if that is a mirror, of which the watch tells.
    async fn is_taken(&self, api: &Api<Pod>, key: &Key) -> Option<String> {
        match tokio::time::timeout(REQUEST_LIMIT, api.get_opt(&key.1)).await {
            Ok(Ok(Some(found))) if mirrored(&found).is_none() => {
                Some("another pod has its name; delete that one or give this another name".to_owned())
            }
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("the API gave no answer in time".to_owned()),
        }
    }
}

/// Returns the declared pods that have no mirror at all: one that shows something else is deleted first.
fn missing<'a>(declared: &'a HashMap<Key, Declared>, mirrors: &HashMap<Key, Arc<Pod>>) -> Vec<&'a Declared> {
    let mut missing: Vec<(&Key, &Declared)> = declared.iter().filter(|(key, _)| !mirrors.contains_key(*key)).collect();
    missing.sort_by_key(|(key, _)| *key);
    missing.into_iter().map(|(_, pod)| pod).collect()
}
