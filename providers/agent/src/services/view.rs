//! What this node reads of Services and EndpointSlices, and nothing else of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use kube::runtime::watcher::Event;
use setpoint_net::{Family, Protocol};

/// Namespace and name.
pub type Key = (String, String);

/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: i32 = 10_800;

/// How a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By addresses of the service ranges, one of each family that it has.
    ClusterIps(Vec<IpAddr>),
    /// By its pods' addresses, from DNS.
    Headless,
    /// By another name.
    External(String),
    /// Not at all (its address is not there yet).
    Nothing,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortEntry {
    /// Its name; empty for the only port.
    pub name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The port where there are no rules in between (headless): the target, if it is a number.
    pub target: Option<u16>,
    /// The port on every address of the host.
    pub node_port: Option<u16>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Namespace and name.
    pub key: Key,
    /// How it is reached.
    pub reach: Reach,
    /// Its ports.
    pub ports: Vec<ServicePortEntry>,
    /// External addresses.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses.
    pub balancer_ips: Vec<IpAddr>,
    /// Who may come by these; `None` for everybody.
    pub balancer_sources: Option<Vec<IpNet>>,
    /// Whether the cluster IP leads to pods of this node only.
    pub internal_local: bool,
    /// Whether who comes from outside is led to pods of this node only.
    pub external_local: bool,
    /// Where load balancers ask whether this node has pods of it.
    pub health_check_port: Option<u16>,
    /// How long a client stays with its backend.
    pub affinity_seconds: Option<u32>,
    /// Whether pods count before they are ready.
    pub publish_not_ready: bool,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The service port's name.
    pub name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The pods' port.
    pub port: u16,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its addresses (a pod has one of each family).
    pub addresses: Vec<IpAddr>,
    /// Whether it takes connections.
    pub ready: bool,
    /// Whether it would take connections were it not terminating.
    pub serving: bool,
    /// Whether its pod is being deleted.
    pub terminating: bool,
    /// The pod's host name below the service's name.
    pub hostname: Option<String>,
    /// The node that it is on.
    pub node: Option<String>,
    /// The nodes that should use it.
    pub for_nodes: Vec<String>,
    /// The zones that should use it.
    pub for_zones: Vec<String>,
}

/// An EndpointSlice of IPv4 or IPv6 addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEntry {
    /// Namespace and name of the slice.
    pub key: Key,
    /// The family of its addresses.
    pub family: Family,
    /// Namespace and name of its service.
    pub service: Key,
    /// Its ports.
    pub ports: Vec<EndpointPort>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

fn protocol(name: Option<&str>) -> Protocol {
    match name {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

fn sorted<'a>(ips: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

fn key<K: Resource>(object: &K) -> Option<Key> {
    let meta = object.meta();
    Some((meta.namespace.clone()?, meta.name.clone()?))
}

impl ServiceEntry {
    /// Reads a Service; `None` without a name.
    pub fn from_service(service: &Service) -> Option<ServiceEntry> {
        let key = key(service)?;
        let spec = service.spec.clone().unwrap_or_default();
        // The first of the list is the single one, which old clients alone write.
        let listed = spec.cluster_ips.filter(|ips| !ips.is_empty());
        let cluster_ips: Vec<String> = listed.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        let reach = if spec.type_.as_deref() == Some("ExternalName") {
            spec.external_name.map_or(Reach::Nothing, Reach::External)
        } else if cluster_ips.iter().any(|ip| ip == "None") {
            Reach::Headless
        } else {
            let ips: Vec<IpAddr> = cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
            match ips.is_empty() {
                true => Reach::Nothing,
                false => Reach::ClusterIps(ips),
            }
        };
        let ports = spec.ports.unwrap_or_default().into_iter().filter_map(|port| {
            Some(ServicePortEntry {
                name: port.name.unwrap_or_default(),
                protocol: protocol(port.protocol.as_deref()),
                port: port_number(port.port)?,
                target: match port.target_port {
                    Some(IntOrString::Int(target)) => port_number(target),
                    _ => None,
                },
                node_port: port.node_port.and_then(port_number),
            })
        });
        let balanced = spec.type_.as_deref() == Some("LoadBalancer");
        let outside = balanced || spec.type_.as_deref() == Some("NodePort");
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
        // A load balancer that is a proxy sends to nodes itself.
        let ingress = ingress.filter(|ingress| balanced && ingress.ip_mode.as_deref() != Some("Proxy"));
        let balancer_ips = sorted(ingress.filter_map(|ingress| ingress.ip.as_deref()));
        let declared = spec.external_ips.unwrap_or_default();
        let external_ips = sorted(declared.iter().map(String::as_str));
        let ranges = spec.load_balancer_source_ranges.unwrap_or_default();
        let balancer_sources = (!ranges.is_empty()).then(|| {
            let ranges = ranges.iter().filter_map(|range| range.trim().parse().ok());
            ranges.map(|range: IpNet| range.trunc()).collect()
        });
        let external_local =
            (outside || !external_ips.is_empty()) && spec.external_traffic_policy.as_deref() == Some("Local");
        let affinity = spec
            .session_affinity_config
            .and_then(|config| config.client_ip?.timeout_seconds);
        let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
        Some(ServiceEntry {
            key,
            reach,
            ports: ports.collect(),
            external_ips,
            balancer_ips,
            balancer_sources,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local,
            health_check_port: spec
                .health_check_node_port
                .filter(|_| balanced && external_local)
                .and_then(port_number),
            affinity_seconds: sticky.then(|| {
                u32::try_from(affinity.unwrap_or(AFFINITY_SECONDS)).unwrap_or(AFFINITY_SECONDS.cast_unsigned())
            }),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        })
    }
}

impl SliceEntry {
    /// Reads an EndpointSlice; `None` if it is not of addresses or belongs to no service.
    pub fn from_slice(slice: &EndpointSlice) -> Option<SliceEntry> {
        let key = key(slice)?;
        let family = Family::named(&slice.address_type)?;
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port.protocol.as_deref()),
                port: port_number(port.port?)?,
            })
        });
        let endpoints = slice.endpoints.iter().flatten().map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let hints = endpoint.hints.clone().unwrap_or_default();
            Endpoint {
                addresses: endpoint
                    .addresses
                    .iter()
                    .filter_map(|ip| ip.parse().ok())
                    .filter(|ip| Family::of(*ip) == family)
                    .collect(),
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                hostname: endpoint.hostname.clone().filter(|name| !name.is_empty()),
                node: endpoint.node_name.clone(),
                for_nodes: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
                for_zones: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
            }
        });
        Some(SliceEntry {
            service: (key.0.clone(), service),
            key,
            family,
            ports: ports.collect(),
            endpoints: endpoints.collect(),
        })
    }
}

