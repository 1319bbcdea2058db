//! The tables of an instance, one for each family: what never changes while it runs, and where services hang in it.
//!
//! ```text
//! prerouting, output (nat)      → services: (address, protocol, port) → service chain; on local addresses node ports too;
//!                                 then host ports: (address, protocol, port) or (protocol, port) → pod
//! postrouting (nat)             → connections that must come back through this host get one of its addresses
//! forward, input, output        → new connections to closed services are refused at once
//! raw                           → nobody reaches the loopback's addresses from a pod's link (CVE-2020-8558), and in IPv6, for which the
//!                                 kernel has no `rp_filter`, nobody sends from another's address; neighbour discovery passes
//! ```
//!
//! NAT decides for a connection's first packet only; so a change of the services never touches established
//! connections, and a service chain can go while its connections go on.

mod services;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::address::octets;
use crate::nft::{
    Batch, ChainHook, Element, Hook, Register, Rule, STATE_INVALID, STATE_NEW, SetSpec, Value, Verdict, address_type,
};
use crate::{AddressPair, Family, NetConfig, Subnets};

pub(crate) use services::Programmed;

const SERVICES: &str = "services";
const NODE_PORTS: &str = "node_ports";
const CLOSED: &str = "closed";
const CLOSED_NODE_PORTS: &str = "closed_node_ports";
const HAIRPIN: &str = "hairpin";
const HOST_PORTS: &str = "host_ports";
const HOST_ADDRESSES: &str = "host_addresses";

/// Set on connections to backends outside the pod range, which would answer around this host.
const RETURN_MARK: u32 = 0x0020_0000;

const ICMPV6: u8 = 58;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;

/// The names that carry the instance.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) table: String,
    /// What the name of every link begins with.
    pub(crate) links: String,
    /// The group of all links.
    pub(crate) group: u32,
    /// The label of the gateway's address on the loopback: it says whose it is.
    pub(crate) label: String,
}

impl Names {
    pub(crate) fn of(config: &NetConfig) -> Names {
        let links = format!("sp{}", config.instance);
        // "SP" and the instance: nobody else's by accident.
        let group = 0x5350_0000 | u32::from_str_radix(&config.instance, 16).unwrap_or_default();
        Names {
            table: format!("setpoint_{}", config.instance),
            group,
            label: format!("lo:{links}"),
            links,
        }
    }

    /// The name of a pod's link: at most 14 of the 15 characters that a name may have.
    pub(crate) fn link(&self, ip: Ipv4Addr) -> String {
        format!("{}{:08x}", self.links, u32::from(ip))
    }

    /// The address in a link's name, if it is one of this instance's.
    pub(crate) fn link_address(&self, name: &str) -> Option<Ipv4Addr> {
        let digits = name.strip_prefix(&self.links).filter(|digits| digits.len() == 8)?;
        u32::from_str_radix(digits, 16).ok().map(Ipv4Addr::from)
    }
}

