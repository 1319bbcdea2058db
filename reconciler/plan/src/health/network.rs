//! Services and Ingresses.

use serde_json::Value;
use setpoint_api::meta;

use super::Health;

pub(super) fn service(object: &Value) -> Health {
    if meta::str_at(object, &["spec", "type"]) != "LoadBalancer" {
        return Health::healthy("");
    }
    if meta::list_at(object, &["status", "loadBalancer", "ingress"]).is_empty() {
        Health::progressing("waiting for the address of a load balancer")
    } else {
        Health::healthy("it has the address of a load balancer")
    }
}

/// Many ingress controllers serve an Ingress without ever saying so, and without one nothing will change.
pub(super) fn ingress(object: &Value) -> Health {
    if meta::list_at(object, &["status", "loadBalancer", "ingress"]).is_empty() {
        Health::healthy("no ingress controller says yet that it serves it")
    } else {
        Health::healthy("")
    }
}
