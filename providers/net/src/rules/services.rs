//! Services in the table: what the kernel holds, and the least change that makes it another table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{CLOSED, CLOSED_NODE_PORTS, NODE_PORTS, RETURN_MARK, SERVICES, TYPE_ADDRESS, TYPE_PORT, go};
use crate::nft::{Batch, Element, Register, Rule, SetSpec, Value};
use crate::{Backend, Protocol, ServicePort, ServiceTable};

/// What a service chain is made from; equal ones make equal chains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chain {
    name: String,
    protocol: Protocol,
    affinity_seconds: Option<u32>,
    backends: Vec<Backend>,
}

/// What a map of clients (session affinity) belongs to. It outlives its chains, so that clients stay where they
/// are when another backend comes or goes.
type AffinityKey = (String, Protocol, u32);
type Address = (Ipv4Addr, Protocol, u16);
type Port = (Protocol, u16);

/// The services as the kernel holds them; numbers are parts of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Programmed {
    chains: BTreeMap<Chain, u64>,
    affinity: BTreeMap<AffinityKey, u64>,
    services: BTreeMap<Address, u64>,
    node_ports: BTreeMap<Port, u64>,
    closed: BTreeSet<Address>,
    closed_node_ports: BTreeSet<Port>,
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
    [&ip.octets()[..], &port_key((protocol, port))].concat()
}

fn endpoint(backend: Backend) -> Vec<u8> {
    [backend.ip.octets(), padded_port(backend.port)].concat()
}

fn chain_name(number: u64) -> String {
    format!("s{number}")
}

fn affinity_name(number: u64) -> String {
    format!("clients{number}")
}

impl Programmed {
    /// Returns what the kernel should hold for a table: the numbers of what stays are kept.
    pub(crate) fn next(&self, table: &ServiceTable) -> Programmed {
        let mut next = Programmed {
            last: self.last,
            ..Programmed::default()
        };
        for port in &table.ports {
            next.add(self, port);
        }
        next
    }

    fn add(&mut self, before: &Programmed, port: &ServicePort) {
        let addresses = || port.cluster_ip.iter().chain(&port.external_ips);
        if port.backends.is_empty() {
            for ip in addresses() {
                let key = (*ip, port.protocol, port.port);
                if !self.services.contains_key(&key) {
                    self.closed.insert(key);
                }
            }
            let node_port = port.node_port.map(|node_port| (port.protocol, node_port));
            self.closed_node_ports
                .extend(node_port.filter(|key| !self.node_ports.contains_key(key)));
            return;
        }
        let affinity_seconds = port.affinity_seconds.filter(|seconds| *seconds > 0);
        let chain = Chain {
            name: port.name.clone(),
            protocol: port.protocol,
            affinity_seconds,
            backends: port.backends.clone(),
        };
        let mut last = self.last;
        let mut fresh = || {
            last += 1;
            last
        };
        if let Some(seconds) = affinity_seconds {
            let key = (port.name.clone(), port.protocol, seconds);
            let number = before.affinity.get(&key).copied().unwrap_or_else(&mut fresh);
            self.affinity.entry(key).or_insert(number);
        }
        let number = before.chains.get(&chain).copied().unwrap_or_else(&mut fresh);
        self.last = last;
        let number = *self.chains.entry(chain).or_insert(number);
        // Of two services with the same address and port the first by name has it.
        for ip in addresses() {
            let key = (*ip, port.protocol, port.port);
            self.closed.remove(&key);
            self.services.entry(key).or_insert(number);
        }
        if let Some(node_port) = port.node_port {
            let key = (port.protocol, node_port);
            self.closed_node_ports.remove(&key);
            self.node_ports.entry(key).or_insert(number);
        }
    }

