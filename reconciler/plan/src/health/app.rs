//! Our own Apps, which say themselves how they are.

use serde_json::Value;
use setpoint_api::meta;

use super::{Health, HealthStatus, UNOBSERVED, brief, is_unobserved};

pub(super) fn app(object: &Value) -> Health {
    let observed = meta::int_at(object, &["status", "observedGeneration"]);
    if observed.is_some() && is_unobserved(object) {
        return Health::progressing(UNOBSERVED);
    }
    let status = match meta::str_at(object, &["status", "health"]) {
        "" => return Health::progressing("waiting for the app to be looked at"),
        "Healthy" => HealthStatus::Healthy,
        "Suspended" => HealthStatus::Suspended,
        "Progressing" | "Waiting" => HealthStatus::Progressing,
        "Degraded" | "Failed" => HealthStatus::Degraded,
        "Missing" => HealthStatus::Missing,
        _ => HealthStatus::Unknown,
    };
    Health::new(status, brief(meta::str_at(object, &["status", "reason"])))
}
