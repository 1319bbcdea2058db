//! EndpointSlices: up to a hundred endpoints each, one family and one set of ports per slice.
//!
//! An endpoint stays in the slice that it is in, so that a change of one pod changes one slice.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Endpoints, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{Observed, Port, SERVICE_NAME};
use crate::pods;

/// The most endpoints that a slice holds.
const FULL: usize = 100;
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create a slice.
    CreateSlice(Box<EndpointSlice>),
    /// Merge a patch into a slice.
    PatchSlice {
        /// Its name.
        name: String,
        /// The merge patch.
        patch: Value,
    },
    /// Delete a slice.
    DeleteSlice {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Create the legacy object.
    CreateEndpoints(Box<Endpoints>),
    /// Merge a patch into the legacy object.
    PatchEndpoints(Value),
}

/// Returns whether this controller made the slice for the service of that name.
pub(super) fn is_ours(slice: &EndpointSlice, service: &str) -> bool {
    let labels = slice.labels();
    labels.get(SERVICE_NAME).is_some_and(|name| name == service)
        && labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
        && slice.metadata.deletion_timestamp.is_none()
}

/// Chooses what to do about the slices.
pub(super) fn decide(observed: &Observed) -> Vec<Action> {
    let mut groups: BTreeMap<(String, Vec<Port>), Vec<Endpoint>> = BTreeMap::new();
    let families = super::families(&observed.service);
    for family in &families {
        for pod in &observed.pods {
            if let Some(endpoint) = endpoint(observed, pod, family) {
                let ports = super::ports(&observed.service, pod);
                groups.entry((family.clone(), ports)).or_default().push(endpoint);
            }
        }
        if !groups.keys().any(|(of, _)| of == family) {
            // One empty slice says: the service is known and has no endpoints.
            groups.insert((family.clone(), Vec::new()), Vec::new());
        }
    }
    let mut unused: Vec<_> = observed.slices.iter().collect();
    let mut actions = Vec::new();
    for ((family, ports), endpoints) in groups {
        let (mine, others): (Vec<_>, Vec<_>) = unused
            .into_iter()
            .partition(|slice| slice.address_type == family && (ports_of(slice) == ports || endpoints.is_empty()));
        unused = others;
        let mut slots: Vec<Slot<'_>> = mine.into_iter().map(|slice| (Some(slice), Vec::new())).collect();
        if slots.is_empty() {
            // An empty slice of the family can take these ports: one write instead of two.
            let empty = unused
                .iter()
                .position(|slice| slice.address_type == family && slice.endpoints.as_ref().is_none_or(Vec::is_empty));
            slots.extend(empty.map(|index| (Some(unused.remove(index)), Vec::new())));
        }
        for (slice, endpoints) in fill(slots, endpoints) {
            let wanted = new_slice(observed, &family, &ports, endpoints);
            match slice {
                None => actions.push(Action::CreateSlice(Box::new(wanted))),
                Some(slice) if wanted.endpoints.as_ref().is_none_or(Vec::is_empty) && !is_placeholder(&wanted) => {
                    actions.push(delete(slice));
                }
                Some(slice) => actions.extend(difference(slice, &wanted)),
            }
        }
    }
    // Placeholders beyond the first are surplus as well.
    let mut kept_empty: Vec<&str> = Vec::new();
    actions.extend(unused.into_iter().map(|slice| delete(slice)));
    for slice in &observed.slices {
        let touched = actions.iter().any(|action| match action {
            Action::PatchSlice { name, .. } | Action::DeleteSlice { name, .. } => *name == slice.name_any(),
            _ => false,
        });
        if !touched && slice.endpoints.as_ref().is_none_or(Vec::is_empty) {
            if kept_empty.contains(&slice.address_type.as_str()) {
                actions.push(delete(slice));
            }
            kept_empty.push(&slice.address_type);
        }
    }
    actions
}

/// A slice without ports and endpoints stands for a service without endpoints.
fn is_placeholder(slice: &EndpointSlice) -> bool {
    slice.ports.as_ref().is_none_or(Vec::is_empty)
}

fn delete(slice: &EndpointSlice) -> Action {
    Action::DeleteSlice {
        name: slice.name_any(),
        uid: slice.uid().unwrap_or_default(),
    }
}

