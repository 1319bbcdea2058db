//! Where a kind's strategy differs from the general one.

use serde_json::{Map, Value, json};

use crate::meta::{self, at, list_at, str_at};
use crate::quantity::Quantity;
use crate::scheme::Part;

/// A new namespace is active, carries its name as a label, and has the finalizer that empties it.
pub fn namespace_create(namespace: &mut Value) {
    let spec = meta::map_mut(meta::map_of(namespace), "spec");
    spec.insert("finalizers".into(), json!(["kubernetes"]));
    meta::map_of(namespace).insert("status".into(), json!({"phase": "Active"}));
}

/// The finalizers of a namespace's spec are written through `finalize` only.
pub fn namespace_update(new: &mut Value, old: &Value) {
    let map = meta::map_of(new);
    match old.get("spec") {
        Some(spec) => map.insert("spec".into(), spec.clone()),
        None => map.remove("spec"),
    };
}

/// What was asked for once stays: the spec of such a kind is not written again.
pub fn spec_stays(new: &mut Value, old: &Value) {
    namespace_update(new, old);
}

/// Approves or denies a request for a certificate: the conditions of its status change, and nothing else.
pub const APPROVAL: Part = Part {
    name: "approval",
    prepare: status_alone,
    validate: crate::validate::certificates::approval,
};

/// Takes all but the status, who owns what and the revision from the stored object.
fn status_alone(new: &mut Value, old: &Value) {
    let status = new.get("status").filter(|status| !status.is_null()).cloned();
    let metadata = |key: &str| meta::at(new, &["metadata", key]).cloned().unwrap_or(Value::Null);
    let (managed, revision) = (metadata("managedFields"), metadata("resourceVersion"));
    *new = old.clone();
    match status {
        Some(status) => meta::map_of(new).insert("status".into(), status),
        None => meta::map_of(new).remove("status"),
    };
    meta::set(new, "managedFields", managed);
    meta::set(new, "resourceVersion", revision);
}

/// A new service has no load balancer yet.
pub fn service_create(service: &mut Value) {
    meta::map_of(service).insert("status".into(), json!({"loadBalancer": {}}));
}

/// A service that changes its type loses what only the former one has a use for, unless the client says it anew.
pub fn service_update(new: &mut Value, old: &Value) {
    let exposed = |service: &Value| {
        let external = !list_at(service, &["spec", "externalIPs"]).is_empty();
        match str_at(service, &["spec", "type"]) {
            "LoadBalancer" | "NodePort" => true,
            kind => kind == "ClusterIP" && external,
        }
    };
    let balanced = |service: &Value| str_at(service, &["spec", "type"]) == "LoadBalancer";
    let internal = |service: &Value| str_at(service, &["spec", "type"]) != "ExternalName";
    type Uses<'u> = &'u dyn Fn(&Value) -> bool;
    let fields: [(&str, Uses<'_>); 5] = [
        ("allocateLoadBalancerNodePorts", &balanced),
        ("externalTrafficPolicy", &exposed),
        ("healthCheckNodePort", &balanced),
        ("internalTrafficPolicy", &internal),
        ("loadBalancerClass", &balanced),
    ];
    for (key, uses) in fields {
        let same = at(new, &["spec", key]) == at(old, &["spec", key]);
        if same && uses(old) && !uses(new) {
            meta::map_mut(meta::map_of(new), "spec").remove(key);
        }
    }
}

/// A new volume waits to become available.
pub fn volume_create(volume: &mut Value) {
    meta::map_of(volume).insert("status".into(), json!({"phase": "Pending"}));
}

/// A new claim waits for its volume.
pub fn claim_create(claim: &mut Value) {
    meta::map_of(claim).insert("status".into(), json!({"phase": "Pending"}));
}

/// A new controller has made no pods yet.
pub fn replicas_create(controller: &mut Value) {
    meta::map_of(controller).insert("status".into(), json!({"replicas": 0}));
}

/// A new pod waits, and its quality of service follows from its containers.
pub fn pod_create(pod: &mut Value) {
    let class = qos_class(pod);
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if !list_at(pod, &["spec", "schedulingGates"]).is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": null,
            "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    meta::map_of(pod).insert("status".into(), status);
    match_label_keys(pod);
}

/// Writes into the selectors of affinities and spread constraints which labels of the pod itself they are to match.
fn match_label_keys(pod: &mut Value) {
    const TERMS: [&str; 2] = [
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    ];
    let Some(labels) = meta::labels(pod).cloned() else {
        return;
    };
    let spec = meta::map_mut(meta::map_of(pod), "spec");
    let spread = spec.get_mut("topologySpreadConstraints").and_then(Value::as_array_mut);
    for constraint in spread.into_iter().flatten() {
        add_requirements(constraint, "matchLabelKeys", "In", &labels);
    }
    for sort in ["podAffinity", "podAntiAffinity"] {
        for list in TERMS {
            let terms = spec.get_mut("affinity").and_then(|affinity| affinity.get_mut(sort));
            let terms = terms
                .and_then(|terms| terms.get_mut(list))
                .and_then(Value::as_array_mut);
            for term in terms.into_iter().flatten() {
                let term = match term.get_mut("podAffinityTerm") {
                    Some(inner) => inner,
                    None => term,
                };
                add_requirements(term, "matchLabelKeys", "In", &labels);
                add_requirements(term, "mismatchLabelKeys", "NotIn", &labels);
            }
        }
    }
}

fn add_requirements(term: &mut Value, list: &str, operator: &str, labels: &Map<String, Value>) {
    let keys: Vec<String> = list_at(term, &[list])
        .iter()
        .filter_map(|key| key.as_str().map(str::to_owned))
        .collect();
    let Some(Value::Object(selector)) = term.get_mut("labelSelector") else {
        return;
    };
    for key in keys {
        let Some(value) = labels.get(&key) else { continue };
        let requirement = json!({"key": key, "operator": operator, "values": [value]});
        match selector.get_mut("matchExpressions") {
            Some(Value::Array(requirements)) => requirements.push(requirement),
            _ => drop(selector.insert("matchExpressions".into(), json!([requirement]))),
        }
    }
}

/// Returns a pod's quality-of-service class: Guaranteed, Burstable or BestEffort.
///
/// Guaranteed: every container has limits of cpu and memory, and requests equal to them. BestEffort: none has any.
pub fn qos_class(pod: &Value) -> &'static str {
    let containers = list_at(pod, &["spec", "initContainers"])
        .iter()
        .chain(list_at(pod, &["spec", "containers"]));
    let amount = |container: &Value, kind: &str, name: &str| {
        let value = at(container, &["resources", kind, name])?;
        Quantity::from_value(value).ok().filter(|quantity| !quantity.is_zero())
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        for name in ["cpu", "memory"] {
            let (limit, request) = (amount(container, "limits", name), amount(container, "requests", name));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Returns whether a pod has come to its end.
pub fn is_finished(pod: &Value) -> bool {
    matches!(str_at(pod, &["status", "phase"]), "Succeeded" | "Failed")
}
