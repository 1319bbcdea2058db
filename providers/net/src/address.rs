//! Addresses of both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A family of addresses; IPv4 is the first of a dual stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order of a dual stack.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Returns an address's family.
    pub fn of(ip: IpAddr) -> Family {
        match ip {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Returns a range's family.
    pub fn of_range(range: IpNet) -> Family {
        Family::of(range.addr())
    }

    /// Returns the name that Kubernetes gives it: that of `ipFamilies` and of a slice's `addressType`.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// Returns the family of that [name](Family::name).
    pub fn named(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.name() == name)
    }

    /// The number of an address's bytes.
    pub(crate) const fn length(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// The kernel's number: `AF_INET` and `AF_INET6`, which netfilter's are too.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// nft's word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    pub(crate) const fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Reads an address of this family.
    pub(crate) fn read(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            Family::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            Family::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Returns an address's bytes as packets have them.
pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A pod's or a host's addresses: always one of IPv4, which is its first, and one of IPv6 where there are both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressPair {
    /// The first.
    pub ipv4: Ipv4Addr,
    /// The second.
    pub ipv6: Option<Ipv6Addr>,
}

impl AddressPair {
    /// Returns the address by which it is known.
    pub fn first(&self) -> IpAddr {
        IpAddr::V4(self.ipv4)
    }

    /// Returns the address of a family.
    pub fn of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => Some(IpAddr::V4(self.ipv4)),
            Family::V6 => self.ipv6.map(IpAddr::V6),
        }
    }

    /// Returns all of them, the first first.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let own = *self;
        Family::ALL.into_iter().filter_map(move |family| own.of(family))
    }
}

impl From<Ipv4Addr> for AddressPair {
    fn from(ipv4: Ipv4Addr) -> AddressPair {
        AddressPair { ipv4, ipv6: None }
    }
}

impl fmt::Display for AddressPair {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.ipv4)?;
        self.ipv6.map_or(Ok(()), |ip| write!(out, ", {ip}"))
    }
}
