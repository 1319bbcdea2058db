//! Defaults of Services, Endpoints and EndpointSlices. Addresses and node ports are allocated by the server.

use serde_json::{Map, Value, json};

use super::{each, fill, fill_text, inside, spec};
use crate::meta;

/// Fills in a Service.
pub fn service(service: &mut Value) {
    let spec = spec(service);
    fill_text(spec, "type", "ClusterIP");
    fill_text(spec, "sessionAffinity", "None");
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let (ty, affinity) = (text("type"), text("sessionAffinity"));
    if affinity == "ClientIP" {
        let config = meta::map_mut(spec, "sessionAffinityConfig");
        fill(meta::map_mut(config, "clientIP"), "timeoutSeconds", 10800);
    } else {
        spec.remove("sessionAffinityConfig");
    }
    each(spec, "ports", |port| {
        fill_text(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        let unset = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(found) => found.as_i64() == Some(0),
        };
        if unset && !number.is_null() {
            port.insert("targetPort".into(), number);
        }
    });
    if ty != "ExternalName" {
        fill_text(spec, "internalTrafficPolicy", "Cluster");
    }
    let has_external = spec
        .get("externalIPs")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    if matches!(ty.as_str(), "NodePort" | "LoadBalancer") || (ty == "ClusterIP" && has_external) {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if ty == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
        inside(meta::map_of(service), "status", |status| {
            inside(status, "loadBalancer", |balancer| each(balancer, "ingress", ip_mode));
        });
    }
}

/// An address of a load balancer is taken for a virtual one.
fn ip_mode(ingress: &mut Map<String, Value>) {
    if ingress
        .get("ip")
        .and_then(Value::as_str)
        .is_some_and(|ip| !ip.is_empty())
    {
        fill(ingress, "ipMode", "VIP");
    }
}

/// Fills in an Endpoints object.
pub fn endpoints(endpoints: &mut Value) {
    each(meta::map_of(endpoints), "subsets", |subset| {
        each(subset, "ports", |port| fill_text(port, "protocol", "TCP"));
    });
}

/// Fills in an EndpointSlice.
pub fn endpoint_slice(slice: &mut Value) {
    each(meta::map_of(slice), "ports", |port| {
        fill(port, "name", "");
        fill_text(port, "protocol", "TCP");
    });
    // A list that Kubernetes always shows.
    fill(meta::map_of(slice), "endpoints", json!([]));
    each(meta::map_of(slice), "endpoints", |endpoint| {
        inside(endpoint, "conditions", |conditions| {
            conditions.retain(|_, value| !value.is_null())
        });
    });
}
