//! Services as data: what nftables is programmed from.

use std::net::Ipv4Addr;

/// The transport of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One address that answers for a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The pod's port.
    pub port: u16,
}

/// One port of one service with all ways to reach it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// `namespace/service:port`, for comments and messages.
    pub name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The cluster IP; `None` for a headless service (then only node and external ports count).
    pub cluster_ip: Option<Ipv4Addr>,
    /// External addresses that lead here too (load balancer and external IPs).
    pub external_ips: Vec<Ipv4Addr>,
    /// The service's port.
    pub port: u16,
    /// The node port on every local address.
    pub node_port: Option<u16>,
    /// Seconds for which one client address stays with one backend; `None` without session affinity.
    pub affinity_seconds: Option<u32>,
    /// The backends, sorted; empty means that connections are rejected.
    pub backends: Vec<Backend>,
}

/// Everything that this host's rules are made from. Equal tables make equal rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// Service ports, sorted by name and protocol.
    pub ports: Vec<ServicePort>,
}
