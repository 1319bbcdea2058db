//! Services in the tables: what the kernel holds, and the least change that makes it another table.

mod chain;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{CLOSED, CLOSED_NODE_PORTS, HOST_ADDRESSES, HOST_PORTS, NODE_PORTS, SERVICES, go};
use crate::address::octets;
use crate::nft::{Batch, Element, SetSpec, Value, Verdict, address_type};
use crate::{Backend, Family, HostPort, Protocol, ServicePort, ServiceTable, Subnets};

/// What a service chain is made from; equal ones make equal chains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chain {
    name: String,
    protocol: Protocol,
    affinity_seconds: Option<u32>,
    backends: Vec<Backend>,
}

/// Where a key of a map leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Chain(u64),
    Gate(u64),
    /// There are backends, but none that may answer here.
    Drop,
}

impl Target {
    fn verdict(self) -> Verdict {
        match self {
            Target::Chain(number) => go(&chain_name(number)),
            Target::Gate(number) => go(&gate_name(number)),
            Target::Drop => Verdict::Drop,
        }
    }
}

/// A chain that looks at the source first. Those of the first kind may be led to by those of the second: they are
/// made before them and removed after them, in the order of this type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gate {
    /// `externalTrafficPolicy: Local`: who is on this host is served like at the cluster IP.
    Policy {
        service: String,
        here: Target,
        elsewhere: Target,
    },
    /// `loadBalancerSourceRanges`.
    Sources {
        service: String,
        ranges: Vec<IpNet>,
        then: Target,
    },
}

impl Gate {
    fn service(&self) -> &str {
        match self {
            Gate::Policy { service, .. } | Gate::Sources { service, .. } => service,
        }
    }
}

/// What a map of clients (session affinity) belongs to. It outlives its chains, so that clients stay where they
/// are when another backend comes or goes.
type AffinityKey = (String, Protocol, u32);
type Address = (IpAddr, Protocol, u16);
type Port = (Protocol, u16);

/// The services as the kernel holds them, each family's in a table of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Programmed {
    families: BTreeMap<Family, OfFamily>,
}

impl Programmed {
    /// Returns what the kernel should hold for a table: the numbers of what stays are kept.
    pub(crate) fn next(&self, table: &ServiceTable, subnets: &[Subnets]) -> Programmed {
        let of_family = |subnets: &Subnets| {
            let before = self.families.get(&subnets.family);
            let next = before.unwrap_or(&OfFamily::default()).next(table, subnets.family);
            (subnets.family, next)
        };
        Programmed {
            families: subnets.iter().map(of_family).collect(),
        }
    }

    /// Appends what makes `self` into `next`.
    pub(crate) fn change(&self, next: &Programmed, subnets: &[Subnets], batch: &mut Batch) {
        let nothing = OfFamily::default();
        for Subnets { family, pods, .. } in subnets {
            batch.turn_to(*family);
            let (old, new) = (self.families.get(family), next.families.get(family));
            old.unwrap_or(&nothing).change(new.unwrap_or(&nothing), *pods, batch);
        }
    }

    /// Returns all backends of UDP ports, those of host ports included.
    pub(crate) fn udp_backends(&self) -> BTreeSet<Backend> {
        self.families.values().flat_map(OfFamily::udp_backends).collect()
    }

    /// Returns the UDP ports that lead somewhere in `next` and did not before.
    pub(crate) fn opened_udp_ports(&self, next: &Programmed) -> BTreeSet<u16> {
        let nothing = OfFamily::default();
        let opened = |(family, next): (&Family, &OfFamily)| {
            let before = self.families.get(family).unwrap_or(&nothing);
            before.opened_udp_ports(next)
        };
        next.families.iter().flat_map(opened).collect()
    }
}

/// The services of one family as the kernel holds them; numbers are parts of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfFamily {
    chains: BTreeMap<Chain, u64>,
    gates: BTreeMap<Gate, u64>,
    affinity: BTreeMap<AffinityKey, u64>,
    services: BTreeMap<Address, Target>,
    node_ports: BTreeMap<Port, Target>,
    closed: BTreeSet<Address>,
    closed_node_ports: BTreeSet<Port>,
    host_addresses: BTreeMap<Address, Backend>,
    host_ports: BTreeMap<Port, Backend>,
    last: u64,
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn padded_port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn port_key((protocol, port): Port) -> Vec<u8> {
    [[protocol_number(protocol), 0, 0, 0], padded_port(port)].concat()
}

fn address_key((ip, protocol, port): Address) -> Vec<u8> {
    [octets(ip), port_key((protocol, port))].concat()
}

fn endpoint(backend: Backend) -> Vec<u8> {
    [&octets(backend.ip)[..], &padded_port(backend.port)].concat()
}

