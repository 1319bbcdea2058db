//! The expressions of a rule.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{NFTA_LIST_ELEM, Verdict, put_value};
use crate::Family;
use crate::address::octets;
use crate::netlink::Message;

/// A 32-bit register; longer values run on into the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(u32);

impl Register {
    /// Returns the n-th of the sixteen.
    pub(crate) const fn new(n: u32) -> Register {
        Register(8 + n)
    }
}

const VERDICT: u32 = 0;
const SCRATCH: Register = Register::new(0);

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const CT_STATE: u32 = 0;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const FIB_LINK: u32 = 1;
const FIB_ADDRTYPE: u32 = 3;
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_INPUT_LINK: u32 = 8;
const RTN_LOCAL: u32 = 2;

/// Connection states as the kernel's bits.
pub(crate) const STATE_INVALID: u32 = 1;
/// A connection's first packets.
pub(crate) const STATE_NEW: u32 = 8;

/// A rule's expressions in order: conditions, then what is done.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    family: Family,
    expressions: Vec<(&'static str, Message)>,
}

impl Rule {
    /// Returns a rule that matches all packets of a family and does nothing.
    pub(crate) fn new(family: Family) -> Rule {
        Rule {
            family,
            expressions: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, fill: impl FnOnce(&mut Message)) -> Rule {
        let mut data = Message::new(0, 0, name);
        fill(&mut data);
        self.expressions.push((name, data));
        self
    }

    /// Appends the expressions to a rule message.
    pub(super) fn put(&self, kind: u16, message: &mut Message) {
        message.nest(kind, |list| {
            for (name, data) in &self.expressions {
                list.nest(NFTA_LIST_ELEM, |element| {
                    element.put_str(1, name).nest(2, |inner| {
                        inner.raw(data.body());
                    });
                });
            }
        });
    }

    fn payload(self, base: u32, offset: u32, length: u32, to: Register) -> Rule {
        self.with("payload", |data| {
            data.put_be32(1, to.0)
                .put_be32(2, base)
                .put_be32(3, offset)
                .put_be32(4, length);
        })
    }

    fn meta(self, key: u32, to: Register) -> Rule {
        self.with("meta", |data| {
            data.put_be32(1, to.0).put_be32(2, key);
        })
    }

    fn compare(self, register: Register, operator: u32, value: &[u8]) -> Rule {
        self.with("cmp", |data| {
            data.put_be32(1, register.0).put_be32(2, operator);
            put_value(3, value, data);
        })
    }

    fn masked(self, register: Register, mask: u32, xor: u32) -> Rule {
        self.masked_bytes(register, &mask.to_ne_bytes(), &xor.to_ne_bytes())
    }

    fn masked_bytes(self, register: Register, mask: &[u8], xor: &[u8]) -> Rule {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        self.with("bitwise", |data| {
            data.put_be32(1, register.0).put_be32(2, register.0).put_be32(3, length);
            put_value(4, mask, data);
            put_value(5, xor, data);
        })
    }

    /// Loads the source address.
    pub(crate) fn load_source(self, to: Register) -> Rule {
        let offset = match self.family {
            Family::V4 => 12,
            Family::V6 => 8,
        };
        let length = self.family.length();
        self.payload(BASE_NETWORK, offset, length, to)
    }

    /// Loads the destination address.
    pub(crate) fn load_destination(self, to: Register) -> Rule {
        let offset = match self.family {
            Family::V4 => 16,
            Family::V6 => 24,
        };
        let length = self.family.length();
        self.payload(BASE_NETWORK, offset, length, to)
    }

    /// Loads the transport protocol.
    pub(crate) fn load_protocol(self, to: Register) -> Rule {
        self.meta(META_L4PROTO, to)
    }

    /// Loads the destination port.
    pub(crate) fn load_port(self, to: Register) -> Rule {
        self.payload(BASE_TRANSPORT, 2, 2, to)
    }

    /// Loads a constant.
    pub(crate) fn load(self, value: &[u8], to: Register) -> Rule {
        self.with("immediate", |data| {
            data.put_be32(1, to.0);
            put_value(2, value, data);
        })
    }

    /// Loads a random number below `modulus`, in host byte order.
    pub(crate) fn load_random(self, modulus: u32, to: Register) -> Rule {
        self.with("numgen", |data| {
            data.put_be32(1, to.0).put_be32(2, modulus).put_be32(3, 1);
        })
    }

    fn in_range(self, operator: u32, range: IpNet) -> Rule {
        let network = octets(range.network());
        self.masked_bytes(SCRATCH, &octets(range.netmask()), &vec![0; network.len()])
            .compare(SCRATCH, operator, &network)
    }

    /// Goes on if the source is in the range.
    pub(crate) fn source_in(self, range: IpNet) -> Rule {
        self.load_source(SCRATCH).in_range(EQUAL, range)
    }

    /// Goes on if the destination is in the range.
    pub(crate) fn destination_in(self, range: IpNet) -> Rule {
        self.load_destination(SCRATCH).in_range(EQUAL, range)
    }

    /// Goes on if the destination is not in the range.
    pub(crate) fn destination_not_in(self, range: IpNet) -> Rule {
        self.load_destination(SCRATCH).in_range(NOT_EQUAL, range)
    }

    /// Goes on if the destination is an address of this host.
    pub(crate) fn destination_is_local(self) -> Rule {
        self.of_this_host(FIB_DADDR)
    }

    /// Goes on if the source is an address of this host.
    pub(crate) fn source_is_local(self) -> Rule {
        self.of_this_host(FIB_SADDR)
    }

    fn of_this_host(self, which: u32) -> Rule {
        self.with("fib", |data| {
            data.put_be32(1, SCRATCH.0).put_be32(2, FIB_ADDRTYPE).put_be32(3, which);
        })
        .compare(SCRATCH, EQUAL, &RTN_LOCAL.to_ne_bytes())
    }

    /// Goes on if answers to the source would not leave by the link that the packet came in by.
    pub(crate) fn source_is_not_behind_its_link(self) -> Rule {
        self.with("fib", |data| {
            data.put_be32(1, SCRATCH.0)
                .put_be32(2, FIB_LINK)
                .put_be32(3, FIB_SADDR | FIB_INPUT_LINK);
        })
        .compare(SCRATCH, EQUAL, &0_u32.to_ne_bytes())
    }

    /// Goes on for TCP.
    pub(crate) fn for_tcp(self) -> Rule {
        self.for_protocol(6)
    }

    /// Goes on for a transport protocol.
    pub(crate) fn for_protocol(self, number: u8) -> Rule {
        self.load_protocol(SCRATCH).compare(SCRATCH, EQUAL, &[number])
    }

    /// Goes on if the connection's state is among these bits.
    pub(crate) fn state_among(self, bits: u32) -> Rule {
        self.with("ct", |data| {
            data.put_be32(1, SCRATCH.0).put_be32(2, CT_STATE);
        })
        .masked(SCRATCH, bits, 0)
        .compare(SCRATCH, NOT_EQUAL, &0_u32.to_ne_bytes())
    }

    /// Goes on if the packet came in by a link whose name starts so.
    pub(crate) fn came_by(self, prefix: &str) -> Rule {
        self.meta(META_IIFNAME, SCRATCH)
            .compare(SCRATCH, EQUAL, prefix.as_bytes())
    }

    /// Goes on if the packet leaves by a link whose name starts so.
    pub(crate) fn leaves_by(self, prefix: &str) -> Rule {
        self.meta(META_OIFNAME, SCRATCH)
            .compare(SCRATCH, EQUAL, prefix.as_bytes())
    }

    /// Goes on unless the packet leaves by the loopback.
    pub(crate) fn leaves_the_host(self) -> Rule {
        let mut name = [0; 16];
        name[..2].copy_from_slice(b"lo");
        self.meta(META_OIFNAME, SCRATCH).compare(SCRATCH, NOT_EQUAL, &name)
    }

    /// Sets a bit of the packet's mark.
    pub(crate) fn set_mark(self, bit: u32) -> Rule {
        self.meta(META_MARK, SCRATCH)
            .masked(SCRATCH, !bit, bit)
            .with("meta", |data| {
                data.put_be32(2, META_MARK).put_be32(3, SCRATCH.0);
            })
    }

    /// Goes on if the bit of the packet's mark is set.
    pub(crate) fn has_mark(self, bit: u32) -> Rule {
        self.meta(META_MARK, SCRATCH)
            .masked(SCRATCH, bit, 0)
            .compare(SCRATCH, EQUAL, &bit.to_ne_bytes())
    }

    fn lookup(self, set: &str, id: Option<u32>, key: Register, to: Option<u32>) -> Rule {
        self.with("lookup", |data| {
            data.put_str(1, set).put_be32(2, key.0);
            if let Some(to) = to {
                data.put_be32(3, to);
            }
            if let Some(id) = id {
                data.put_be32(4, id);
            }
        })
    }

    /// Goes on if the key is in the set (`id` for one made in the same batch).
    pub(crate) fn in_set(self, set: &str, id: Option<u32>, key: Register) -> Rule {
        self.lookup(set, id, key, None)
    }

    /// Loads the key's value and goes on, if it is in the map.
    pub(crate) fn map(self, map: &str, id: Option<u32>, key: Register, to: Register) -> Rule {
        self.lookup(map, id, key, Some(to.0))
    }

    /// Does what the verdict map says for the key, if it is in it.
    pub(crate) fn verdict_map(self, map: &str, key: Register) -> Rule {
        self.lookup(map, None, key, Some(VERDICT))
    }

    fn dynamic(self, operation: u32, map: &str, key: Register, value: Register) -> Rule {
        self.with("dynset", |data| {
            data.put_str(1, map)
                .put_be32(3, operation)
                .put_be32(4, key.0)
                .put_be32(5, value.0);
        })
    }

    /// Puts key and value into a dynamic map or, if the key is there, renews its time-out.
    pub(crate) fn remember(self, map: &str, key: Register, value: Register) -> Rule {
        self.dynamic(1, map, key, value)
    }

    /// Takes a key out of a dynamic map.
    pub(crate) fn forget(self, map: &str, key: Register, value: Register) -> Rule {
        self.dynamic(2, map, key, value)
    }

    fn nat(self, kind: u32, address: Register, port: Option<Register>) -> Rule {
        let family = u32::from(self.family.number());
        self.with("nat", |data| {
            data.put_be32(1, kind).put_be32(2, family).put_be32(3, address.0);
            if let Some(port) = port {
                data.put_be32(5, port.0);
            }
        })
    }

    /// Sends the connection to the address and port in these registers.
    pub(crate) fn destination_nat(self, address: Register, port: Register) -> Rule {
        self.nat(1, address, Some(port))
    }

    /// Lets the connection come from this address.
    pub(crate) fn source_nat(self, address: IpAddr) -> Rule {
        self.load(&octets(address), SCRATCH).nat(0, SCRATCH, None)
    }

    /// Lets the connection come from the leaving link's address.
    pub(crate) fn masquerade(self) -> Rule {
        self.with("masq", |_| {})
    }

    /// Counts.
    pub(crate) fn count(self) -> Rule {
        self.with("counter", |_| {})
    }

    /// Answers with a TCP reset.
    pub(crate) fn reset(self) -> Rule {
        self.with("reject", |data| {
            data.put_be32(1, 1);
        })
    }

    /// Answers with ICMP port unreachable.
    pub(crate) fn unreachable(self) -> Rule {
        let code = match self.family {
            Family::V4 => 3,
            Family::V6 => 4,
        };
        self.with("reject", |data| {
            data.put_be32(1, 0).put(2, &[code]);
        })
    }

    /// Ends with a verdict.
    pub(crate) fn verdict(self, verdict: &Verdict) -> Rule {
        self.with("immediate", |data| {
            data.put_be32(1, VERDICT);
            verdict.put(2, data);
        })
    }
}
