//! From what the API says to this host's rules: pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use setpoint_net::{Backend, Family, HostPort, ServicePort, ServiceTable};

use super::view::{Endpoint, Reach, ServiceEntry, ServicePortEntry, View};

/// The node that rules are made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Its name.
    pub node: String,
    /// Its zone, if it has one (`topology.kubernetes.io/zone`).
    pub zone: Option<String>,
}

/// Returns the rules for all services that need any: those with a cluster IP.
///
/// Backends are the ready endpoints, those that their hints name for this node if there are such; where none is ready,
/// those that terminate and still serve (as Kubernetes' KEP-1669 has it), so that the last pod answers until it is gone.
pub fn build(view: &View, here: &Here, host_ports: &[HostPort]) -> ServiceTable {
    let mut ports: Vec<ServicePort> = reached(view)
        .flat_map(|(service, ip)| {
            let family = Family::of(ip);
            service.ports.iter().map(move |port| {
                let backends = Backends::of(view, here, service, port, family);
                ServicePort {
                    name: format!("{}/{}:{}", service.key.0, service.key.1, port_name(port)),
                    family,
                    protocol: port.protocol,
                    cluster_ip: Some(ip),
                    external_ips: of_family(&service.external_ips, family),
                    balancer_ips: of_family(&service.balancer_ips, family),
                    balancer_sources: service.balancer_sources.as_ref().map(|ranges| {
                        let own = |range: &&IpNet| Family::of_range(**range) == family;
                        ranges.iter().filter(own).copied().collect()
                    }),
                    port: port.port,
                    node_port: port.node_port,
                    affinity_seconds: service.affinity_seconds,
                    backends: backends.anywhere.into_iter().collect(),
                    local_backends: backends.local.into_iter().collect(),
                    internal_local: service.internal_local,
                    external_local: service.external_local,
                }
            })
        })
        .collect();
    ports.sort();
    ServiceTable {
        ports,
        host_ports: host_ports.to_vec(),
    }
}

/// Returns the pods that the rules send connections to by right: those of the fallback for want of a ready one are
/// not among them.
pub fn serving(view: &View, here: &Here) -> BTreeSet<IpAddr> {
    let mut serving = BTreeSet::new();
    for (service, ip) in reached(view) {
        for port in &service.ports {
            let backends = Backends::of(view, here, service, port, Family::of(ip));
            let anywhere = backends.anywhere.iter().filter(|_| backends.anywhere_ready);
            let local = backends.local.iter().filter(|_| backends.local_ready);
            serving.extend(anywhere.chain(local).map(|backend| backend.ip));
        }
    }
    serving
}

/// Returns how many ready endpoints a service has on this node.
pub fn local_endpoints(view: &View, here: &Here, service: &ServiceEntry) -> usize {
    let of_family = |family| {
        let slices = view.slices(service).filter(move |slice| slice.family == family);
        let endpoints = slices.flat_map(|slice| &slice.endpoints);
        let ready = endpoints.filter(|endpoint| is_ready(service, endpoint) && is_local(here, endpoint));
        ready
            .flat_map(|endpoint| &endpoint.addresses)
            .collect::<BTreeSet<_>>()
            .len()
    };
    // A pod of both families is one.
    Family::ALL.into_iter().map(of_family).max().unwrap_or_default()
}

fn of_family(ips: &[IpAddr], family: Family) -> Vec<IpAddr> {
    ips.iter().copied().filter(|ip| Family::of(*ip) == family).collect()
}

/// The services that rules are made for, once for each of their addresses.
fn reached(view: &View) -> impl Iterator<Item = (&ServiceEntry, IpAddr)> {
    view.services().flat_map(|service| {
        let ips: &[IpAddr] = match &service.reach {
            Reach::ClusterIps(ips) => ips,
            _ => &[],
        };
        ips.iter().map(move |ip| (service, *ip))
    })
}

fn port_name(port: &ServicePortEntry) -> String {
    if port.name.is_empty() {
        port.port.to_string()
    } else {
        port.name.clone()
    }
}

