//! The legacy Endpoints object: one per service, IPv4 or IPv6 by the service's first family, without terminating pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde_json::json;

use super::slices::Action;
use super::{Observed, Port};
use crate::pods;

/// Endpoints beyond this are left out, and an annotation says so.
const MOST: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// Chooses what to do about the legacy object.
pub(super) fn decide(observed: &Observed) -> Option<Action> {
    let service = &observed.service;
    let (subsets, truncated) = subsets(observed);
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());
    if super::is_headless(service) {
        labels.insert("service.kubernetes.io/headless".into(), String::new());
    }
    match &observed.endpoints {
        None => Some(Action::CreateEndpoints(Box::new(Endpoints {
            metadata: ObjectMeta {
                name: Some(service.name_any()),
                namespace: service.namespace(),
                labels: Some(labels),
                // Kubernetes' own controller deletes it after the service; owned by it, it goes by garbage collection.
                owner_references: Some(vec![super::owner(service)]),
                annotations: truncated.then(|| BTreeMap::from([(OVER_CAPACITY.into(), "truncated".into())])),
                ..ObjectMeta::default()
            },
            subsets: Some(subsets),
        }))),
        Some(held) => {
            let same = held.subsets.as_deref().unwrap_or_default() == subsets.as_slice()
                && labels
                    .iter()
                    .all(|(label, value)| held.labels().get(label) == Some(value))
                && held.annotations().contains_key(OVER_CAPACITY) == truncated;
            (!same).then(|| {
                Action::PatchEndpoints(json!({
                    "metadata": {
                        "labels": labels,
                        "annotations": { OVER_CAPACITY: truncated.then_some("truncated") },
                    },
                    "subsets": subsets,
                }))
            })
        }
    }
}

/// Groups the addresses by the ports that they serve.
fn subsets(observed: &Observed) -> (Vec<EndpointSubset>, bool) {
    let service = &observed.service;
    let family = super::families(service)
        .into_iter()
        .next()
        .unwrap_or_else(|| "IPv4".into());
    let published = super::publishes_not_ready(service);
    let mut groups: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let mut count = 0;
    for pod in &observed.pods {
        let Some(ip) = super::address(pod, &family) else {
            continue;
        };
        if pods::is_terminating(pod) && !published {
            continue;
        }
        let ports = super::ports(service, pod);
        if ports.is_empty() && !super::is_headless(service) {
            continue;
        }
        count += 1;
        if count > MOST {
            continue;
        }
        let group = groups.entry(ports).or_default();
        let address = address(observed, pod, ip);
        if published || pods::is_ready(pod) {
            group.0.push(address)
        } else {
            group.1.push(address)
        }
    }
    let subsets = groups
        .into_iter()
        .map(|(ports, (mut ready, mut not_ready))| {
            ready.sort_by(|a, b| a.ip.cmp(&b.ip));
            not_ready.sort_by(|a, b| a.ip.cmp(&b.ip));
            EndpointSubset {
                addresses: (!ready.is_empty()).then_some(ready),
                not_ready_addresses: (!not_ready.is_empty()).then_some(not_ready),
                ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
            }
        })
        .collect();
    (subsets, count > MOST)
}

fn port(port: Port) -> EndpointPort {
    EndpointPort {
        name: (!port.name.is_empty()).then_some(port.name),
        port: port.number,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}

fn address(observed: &Observed, pod: &Pod, ip: &str) -> EndpointAddress {
    EndpointAddress {
        ip: ip.to_owned(),
        hostname: super::hostname(&observed.service, pod),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
    }
}
