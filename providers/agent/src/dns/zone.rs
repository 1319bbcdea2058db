//! Names of the cluster's domain, as Kubernetes' DNS specification (1.1.0) has them; pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use setpoint_net::Protocol;

use crate::services::view::{Endpoint, Reach, ServiceEntry, SliceEntry, View};

/// Seconds that answers may be kept: short, since pods come and go.
const TTL: u32 = 5;

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is not the cluster's: ask others.
    Elsewhere,
    /// The API has not been read yet.
    NotYet,
    /// There is no such name.
    NoName,
    /// The name is there, without records of this type.
    NoData,
    /// It stands for another name.
    Alias {
        /// The alias as a record.
        record: Box<Record>,
        /// The name that it stands for.
        target: Name,
    },
    /// Records.
    Records {
        /// The answer.
        answers: Vec<Record>,
        /// Addresses of names in the answer.
        additionals: Vec<Record>,
    },
}

/// The cluster's domain.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Name,
    labels: Vec<String>,
    server: IpAddr,
}

/// A headless service's endpoint: its label below the service's name, and its address.
struct Host {
    label: String,
    ip: IpAddr,
}

fn labels(name: &Name) -> Vec<String> {
    name.iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect()
}

fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// Returns the address that a pod's name says.
fn undashed(label: &str) -> Option<IpAddr> {
    let ipv4 = label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    ipv4.or_else(|| label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}

fn address_record(name: Name, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(name, TTL, data)
}

fn protocol_label(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "_tcp",
        Protocol::Udp => "_udp",
        Protocol::Sctp => "_sctp",
    }
}

fn records(answers: Vec<Record>) -> Answer {
    match answers.is_empty() {
        true => Answer::NoData,
        false => Answer::Records {
            answers,
            additionals: Vec::new(),
        },
    }
}

/// Says whether an address answers a question of that type.
fn is_asked(kind: RecordType, ip: IpAddr) -> bool {
    match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        kind => kind == RecordType::ANY,
    }
}

fn addresses(name: &Name, kind: RecordType, ips: impl IntoIterator<Item = IpAddr>) -> Answer {
    let asked = ips.into_iter().filter(|ip| is_asked(kind, *ip));
    records(asked.map(|ip| address_record(name.clone(), ip)).collect())
}

/// Says whether an endpoint is told to clients.
fn told(service: &ServiceEntry, endpoint: &Endpoint) -> bool {
    service.publish_not_ready || (endpoint.ready && !endpoint.terminating)
}

fn hosts_of<'a>(service: &'a ServiceEntry, slice: &'a SliceEntry) -> impl Iterator<Item = Host> + 'a {
    let endpoints = slice.endpoints.iter().filter(|endpoint| told(service, endpoint));
    endpoints.flat_map(|endpoint| {
        endpoint.addresses.iter().map(|ip| Host {
            label: endpoint
                .hostname
                .clone()
                .map_or_else(|| dashed(*ip), |name| name.to_ascii_lowercase()),
            ip: *ip,
        })
    })
}

impl Zone {
    /// Returns the zone of a domain (`cluster.local`) that the server at this address answers for.
    pub fn new(domain: &str, server: Ipv4Addr) -> Option<Zone> {
        let mut name = Name::from_ascii(domain.trim_end_matches('.'))
            .ok()
            .filter(|name| name.num_labels() > 0)?;
        name.set_fqdn(true);
        Some(Zone {
            labels: labels(&name),
            domain: name.to_lowercase(),
            server: server.into(),
        })
    }

