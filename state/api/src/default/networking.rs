//! Defaults of NetworkPolicies and IngressClasses.

use serde_json::{Value, json};

use super::{each, fill, fill_text, inside, spec};

/// Fills in a NetworkPolicy: which directions it is about follows from its rules.
pub fn network_policy(policy: &mut Value) {
    let spec = spec(policy);
    fill(spec, "podSelector", json!({}));
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| {
            each(rule, "ports", |port| fill_text(port, "protocol", "TCP"));
        });
    }
    let empty = |value: Option<&Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
    if empty(spec.get("policyTypes")) {
        let types = if empty(spec.get("egress")) {
            json!(["Ingress"])
        } else {
            json!(["Ingress", "Egress"])
        };
        spec.insert("policyTypes".into(), types);
    }
}

/// Fills in an IngressClass.
pub fn ingress_class(class: &mut Value) {
    inside(spec(class), "parameters", |parameters| {
        fill(parameters, "scope", "Cluster");
    });
}
