//! Static pods: what a node runs by a folder of its own, whatever the API is told.
//!
//! Each pod of the folder has a mirror in the API (annotated with the hash of what the file says), which is validated and defaulted there like any
//! other pod; the node runs what the mirror says, under the hash as UID. So a mirror that somebody deletes is written again and nothing that runs is
//! touched, and a file that changes is another pod: it begins when the former one has ended.
//!
//! [`Statics`] is what is declared and what its mirrors are, for [`Pods`](crate::pods::Pods); `keep` follows the folder and writes the mirrors.

mod declared;
mod mirrors;

pub use declared::{Declared, InvalidStaticPod};
pub(crate) use mirrors::{Complaints, Keep, keep};

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The annotation of a mirror: the hash of the static pod that it shows.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// The annotation of what the node runs: its mirror's UID, under which its status is written.
const MIRROR_UID: &str = "setpoint.dev/mirror-uid";

/// Namespace and name.
pub(crate) type Key = (String, String);

/// The static pods of a node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Statics {
    state: Arc<Mutex<State>>,
    /// Something is to be looked at: the folder, or a mirror.
    pub(crate) changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    declared: HashMap<Key, Declared>,
    /// The mirrors of this node that the API has.
    mirrors: HashMap<Key, Arc<Pod>>,
}

pub(crate) fn key(pod: &Pod) -> Option<Key> {
    Some((pod.metadata.namespace.clone()?, pod.metadata.name.clone()?))
}

/// Returns the hash that a mirror shows; `None` of any other pod.
pub(crate) fn mirrored(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(MIRROR).map(String::as_str)
}

/// Returns the UID under which the API knows a pod that this node runs.
pub(crate) fn api_uid(pod: &Pod) -> Option<&str> {
    let annotations = pod.metadata.annotations.as_ref();
    let mirror = annotations.and_then(|all| all.get(MIRROR_UID));
    mirror.or(pod.metadata.uid.as_ref()).map(String::as_str)
}

impl Statics {
    /// Takes what the folder says now; returns the pods of which the file is gone or says something else, by hash.
    pub(crate) fn declare(&self, declared: HashMap<Key, Declared>) -> Vec<String> {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.declared, declared);
        let hashes = before.into_values().map(|pod| pod.hash);
        hashes.filter(|hash| !state.has(hash)).collect()
    }

    /// Whether a static pod of that hash is declared.
    pub(crate) fn has(&self, hash: &str) -> bool {
        self.state.lock().has(hash)
    }

    /// Returns the hashes of all that are declared.
    pub(crate) fn hashes(&self) -> Vec<String> {
        self.state
            .lock()
            .declared
            .values()
            .map(|pod| pod.hash.clone())
            .collect()
    }

    /// Returns what is declared.
    pub(crate) fn declared(&self) -> HashMap<Key, Declared> {
        self.state.lock().declared.clone()
    }

    /// Notes a mirror as the API has it; returns what is to run by it: nothing if it shows no pod that is declared.
    pub(crate) fn see(&self, mirror: Pod) -> Option<Pod> {
        let key = key(&mirror)?;
        let mut state = self.state.lock();
        let hash = mirrored(&mirror)?.to_owned();
        let wanted = state.declared.get(&key).is_some_and(|pod| pod.hash == hash);
        let deleted = mirror.metadata.deletion_timestamp.is_some();
        let runs = (wanted && !deleted).then(|| runs(&mirror, &hash));
        state.mirrors.insert(key, Arc::new(mirror));
        if !wanted || deleted {
            self.changed.notify_one();
        }
        runs
    }

    /// Notes that a mirror is gone.
    pub(crate) fn lose(&self, mirror: &Pod) {
        let Some(key) = key(mirror) else { return };
        let mut state = self.state.lock();
        let same = state
            .mirrors
            .get(&key)
            .is_some_and(|known| known.metadata.uid == mirror.metadata.uid);
        if same {
            state.mirrors.remove(&key);
        }
        self.changed.notify_one();
    }

    /// Begins a new list of the API's mirrors.
    pub(crate) fn forget_mirrors(&self) {
        self.state.lock().mirrors.clear();
    }

    /// Returns the mirrors that the API has.
    pub(crate) fn mirrors(&self) -> HashMap<Key, Arc<Pod>> {
        self.state.lock().mirrors.clone()
    }

    /// Returns what is to run by the mirror of that name, for when what ran there has ended.
    pub(crate) fn next(&self, key: &Key) -> Option<Pod> {
        let state = self.state.lock();
        let (declared, mirror) = (state.declared.get(key)?, state.mirrors.get(key)?);
        let hash = mirrored(mirror).filter(|hash| *hash == declared.hash)?;
        mirror.metadata.deletion_timestamp.is_none().then(|| runs(mirror, hash))
    }
}

impl State {
    fn has(&self, hash: &str) -> bool {
        self.declared.values().any(|pod| pod.hash == hash)
    }
}

/// Returns what the node runs for a mirror.
fn runs(mirror: &Pod, hash: &str) -> Pod {
    let mut pod = mirror.clone();
    let uid = pod.metadata.uid.replace(hash.to_owned());
    if let Some(uid) = uid {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(MIRROR_UID.to_owned(), uid);
    }
    pod
}

#[cfg(test)]
mod tests;