    /// Returns the record that goes with negative answers.
    pub fn soa(&self) -> Record {
        let server = self.below(&["ns", "dns"]).unwrap_or_else(|| self.domain.clone());
        let mailbox = self.below(&["hostmaster"]).unwrap_or_else(|| self.domain.clone());
        let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86_400, TTL);
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(soa))
    }

    /// Returns what is known; `turn` differs from question to question and says which of several addresses is first.
    pub fn answer(&self, view: &View, name: &Name, kind: RecordType, turn: usize) -> Answer {
        let labels = labels(name);
        let Some(inside) = labels.strip_suffix(self.labels.as_slice()) else {
            return self.reverse(view, name, &labels, kind);
        };
        if !view.complete() {
            return Answer::NotYet;
        }
        let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
        match inside.as_slice() {
            [] => self.apex(kind),
            ["svc" | "pod" | "dns"] => Answer::NoData,
            ["dns-version"] => match kind {
                RecordType::TXT | RecordType::ANY => {
                    let version = RData::TXT(TXT::new(vec!["1.1.0".to_owned()]));
                    records(vec![Record::from_rdata(name.clone(), TTL, version)])
                }
                _ => Answer::NoData,
            },
            ["ns", "dns"] => addresses(name, kind, [self.server]),
            [namespace, "svc"] if view.has_namespace(namespace) => Answer::NoData,
            [service, namespace, "svc"] => match view.service(namespace, service) {
                Some(service) => self.service(view, service, name, kind, turn),
                None => Answer::NoName,
            },
            [label, service, namespace, "svc"] => match view.service(namespace, service) {
                Some(service) => below_service(view, service, label, name, kind),
                None => Answer::NoName,
            },
            [port, protocol, service, namespace, "svc"] => match view.service(namespace, service) {
                Some(service) => self.port(view, service, (port, protocol), name, kind),
                None => Answer::NoName,
            },
            [_, "pod"] => Answer::NoData,
            // Whatever the namespace is: a pod's name says its address.
            [label, _, "pod"] => match undashed(label) {
                Some(ip) => addresses(name, kind, [ip]),
                None => Answer::NoName,
            },
            _ => Answer::NoName,
        }
    }

    fn below(&self, labels: &[&str]) -> Option<Name> {
        labels
            .iter()
            .rev()
            .try_fold(self.domain.clone(), |name, label| name.prepend_label(*label))
            .ok()
    }

    fn service_name(&self, service: &ServiceEntry) -> Option<Name> {
        self.below(&[&service.key.1, &service.key.0, "svc"])
    }

    fn apex(&self, kind: RecordType) -> Answer {
        match kind {
            RecordType::SOA | RecordType::ANY => records(vec![self.soa()]),
            RecordType::NS => {
                let server = self.below(&["ns", "dns"]);
                records(
                    server
                        .map(|server| Record::from_rdata(self.domain.clone(), TTL, RData::NS(NS(server))))
                        .into_iter()
                        .collect(),
                )
            }
            _ => Answer::NoData,
        }
    }

    fn service(&self, view: &View, service: &ServiceEntry, name: &Name, kind: RecordType, turn: usize) -> Answer {
        match &service.reach {
            Reach::External(target) => alias(name, target),
            _ if kind == RecordType::SRV => self.service_records(view, service, None, name),
            Reach::ClusterIps(ips) => addresses(name, kind, ips.iter().copied()),
            Reach::Headless => {
                let ips: BTreeSet<IpAddr> = view
                    .slices(service)
                    .flat_map(|slice| hosts_of(service, slice))
                    .map(|host| host.ip)
                    .filter(|ip| is_asked(kind, *ip))
                    .collect();
                let mut ips: Vec<IpAddr> = ips.into_iter().collect();
                if !ips.is_empty() {
                    let first = turn % ips.len();
                    ips.rotate_left(first);
                }
                addresses(name, kind, ips)
            }
            Reach::Nothing => Answer::NoData,
        }
    }

    /// `_port._protocol.service…`.
    fn port(
        &self,
        view: &View,
        service: &ServiceEntry,
        (port, protocol): (&str, &str),
        name: &Name,
        kind: RecordType,
    ) -> Answer {
        if let Reach::External(_) = service.reach {
            return Answer::NoName;
        }
        let port = port.strip_prefix('_').unwrap_or(port);
        let known = |own: &str, transport| own == port && protocol_label(transport) == protocol;
        if !service.ports.iter().any(|own| known(&own.name, own.protocol)) {
            return Answer::NoName;
        }
        match kind {
            RecordType::SRV | RecordType::ANY => self.service_records(view, service, Some((port, protocol)), name),
            _ => Answer::NoData,
        }
    }

    fn service_records(&self, view: &View, service: &ServiceEntry, only: Option<(&str, &str)>, name: &Name) -> Answer {
        let wanted = |own: &str, transport| {
            only.is_none_or(|(port, protocol)| own == port && protocol_label(transport) == protocol)
        };
        let Some(base) = self.service_name(service) else {
            return Answer::NoData;
        };
        let mut targets: BTreeSet<(Name, u16)> = BTreeSet::new();
        let mut hosts: BTreeSet<(Name, IpAddr)> = BTreeSet::new();
        match &service.reach {
            Reach::ClusterIps(ips) => {
                let ports = service.ports.iter().filter(|port| wanted(&port.name, port.protocol));
                targets.extend(ports.map(|port| (base.clone(), port.port)));
                hosts.extend(ips.iter().map(|ip| (base.clone(), *ip)));
            }
            Reach::Headless => {
                for slice in view.slices(service) {
                    let ports = || slice.ports.iter().filter(|port| wanted(&port.name, port.protocol));
                    for host in hosts_of(service, slice) {
                        let Ok(target) = base.prepend_label(host.label.as_str()) else {
                            continue;
                        };
                        targets.extend(ports().map(|port| (target.clone(), port.port)));
                        hosts.extend(ports().map(|_| (target.clone(), host.ip)));
                    }
                }
            }
            Reach::External(_) | Reach::Nothing => {}
        }
        if targets.is_empty() {
            return Answer::NoData;
        }
        let weight = u16::try_from(100 / targets.len()).unwrap_or_default().max(1);
        let answer = |(target, port): (Name, u16)| {
            Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, weight, port, target)))
        };
        Answer::Records {
            answers: targets.into_iter().map(answer).collect(),
            additionals: hosts.into_iter().map(|(name, ip)| address_record(name, ip)).collect(),
        }
    }

    /// Addresses of the cluster's services and their pods.
    fn reverse(&self, view: &View, name: &Name, labels: &[String], kind: RecordType) -> Answer {
        let Some(ip) = reversed(labels) else {
            return Answer::Elsewhere;
        };
        let mut names = BTreeSet::new();
        for service in view.services() {
            if matches!(&service.reach, Reach::ClusterIps(ips) if ips.contains(&ip)) {
                names.extend(self.service_name(service));
                continue;
            }
            let hosts = view.slices(service).flat_map(|slice| hosts_of(service, slice));
            for host in hosts.filter(|host| host.ip == ip) {
                names.extend(
                    self.service_name(service)
                        .and_then(|base| base.prepend_label(host.label.as_str()).ok()),
                );
            }
        }
        match kind {
            _ if names.is_empty() => Answer::Elsewhere,
            RecordType::PTR | RecordType::ANY => records(
                names
                    .into_iter()
                    .map(|to| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(to))))
                    .collect(),
            ),
            _ => Answer::NoData,
        }
    }
}

