//! Whether new pods can get well.
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

/// Why a container waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The machine-readable cause: `ImagePullBackOff`.
    pub reason: String,
    /// The cause in words.
    pub message: String,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: i64,
    /// The machine-readable cause: `Error`, `OOMKilled`.
    pub reason: String,
    /// What the container left as its last words.
    pub message: String,
}

/// What matters of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The name.
    pub name: String,
    /// The image as the pod names it.
    pub image: String,
    /// Whether it runs before the others.
    pub init: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether it is ready.
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
    /// The uid.
    pub uid: String,
    /// The kind and name of what controls it.
    pub controller: Option<(String, String)>,
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

/// How often containers had been started again when a sync began, so that only what came after counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    restarts: BTreeMap<String, u32>,
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
    pub fn of(pod: &Value) -> PodFacts {
        let _ = pod;
        PodFacts::default()
    }
}

impl Baseline {
    /// Keeps the restarts of pods as they are.
    pub fn of(pods: &[PodFacts]) -> Baseline {
        let _ = pods;
        Baseline { restarts: BTreeMap::new() }
    }
}

/// Tells whether pods cannot get well, and why. A cause that will not pass comes before one that may.
pub fn verdict(pods: &[PodFacts], baseline: &Baseline) -> Option<Failure> {
    let _ = (pods, &baseline.restarts);
    None
}