    /// Appends what makes `self` into `next`.
    pub(crate) fn change(&self, next: &Programmed, pods: Ipv4Net, batch: &mut Batch) {
        for (key, number) in &next.affinity {
            if !self.affinity.contains_key(key) {
                batch.add_set(SetSpec {
                    name: &affinity_name(*number),
                    key: &[4],
                    key_type: TYPE_ADDRESS,
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
                add_chain(
                    batch,
                    &chain_name(*number),
                    chain,
                    affinity.map(|number| affinity_name(*number)),
                    pods,
                );
            }
        }
        change_map(batch, SERVICES, &self.services, &next.services, |key| address_key(*key));
        change_map(batch, NODE_PORTS, &self.node_ports, &next.node_ports, |key| {
            port_key(*key)
        });
        change_set(batch, CLOSED, &self.closed, &next.closed, |key| address_key(*key));
        change_set(
            batch,
            CLOSED_NODE_PORTS,
            &self.closed_node_ports,
            &next.closed_node_ports,
            |key| port_key(*key),
        );
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

    /// Returns the UDP backends of `self` that `next` does not have.
    pub(crate) fn lost_udp_backends(&self, next: &Programmed) -> BTreeSet<Backend> {
        let all = |programmed: &Programmed| -> BTreeSet<Backend> {
            let chains = programmed.chains.keys().filter(|chain| chain.protocol == Protocol::Udp);
            chains.flat_map(|chain| chain.backends.iter().copied()).collect()
        };
        all(self).difference(&all(next)).copied().collect()
    }
}

fn change_map<K: Ord>(
    batch: &mut Batch,
    map: &str,
    old: &BTreeMap<K, u64>,
    new: &BTreeMap<K, u64>,
    bytes: impl Fn(&K) -> Vec<u8>,
) {
    let element = |(key, number): (&K, &u64)| Element::Verdict(bytes(key), go(&chain_name(*number)));
    let gone: Vec<_> = old
        .iter()
        .filter(|(key, number)| new.get(key) != Some(number))
        .map(element)
        .collect();
    let come: Vec<_> = new
        .iter()
        .filter(|(key, number)| old.get(key) != Some(number))
        .map(element)
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

/// The client's address.
const CLIENT: Register = Register::new(4);
/// The backend's address; its port is in the next one.
const ADDRESS: Register = Register::new(8);
const PORT: Register = Register::new(9);

fn add_chain(batch: &mut Batch, name: &str, chain: &Chain, clients: Option<String>, pods: Ipv4Net) {
    batch.add_chain(name, None, &chain.name);
    let elsewhere = chain.backends.iter().any(|backend| !pods.contains(&backend.ip));
    let rule = || {
        if elsewhere {
            Rule::new().set_mark(RETURN_MARK)
        } else {
            Rule::new()
        }
    };
    if let Some(clients) = &clients {
        // A remembered backend counts only while it is one of the service's.
        let id = batch.next_id();
        batch.add_set(SetSpec {
            name: "__set%d",
            key: &[4, 2],
            key_type: TYPE_ADDRESS << 6 | TYPE_PORT,
            value: Value::None,
            anonymous: Some(id),
            timeout: None,
        });
        let backends: Vec<_> = chain
            .backends
            .iter()
            .map(|backend| Element::Key(endpoint(*backend)))
            .collect();
        batch.add_elements("__set%d", Some(id), &backends);
        let known = rule()
            .load_source(CLIENT)
            .map(clients, None, CLIENT, ADDRESS)
            .in_set("__set%d", Some(id), ADDRESS)
            .remember(clients, CLIENT, ADDRESS)
            .destination_nat(ADDRESS, PORT);
        batch.add_rule(name, &known);
    }
    let choose = match chain.backends.as_slice() {
        [only] => rule()
            .load(&only.ip.octets(), ADDRESS)
            .load(&only.port.to_be_bytes(), PORT),
        several => {
            let id = batch.next_id();
            batch.add_set(SetSpec {
                name: "__map%d",
                key: &[4],
                key_type: 4,
                value: Value::Endpoint,
                anonymous: Some(id),
                timeout: None,
            });
            let elements: Vec<_> = (0_u32..)
                .zip(several)
                .map(|(number, backend)| Element::Value(number.to_ne_bytes().to_vec(), endpoint(*backend)))
                .collect();
            batch.add_elements("__map%d", Some(id), &elements);
            let count = u32::try_from(several.len()).unwrap_or(u32::MAX);
            rule()
                .load_random(count, ADDRESS)
                .map("__map%d", Some(id), ADDRESS, ADDRESS)
        }
    };
    // The map would keep an old backend for a client that it knows: out with it first.
    let choose = match &clients {
        Some(clients) => choose
            .load_source(CLIENT)
            .forget(clients, CLIENT, ADDRESS)
            .remember(clients, CLIENT, ADDRESS),
        None => choose,
    };
    batch.add_rule(name, &choose.destination_nat(ADDRESS, PORT));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, backends: &[u8]) -> ServicePort {
        let backend = |last: &u8| Backend {
            ip: Ipv4Addr::new(10, 42, 0, *last),
            port: 80,
        };
        ServicePort {
            name: name.to_owned(),
            protocol: Protocol::Tcp,
            cluster_ip: Some(Ipv4Addr::new(10, 96, 0, 9)),
            external_ips: Vec::new(),
            port: 80,
            node_port: Some(30_080),
            affinity_seconds: None,
            backends: backends.iter().map(backend).collect(),
        }
    }

    fn table(ports: Vec<ServicePort>) -> ServiceTable {
        ServiceTable { ports }
    }

    fn messages(old: &Programmed, new: &Programmed) -> usize {
        let mut batch = Batch::new("t");
        old.change(new, "10.42.0.0/24".parse().unwrap(), &mut batch);
        batch.len()
    }

    #[test]
    fn equal_tables_need_no_change() {
        let one = Programmed::default().next(&table(vec![port("a", &[2, 3])]));
        let same = one.next(&table(vec![port("a", &[2, 3])]));
        assert_eq!(one, same);
        assert_eq!(messages(&one, &same), 0);
    }

    #[test]
    fn a_changed_backend_makes_a_new_chain_under_a_new_name() {
        let one = Programmed::default().next(&table(vec![port("a", &[2, 3])]));
        let two = one.next(&table(vec![port("a", &[2])]));
        assert_ne!(
            one.chains.values().collect::<Vec<_>>(),
            two.chains.values().collect::<Vec<_>>()
        );
        assert!(messages(&one, &two) > 0);
    }

    #[test]
    fn without_backends_the_addresses_are_closed() {
        let closed = Programmed::default().next(&table(vec![port("a", &[])]));
        assert_eq!(closed.closed.len(), 1);
        assert_eq!(closed.closed_node_ports.len(), 1);
        assert!(closed.chains.is_empty());
    }

    #[test]
    fn of_two_services_on_one_address_the_first_has_it() {
        let both = Programmed::default().next(&table(vec![port("a", &[2]), port("b", &[3])]));
        let first = both
            .chains
            .iter()
            .find(|(chain, _)| chain.name == "a")
            .map(|(_, number)| *number);
        assert_eq!(both.services.values().next().copied(), first);
        assert_eq!(both.services.len(), 1);
    }

    #[test]
    fn clients_keep_their_map_when_backends_change() {
        let sticky = |backends| ServicePort {
            affinity_seconds: Some(60),
            ..port("a", backends)
        };
        let one = Programmed::default().next(&table(vec![sticky(&[2, 3])]));
        let two = one.next(&table(vec![sticky(&[2])]));
        assert_eq!(one.affinity, two.affinity);
    }

    #[test]
    fn lost_udp_backends_are_named() {
        let udp = |backends| ServicePort {
            protocol: Protocol::Udp,
            ..port("a", backends)
        };
        let one = Programmed::default().next(&table(vec![udp(&[2, 3])]));
        let two = one.next(&table(vec![udp(&[3])]));
        let lost = one.lost_udp_backends(&two);
        assert_eq!(
            lost.into_iter().map(|backend| backend.ip).collect::<Vec<_>>(),
            [Ipv4Addr::new(10, 42, 0, 2)]
        );
        assert!(Programmed::default().lost_udp_backends(&one).is_empty());
    }
}
