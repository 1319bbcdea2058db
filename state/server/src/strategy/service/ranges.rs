//! The addresses and ports that are given out.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use rand::Rng;

/// The most addresses of a range that are given out: Kubernetes' bound for IPv6.
const MOST_BITS: u32 = 20;

/// A range of one family.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    base: IpAddr,
    bits: u32,
}

impl Range {
    /// Reads `address/len`; `None` when that is no usable range.
    fn parse(cidr: &str) -> Option<Range> {
        let (address, len) = cidr.split_once('/')?;
        let address: IpAddr = address.trim().parse().ok()?;
        let len: u32 = len.trim().parse().ok()?;
        let bits = match address {
            IpAddr::V4(_) => 32_u32,
            IpAddr::V6(_) => 128,
        };
        let bits = bits.checked_sub(len).filter(|bits| (2..=MOST_BITS).contains(bits))?;
        let base = number(address) >> bits << bits;
        Some(Range {
            base: like(address, base),
            bits,
        })
    }

    /// The family, by the name that `ipFamilies` has for it.
    pub(crate) fn family(&self) -> &'static str {
        family(self.base)
    }

    fn at(&self, place: u32) -> IpAddr {
        like(self.base, number(self.base) + u128::from(place))
    }

    /// Says whether an address may be given out: the first and the last are the network's own.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let place = number(address).wrapping_sub(number(self.base));
        family(address) == self.family() && place > 0 && place < (1 << self.bits) - 1
    }

    /// A free address; from the upper part, so that fixed ones find room in the lower.
    pub(crate) fn free_address(&self, taken: &HashSet<IpAddr>) -> Option<IpAddr> {
        let size = (1u32 << self.bits) - 2;
        let reserved = (size / 16).clamp(1, 256);
        let start = rand::rng().random_range(reserved..size);
        (0..size)
            .map(|step| (start + step) % size)
            // The lower part is used once the upper is full.
            .filter(|place| *place >= reserved)
            .chain(1..reserved)
            .map(|place| self.at(1 + place))
            .find(|address| !taken.contains(address))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = match self.base {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        write!(out, "{}/{}", self.base, length - self.bits)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address of that number in the other's family.
fn like(other: IpAddr, number: u128) -> IpAddr {
    match other {
        // What is out of range is in no range.
        IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// Returns the name that `ipFamilies` has for an address's family.
pub(super) fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// The ranges that are given out.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    /// One, or one of each family; the first is that of services that do not say which they want.
    pub(super) addresses: Vec<Range>,
    pub(super) ports: RangeInclusive<u16>,
}

impl Ranges {
    /// Reads `address/len`, or two of them with a comma, one of each family; `None` when they are not usable.
    pub(crate) fn parse(cidrs: &str, ports: RangeInclusive<u16>) -> Option<Ranges> {
        let addresses: Vec<Range> = cidrs.split(',').map(Range::parse).collect::<Option<_>>()?;
        let fits = match addresses.as_slice() {
            [_] => true,
            [one, two] => one.family() != two.family(),
            _ => false,
        };
        fits.then_some(Ranges { addresses, ports })
    }

    /// The first address: that of `default/kubernetes`.
    pub(crate) fn first(&self) -> IpAddr {
        // There is one at least, by how they are read.
        self.addresses[0].at(1)
    }

    pub(super) fn of(&self, family: &str) -> Option<&Range> {
        self.addresses.iter().find(|range| range.family() == family)
    }

    pub(super) fn free_port(&self, taken: &HashSet<i64>) -> Option<i64> {
        let (from, to) = (i64::from(*self.ports.start()), i64::from(*self.ports.end()));
        let size = to - from + 1;
        if size <= 0 {
            return None;
        }
        let start = rand::rng().random_range(0..size);
        (0..size)
            .map(|step| from + (start + step) % size)
            .find(|port| !taken.contains(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_given_out_to_its_last_address() {
        for cidr in ["10.96.0.9/28", "fd00:1:96::9/124"] {
            let ranges = Ranges::parse(cidr, 30000..=30001).unwrap();
            let range = &ranges.addresses[0];
            let mut taken = HashSet::from([ranges.first()]);
            for _ in 0..13 {
                let free = range.free_address(&taken).unwrap();
                assert!(range.contains(free), "{free}");
                assert!(taken.insert(free));
            }
            assert_eq!(range.free_address(&taken), None);
        }
    }

    #[test]
    fn ports_are_given_out_to_the_last() {
        let ranges = Ranges::parse("10.96.0.9/28", 30000..=30001).unwrap();
        assert_eq!(ranges.first().to_string(), "10.96.0.1");
        let mut ports = HashSet::new();
        ports.insert(ranges.free_port(&ports).unwrap());
        ports.insert(ranges.free_port(&ports).unwrap());
        assert_eq!(ranges.free_port(&ports), None);
    }

    #[test]
    fn two_ranges_are_of_two_families() {
        let parse = |cidrs| Ranges::parse(cidrs, 1..=2);
        let both = parse("10.96.0.0/16,fd00:1:96::/112").unwrap();
        assert_eq!(both.of("IPv6").unwrap().to_string(), "fd00:1:96::/112");
        assert_eq!(both.first().to_string(), "10.96.0.1");
        for bad in [
            "10.96.0.0/8",
            "fd00::/64",
            "10.96.0.0/16,10.97.0.0/16",
            "10.96.0.0/33",
            "",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
