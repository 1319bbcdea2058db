//! Which pod has which address of the node's range. What is taken is known from the adopted sandboxes, so nothing is stored here.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use parking_lot::Mutex;
use setpoint_net::{AddressPair, Ranges};

/// Hands out the addresses of the node's ranges, round robin, so that an address that was just given back is used again last.
///
/// That of IPv4 is chosen, and that of IPv6 is at the same place of its range.
#[derive(Debug)]
pub struct Addresses {
    ranges: Ranges,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: BTreeSet<u32>,
    next: u32,
}

impl Addresses {
    /// Makes the allocator; `taken` are the first addresses of sandboxes that run already. The network's own, the gateway's (the first) and the
    /// broadcast address are never handed out.
    pub fn new(ranges: Ranges, taken: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let taken: BTreeSet<u32> = taken.into_iter().map(u32::from).collect();
        let first = u32::from(ranges.pods.network()).saturating_add(2);
        let next = taken.last().map_or(first, |last| last.saturating_add(1));
        Self {
            ranges,
            state: Mutex::new(State { taken, next }),
        }
    }

    /// Returns whether pods have addresses of IPv6.
    pub fn have_ipv6(&self) -> bool {
        self.ranges.ipv6.is_some()
    }

    /// Takes free addresses; `None` when all are taken.
    pub fn take(&self) -> Option<AddressPair> {
        let range = self.ranges.pods;
        let first = u32::from(range.network()).checked_add(2)?;
        let last = u32::from(range.broadcast()).checked_sub(1)?;
        if first > last {
            return None;
        }
        let mut state = self.state.lock();
        let start = if (first..=last).contains(&state.next) {
            state.next
        } else {
            first
        };
        let found = (start..=last)
            .chain(first..start)
            .find(|address| !state.taken.contains(address))?;
        state.taken.insert(found);
        state.next = found.saturating_add(1);
        Some(self.ranges.addresses(Ipv4Addr::from(found)))
    }

    /// Returns what a pod that has these now has when its sandbox is made anew: IPv6 may have come or gone since.
    pub fn renewed(&self, addresses: AddressPair) -> AddressPair {
        self.ranges.addresses(addresses.ipv4)
    }

    /// Gives addresses back.
    pub fn give_back(&self, addresses: AddressPair) {
        self.state.lock().taken.remove(&u32::from(addresses.ipv4));
    }

    /// Returns the first addresses in use, sorted.
    pub fn taken(&self) -> Vec<Ipv4Addr> {
        self.state
            .lock()
            .taken
            .iter()
            .map(|address| Ipv4Addr::from(*address))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Ranges {
        Ranges {
            pods: text.parse().expect("a network"),
            services: "10.96.0.0/16".parse().expect("a network"),
            ipv6: None,
        }
    }

    fn pair(last: u8) -> AddressPair {
        Ipv4Addr::new(10, 9, 0, last).into()
    }

    #[test]
    fn network_gateway_and_broadcast_are_never_handed_out() {
        let addresses = Addresses::new(range("10.9.0.0/29"), []);
        let mut got = Vec::new();
        while let Some(address) = addresses.take() {
            got.push(address.to_string());
        }
        assert_eq!(got, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
    }

    #[test]
    fn adopted_addresses_stay_taken_and_returned_ones_are_used_last() {
        let addresses = Addresses::new(range("10.9.0.0/29"), [Ipv4Addr::new(10, 9, 0, 3)]);
        assert_eq!(addresses.take(), Some(pair(4)));
        addresses.give_back(pair(4));
        assert_eq!(addresses.take(), Some(pair(5)));
        assert_eq!(addresses.take(), Some(pair(6)));
        assert_eq!(addresses.take(), Some(pair(2)));
        assert_eq!(addresses.take(), Some(pair(4)));
        assert_eq!(addresses.take(), None);
    }

    #[test]
    fn a_pod_from_before_ipv6_was_switched_off_goes_on_with_its_first_address() {
        let addresses = Addresses::new(range("10.9.0.0/29"), []);
        let before = AddressPair {
            ipv6: Some("fd00::3".parse().expect("an address")),
            ..pair(3)
        };
        assert_eq!(addresses.renewed(before), pair(3));
    }

    #[test]
    fn a_range_without_usable_addresses_gives_none() {
        assert_eq!(Addresses::new(range("10.9.0.0/31"), []).take(), None);
        assert_eq!(Addresses::new(range("255.255.255.255/32"), []).take(), None);
    }
}