fn is_ready(service: &ServiceEntry, endpoint: &Endpoint) -> bool {
    match service.publish_not_ready {
        true => !endpoint.terminating || endpoint.serving,
        false => endpoint.ready && !endpoint.terminating,
    }
}

fn is_leaving(endpoint: &Endpoint) -> bool {
    endpoint.terminating && endpoint.serving
}

fn is_local(here: &Here, endpoint: &Endpoint) -> bool {
    endpoint.node.as_deref() == Some(here.node.as_str())
}

/// The backends of a service's port in one family.
struct Backends {
    /// Wherever they are.
    anywhere: BTreeSet<Backend>,
    anywhere_ready: bool,
    /// On this node; empty for a service that asks for no such.
    local: BTreeSet<Backend>,
    local_ready: bool,
}

impl Backends {
    fn of(view: &View, here: &Here, service: &ServiceEntry, port: &ServicePortEntry, family: Family) -> Backends {
        let all: Vec<(&Endpoint, u16)> = view
            .slices(service)
            .filter(|slice| slice.family == family)
            .flat_map(|slice| {
                let ports = slice.ports.iter();
                let ports = ports.filter(|own| own.name == port.name && own.protocol == port.protocol);
                ports.flat_map(|own| slice.endpoints.iter().map(|endpoint| (endpoint, own.port)))
            })
            .collect();
        let matching = |counts: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<Backend> {
            let found = all.iter().filter(|(endpoint, _)| counts(endpoint));
            let found = found.flat_map(|(endpoint, port)| endpoint.addresses.iter().map(|ip| (*ip, *port)));
            found.map(|(ip, port)| Backend { ip, port }).collect()
        };
        let choose = |among: &dyn Fn(&Endpoint) -> bool, preferred: &dyn Fn(&Endpoint) -> bool| {
            let ready = matching(&|endpoint| is_ready(service, endpoint) && among(endpoint) && preferred(endpoint));
            match ready.is_empty() {
                false => (ready, true),
                true => (matching(&|endpoint| is_leaving(endpoint) && among(endpoint)), false),
            }
        };
        let ready = || {
            all.iter()
                .map(|(endpoint, _)| *endpoint)
                .filter(|endpoint| is_ready(service, endpoint))
        };
        let hint = Hint::of(here, ready);
        let (anywhere, anywhere_ready) = choose(&|_| true, &|endpoint| hint.allows(here, endpoint));
        let (local, local_ready) = match service.internal_local || service.external_local {
            true => choose(&|endpoint| is_local(here, endpoint), &|_| true),
            false => (BTreeSet::new(), false),
        };
        Backends {
            anywhere,
            anywhere_ready,
            local,
            local_ready,
        }
    }
}

/// Which hints count for this node: those for nodes before those for zones, each only if every ready endpoint has one
/// and some of them name this node or its zone.
enum Hint {
    None,
    Node,
    Zone,
}

impl Hint {
    fn of<'a, I: Iterator<Item = &'a Endpoint>>(here: &Here, ready: impl Fn() -> I) -> Hint {
        let counts = |hint: &Hint, named: fn(&Endpoint) -> &Vec<String>| {
            ready().all(|endpoint| !named(endpoint).is_empty()) && ready().any(|endpoint| hint.allows(here, endpoint))
        };
        if counts(&Hint::Node, |endpoint| &endpoint.for_nodes) {
            Hint::Node
        } else if counts(&Hint::Zone, |endpoint| &endpoint.for_zones) {
            Hint::Zone
        } else {
            Hint::None
        }
    }

    fn allows(&self, here: &Here, endpoint: &Endpoint) -> bool {
        match self {
            Hint::None => true,
            Hint::Node => endpoint.for_nodes.contains(&here.node),
            Hint::Zone => here.zone.as_ref().is_some_and(|zone| endpoint.for_zones.contains(zone)),
        }
    }
}

#[cfg(test)]
mod tests;
