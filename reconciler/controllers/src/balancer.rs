//! Load balancers of this cluster's own: a Service of type LoadBalancer is reached at the addresses of the nodes.
//!
//! Nothing stands between: each node's own rules lead what comes to its address and the service's port to the pods, so
//! writing `status.loadBalancer` is all there is to do. A service that names a `loadBalancerClass` is somebody else's.
//!
//! An address has one service per port: of two that want the same, the older has it, and the other is told.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::ResourceExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind};
use crate::drive::{Key, Outcome, Reconcile};
use crate::events::{Level, Recorder};
use crate::fresh::Freshness;
use crate::hub::Hub;
use crate::wiring::Wiring;

const NAME: &str = "service-controller";
/// The label of a node that load balancers leave out.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What is decided upon.
pub struct Observed {
    /// The service.
    pub service: Arc<Service>,
    /// All services.
    pub services: Vec<Arc<Service>>,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
}

/// What to do about a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The addresses that its status is to show; `None` leaves it as it is.
    pub addresses: Option<Vec<IpAddr>>,
    /// Which addresses it does not get, and who has them.
    pub conflicts: Vec<String>,
}

/// Returns whether a service is to be reached at the nodes' addresses.
fn is_ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let class = spec.load_balancer_class.as_deref().unwrap_or_default();
    spec.type_.as_deref() == Some("LoadBalancer") && class.is_empty() && service.metadata.deletion_timestamp.is_none()
}

/// Returns the addresses of the nodes that take part: what the outside knows a node by before what it calls itself.
fn addresses(nodes: &[Arc<Node>]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for node in nodes {
        let status = node.status.as_ref();
        let is_ready = status
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|conditions| {
                conditions
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            });
        if !is_ready || node.labels().contains_key(EXCLUDED) || node.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let of_type = |kind: &str| -> Vec<IpAddr> {
            let all = status
                .and_then(|status| status.addresses.as_ref())
                .into_iter()
                .flatten();
            let all = all.filter(|address| address.type_ == kind);
            all.filter_map(|address| address.address.parse().ok()).collect()
        };
        let external = of_type("ExternalIP");
        found.extend(if external.is_empty() {
            of_type("InternalIP")
        } else {
            external
        });
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Says whether an address is of one of the service's families.
fn is_of_families(service: &Service, ip: IpAddr) -> bool {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref());
    match families {
        None | Some([]) => ip.is_ipv4(),
        Some(families) => families.iter().any(|family| (family == "IPv6") == ip.is_ipv6()),
    }
}

fn ports(service: &Service) -> Vec<(String, i32)> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .map(|port| (port.protocol.clone().unwrap_or_else(|| "TCP".into()), port.port))
        .collect()
}

fn shown(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let mut shown: Vec<IpAddr> = ingress
        .filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
        .collect();
    shown.sort_unstable();
    shown
}

/// Says what a service is to show.
pub fn decide(observed: &Observed) -> Decision {
    let service = &observed.service;
    if !is_ours(service) {
        // What it was before is over; the status of another class's service is that class's.
        let left = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) != Some("LoadBalancer")
            && !shown(service).is_empty();
        return Decision {
            addresses: left.then(Vec::new),
            conflicts: Vec::new(),
        };
    }
    let mut addresses = addresses(&observed.nodes);
    addresses.retain(|ip| is_of_families(service, *ip));
    let expected =
        |node: &Arc<Node>| !node.labels().contains_key(EXCLUDED) && node.metadata.deletion_timestamp.is_none();
    if addresses.is_empty() && (observed.nodes.is_empty() || observed.nodes.iter().any(expected)) {
        // No node has reported, which is no news about the ones that are shown.
        return Decision::default();
    }
    let age = |service: &Service| {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, service.namespace(), service.name_any())
    };
    let own = age(service);
    let mut older: Vec<_> = observed
        .services
        .iter()
        .filter(|other| is_ours(other) && age(other) < own)
        .collect();
    older.sort_by_key(|other| age(other));
    older.push(service);
    let mut held: BTreeMap<(IpAddr, String, i32), String> = BTreeMap::new();
    let mut decision = Decision::default();
    for claimant in older {
        let name = format!("{}/{}", claimant.namespace().unwrap_or_default(), claimant.name_any());
        let is_own = Arc::ptr_eq(claimant, service);
        let ports = ports(claimant);
        let mut got = Vec::new();
        for address in &addresses {
            let key = |(protocol, port): &(String, i32)| (*address, protocol.clone(), *port);
            let taken = ports.iter().find_map(|port| Some((port, held.get(&key(port))?)));
            match taken {
                Some(((protocol, port), holder)) if is_own => {
                    decision.conflicts.push(format!(
                        "port {port}/{protocol} of {address} is taken by service {holder}"
                    ));
                }
                Some(_) => {}
                None => {
                    held.extend(ports.iter().map(|port| (key(port), name.clone())));
                    got.push(*address);
                }
            }
        }
        if is_own && got != shown(service) {
            decision.addresses = Some(got);
        }
    }
    decision
}

