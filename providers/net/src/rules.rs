//! The table of an instance: what never changes while it runs, and where services hang in it.
//!
//! ```text
//! prerouting, output (nat)      → services: (address, protocol, port) → service chain; on local addresses node ports too;
//!                                 then host ports: (address, protocol, port) or (protocol, port) → pod
//! postrouting (nat)             → connections that must come back through this host get one of its addresses
//! forward, input, output        → new connections to closed services are refused at once
//! raw                           → nobody reaches the loopback's addresses from a pod's link (CVE-2020-8558)
//! ```
//!
//! NAT decides for a connection's first packet only; so a change of the services never touches established
//! connections, and a service chain can go while its connections go on.

mod services;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::NetConfig;
use crate::nft::{Batch, ChainHook, Element, Hook, Register, Rule, STATE_INVALID, STATE_NEW, SetSpec, Value, Verdict};

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

const TYPE_ADDRESS: u32 = 7;
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

fn pair(ip: Ipv4Addr) -> Element {
    Element::Key([ip.octets(), ip.octets()].concat())
}

/// Adds a pod whose connections to itself through a service must get another source.
pub(crate) fn add_hairpin(batch: &mut Batch, pods: &[Ipv4Addr]) {
    batch.add_elements(HAIRPIN, None, &pods.iter().copied().map(pair).collect::<Vec<_>>());
}

/// Takes a pod out again; refused with `ENOENT` if it is not in.
pub(crate) fn delete_hairpin(batch: &mut Batch, pod: Ipv4Addr) {
    batch.delete_elements(HAIRPIN, &[pair(pod)]);
}

/// Appends the whole table without services, in place of one that may be there.
pub(crate) fn base(batch: &mut Batch, config: &NetConfig, pods: &[Ipv4Addr]) {
    let names = Names::of(config);
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    let address_key: &[u32] = &[4, 1, 2];
    let address_type = TYPE_ADDRESS << 12 | TYPE_PROTOCOL << 6 | TYPE_PORT;
    let port_key: &[u32] = &[1, 2];
    let port_type = TYPE_PROTOCOL << 6 | TYPE_PORT;
    for (name, key, key_type, value) in [
        (SERVICES, address_key, address_type, Value::Verdict),
        (NODE_PORTS, port_key, port_type, Value::Verdict),
        (CLOSED, address_key, address_type, Value::None),
        (CLOSED_NODE_PORTS, port_key, port_type, Value::None),
        (HOST_ADDRESSES, address_key, address_type, Value::Endpoint),
        (HOST_PORTS, port_key, port_type, Value::Endpoint),
        (HAIRPIN, &[4, 4], TYPE_ADDRESS << 6 | TYPE_ADDRESS, Value::None),
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
    add_hairpin(batch, pods);
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
    translation(batch);
    sources(batch, config, &names);
    refusal(batch, config, &names);
}

fn go(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_owned())
}

/// The key (address, protocol, port) in registers 0 to 2; (protocol, port) are 1 and 2.
fn load_key(rule: Rule) -> Rule {
    rule.load_destination(Register::new(0))
        .load_protocol(Register::new(1))
        .load_port(Register::new(2))
}

fn translation(batch: &mut Batch) {
    batch.add_rule("prerouting", &Rule::new().verdict(&go("dispatch")));
    batch.add_rule("output", &Rule::new().verdict(&go("dispatch")));
    batch.add_rule(
        "dispatch",
        &load_key(Rule::new()).verdict_map(SERVICES, Register::new(0)),
    );
    batch.add_rule(
        "dispatch",
        &load_key(Rule::new().destination_is_local()).verdict_map(NODE_PORTS, Register::new(1)),
    );
    let to_pod = |rule: Rule, map, key| {
        rule.map(map, None, key, Register::new(8))
            .destination_nat(Register::new(8), Register::new(9))
    };
    batch.add_rule(
        "dispatch",
        &to_pod(load_key(Rule::new()), HOST_ADDRESSES, Register::new(0)),
    );
    batch.add_rule(
        "dispatch",
        &to_pod(
            load_key(Rule::new().destination_is_local()),
            HOST_PORTS,
            Register::new(1),
        ),
    );
}

fn sources(batch: &mut Batch, config: &NetConfig, names: &Names) {
    let pods = config.ranges.pods;
    let gateway = config.ranges.gateway();
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let rules = [
        // A pod that reaches itself through a service would otherwise see its own address as the peer.
        Rule::new()
            .load_source(Register::new(0))
            .load_destination(Register::new(1))
            .in_set(HAIRPIN, None, Register::new(0))
            .source_nat(gateway),
        // 127.0.0.1:<node port>.
        Rule::new()
            .leaves_by(&names.links)
            .source_in(loopback)
            .source_nat(gateway),
        Rule::new().has_mark(RETURN_MARK).leaves_the_host().masquerade(),
        Rule::new()
            .source_in(pods)
            .destination_not_in(pods)
            .leaves_the_host()
            .masquerade(),
    ];
    for rule in rules {
        batch.add_rule("postrouting", &rule);
    }
    for rule in [
        Rule::new().came_by(&names.links).destination_in(loopback),
        Rule::new().came_by(&names.links).source_in(loopback),
    ] {
        batch.add_rule("raw", &rule.verdict(&Verdict::Drop));
    }
}

fn refusal(batch: &mut Batch, config: &NetConfig, names: &Names) {
    // A pod's answer that connection tracking no longer knows would leave with the pod's address in place of the
    // service's, and the client would reset a healthy connection.
    batch.add_rule(
        "filter_forward",
        &Rule::new()
            .came_by(&names.links)
            .state_among(STATE_INVALID)
            .verdict(&Verdict::Drop),
    );
    for chain in ["filter_forward", "filter_input", "filter_output"] {
        let jump = Verdict::Jump("refuse_closed".to_owned());
        batch.add_rule(chain, &Rule::new().state_among(STATE_NEW).verdict(&jump));
    }
    // What is still for a service address after translation has no backend. Only a TCP reset reaches a local
    // client at once; ICMP does not on the output hook.
    let refuse = go("refuse");
    for rule in [
        Rule::new().destination_in(config.ranges.services).verdict(&refuse),
        load_key(Rule::new())
            .in_set(CLOSED, None, Register::new(0))
            .verdict(&refuse),
        load_key(Rule::new().destination_is_local())
            .in_set(CLOSED_NODE_PORTS, None, Register::new(1))
            .verdict(&refuse),
    ] {
        batch.add_rule("refuse_closed", &rule);
    }
    batch.add_rule("refuse", &Rule::new().for_tcp().reset());
    batch.add_rule("refuse", &Rule::new().unreachable());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_carries_its_address() {
        let ranges = crate::Ranges {
            pods: "10.42.0.0/24".parse().unwrap(),
            services: "10.96.0.0/16".parse().unwrap(),
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
