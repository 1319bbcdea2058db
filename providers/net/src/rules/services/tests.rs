use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::Ranges;

const FAMILY: Family = Family::V4;

fn ipv4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    Ipv4Addr::new(a, b, c, d).into()
}

/// Of a host with both families.
fn subnets() -> Vec<Subnets> {
    let ranges = Ranges {
        pods: "10.42.0.0/24".parse().unwrap(),
        services: "10.96.0.0/16".parse().unwrap(),
        ipv6: Some(crate::ranges::choose_ipv6(1, &[]).unwrap()),
    };
    ranges.subnets()
}

fn port(name: &str, backends: &[u8]) -> ServicePort {
    let backend = |last: &u8| Backend {
        ip: ipv4(10, 42, 0, *last),
        port: 80,
    };
    ServicePort {
        name: name.to_owned(),
        family: FAMILY,
        protocol: Protocol::Tcp,
        cluster_ip: Some(ipv4(10, 96, 0, 9)),
        external_ips: Vec::new(),
        balancer_ips: Vec::new(),
        balancer_sources: None,
        port: 80,
        node_port: Some(30_080),
        affinity_seconds: None,
        backends: backends.iter().map(backend).collect(),
        local_backends: Vec::new(),
        internal_local: false,
        external_local: false,
    }
}

fn table(ports: Vec<ServicePort>) -> ServiceTable {
    ServiceTable {
        ports,
        host_ports: Vec::new(),
    }
}

fn messages(old: &OfFamily, new: &OfFamily) -> usize {
    let mut batch = Batch::new("t", FAMILY);
    old.change(new, "10.42.0.0/24".parse().unwrap(), &mut batch);
    batch.len()
}

#[test]
fn equal_tables_need_no_change() {
    let one = OfFamily::default().next(&table(vec![port("a", &[2, 3])]), FAMILY);
    let same = one.next(&table(vec![port("a", &[2, 3])]), FAMILY);
    assert_eq!(one, same);
    assert_eq!(messages(&one, &same), 0);
}

#[test]
fn a_changed_backend_makes_a_new_chain_under_a_new_name() {
    let one = OfFamily::default().next(&table(vec![port("a", &[2, 3])]), FAMILY);
    let two = one.next(&table(vec![port("a", &[2])]), FAMILY);
    assert_ne!(
        one.chains.values().collect::<Vec<_>>(),
        two.chains.values().collect::<Vec<_>>()
    );
    assert!(messages(&one, &two) > 0);
}

#[test]
fn without_backends_the_addresses_are_closed() {
    let closed = OfFamily::default().next(&table(vec![port("a", &[])]), FAMILY);
    assert_eq!(closed.closed.len(), 1);
    assert_eq!(closed.closed_node_ports.len(), 1);
    assert!(closed.chains.is_empty());
}

#[test]
fn of_two_services_on_one_address_the_first_has_it() {
    let both = OfFamily::default().next(&table(vec![port("a", &[2]), port("b", &[3])]), FAMILY);
    let first = both
        .chains
        .iter()
        .find(|(chain, _)| chain.name == "a")
        .map(|(_, number)| *number);
    assert_eq!(both.services.values().next().copied(), first.map(Target::Chain));
    assert_eq!(both.services.len(), 1);
}

#[test]
fn clients_keep_their_map_when_backends_change() {
    let sticky = |backends| ServicePort {
        affinity_seconds: Some(60),
        ..port("a", backends)
    };
    let one = OfFamily::default().next(&table(vec![sticky(&[2, 3])]), FAMILY);
    let two = one.next(&table(vec![sticky(&[2])]), FAMILY);
    assert_eq!(one.affinity, two.affinity);
}

#[test]
fn udp_backends_that_go_and_udp_ports_that_come_are_known() {
    let udp = |backends| ServicePort {
        protocol: Protocol::Udp,
        ..port("a", backends)
    };
    let none = OfFamily::default();
    let one = none.next(&table(vec![udp(&[2, 3])]), FAMILY);
    let two = one.next(&table(vec![udp(&[3])]), FAMILY);
    let lost: Vec<_> = one
        .udp_backends()
        .difference(&two.udp_backends())
        .map(|backend| backend.ip)
        .collect();
    assert_eq!(lost, [ipv4(10, 42, 0, 2)]);
    assert!(one.opened_udp_ports(&two).is_empty());
    assert_eq!(none.opened_udp_ports(&one), [80, 30_080].into());
}

/// What the kernel is told of each chain's rules, in messages.
fn size(table: &ServiceTable) -> usize {
    let mut batch = Batch::new("t", FAMILY);
    let next = OfFamily::default().next(table, FAMILY);
    OfFamily::default().change(&next, "10.42.0.0/24".parse().unwrap(), &mut batch);
    batch.len()
}

#[test]
fn host_ports_are_elements_of_two_maps_however_many_there_are() {
    let host_port = |port: u16, ip| HostPort {
        protocol: Protocol::Tcp,
        port,
        ip,
        backend: Backend {
            ip: ipv4(10, 42, 0, 2),
            port: 80,
        },
    };
    let many = |count: u16| ServiceTable {
        ports: Vec::new(),
        host_ports: (1..=count)
            .flat_map(|port| [host_port(port, None), host_port(port, Some(Ipv4Addr::LOCALHOST.into()))])
            .collect(),
    };
    assert_eq!(size(&many(1)), size(&many(200)));
    let next = OfFamily::default().next(&many(3), FAMILY);
    assert_eq!((next.host_ports.len(), next.host_addresses.len()), (3, 3));
    assert!(next.chains.is_empty());
}