/// The thin part.
pub struct Controller {
    cluster: Cluster,
    recorder: Recorder,
    services: Arc<Hub<Service>>,
    nodes: Arc<Hub<Node>>,
    fresh: Freshness,
    /// What was said last of the conflicts of each service.
    told: Mutex<HashMap<Key, String>>,
}

/// Wires the controller up.
pub fn wire(wiring: &mut Wiring) {
    let (trigger, queue) = wiring.queue("service");
    let controller = Arc::new(Controller {
        cluster: wiring.cluster.clone(),
        recorder: wiring.recorder.clone(),
        services: wiring.hub(),
        nodes: wiring.hub(),
        fresh: Freshness::default(),
        told: Mutex::default(),
    });
    let forgetful = controller.clone();
    wiring.listen_self::<Service>(&trigger, move |key| {
        forgetful.fresh.forget(key);
        forgetful.told.lock().remove(key);
    });
    // What one of them gives up, another may be waiting for.
    let (fire, services) = (trigger.clone(), wiring.hub::<Service>());
    wiring.listen::<Service>(move |service, previous, _| {
        if is_ours(service) || previous.is_some_and(|previous| is_ours(previous)) {
            for other in services.all().iter().filter(|other| is_ours(other)) {
                fire.fire(Key::of(&**other));
            }
        }
    });
    let (fire, services) = (trigger, wiring.hub::<Service>());
    wiring.listen::<Node>(move |node, previous, _| {
        // A heartbeat alone moves nothing.
        let before = previous.map(|previous| addresses(std::slice::from_ref(previous)));
        if before != Some(addresses(std::slice::from_ref(node))) {
            for other in services.all().iter().filter(|other| is_ours(other)) {
                fire.fire(Key::of(&**other));
            }
        }
    });
    let concurrency = wiring.config.concurrency;
    wiring.drive("service", queue, concurrency, controller.reconcile());
}

impl Controller {
    /// Returns the reconcile for the driver.
    fn reconcile(self: Arc<Self>) -> Reconcile<Service> {
        Arc::new(move |service| {
            let controller = self.clone();
            async move { controller.look(service).await }.boxed()
        })
    }

    async fn look(&self, service: Arc<Service>) -> Outcome {
        let key = Key::of(&*service);
        if let Some(wait) = self.fresh.stale(&key, self.services.seen()) {
            return Ok(Some(wait));
        }
        let decision = decide(&Observed {
            service: service.clone(),
            services: self.services.all(),
            nodes: self.nodes.all(),
        });
        self.tell(&key, &service, &decision);
        let Some(addresses) = decision.addresses else {
            return Ok(None);
        };
        let kind = Kind::of::<Service>();
        let patch = status(&addresses);
        let written = self
            .cluster
            .patch(&kind, key.namespace(), &key.name, Some("status"), &patch)
            .await?;
        self.fresh.wrote(&key, written.revision());
        if !addresses.is_empty() && shown(&service).is_empty() {
            self.recorder.record(
                NAME,
                &*service,
                Level::Normal,
                "EnsuredLoadBalancer",
                "Ensured load balancer",
            );
        }
        Ok(None)
    }

    /// Says once what a service does not get.
    fn tell(&self, key: &Key, service: &Service, decision: &Decision) {
        if decision.conflicts.is_empty() {
            self.told.lock().remove(key);
            return;
        }
        let message = format!(
            "Error syncing load balancer: failed to ensure load balancer: {}",
            decision.conflicts.join("; ")
        );
        let before = self.told.lock().insert(key.clone(), message.clone());
        if before.as_ref() != Some(&message) {
            self.recorder
                .record(NAME, service, Level::Warning, "SyncLoadBalancerFailed", message);
        }
    }
}

fn status(addresses: &[IpAddr]) -> Value {
    let ingress: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({ "ip": ip.to_string(), "ipMode": "VIP" }))
        .collect();
    let ingress = if ingress.is_empty() {
        Value::Null
    } else {
        Value::Array(ingress)
    };
    json!({ "status": { "loadBalancer": { "ingress": ingress } } })
}
