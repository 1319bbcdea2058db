//! What a cluster is made of: Namespaces, Nodes, CustomResourceDefinitions, APIServices.

use serde_json::Value;
use setpoint_api::meta;

use super::Health;
use super::conditions::{Condition, condition};

pub(super) fn namespace(object: &Value) -> Health {
    if meta::str_at(object, &["status", "phase"]) == "Terminating" {
        return Health::progressing("it is being deleted");
    }
    Health::healthy("")
}

pub(super) fn node(object: &Value) -> Health {
    match condition(object, "Ready") {
        Some(ready) if ready.is_true() => {
            if meta::at(object, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
                Health::suspended("it takes no new pods")
            } else {
                Health::healthy("it is ready")
            }
        }
        Some(ready) if ready.is_false() => {
            Health::degraded(format!("it is not ready: {}", ready.why("its agent says so")))
        }
        Some(ready) => Health::degraded(format!(
            "nothing was heard of it: {}",
            ready.why("its agent does not answer")
        )),
        None => Health::progressing("its agent has not reported yet"),
    }
}

pub(super) fn definition(object: &Value) -> Health {
    if let Some(names) = condition(object, "NamesAccepted").filter(Condition::is_false) {
        return Health::degraded(format!(
            "its names are taken: {}",
            names.why("another definition has them")
        ));
    }
    match condition(object, "Established") {
        Some(established) if established.is_true() => Health::healthy("its kind is served"),
        Some(established) => Health::progressing(established.why("waiting for its kind to be served")),
        None => Health::progressing("waiting for its kind to be served"),
    }
}

pub(super) fn api_service(object: &Value) -> Health {
    match condition(object, "Available") {
        Some(available) if available.is_true() => Health::healthy("its API is served"),
        // An API of its own server, on a cluster that never asks it.
        Some(available) if available.reason == "NotProxied" => Health::degraded(available.why("its API is not served")),
        Some(available) => Health::progressing(available.why("waiting for its API to be served")),
        None => Health::progressing("waiting for its API to be served"),
    }
}
