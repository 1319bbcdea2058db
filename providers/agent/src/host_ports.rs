//! Ports of the host that lead to pods (`hostPort`), and who has which.
//!
//! A pod holds its host ports from its admission until its sandbox is gone; one that wants a port that another holds is
//! refused. Rules are made for those whose pod has an address. Pods on the host's network hold their ports as well, and
//! need no rules.
//!
//! Until what ran before is known nothing is published, so that the rules of an earlier process stay in force.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use setpoint_net::{AddressPair, Backend, Family, HostPort, Protocol};
use tokio::sync::watch;

/// Why a pod with a taken host port is refused: the kubelet's reason.
pub const REASON: &str = "NodePorts";
/// The kubelet's message.
pub const MESSAGE: &str = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";

/// What rules are made from; `None` until what ran before is known.
pub type Published = Option<Arc<Vec<HostPort>>>;

/// A port of the host that a pod asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The transport.
    pub protocol: Protocol,
    /// The host's address; `None` for all of them.
    pub ip: Option<IpAddr>,
    /// The port on the host.
    pub port: u16,
    /// The pod's port.
    pub target: u16,
}

impl Wanted {
    fn clashes(&self, other: &Wanted) -> bool {
        self.protocol == other.protocol
            && self.port == other.port
            && (self.ip.is_none() || other.ip.is_none() || self.ip == other.ip)
    }
}

/// Returns the host ports of a pod's containers and sidecars.
pub fn wanted(pod: &Pod) -> Vec<Wanted> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars);
    let ports = ports.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
            let ip = port.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
            Some(Wanted {
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                ip: ip.filter(|ip| !ip.is_unspecified()),
                port: number(port.host_port?)?,
                target: number(port.container_port)?,
            })
        })
        .collect()
}

#[derive(Debug)]
struct Held {
    wanted: Vec<Wanted>,
    addresses: Option<AddressPair>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, Held>,
    known: bool,
}

/// The host ports of a node's pods.
#[derive(Debug)]
pub struct HostPorts {
    state: Mutex<State>,
    published: watch::Sender<Published>,
}

impl Default for HostPorts {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            published: watch::Sender::new(None),
        }
    }
}

impl HostPorts {
    /// Takes a pod's host ports for it; false if another pod has one of them. Taking them again changes nothing.
    pub fn reserve(&self, uid: &str, pod: &Pod) -> bool {
        let wanted = wanted(pod);
        if wanted.is_empty() {
            return true;
        }
        let mut state = self.state.lock();
        if state.held.contains_key(uid) {
            return true;
        }
        let taken = |own: &Wanted| {
            state
                .held
                .values()
                .flat_map(|held| &held.wanted)
                .any(|other| own.clashes(other))
        };
        if wanted.iter().any(taken) {
            return false;
        }
        state.held.insert(
            uid.to_owned(),
            Held {
                wanted,
                addresses: None,
            },
        );
        true
    }

    /// Lets a pod's ports lead to its addresses, each family's to that of its own.
    pub fn open(&self, uid: &str, addresses: AddressPair) {
        let mut state = self.state.lock();
        if let Some(held) = state.held.get_mut(uid) {
            held.addresses = Some(addresses);
            self.publish(&state);
        }
    }

    /// Gives a pod's ports back.
    pub fn release(&self, uid: &str) {
        let mut state = self.state.lock();
        if state.held.remove(uid).is_some() {
            self.publish(&state);
        }
    }

    /// Says that what ran before is known.
    pub fn all_known(&self) {
        let mut state = self.state.lock();
        state.known = true;
        self.publish(&state);
    }