fn instance(digits: &str) -> Option<&str> {
    (digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

/// Whose table it is, by its name.
pub(crate) fn instance_of_table(table: &str) -> Option<&str> {
    instance(table.strip_prefix("setpoint_")?)
}

/// Whose link it is, by its name.
pub(crate) fn instance_of_link(link: &str) -> Option<&str> {
    let rest = link.strip_prefix("sp").filter(|rest| rest.len() == 12)?;
    rest.bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| instance(&rest[..4]))?
}

fn pair(ip: IpAddr) -> Element {
    let ip = octets(ip);
    Element::Key([&ip[..], &ip].concat())
}

/// Adds pods whose connections to themselves through a service must get another source.
pub(crate) fn add_hairpin(batch: &mut Batch, config: &NetConfig, pods: &[AddressPair]) {
    for Subnets { family, .. } in config.ranges.subnets() {
        add_hairpin_of(batch, family, pods);
    }
}

fn add_hairpin_of(batch: &mut Batch, family: Family, pods: &[AddressPair]) {
    batch.turn_to(family);
    let ips = pods.iter().filter_map(|pod| pod.of(family));
    batch.add_elements(HAIRPIN, None, &ips.map(pair).collect::<Vec<_>>());
}

/// Takes a pod out again; refused with `ENOENT` if it is not in.
pub(crate) fn delete_hairpin(batch: &mut Batch, config: &NetConfig, pod: AddressPair) {
    for Subnets { family, .. } in config.ranges.subnets() {
        batch.turn_to(family);
        batch.delete_elements(HAIRPIN, &pod.of(family).map(pair).into_iter().collect::<Vec<_>>());
    }
}

/// Appends the whole of the tables of some families without services, in place of those that may be there.
pub(crate) fn base(batch: &mut Batch, config: &NetConfig, families: &[Family], pods: &[AddressPair]) {
    let names = Names::of(config);
    let wanted = config.ranges.subnets().into_iter();
    for subnets in wanted.filter(|subnets| families.contains(&subnets.family)) {
        batch.turn_to(subnets.family);
        base_of(batch, &subnets, &names);
        add_hairpin_of(batch, subnets.family, pods);
    }
}

fn base_of(batch: &mut Batch, subnets: &Subnets, names: &Names) {
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    let length = subnets.family.length();
    let address = address_type(subnets.family);
    let address_key: &[u32] = &[length, 1, 2];
    let address_type = address << 12 | TYPE_PROTOCOL << 6 | TYPE_PORT;
    let port_key: &[u32] = &[1, 2];
    let port_type = TYPE_PROTOCOL << 6 | TYPE_PORT;
    for (name, key, key_type, value) in [
        (SERVICES, address_key, address_type, Value::Verdict),
        (NODE_PORTS, port_key, port_type, Value::Verdict),
        (CLOSED, address_key, address_type, Value::None),
        (CLOSED_NODE_PORTS, port_key, port_type, Value::None),
        (HOST_ADDRESSES, address_key, address_type, Value::Endpoint),
        (HOST_PORTS, port_key, port_type, Value::Endpoint),
        (HAIRPIN, &[length, length], address << 6 | address, Value::None),
    ] {
        batch.add_set(SetSpec {
            name,
            key,
            key_type,
            value,
            anonymous: None,
            timeout: None,
        });
    }
    for (name, kind, hook, priority) in [
        ("raw", "filter", Hook::Prerouting, -300),
        ("prerouting", "nat", Hook::Prerouting, -100),
        ("output", "nat", Hook::Output, -100),
        ("postrouting", "nat", Hook::Postrouting, 100),
        ("filter_forward", "filter", Hook::Forward, 0),
        ("filter_input", "filter", Hook::Input, 0),
        ("filter_output", "filter", Hook::Output, 0),
    ] {
        batch.add_chain(name, Some(ChainHook { kind, hook, priority }), "");
    }
    for name in ["dispatch", "refuse_closed", "refuse"] {
        batch.add_chain(name, None, "");
    }
    translation(batch, subnets);
    sources(batch, subnets, names);
    links(batch, subnets, names);
    refusal(batch, subnets, names);
}

fn go(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_owned())
}

/// Where the parts of keys and values lie: an address of IPv4 takes one register, one of IPv6 four.
#[derive(Clone, Copy, Debug)]
struct Layout {
    address: u32,
}

impl Layout {
    fn of(family: Family) -> Layout {
        Layout {
            address: family.length() / 4,
        }
    }

    /// Where (address, protocol, port) begins.
    fn address_key(self) -> Register {
        Register::new(0)
    }

    /// Where (protocol, port) begins: inside the other key.
    fn port_key(self) -> Register {
        Register::new(self.address)
    }

    /// Where an address begins that is chosen.
    fn chosen(self) -> Register {
        Register::new(8)
    }

    /// Where its port is.
    fn chosen_port(self) -> Register {
        Register::new(8 + self.address)
    }

    /// Appends the loading of both keys.
    fn load_keys(self, rule: Rule) -> Rule {
        rule.load_destination(self.address_key())
            .load_protocol(self.port_key())
            .load_port(Register::new(self.address + 1))
    }
}

fn translation(batch: &mut Batch, subnets: &Subnets) {
    let rule = || Rule::new(subnets.family);
    let layout = Layout::of(subnets.family);
    batch.add_rule("prerouting", &rule().verdict(&go("dispatch")));
    batch.add_rule("output", &rule().verdict(&go("dispatch")));
    let keys = |rule| layout.load_keys(rule);
    batch.add_rule("dispatch", &keys(rule()).verdict_map(SERVICES, layout.address_key()));
    // The kernel may take a service's address for one of this host's (see the route to them): it is none of the node's.
    let no_node = rule().destination_in(subnets.services).verdict(&Verdict::Accept);
    batch.add_rule("dispatch", &no_node);
    if subnets.family == Family::V6 {
        // The kernel lets nothing from ::1 leave by another link: who asks there is refused at once and asks 127.0.0.1.
        let loopback = rule().destination_in(loopback(subnets.family));
        batch.add_rule("dispatch", &loopback.verdict(&Verdict::Accept));
    }
    batch.add_rule(
        "dispatch",
        &keys(rule().destination_is_local()).verdict_map(NODE_PORTS, layout.port_key()),
    );
    let to_pod = |rule: Rule, map, key| {
        rule.map(map, None, key, layout.chosen())
            .destination_nat(layout.chosen(), layout.chosen_port())
    };
    batch.add_rule("dispatch", &to_pod(keys(rule()), HOST_ADDRESSES, layout.address_key()));
    batch.add_rule(
        "dispatch",
        &to_pod(keys(rule().destination_is_local()), HOST_PORTS, layout.port_key()),
    );
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::V4 => ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST).into(),
    }
}