type Slot<'a> = (Option<&'a std::sync::Arc<EndpointSlice>>, Vec<Endpoint>);

/// Shares endpoints among slices: each stays where it is, new ones fill up, then new slices open.
fn fill<'a>(mut slots: Vec<Slot<'a>>, endpoints: Vec<Endpoint>) -> Vec<Slot<'a>> {
    let mut home: HashMap<String, usize> = HashMap::new();
    for (index, (slice, _)) in slots.iter().enumerate() {
        for endpoint in slice.iter().flat_map(|slice| slice.endpoints.iter().flatten()) {
            home.insert(identity(endpoint), index);
        }
    }
    let mut homeless = Vec::new();
    for endpoint in endpoints {
        match home.get(&identity(&endpoint)) {
            Some(index) if slots[*index].1.len() < FULL => slots[*index].1.push(endpoint),
            _ => homeless.push(endpoint),
        }
    }
    for endpoint in homeless {
        match slots.iter_mut().find(|(_, held)| held.len() < FULL) {
            Some((_, held)) => held.push(endpoint),
            None => slots.push((None, vec![endpoint])),
        }
    }
    if slots.is_empty() {
        slots.push((None, Vec::new()));
    }
    slots
}

fn identity(endpoint: &Endpoint) -> String {
    match endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()) {
        Some(uid) => uid,
        None => endpoint.addresses.join(","),
    }
}

fn endpoint(observed: &Observed, pod: &Pod, family: &str) -> Option<Endpoint> {
    let service = &observed.service;
    let address = super::address(pod, family)?;
    let terminating = pods::is_terminating(pod);
    let serving = pods::is_ready(pod);
    let ready = super::publishes_not_ready(service) || (serving && !terminating);
    let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let zone = node_name.as_ref().and_then(|node| observed.zones.get(node)).cloned();
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: super::hostname(service, pod),
        hints: hints(service, node_name.as_deref(), zone.as_deref()).filter(|_| ready),
        node_name,
        zone,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// Returns who should use an endpoint, as the service's `trafficDistribution` says.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let for_nodes = node.map(|node| vec![ForNode { name: node.to_owned() }]);
    let hints = match distribution {
        "PreferClose" | "PreferSameZone" => EndpointHints {
            for_nodes: None,
            for_zones,
        },
        "PreferSameNode" => EndpointHints { for_nodes, for_zones },
        _ => return None,
    };
    (hints != EndpointHints::default()).then_some(hints)
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            number: port.port.unwrap_or(0),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    ports
}

fn labels(observed: &Observed) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = observed.service.labels().clone();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.into(), observed.service.name_any());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if super::is_headless(&observed.service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

fn new_slice(observed: &Observed, family: &str, ports: &[Port], endpoints: Vec<Endpoint>) -> EndpointSlice {
    let service = &observed.service;
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels(observed)),
            owner_references: Some(vec![super::owner(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(
            ports
                .iter()
                .map(|port| EndpointPort {
                    name: Some(port.name.clone()),
                    protocol: Some(port.protocol.clone()),
                    port: Some(port.number),
                    app_protocol: port.app_protocol.clone(),
                })
                .collect(),
        ),
    }
}

fn difference(slice: &EndpointSlice, wanted: &EndpointSlice) -> Option<Action> {
    let none = Vec::new();
    let held = slice.endpoints.as_ref().unwrap_or(&none);
    let endpoints = wanted.endpoints.as_ref().unwrap_or(&none);
    let mut sorted = (held.clone(), endpoints.clone());
    sorted.0.sort_by_key(identity);
    sorted.1.sort_by_key(identity);
    let same = sorted.0 == sorted.1 && ports_of(slice) == ports_of(wanted) && slice.labels() == wanted.labels();
    if same {
        return None;
    }
    let mut labels: serde_json::Map<String, Value> = slice
        .labels()
        .keys()
        .map(|label| (label.clone(), Value::Null))
        .collect();
    labels.extend(
        wanted
            .labels()
            .iter()
            .map(|(label, value)| (label.clone(), json!(value))),
    );
    Some(Action::PatchSlice {
        name: slice.name_any(),
        patch: json!({ "metadata": { "labels": labels }, "endpoints": endpoints, "ports": wanted.ports }),
    })
}