fn local(backends: &[u8], local: &[u8]) -> ServicePort {
    ServicePort {
        local_backends: port("a", local).backends,
        external_ips: vec![ipv4(192, 0, 2, 7)],
        ..port("a", backends)
    }
}

#[test]
fn the_internal_policy_concerns_the_cluster_ip_alone() {
    let programmed = OfFamily::default().next(
        &table(vec![ServicePort {
            internal_local: true,
            ..local(&[2, 3], &[])
        }]),
        FAMILY,
    );
    let inside = programmed.services[&(ipv4(10, 96, 0, 9), Protocol::Tcp, 80)];
    let outside = programmed.services[&(ipv4(192, 0, 2, 7), Protocol::Tcp, 80)];
    assert_eq!(inside, Target::Drop, "there are backends, but none here");
    assert!(matches!(outside, Target::Chain(_)));
}

#[test]
fn the_external_policy_concerns_who_comes_from_outside() {
    let policy = |here: &[u8]| {
        let port = ServicePort {
            external_local: true,
            ..local(&[2, 3], here)
        };
        OfFamily::default().next(&table(vec![port]), FAMILY)
    };
    let some = policy(&[2]);
    let inside = some.services[&(ipv4(10, 96, 0, 9), Protocol::Tcp, 80)];
    assert!(matches!(inside, Target::Chain(_)));
    let node_port = some.node_ports[&(Protocol::Tcp, 30_080)];
    let gate = some.gates.keys().next().unwrap();
    assert!(matches!(node_port, Target::Gate(_)));
    assert!(matches!(gate, Gate::Policy { here, elsewhere: Target::Chain(_), .. } if *here == inside));
    let none = policy(&[]);
    let gate = none.gates.keys().next().unwrap();
    assert!(matches!(
        gate,
        Gate::Policy {
            elsewhere: Target::Drop,
            ..
        }
    ));
    let all = policy(&[2, 3]);
    assert!(all.gates.is_empty(), "where all backends are here nobody needs to look");
}

#[test]
fn source_ranges_concern_the_load_balancers_addresses_alone() {
    let port = ServicePort {
        balancer_ips: vec![ipv4(192, 0, 2, 8)],
        balancer_sources: Some(vec!["198.51.100.0/24".parse().unwrap()]),
        ..local(&[2], &[])
    };
    let programmed = OfFamily::default().next(&table(vec![port]), FAMILY);
    let target = |last| programmed.services[&(ipv4(192, 0, 2, last), Protocol::Tcp, 80)];
    assert!(matches!(target(8), Target::Gate(_)));
    assert!(matches!(target(7), Target::Chain(_)));
    assert!(matches!(
        programmed.node_ports[&(Protocol::Tcp, 30_080)],
        Target::Chain(_)
    ));
}

#[test]
fn no_service_adds_a_rule_that_packets_of_others_pass() {
    let many = (0..200).map(|number: u8| ServicePort {
        cluster_ip: Some(ipv4(10, 96, 1, number)),
        node_port: Some(30_000 + u16::from(number)),
        external_local: true,
        affinity_seconds: Some(60),
        ..local(&[2, 3], &[2])
    });
    let many = table(many.collect());
    let mut batch = Batch::new("t", FAMILY);
    let next = OfFamily::default().next(&many, FAMILY);
    OfFamily::default().change(&next, "10.42.0.0/24".parse().unwrap(), &mut batch);
    let own = |chain: &str| chain.starts_with(['s', 'g']) && chain[1..].parse::<u64>().is_ok();
    let rules: Vec<_> = batch
        .operations()
        .filter_map(|what| what.strip_prefix("add a rule to the chain "))
        .collect();
    assert!(!rules.is_empty() && rules.iter().all(|chain| own(chain)), "{rules:?}");
}

#[test]
fn each_family_has_its_own_and_a_change_of_one_leaves_the_other() {
    let ipv6 = |last| ServicePort {
        family: Family::V6,
        cluster_ip: Some(Ipv6Addr::new(0xfd00, 0, 1, 0x96, 0, 0, 0, 9).into()),
        backends: vec![Backend {
            ip: Ipv6Addr::new(0xfd00, 0, 1, 0x42, 0, 0, 0, last).into(),
            port: 80,
        }],
        ..port("a", &[])
    };
    let nothing = Programmed::default();
    let one = nothing.next(&table(vec![port("a", &[2]), ipv6(2)]), &subnets());
    assert_eq!(one.families.len(), 2);
    for of_family in one.families.values() {
        assert_eq!((of_family.services.len(), of_family.node_ports.len()), (1, 1));
    }
    let two = one.next(&table(vec![port("a", &[2]), ipv6(3)]), &subnets());
    assert_eq!(one.families[&Family::V4], two.families[&Family::V4]);
    assert_ne!(one.families[&Family::V6], two.families[&Family::V6]);
    assert_eq!(one.udp_backends(), BTreeSet::new());
    let alone = one.next(&table(vec![port("a", &[2]), ipv6(3)]), &subnets()[..1]);
    assert_eq!(alone.families.len(), 1, "a host without IPv6 has no rules of it");
}

#[test]
fn keys_have_the_length_of_their_familys_addresses() {
    let address = Ipv6Addr::new(0xfd00, 0, 1, 0x96, 0, 0, 0, 9).into();
    let key = address_key((address, Protocol::Udp, 53));
    assert_eq!(key.len(), 16 + 4 + 4);
    assert_eq!(key[16..], [17, 0, 0, 0, 0, 53, 0, 0]);
    assert_eq!(address_key((ipv4(10, 96, 0, 9), Protocol::Udp, 53)).len(), 12);
    let backend = Backend { ip: address, port: 80 };
    assert_eq!(endpoint(backend)[16..], [0, 80, 0, 0]);
}
