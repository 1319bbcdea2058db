//! Endpoints of services: which pods a service's traffic goes to, in EndpointSlices and in the legacy Endpoints.
//!
//! A rolling update without a lost request depends on this: a pod that is asked to end stops being ready here at once, before its
//! containers hear of it. Services without a selector are somebody else's and are left alone.

mod legacy;
mod slices;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use crate::cluster::{Cluster, Kind, Propagation};
use crate::drive::{Key, Outcome, Reconcile};
use crate::error::Error;
use crate::fresh::Freshness;
use crate::hub::Hub;
use crate::pods;
use crate::wiring::Wiring;

pub use slices::Action;

/// The label that names a slice's service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is decided upon.
pub struct Observed {
    /// The service, with a selector.
    pub service: Arc<Service>,
    /// The pods that its selector selects.
    pub pods: Vec<Arc<Pod>>,
    /// The slices that this controller made for it.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The legacy object of the service's name.
    pub endpoints: Option<Arc<Endpoints>>,
    /// The zones of the nodes that have one.
    pub zones: BTreeMap<String, String>,
}

/// Chooses the next actions: slices first, since traffic follows them.
pub fn decide(observed: &Observed) -> Vec<Action> {
    let mut actions = slices::decide(observed);
    actions.extend(legacy::decide(observed));
    actions
}

/// A port as a pod serves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Port {
    name: String,
    protocol: String,
    number: i32,
    app_protocol: Option<String>,
}

/// Resolves the service's ports on a pod; a named port that the pod does not have is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let resolved = ports.iter().filter_map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let number = match &port.target_port {
            None => port.port,
            Some(IntOrString::Int(0)) => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(name)) => named(pod, name, protocol)?,
        };
        Some(Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: protocol.to_owned(),
            number,
            app_protocol: port.app_protocol.clone(),
        })
    });
    let mut resolved: Vec<Port> = resolved.collect();
    resolved.sort();
    resolved
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    // A sidecar is an init container that restarts always, and serves ports as well.
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find_map(|port| {
            let same = port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol;
            same.then_some(port.container_port)
        })
}

/// Returns the pod's address of a family (`IPv4`, `IPv6`).
fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    let status = pod.status.as_ref()?;
    let of_family = |ip: &&str| ip.contains(':') == (family == "IPv6");
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).find(of_family);
    listed.or_else(|| status.pod_ip.as_deref().filter(of_family))
}

fn families(service: &Service) -> Vec<String> {
    let families = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.clone())
        .unwrap_or_default();
    if families.is_empty() {
        vec!["IPv4".to_owned()]
    } else {
        families
    }
}

fn zone(node: &Node) -> Option<String> {
    let zone = node.labels().get("topology.kubernetes.io/zone");
    zone.filter(|zone| !zone.is_empty()).cloned()
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

/// Returns the reference by which what is made for a service goes with it.
fn owner(service: &Service) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: service.name_any(),
        uid: service.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Returns the host name that a headless service publishes for the pod.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    (spec.subdomain.as_deref() == Some(service.name_any().as_str())).then(|| hostname.clone())
}

/// Returns a service's selector, if it has one that this controller serves.
fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// Returns whether `service` selects a pod with these labels.
pub fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    selector(service).is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// The thin part: reads the hubs, decides, acts.
pub struct Controller {
    cluster: Cluster,
    pods: Arc<Hub<Pod>>,
    slices: Arc<Hub<EndpointSlice>>,
    endpoints: Arc<Hub<Endpoints>>,
    nodes: Arc<Hub<Node>>,
    fresh_slices: Freshness,
    fresh_endpoints: Freshness,
}

