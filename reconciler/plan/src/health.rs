//! How an object is doing, from what it says of itself.
//!
//! [`HealthStatus::Degraded`] is said only of what will not get well by waiting: a sync fails at once where it is seen. Everything
//! that may still come is [`HealthStatus::Progressing`], with the reason for which it is not there yet; the deadline of the sync ends that.
//!
//! One file per group of kinds; a kind without one is judged by its conditions. A new kind is one function and one line in [`of`].

mod app;
mod autoscaling;
mod batch;
mod cluster;
mod conditions;
mod network;
mod pod;
mod storage;
mod workload;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use setpoint_api::meta;

/// How an object is doing, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HealthStatus {
    /// It does what it is there for.
    Healthy,
    /// It was told to do nothing.
    Suspended,
    /// It is on its way.
    Progressing,
    /// Nobody can tell.
    #[default]
    Unknown,
    /// It is not there. Never said of an object, only by who looked for one.
    Missing,
    /// It failed, or will not get well by waiting.
    Degraded,
}

/// How an object is doing, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// In words that a person understands; "" where there is nothing to add.
    pub reason: String,
}

impl Health {
    /// Makes what is said of an object that does what it is there for.
    pub fn healthy(reason: impl Into<String>) -> Health {
        Health::new(HealthStatus::Healthy, reason)
    }

    /// Makes what is said of an object that is on its way.
    pub fn progressing(reason: impl Into<String>) -> Health {
        Health::new(HealthStatus::Progressing, reason)
    }

    /// Makes what is said of an object that failed.
    pub fn degraded(reason: impl Into<String>) -> Health {
        Health::new(HealthStatus::Degraded, reason)
    }

    /// Makes what is said of an object that was told to do nothing.
    pub fn suspended(reason: impl Into<String>) -> Health {
        Health::new(HealthStatus::Suspended, reason)
    }

    /// Makes what is said of an object that is not there.
    pub fn missing() -> Health {
        Health::new(HealthStatus::Missing, "it is not there")
    }

    fn new(status: HealthStatus, reason: impl Into<String>) -> Health {
        Health {
            status,
            reason: reason.into(),
        }
    }
}

impl std::fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// Tells how an object is doing from what it says of itself.
pub fn of(object: &Value) -> Health {
    let kind = meta::kind(object);
    if kind.is_empty() {
        return Health::new(HealthStatus::Unknown, "the object does not say what kind it is");
    }
    if meta::is_being_deleted(object) {
        return being_deleted(object);
    }
    let (group, _) = meta::group_version(meta::api_version(object));
    match (group, kind) {
        ("apps", "Deployment") => workload::deployment(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => workload::replica_set(object),
        ("apps", "StatefulSet") => workload::stateful_set(object),
        ("apps", "DaemonSet") => workload::daemon_set(object),
        ("batch", "Job") => batch::job(object),
        ("batch", "CronJob") => batch::cron_job(object),
        ("", "Pod") => pod::pod(object),
        ("", "PersistentVolumeClaim") => storage::claim(object),
        ("", "PersistentVolume") => storage::volume(object),
        ("", "Service") => network::service(object),
        ("networking.k8s.io", "Ingress") => network::ingress(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => cluster::definition(object),
        ("apiregistration.k8s.io", "APIService") => cluster::api_service(object),
        ("", "Namespace") => cluster::namespace(object),
        ("", "Node") => cluster::node(object),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::autoscaler(object),
        ("setpoint.dev", "App") => app::app(object),
        _ => conditions::any(object),
    }
}

fn being_deleted(object: &Value) -> Health {
    let holders: Vec<&str> = meta::finalizers(object).take(3).collect();
    if holders.is_empty() {
        Health::progressing("it is being deleted")
    } else {
        Health::progressing(format!("it is being deleted, and held by {}", holders.join(", ")))
    }
}

/// Returns whether a controller has yet to see the object as it is now.
fn is_unobserved(object: &Value) -> bool {
    meta::int_at(object, &["status", "observedGeneration"]).unwrap_or(0) < meta::generation(object)
}

const UNOBSERVED: &str = "waiting for the new revision to be observed";

/// Returns a number of the status; 0 where it is not there.
fn count(object: &Value, key: &str) -> i64 {
    number(object, &["status", key]).unwrap_or(0)
}

/// Returns a number that counts something, and so is neither negative nor beyond what can be counted with.
fn number(object: &Value, path: &[&str]) -> Option<i64> {
    meta::int_at(object, path).map(|number| number.clamp(0, i64::from(i32::MAX)))
}

/// Returns a text shortened to what fits a line.
fn brief(text: &str) -> String {
    crate::text::brief(text, 300)
}

#[cfg(test)]
mod tests;
