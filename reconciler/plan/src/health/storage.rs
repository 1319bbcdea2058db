//! Volumes and claims to them.

use serde_json::Value;
use setpoint_api::meta;

use super::conditions::{Condition, condition};
use super::{Health, brief};

pub(super) fn claim(object: &Value) -> Health {
    match meta::str_at(object, &["status", "phase"]) {
        "Lost" => Health::degraded("its volume is gone"),
        "Bound" => match condition(object, "Resizing").filter(Condition::is_true) {
            Some(resizing) => Health::progressing(resizing.why("its volume is being resized")),
            None => Health::healthy("it has a volume"),
        },
        _ => Health::progressing("waiting for a volume"),
    }
}

pub(super) fn volume(object: &Value) -> Health {
    match meta::str_at(object, &["status", "phase"]) {
        "Failed" => Health::degraded(brief(meta::str_at(object, &["status", "message"]))),
        "Pending" => Health::progressing("the volume is being made"),
        _ => Health::healthy(""),
    }
}
