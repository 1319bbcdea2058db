//! This host's network by netlink: pod links and routes, and services in nftables.
//!
//! Data in, kernel state out; nothing here knows the API or reads a file of the daemon. Everything that it
//! makes carries the instance's name (interfaces `sp<id>…`, tables `setpoint_<id>`), so that several instances share a host and
//! [`Net::remove_all`] takes away this instance's things and nothing else.
//!
//! Invariants: one atomic nftables transaction per change of the services; the cost of a packet does not grow
//! with the number of services; pods are routed (a veth, a /32 and a /128 each), never bridged. The family of addresses is data: what holds
//! for IPv4 is made for IPv6 by the same code.

mod address;
mod conntrack;
#[doc(hidden)]
pub mod fault;
mod firewall;
mod link;
mod net;
mod netlink;
mod nft;
mod preflight;
mod ranges;
mod route;
mod rules;
mod service;
mod spec;
mod sysctl;

pub use address::{AddressPair, Family};
pub use net::Net;
pub use preflight::{preflight, preflight_ipv6};
pub use service::{Backend, HostPort, Protocol, ServicePort, ServiceTable};
pub use spec::{Applied, AttachRequest, Attachment, Ipv6Ranges, Missing, NetConfig, NetError, Netns, Ranges, Subnets};
pub use sysctl::has_ipv6;
