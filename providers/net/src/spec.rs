//! What an instance's network looks like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{AddressPair, Family};

/// The address ranges of an instance, chosen free at its first start and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Where this node's pods get addresses (a /24 by default 10.42.0.0/24); its first address is the host's own in the pod network.
    pub pods: Ipv4Net,
    /// Where cluster IPs come from (a /16 by default 10.96.0.0/16).
    pub services: Ipv4Net,
    /// Those of IPv6; `None` where there is IPv4 alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Ranges>,
}

/// The IPv6 ranges of an instance: unique local addresses (RFC 4193).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Ranges {
    /// Where this node's pods get addresses (a /64).
    pub pods: Ipv6Net,
    /// Where cluster IPs come from (a /112).
    pub services: Ipv6Net,
}

/// The ranges of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnets {
    /// The family of all three.
    pub family: Family,
    /// Where this node's pods get addresses.
    pub pods: IpNet,
    /// Where cluster IPs come from.
    pub services: IpNet,
    /// The host's own address in the pod network.
    pub gateway: IpAddr,
}

impl Ranges {
    /// Returns the host's own address in the pod network (the first usable one); DNS and the API listen there.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.pods.network()) + 1)
    }

    /// Returns the cluster IP of `default/kubernetes` (the first usable one).
    pub fn kubernetes_service(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.services.network()) + 1)
    }

    /// Returns the ranges of each family that there is, IPv4 first.
    pub fn subnets(&self) -> Vec<Subnets> {
        let ipv4 = Subnets {
            family: Family::V4,
            pods: self.pods.trunc().into(),
            services: self.services.trunc().into(),
            gateway: self.gateway().into(),
        };
        let ipv6 = self.ipv6.map(|ranges| Subnets {
            family: Family::V6,
            pods: ranges.pods.trunc().into(),
            services: ranges.services.trunc().into(),
            gateway: ranges.pod(1).into(),
        });
        [ipv4].into_iter().chain(ipv6).collect()
    }

    /// Returns the addresses of the pod that has this one: that of IPv6 is at the same place in its range, so that nobody needs to keep which is
    /// taken.
    pub fn addresses(&self, ipv4: Ipv4Addr) -> AddressPair {
        let place = u32::from(ipv4).wrapping_sub(u32::from(self.pods.network()));
        AddressPair {
            ipv4,
            ipv6: self.ipv6.map(|ranges| ranges.pod(place)),
        }
    }
}

impl Ipv6Ranges {
    fn pod(&self, place: u32) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.pods.network()) + u128::from(place))
    }
}

/// One instance's names and ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetConfig {
    /// Four hexadecimal digits, unique on the host; part of every name made here.
    pub instance: String,
    /// The address ranges.
    pub ranges: Ranges,
}

/// Why the host's network is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A netlink request failed.
    #[error("cannot {operation}")]
    Netlink {
        /// What was being done and to what, as a verb phrase.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A kernel parameter could not be set.
    #[error("cannot set {parameter} to {value}; allow it or set it yourself")]
    Sysctl {
        /// The parameter's path below /proc/sys.
        parameter: String,
        /// The wanted value.
        value: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No free range is left on this host.
    #[error("no free range for {purpose} among {candidates}; give one in the configuration")]
    NoFreeRange {
        /// pods or services.
        purpose: &'static str,
        /// What was tried.
        candidates: String,
    },
    /// A range that this instance was to use is in use on this host by something else.
    #[error("the {purpose} range {range} is in use on this host; choose another")]
    RangeTaken {
        /// pods or services.
        purpose: &'static str,
        /// The range.
        range: IpNet,
    },
    /// What the caller asked for cannot be.
    #[error("{what}")]
    Invalid {
        /// What is wrong with the request.
        what: String,
    },
    /// The kernel lacks something.
    #[error("the kernel has no {feature}: {advice}")]
    Unsupported {
        /// What is missing.
        feature: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
}

/// The network namespace of a pod.
#[derive(Debug)]
pub enum Netns {
    /// The one that this process is in.
    Pid(u32),
    /// An open namespace file.
    File(std::fs::File),
}

/// A pod to be connected.
#[derive(Debug)]
pub struct AttachRequest {
    /// The sandbox's id; kept on the link, so that links of dead sandboxes can be told.
    pub sandbox: String,
    /// The pod's network namespace.
    pub netns: Netns,
    /// The pod's addresses, out of the pod ranges (see [`Ranges::addresses`]).
    pub addresses: AddressPair,
}

/// A connected pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// The pod's addresses.
    pub addresses: AddressPair,
    /// The sandbox's id as it was given.
    pub sandbox: String,
    /// The name of the link on the host.
    pub interface: String,
}

/// Something that this host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// What an [`crate::Net::apply`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether the kernel was changed; false when the rules were right already.
    pub changed: bool,
    /// How many messages the transaction had.
    pub messages: usize,
}