/// Returns the address that is asked about: four numbers below `in-addr.arpa`, thirty-two hexadecimal digits below `ip6.arpa`, each
/// from the last to the first.
fn reversed(labels: &[String]) -> Option<IpAddr> {
    let [parts @ .., family, arpa] = labels else {
        return None;
    };
    let parts: Vec<&str> = parts.iter().rev().map(String::as_str).collect();
    match (family.as_str(), arpa.as_str(), parts.len()) {
        ("in-addr", "arpa", 4) => parts.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        ("ip6", "arpa", 32) if parts.iter().all(|digit| digit.len() == 1) => {
            let bits = u128::from_str_radix(&parts.concat(), 16).ok()?;
            Some(IpAddr::V6(bits.into()))
        }
        _ => None,
    }
}

fn alias(name: &Name, target: &str) -> Answer {
    let Ok(mut target) = Name::from_ascii(target.trim_end_matches('.')) else {
        return Answer::NoData;
    };
    target.set_fqdn(true);
    let record = Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
    Answer::Alias {
        record: Box::new(record),
        target,
    }
}

/// `host.service…`, and the empty names between a service and its ports.
fn below_service(view: &View, service: &ServiceEntry, label: &str, name: &Name, kind: RecordType) -> Answer {
    if service.ports.iter().any(|port| protocol_label(port.protocol) == label) {
        return Answer::NoData;
    }
    let hosts = view.slices(service).flat_map(|slice| hosts_of(service, slice));
    let ips: BTreeSet<IpAddr> = hosts.filter(|host| host.label == label).map(|host| host.ip).collect();
    match ips.is_empty() {
        true => Answer::NoName,
        false => addresses(name, kind, ips),
    }
}