/// Entries of one kind as a watch tells of them; a list that is under way replaces all at its end.
#[derive(Debug)]
pub struct Collection<E> {
    entries: BTreeMap<Key, Arc<E>>,
    listing: Option<BTreeMap<Key, Arc<E>>>,
    complete: bool,
    changed: bool,
}

impl<E> Default for Collection<E> {
    fn default() -> Self {
        Collection {
            entries: BTreeMap::new(),
            listing: None,
            complete: false,
            changed: false,
        }
    }
}

impl<E: PartialEq> Collection<E> {
    /// Takes an event; `read` makes the entry, `None` for an object that does not count.
    pub fn take<K: Resource>(&mut self, event: Event<K>, read: impl Fn(&K) -> Option<E>) {
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                if let (Some(key), Some(entry)) = (key(&object), read(&object)) {
                    self.listing.get_or_insert_default().insert(key, Arc::new(entry));
                }
            }
            Event::InitDone => {
                self.entries = self.listing.take().unwrap_or_default();
                self.complete = true;
                self.changed = true;
            }
            Event::Apply(object) => match (key(&object), read(&object)) {
                (Some(key), Some(entry)) => {
                    if self.entries.get(&key).is_none_or(|old| **old != entry) {
                        self.entries.insert(key, Arc::new(entry));
                        self.changed = true;
                    }
                }
                (Some(key), None) => self.changed |= self.entries.remove(&key).is_some(),
                (None, _) => {}
            },
            Event::Delete(object) => {
                if let Some(key) = key(&object) {
                    self.changed |= self.entries.remove(&key).is_some();
                }
            }
        }
    }

    /// Says whether a list has been read to its end.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Says whether anything has changed since it was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns the entries by key.
    pub fn entries(&self) -> &BTreeMap<Key, Arc<E>> {
        &self.entries
    }
}

/// All services with their slices at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    services: BTreeMap<Key, Arc<ServiceEntry>>,
    slices: BTreeMap<Key, Vec<Arc<SliceEntry>>>,
    complete: bool,
}

impl View {
    /// Brings services and slices together.
    pub fn new(services: &BTreeMap<Key, Arc<ServiceEntry>>, slices: &BTreeMap<Key, Arc<SliceEntry>>) -> View {
        let mut by_service: BTreeMap<Key, Vec<Arc<SliceEntry>>> = BTreeMap::new();
        for slice in slices.values() {
            by_service
                .entry(slice.service.clone())
                .or_default()
                .push(Arc::clone(slice));
        }
        View {
            services: services.clone(),
            slices: by_service,
            complete: true,
        }
    }

    /// Says whether the API has been read; before that, that a service is absent means nothing.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Returns the services by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &ServiceEntry> {
        self.services.values().map(Arc::as_ref)
    }

    /// Returns a service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&ServiceEntry> {
        self.services
            .get(&(namespace.to_owned(), name.to_owned()))
            .map(Arc::as_ref)
    }

    /// Says whether a namespace has services.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        let from = (namespace.to_owned(), String::new());
        self.services
            .range(from..)
            .next()
            .is_some_and(|((found, _), _)| found == namespace)
    }

    /// Returns a service's slices.
    pub fn slices(&self, service: &ServiceEntry) -> impl Iterator<Item = &SliceEntry> {
        self.slices.get(&service.key).into_iter().flatten().map(Arc::as_ref)
    }
}