fn sources(batch: &mut Batch, subnets: &Subnets, names: &Names) {
    let rule = || Rule::new(subnets.family);
    let &Subnets { pods, gateway, .. } = subnets;
    let rules = [
        // A pod that reaches itself through a service would otherwise see its own address as the peer.
        rule()
            .load_source(Register::new(0))
            .load_destination(Register::new(subnets.family.length() / 4))
            .in_set(HAIRPIN, None, Register::new(0))
            .source_nat(gateway),
        // 127.0.0.1:<node port>.
        rule()
            .leaves_by(&names.links)
            .source_in(loopback(subnets.family))
            .source_nat(gateway),
        rule().has_mark(RETURN_MARK).leaves_the_host().masquerade(),
        rule()
            .source_in(pods)
            .destination_not_in(pods)
            .leaves_the_host()
            .masquerade(),
    ];
    for rule in rules {
        batch.add_rule("postrouting", &rule);
    }
}

/// What may come by a pod's link at all.
fn links(batch: &mut Batch, subnets: &Subnets, names: &Names) {
    let came = || Rule::new(subnets.family).came_by(&names.links);
    let loopback = loopback(subnets.family);
    for rule in [came().destination_in(loopback), came().source_in(loopback)] {
        batch.add_rule("raw", &rule.verdict(&Verdict::Drop));
    }
    if subnets.family == Family::V6 {
        // Neighbours talk from addresses of the link, and from none while they look for one.
        let of_links = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
        let none = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        for rule in [
            came().source_in(of_links.into()),
            came().for_protocol(ICMPV6).source_in(none.into()),
        ] {
            batch.add_rule("raw", &rule.verdict(&Verdict::Accept));
        }
        let spoofed = came().source_is_not_behind_its_link();
        batch.add_rule("raw", &spoofed.verdict(&Verdict::Drop));
    }
}

fn refusal(batch: &mut Batch, subnets: &Subnets, names: &Names) {
    let rule = || Rule::new(subnets.family);
    let layout = Layout::of(subnets.family);
    // A pod's answer that connection tracking no longer knows would leave with the pod's address in place of the
    // service's, and the client would reset a healthy connection.
    batch.add_rule(
        "filter_forward",
        &rule()
            .came_by(&names.links)
            .state_among(STATE_INVALID)
            .verdict(&Verdict::Drop),
    );
    for chain in ["filter_forward", "filter_input", "filter_output"] {
        let jump = Verdict::Jump("refuse_closed".to_owned());
        batch.add_rule(chain, &rule().state_among(STATE_NEW).verdict(&jump));
    }
    // What is still for a service address after translation has no backend. Only a TCP reset reaches a local
    // client at once; ICMP does not on the output hook.
    let refuse = go("refuse");
    for rule in [
        rule().destination_in(subnets.services).verdict(&refuse),
        layout
            .load_keys(rule())
            .in_set(CLOSED, None, layout.address_key())
            .verdict(&refuse),
        layout
            .load_keys(rule().destination_is_local())
            .in_set(CLOSED_NODE_PORTS, None, layout.port_key())
            .verdict(&refuse),
    ] {
        batch.add_rule("refuse_closed", &rule);
    }
    batch.add_rule("refuse", &rule().for_tcp().reset());
    batch.add_rule("refuse", &rule().unreachable());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_carries_its_address() {
        let ranges = crate::Ranges {
            pods: "10.42.0.0/24".parse().unwrap(),
            services: "10.96.0.0/16".parse().unwrap(),
            ipv6: None,
        };
        let names = Names::of(&NetConfig {
            instance: "ab12".to_owned(),
            ranges,
        });
        let ip = Ipv4Addr::new(10, 42, 0, 255);
        assert_eq!(names.link(ip), "spab120a2a00ff");
        assert!(names.link(ip).len() <= 15);
        assert_eq!(names.link_address(&names.link(ip)), Some(ip));
        assert_eq!(names.link_address("spab130a2a00ff"), None);
        assert_eq!(names.link_address("spab12"), None);
        assert_eq!(instance_of_link(&names.link(ip)), Some("ab12"));
        assert_eq!(instance_of_table(&names.table), Some("ab12"));
    }

    #[test]
    fn what_others_have_is_no_instances() {
        for table in ["setpoint_", "setpoint_xyzw", "setpoint_12345", "filter"] {
            assert_eq!(instance_of_table(table), None, "{table}");
        }
        for link in ["lo", "sp", "spice012345678", "sp12340a00000", "sp12340a0000012"] {
            assert_eq!(instance_of_link(link), None, "{link}");
        }
    }
}