fn chain_name(number: u64) -> String {
    format!("s{number}")
}

fn gate_name(number: u64) -> String {
    format!("g{number}")
}

fn affinity_name(number: u64) -> String {
    format!("clients{number}")
}

impl OfFamily {
    fn next(&self, table: &ServiceTable, family: Family) -> OfFamily {
        let mut next = OfFamily {
            last: self.last,
            ..OfFamily::default()
        };
        for port in table.ports.iter().filter(|port| port.family == family) {
            next.add(self, port);
        }
        let host_ports = table.host_ports.iter();
        for port in host_ports.filter(|port| Family::of(port.backend.ip) == family) {
            next.add_host_port(port);
        }
        next
    }

    fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Returns where a set of backends is chosen from.
    fn chain(&mut self, before: &OfFamily, port: &ServicePort, backends: &[Backend]) -> Target {
        if backends.is_empty() {
            return Target::Drop;
        }
        let affinity_seconds = port.affinity_seconds.filter(|seconds| *seconds > 0);
        if let Some(seconds) = affinity_seconds {
            let key = (port.name.clone(), port.protocol, seconds);
            if !self.affinity.contains_key(&key) {
                let number = before.affinity.get(&key).copied().unwrap_or_else(|| self.fresh());
                self.affinity.insert(key, number);
            }
        }
        let chain = Chain {
            name: port.name.clone(),
            protocol: port.protocol,
            affinity_seconds,
            backends: backends.to_vec(),
        };
        if let Some(number) = self.chains.get(&chain) {
            return Target::Chain(*number);
        }
        let number = before.chains.get(&chain).copied().unwrap_or_else(|| self.fresh());
        self.chains.insert(chain, number);
        Target::Chain(number)
    }

    fn gate(&mut self, before: &OfFamily, gate: Gate) -> Target {
        if let Some(number) = self.gates.get(&gate) {
            return Target::Gate(*number);
        }
        let number = before.gates.get(&gate).copied().unwrap_or_else(|| self.fresh());
        self.gates.insert(gate, number);
        Target::Gate(number)
    }

    fn add(&mut self, before: &OfFamily, port: &ServicePort) {
        let key = |ip: &IpAddr| (*ip, port.protocol, port.port);
        let node_port = port.node_port.map(|node_port| (port.protocol, node_port));
        if port.is_closed() {
            let addresses = port
                .cluster_ip
                .iter()
                .chain(&port.external_ips)
                .chain(&port.balancer_ips);
            for key in addresses.map(key) {
                if !self.services.contains_key(&key) {
                    self.closed.insert(key);
                }
            }
            self.closed_node_ports
                .extend(node_port.filter(|key| !self.node_ports.contains_key(key)));
            return;
        }
        let anywhere = self.chain(before, port, &port.backends);
        let here = match port.internal_local || port.external_local {
            true => self.chain(before, port, &port.local_backends),
            false => anywhere,
        };
        let inside = if port.internal_local { here } else { anywhere };
        let outside = match port.external_local && here != anywhere {
            true => self.gate(
                before,
                Gate::Policy {
                    service: port.name.clone(),
                    here: anywhere,
                    elsewhere: here,
                },
            ),
            false => anywhere,
        };
        let balanced = match &port.balancer_sources {
            Some(ranges) if !port.balancer_ips.is_empty() => self.gate(
                before,
                Gate::Sources {
                    service: port.name.clone(),
                    ranges: ranges.clone(),
                    then: outside,
                },
            ),
            _ => outside,
        };
        // Of two services with the same address and port the first by name has it.
        let ways = [
            (port.cluster_ip.as_slice(), inside),
            (&port.external_ips, outside),
            (&port.balancer_ips, balanced),
        ];
        for (ips, target) in ways {
            for key in ips.iter().map(key) {
                self.closed.remove(&key);
                self.services.entry(key).or_insert(target);
            }
        }
        if let Some(key) = node_port {
            self.closed_node_ports.remove(&key);
            self.node_ports.entry(key).or_insert(outside);
        }
    }

    fn add_host_port(&mut self, port: &HostPort) {
        match port.ip {
            Some(ip) => {
                let key = (ip, port.protocol, port.port);
                self.host_addresses.entry(key).or_insert(port.backend);
            }
            None => {
                let key = (port.protocol, port.port);
                self.host_ports.entry(key).or_insert(port.backend);
            }
        }
    }

