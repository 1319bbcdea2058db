//! Which pod has which address of the node's range. What is taken is known from the adopted sandboxes, so nothing is stored here.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use parking_lot::Mutex;

/// Hands out the addresses of one range, round robin, so that an address that was just given back is used again last.
#[derive(Debug)]
pub struct Addresses {
    range: Ipv4Net,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: BTreeSet<u32>,
    next: u32,
}

impl Addresses {
    /// Makes the allocator of a range; `taken` are the addresses of sandboxes that run already. The network's own, the gateway's (the first) and the
    /// broadcast address are never handed out.
    pub fn new(range: Ipv4Net, taken: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let taken: BTreeSet<u32> = taken.into_iter().map(u32::from).collect();
        let first = u32::from(range.network()).saturating_add(2);
        let next = taken.last().map_or(first, |last| last.saturating_add(1));
        Self {
            range,
            state: Mutex::new(State { taken, next }),
        }
    }

    /// Takes a free address; `None` when all are taken.
    pub fn take(&self) -> Option<Ipv4Addr> {
        let first = u32::from(self.range.network()).checked_add(2)?;
        let last = u32::from(self.range.broadcast()).checked_sub(1)?;
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
        Some(Ipv4Addr::from(found))
    }

    /// Gives an address back.
    pub fn give_back(&self, address: Ipv4Addr) {
        self.state.lock().taken.remove(&u32::from(address));
    }

    /// Returns the addresses in use, sorted.
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

    fn range(text: &str) -> Ipv4Net {
        text.parse().expect("a network")
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
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 9, 0, 4)));
        addresses.give_back(Ipv4Addr::new(10, 9, 0, 4));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 9, 0, 5)));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 9, 0, 6)));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 9, 0, 2)));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 9, 0, 4)));
        assert_eq!(addresses.take(), None);
    }

    #[test]
    fn a_range_without_usable_addresses_gives_none() {
        assert_eq!(Addresses::new(range("10.9.0.0/31"), []).take(), None);
        assert_eq!(Addresses::new(range("255.255.255.255/32"), []).take(), None);
    }
}