    /// Returns what rules are to be made from, as it changes.
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    fn publish(&self, state: &State) {
        if !state.known {
            return;
        }
        let of_pod = |held: &Held| {
            let addresses = held.addresses?;
            let ports = held.wanted.iter().flat_map(move |wanted| {
                let of_family = move |ip: &IpAddr| wanted.ip.is_none_or(|own| Family::of(own) == Family::of(*ip));
                addresses.all().filter(of_family).map(|ip| HostPort {
                    protocol: wanted.protocol,
                    port: wanted.port,
                    ip: wanted.ip,
                    backend: Backend {
                        ip,
                        port: wanted.target,
                    },
                })
            });
            Some(ports.collect::<Vec<_>>())
        };
        let mut ports: Vec<HostPort> = state.held.values().filter_map(of_pod).flatten().collect();
        ports.sort();
        self.published.send_if_modified(|published| {
            let news = published.as_deref() != Some(&ports);
            if news {
                *published = Some(Arc::new(ports));
            }
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::{Value, json};

    use super::*;

    fn pod(ports: Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "ports": ports}]}})).expect("a pod")
    }

    fn published(ports: &HostPorts) -> Vec<(u16, Option<String>, String, u16)> {
        let all = ports.published().borrow().clone().expect("known");
        let text = |port: &HostPort| {
            let ip = port.ip.map(|ip| ip.to_string());
            (port.port, ip, port.backend.ip.to_string(), port.backend.port)
        };
        all.iter().map(text).collect()
    }

    const IP: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 2);

    #[test]
    fn a_port_leads_to_its_pod_from_its_address_to_its_end() {
        let ports = HostPorts::default();
        let web = pod(json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"}]));
        assert!(ports.reserve("a", &web));
        ports.open("a", IP.into());
        assert!(ports.published().borrow().is_none(), "what ran before is not known yet");
        ports.all_known();
        let ip = IP.to_string();
        let loopback = Some("127.0.0.1".to_owned());
        assert_eq!(
            published(&ports),
            [(8080, None, ip.clone(), 80), (53, loopback, ip, 53)]
        );
        ports.release("a");
        assert!(published(&ports).is_empty());
    }

    #[test]
    fn a_pod_of_both_families_is_reached_by_each_at_its_own() {
        let ports = HostPorts::default();
        let web = pod(json!([{"containerPort": 80, "hostPort": 8080},
            {"containerPort": 53, "hostPort": 53, "hostIP": "2001:db8::1"}]));
        assert!(ports.reserve("a", &web));
        ports.all_known();
        let ipv6 = "fd00:0:1:42::2".to_owned();
        ports.open(
            "a",
            AddressPair {
                ipv4: IP,
                ipv6: ipv6.parse().ok(),
            },
        );
        let only = Some("2001:db8::1".to_owned());
        let found: std::collections::BTreeSet<_> = published(&ports).into_iter().collect();
        let wanted = [
            (8080, None, IP.to_string(), 80),
            (8080, None, ipv6.clone(), 80),
            (53, only, ipv6, 53),
        ];
        assert_eq!(found, wanted.into());
    }

    #[test]
    fn a_port_that_another_pod_has_is_refused_until_that_is_gone() {
        let ports = HostPorts::default();
        let on = |ip: &str, protocol: &str| {
            pod(json!([{"containerPort": 80, "hostPort": 80, "hostIP": ip, "protocol": protocol}]))
        };
        assert!(ports.reserve("a", &on("192.0.2.1", "TCP")));
        assert!(ports.reserve("a", &on("192.0.2.1", "TCP")), "it has it already");
        assert!(ports.reserve("b", &on("192.0.2.2", "TCP")));
        assert!(ports.reserve("c", &on("0.0.0.0", "UDP")));
        assert!(!ports.reserve("d", &on("0.0.0.0", "TCP")));
        assert!(!ports.reserve("d", &on("192.0.2.1", "TCP")));
        ports.release("a");
        assert!(ports.reserve("d", &on("192.0.2.1", "TCP")));
    }

    #[test]
    fn a_sidecars_ports_count_and_an_init_containers_do_not() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "initContainers": [
            {"name": "once", "ports": [{"containerPort": 1, "hostPort": 1}]},
            {"name": "stays", "restartPolicy": "Always", "ports": [{"containerPort": 2, "hostPort": 3}]},
        ]}}))
        .expect("a pod");
        let found: Vec<_> = wanted(&pod)
            .into_iter()
            .map(|wanted| (wanted.port, wanted.target))
            .collect();
        assert_eq!(found, [(3, 2)]);
    }
}
