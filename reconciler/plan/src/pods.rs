//! Whether the pods of a roll-out can get well.
//!
//! [`PodFacts`] is what matters of a pod, small enough to be kept for every pod. [`verdict`] looks at the pods of the newest
//! revision and says why they cannot get well, as soon as that is certain: a container that crashed three times, an image or a
//! configuration that does not exist. A cause that may pass (a registry that cannot be reached, no node with room) is said too, and
//! marked as such: it is no reason to give up before the deadline, and one to try again after it.

mod image;
mod judge;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

pub use judge::verdict;

/// Of a message no more characters are kept than this.
const MAX_MESSAGE: usize = 600;

/// Why a container waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The machine-readable cause: `ImagePullBackOff`.
    pub reason: String,
    /// The cause in words, shortened.
    pub message: String,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// The machine-readable cause: `Error`, `OOMKilled`.
    pub reason: String,
    /// What the container left as its last words, shortened.
    pub message: String,
}

/// What matters of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The name.
    pub name: String,
    /// The image as the pod names it.
    pub image: String,
    /// The digest of the image that it was given, `sha256:…`; empty while there is none.
    pub digest: String,
    /// Whether it runs before the others.
    pub init: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether it is ready; of an init container, whether it did its work.
    pub ready: bool,
    /// Why it waits, if it does.
    pub waiting: Option<Waiting>,
    /// How it ended, if it is not running.
    pub terminated: Option<Ended>,
    /// How it ended the time before.
    pub last: Option<Ended>,
}

/// What matters of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The uid.
    pub uid: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether it was asked to go.
    pub deleting: bool,
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
    /// Why the pod as a whole is as it is: `Evicted`.
    pub reason: String,
    /// Whether all its containers are ready.
    pub ready: bool,
    /// Whether its containers are not started again.
    pub restart_never: bool,
    /// Why no node takes it, if none does.
    pub unschedulable: Option<String>,
    /// Its containers, the init containers first.
    pub containers: Vec<ContainerFacts>,
}

/// How pods were when a sync began, so that only what came after counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Restarts by the pod's uid and the container's name.
    restarts: BTreeMap<(String, String), u32>,
    /// The uids of pods that had failed.
    failed: BTreeSet<String>,
    /// Containers that waited for something already, by the pod's uid and their names.
    waiting: BTreeSet<(String, String)>,
}

/// Why pods cannot get well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong and what to do, in words.
    pub reason: String,
    /// Whether the cause may pass by itself.
    pub passing: bool,
}

impl PodFacts {
    /// Reads what matters from a pod.
    pub fn of(pod: &Pod) -> PodFacts {
        let metadata = &pod.metadata;
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let condition = |name: &str| {
            let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().find(|condition| condition.type_ == name)
        };
        let unschedulable = condition("PodScheduled")
            .filter(|scheduled| scheduled.status == "False")
            .map(|scheduled| kept(scheduled.message.as_deref()));
        let statuses = |statuses: Option<&Vec<ContainerStatus>>, init: bool| -> Vec<ContainerFacts> {
            let all = statuses.into_iter().flatten();
            all.map(|status| container(pod, status, init)).collect()
        };
        let mut containers = statuses(status.and_then(|status| status.init_container_statuses.as_ref()), true);
        containers.extend(statuses(
            status.and_then(|status| status.container_statuses.as_ref()),
            false,
        ));
        PodFacts {
            name: metadata.name.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            phase: status.and_then(|status| status.phase.clone()).unwrap_or_default(),
            reason: status.and_then(|status| status.reason.clone()).unwrap_or_default(),
            ready: condition("Ready").is_some_and(|ready| ready.status == "True"),
            restart_never: spec.and_then(|spec| spec.restart_policy.as_deref()) == Some("Never"),
            unschedulable,
            containers,
        }
    }

    /// Whether the pod itself failed, by its own doing.
    fn has_failed(&self) -> bool {
        const NOT_ITS_DOING: [&str; 6] = [
            "Evicted",
            "Preempting",
            "NodeLost",
            "NodeShutdown",
            "Terminated",
            "Shutdown",
        ];
        self.phase == "Failed" && !NOT_ITS_DOING.contains(&self.reason.as_str())
    }
}

fn kept(text: Option<&str>) -> String {
    crate::text::brief(text.unwrap_or_default(), MAX_MESSAGE)
}

/// Returns the digest in an image's id: `REPOSITORY@DIGEST`, or the digest alone.
fn digest(id: &str) -> &str {
    let digest = id.rsplit_once('@').map_or(id, |(_, digest)| digest);
    if digest.starts_with("sha256:") { digest } else { "" }
}

fn container(pod: &Pod, status: &ContainerStatus, init: bool) -> ContainerFacts {
    let definitions = pod.spec.as_ref().map(|spec| {
        let inits = spec.init_containers.iter().flatten();
        inits.chain(&spec.containers)
    });
    let named = definitions
        .into_iter()
        .flatten()
        .find(|definition| definition.name == status.name)
        .and_then(|definition| definition.image.clone());
    let ended = |ended: &ContainerStateTerminated| Ended {
        code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        message: kept(ended.message.as_deref()),
    };
    let state = status.state.as_ref();
    let last = status.last_state.as_ref();
    ContainerFacts {
        name: status.name.clone(),
        image: named
            .filter(|image| !image.is_empty())
            .unwrap_or_else(|| status.image.clone()),
        digest: digest(&status.image_id).to_owned(),
        init,
        restarts: u32::try_from(status.restart_count).unwrap_or_default(),
        ready: status.ready,
        waiting: state.and_then(|state| state.waiting.as_ref()).map(|waiting| Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: kept(waiting.message.as_deref()),
        }),
        terminated: state.and_then(|state| state.terminated.as_ref()).map(ended),
        last: last.and_then(|last| last.terminated.as_ref()).map(ended),
    }
}

impl Baseline {
    /// Keeps pods as they are.
    pub fn of(pods: &[PodFacts]) -> Baseline {
        let restarts = pods.iter().flat_map(|pod| {
            let containers = pod.containers.iter().filter(|container| container.restarts > 0);
            containers.map(|container| ((pod.uid.clone(), container.name.clone()), container.restarts))
        });
        let failed = pods.iter().filter(|pod| pod.has_failed()).map(|pod| pod.uid.clone());
        Baseline {
            restarts: restarts.collect(),
            failed: failed.collect(),
            waiting: pods
                .iter()
                .flat_map(|pod| {
                    let waiting = pod.containers.iter().filter(|container| container.waiting.is_some());
                    waiting.map(|container| (pod.uid.clone(), container.name.clone()))
                })
                .collect(),
        }
    }

    /// Whether a container waited for something already: what it waits for may be just what is being applied.
    fn waited(&self, pod: &PodFacts, container: &ContainerFacts) -> bool {
        self.waiting.contains(&(pod.uid.clone(), container.name.clone()))
    }

    /// How often a container was started again since then.
    fn restarts_since(&self, pod: &PodFacts, container: &ContainerFacts) -> u32 {
        let before = self.restarts.get(&(pod.uid.clone(), container.name.clone())).copied();
        container.restarts.saturating_sub(before.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