    fn change(&self, next: &OfFamily, pods: IpNet, batch: &mut Batch) {
        for (key, number) in &next.affinity {
            if !self.affinity.contains_key(key) {
                batch.add_set(SetSpec {
                    name: &affinity_name(*number),
                    key: &[batch.family().length()],
                    key_type: address_type(batch.family()),
                    value: Value::Endpoint,
                    anonymous: None,
                    timeout: Some(u64::from(key.2) * 1000),
                });
            }
        }
        for (chain, number) in &next.chains {
            if !self.chains.contains_key(chain) {
                let affinity = chain
                    .affinity_seconds
                    .and_then(|seconds| next.affinity.get(&(chain.name.clone(), chain.protocol, seconds)));
                chain::add_chain(
                    batch,
                    &chain_name(*number),
                    chain,
                    affinity.map(|number| affinity_name(*number)),
                    pods,
                );
            }
        }
        for (gate, number) in &next.gates {
            if !self.gates.contains_key(gate) {
                chain::add_gate(batch, &gate_name(*number), gate, pods);
            }
        }
        change_map(batch, SERVICES, &self.services, &next.services, |key, target| {
            Element::Verdict(address_key(*key), target.verdict())
        });
        change_map(batch, NODE_PORTS, &self.node_ports, &next.node_ports, |key, target| {
            Element::Verdict(port_key(*key), target.verdict())
        });
        let (old, new) = (&self.host_addresses, &next.host_addresses);
        change_map(batch, HOST_ADDRESSES, old, new, |key, backend| {
            Element::Value(address_key(*key), endpoint(*backend))
        });
        change_map(batch, HOST_PORTS, &self.host_ports, &next.host_ports, |key, backend| {
            Element::Value(port_key(*key), endpoint(*backend))
        });
        change_set(batch, CLOSED, &self.closed, &next.closed, |key| address_key(*key));
        change_set(
            batch,
            CLOSED_NODE_PORTS,
            &self.closed_node_ports,
            &next.closed_node_ports,
            |key| port_key(*key),
        );
        // Whoever leads elsewhere goes first: the kernel keeps a chain that something leads to.
        for (gate, number) in self.gates.iter().rev() {
            if !next.gates.contains_key(gate) {
                batch.delete_chain(&gate_name(*number));
            }
        }
        for (chain, number) in &self.chains {
            if !next.chains.contains_key(chain) {
                batch.delete_chain(&chain_name(*number));
            }
        }
        for (key, number) in &self.affinity {
            if !next.affinity.contains_key(key) {
                batch.delete_set(&affinity_name(*number));
            }
        }
    }

    fn udp_backends(&self) -> BTreeSet<Backend> {
        let chains = self.chains.keys().filter(|chain| chain.protocol == Protocol::Udp);
        let ports = self
            .host_ports
            .iter()
            .filter(|((protocol, _), _)| *protocol == Protocol::Udp);
        let addresses = self.host_addresses.iter();
        let addresses = addresses.filter(|((_, protocol, _), _)| *protocol == Protocol::Udp);
        chains
            .flat_map(|chain| chain.backends.iter().copied())
            .chain(ports.map(|(_, backend)| *backend))
            .chain(addresses.map(|(_, backend)| *backend))
            .collect()
    }

    fn opened_udp_ports(&self, next: &OfFamily) -> BTreeSet<u16> {
        let all = |programmed: &OfFamily| -> BTreeSet<Address> {
            // Only the ports matter.
            let any = |port: &Port| (Family::V4.unspecified(), port.0, port.1);
            let addresses = programmed.services.keys().chain(programmed.host_addresses.keys());
            let ports = programmed.node_ports.keys().chain(programmed.host_ports.keys());
            addresses
                .copied()
                .chain(ports.map(any))
                .filter(|(_, protocol, _)| *protocol == Protocol::Udp)
                .collect()
        };
        all(next).difference(&all(self)).map(|(_, _, port)| *port).collect()
    }
}

fn change_map<K: Ord, V: PartialEq>(
    batch: &mut Batch,
    map: &str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    element: impl Fn(&K, &V) -> Element,
) {
    let gone: Vec<_> = old
        .iter()
        .filter(|(key, value)| new.get(key) != Some(value))
        .map(|(key, value)| element(key, value))
        .collect();
    let come: Vec<_> = new
        .iter()
        .filter(|(key, value)| old.get(key) != Some(value))
        .map(|(key, value)| element(key, value))
        .collect();
    batch.delete_elements(map, &gone);
    batch.add_elements(map, None, &come);
}

fn change_set<K: Ord>(
    batch: &mut Batch,
    set: &str,
    old: &BTreeSet<K>,
    new: &BTreeSet<K>,
    bytes: impl Fn(&K) -> Vec<u8>,
) {
    let gone: Vec<_> = old.difference(new).map(|key| Element::Key(bytes(key))).collect();
    let come: Vec<_> = new.difference(old).map(|key| Element::Key(bytes(key))).collect();
    batch.delete_elements(set, &gone);
    batch.add_elements(set, None, &come);
}

#[cfg(test)]
mod tests;
