//! From what the API says to this host's rules: pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use setpoint_net::{Backend, ServicePort, ServiceTable};

use super::view::{Endpoint, Reach, ServiceEntry, ServicePortEntry, View};

/// Returns the rules for all services that need any: those with a cluster IP.
///
/// Backends are the ready endpoints; where there is none, those that terminate and still serve (as Kubernetes'
/// KEP-1669 has it), so that the last pod answers until it is gone.
pub fn build(view: &View) -> ServiceTable {
    let mut ports: Vec<ServicePort> = view
        .services()
        .filter_map(|service| match service.reach {
            Reach::ClusterIp(ip) => Some((service, ip)),
            _ => None,
        })
        .flat_map(|(service, ip)| {
            service.ports.iter().map(move |port| ServicePort {
                name: format!("{}/{}:{}", service.key.0, service.key.1, port_name(port)),
                protocol: port.protocol,
                cluster_ip: Some(ip),
                external_ips: service.external_ips.clone(),
                port: port.port,
                node_port: port.node_port,
                affinity_seconds: service.affinity_seconds,
                backends: backends(view, service, port).0.into_iter().collect(),
            })
        })
        .collect();
    ports.sort();
    ServiceTable { ports }
}

/// Returns the pods that the rules send connections to by right: those of the fallback for want of a ready one are
/// not among them.
pub fn serving(view: &View) -> BTreeSet<Ipv4Addr> {
    let mut serving = BTreeSet::new();
    for service in view
        .services()
        .filter(|service| matches!(service.reach, Reach::ClusterIp(_)))
    {
        for port in &service.ports {
            let (backends, ready) = backends(view, service, port);
            if ready {
                serving.extend(backends.into_iter().map(|backend| backend.ip));
            }
        }
    }
    serving
}

fn port_name(port: &ServicePortEntry) -> String {
    if port.name.is_empty() {
        port.port.to_string()
    } else {
        port.name.clone()
    }
}

/// Returns a port's backends, and whether they are ready ones.
fn backends(view: &View, service: &ServiceEntry, port: &ServicePortEntry) -> (BTreeSet<Backend>, bool) {
    let matching = |counts: fn(&Endpoint) -> bool| -> BTreeSet<Backend> {
        let slices = view.slices(service);
        slices
            .flat_map(|slice| {
                let ports = slice
                    .ports
                    .iter()
                    .filter(|own| own.name == port.name && own.protocol == port.protocol);
                ports.flat_map(move |own| {
                    let endpoints = slice.endpoints.iter().filter(move |endpoint| counts(endpoint));
                    let addresses = endpoints.flat_map(|endpoint| endpoint.addresses.iter());
                    addresses.map(move |ip| Backend {
                        ip: *ip,
                        port: own.port,
                    })
                })
            })
            .collect()
    };
    if service.publish_not_ready {
        return (matching(|endpoint| !endpoint.terminating || endpoint.serving), true);
    }
    let ready = matching(|endpoint| endpoint.ready && !endpoint.terminating);
    if !ready.is_empty() {
        return (ready, true);
    }
    (matching(|endpoint| endpoint.terminating && endpoint.serving), false)
}

#[cfg(test)]
mod tests;