/// Wires the controller up.
pub fn wire(wiring: &mut Wiring) {
    let (trigger, queue) = wiring.queue("endpointslice");
    let controller = Arc::new(Controller::new(
        wiring.cluster.clone(),
        wiring.hub(),
        wiring.hub(),
        wiring.hub(),
        wiring.hub(),
    ));
    let forgetful = controller.clone();
    wiring.listen_self::<Service>(&trigger, move |key| forgetful.gone(key));
    let (fire, services) = (trigger.clone(), wiring.hub::<Service>());
    wiring.listen::<Pod>(move |pod, previous, _| {
        for service in services.in_namespace(&pod.namespace().unwrap_or_default()) {
            let selected = selects(&service, pod.labels())
                || previous.is_some_and(|previous| selects(&service, previous.labels()));
            if selected {
                fire.fire(Key::of(&*service));
            }
        }
    });
    let fire = trigger.clone();
    wiring.listen::<EndpointSlice>(move |slice, _, _| {
        if let Some(service) = slice.labels().get(SERVICE_NAME) {
            fire.fire(Key::new(slice.namespace().unwrap_or_default(), service.clone()));
        }
    });
    let (fire, services) = (trigger.clone(), wiring.hub::<Service>());
    wiring.listen::<Node>(move |node, previous, _| {
        if zone(node) != previous.and_then(|previous| zone(previous)) {
            for service in services.all() {
                fire.fire(Key::of(&*service));
            }
        }
    });
    wiring.listen::<Endpoints>(move |object, _, _| trigger.fire(Key::of(&**object)));
    let concurrency = wiring.config.concurrency;
    wiring.drive("endpointslice", queue, concurrency, controller.reconcile());
}

impl Controller {
    /// Puts the parts together.
    pub fn new(
        cluster: Cluster,
        pods: Arc<Hub<Pod>>,
        slices: Arc<Hub<EndpointSlice>>,
        endpoints: Arc<Hub<Endpoints>>,
        nodes: Arc<Hub<Node>>,
    ) -> Controller {
        Controller {
            cluster,
            pods,
            slices,
            endpoints,
            nodes,
            fresh_slices: Freshness::default(),
            fresh_endpoints: Freshness::default(),
        }
    }

    /// Returns the reconcile for the driver.
    pub fn reconcile(self: Arc<Self>) -> Reconcile<Service> {
        Arc::new(move |service| {
            let controller = self.clone();
            async move { controller.look(service).await }.boxed()
        })
    }

    /// Forgets a service that is gone; its slices go with it by their owner.
    pub fn gone(&self, key: &Key) {
        self.fresh_slices.forget(key);
        self.fresh_endpoints.forget(key);
    }

    async fn look(&self, service: Arc<Service>) -> Outcome {
        let key = Key::of(&*service);
        if selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if let Some(wait) = self
            .fresh_slices
            .stale(&key, self.slices.seen())
            .or_else(|| self.fresh_endpoints.stale(&key, self.endpoints.seen()))
        {
            return Ok(Some(wait));
        }
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selects(&service, pod.labels()) && !pods::is_terminal(pod));
        let mut slices = self.slices.in_namespace(&key.namespace);
        slices.retain(|slice| slices::is_ours(slice, &key.name));
        let endpoints = self.endpoints.get(key.namespace(), &key.name);
        let observed = Observed {
            service,
            pods,
            slices,
            endpoints,
            zones: self
                .nodes
                .all()
                .iter()
                .filter_map(|node| Some((node.name_any(), zone(node)?)))
                .collect(),
        };
        for action in decide(&observed) {
            self.act(&key, action).await?;
        }
        Ok(None)
    }

    async fn act(&self, key: &Key, action: Action) -> Result<(), Error> {
        let (slices, endpoints) = (Kind::of::<EndpointSlice>(), Kind::of::<Endpoints>());
        let namespace = key.namespace();
        match action {
            Action::CreateSlice(slice) => {
                let written = self.cluster.create(&slices, namespace, &slice).await?;
                self.fresh_slices.wrote(key, written.revision());
            }
            Action::PatchSlice { name, patch } => {
                let written = self.cluster.patch(&slices, namespace, &name, None, &patch).await?;
                self.fresh_slices.wrote(key, written.revision());
            }
            Action::DeleteSlice { name, uid } => {
                let propagation = Propagation::Background;
                self.cluster
                    .delete(&slices, namespace, &name, Some(&uid), propagation, None)
                    .await?;
            }
            Action::CreateEndpoints(object) => {
                match self.cluster.create(&endpoints, namespace, &object).await {
                    Ok(written) => self.fresh_endpoints.wrote(key, written.revision()),
                    // The cache will show it in a moment.
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => return Err(error),
                }
            }
            Action::PatchEndpoints(patch) => {
                let written = self
                    .cluster
                    .patch(&endpoints, namespace, &key.name, None, &patch)
                    .await?;
                self.fresh_endpoints.wrote(key, written.revision());
            }
        }
        Ok(())
    }
}
