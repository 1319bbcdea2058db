//! HorizontalPodAutoscalers.

use serde_json::Value;

use super::Health;
use super::conditions::{Condition, condition};

/// What an autoscaler cannot measure stays as it is: that is nothing for which a roll-out should fail.
pub(super) fn autoscaler(object: &Value) -> Health {
    if let Some(able) = condition(object, "AbleToScale").filter(Condition::is_false)
        && matches!(able.reason, "FailedGetScale" | "FailedUpdateScale")
    {
        return Health::progressing(able.why("it cannot scale its target"));
    }
    match condition(object, "ScalingActive") {
        Some(active) if active.is_false() => match active.reason {
            "ScalingDisabled" => Health::suspended(active.why("its target is scaled to 0")),
            reason if reason.starts_with("Invalid") => Health::degraded(active.why("its metrics are not valid")),
            _ => Health::healthy(format!("it does not scale: {}", active.why("it has no metrics"))),
        },
        Some(_) => Health::healthy(""),
        None => Health::healthy("no autoscaler has looked at it yet"),
    }
}
