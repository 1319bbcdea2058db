//! Services as data: what nftables is programmed from.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::Family;

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
    pub ip: IpAddr,
    /// The pod's port.
    pub port: u16,
}

/// One port of one service with all ways to reach it in one family; a service of both has two of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// `namespace/service:port`, for comments and messages.
    pub name: String,
    /// The family of all its addresses.
    pub family: Family,
    /// The transport.
    pub protocol: Protocol,
    /// The cluster IP; `None` for a headless service (then only node and external ports count).
    pub cluster_ip: Option<IpAddr>,
    /// External addresses that lead here too.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses.
    pub balancer_ips: Vec<IpAddr>,
    /// Who may come by the load balancer's addresses; `None` for everybody.
    pub balancer_sources: Option<Vec<IpNet>>,
    /// The service's port.
    pub port: u16,
    /// The node port on every local address.
    pub node_port: Option<u16>,
    /// Seconds for which one client address stays with one backend; `None` without session affinity.
    pub affinity_seconds: Option<u32>,
    /// The backends, wherever they are, sorted.
    pub backends: Vec<Backend>,
    /// The backends on this host, sorted.
    pub local_backends: Vec<Backend>,
    /// Whether the cluster IP leads to backends on this host only.
    pub internal_local: bool,
    /// Whether connections from outside are led to backends on this host only; those from this host's pods and from
    /// the host itself may go anywhere.
    pub external_local: bool,
}

impl ServicePort {
    /// Says whether nobody answers anywhere, so that connections are refused.
    pub fn is_closed(&self) -> bool {
        self.backends.is_empty() && self.local_backends.is_empty()
    }
}

/// A port of this host that leads to a pod; its addresses are of the backend's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The transport.
    pub protocol: Protocol,
    /// The port on the host.
    pub port: u16,
    /// The host's address; `None` for all of them.
    pub ip: Option<IpAddr>,
    /// Where it leads.
    pub backend: Backend,
}

/// Everything that this host's rules are made from. Equal tables make equal rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// Service ports, sorted by name, family and protocol.
    pub ports: Vec<ServicePort>,
    /// Host ports, sorted.
    pub host_ports: Vec<HostPort>,
}
