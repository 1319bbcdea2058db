//! nftables by nfnetlink: the few objects and expressions that this crate's rules use.
//!
//! Numbers in attributes are in network byte order; what a register holds is as the packet has it, except for
//! `meta`, `ct`, `fib` and `numgen`, which load host byte order.

mod batch;
mod expression;
mod list;

pub(crate) use batch::{Batch, BatchError, ChainHook, Element, Hook, SetSpec, Value, address_type};
pub(crate) use expression::{Register, Rule, STATE_INVALID, STATE_NEW};
pub(crate) use list::{BaseChain, Listed, base_chains_that_drop, change, mentions, rules, table_exists, tables};

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    Jump(String),
    Goto(String),
}

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;

impl Verdict {
    /// Appends it as the data of attribute `kind`.
    fn put(&self, kind: u16, message: &mut crate::netlink::Message) {
        let (code, chain) = match self {
            Verdict::Drop => (0_i32, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
        };
        message.nest(kind, |data| {
            data.nest(NFTA_DATA_VERDICT, |verdict| {
                verdict.put_be32(1, code.cast_unsigned());
                if let Some(chain) = chain {
                    verdict.put_str(2, chain);
                }
            });
        });
    }
}

/// Appends `value` as the data of attribute `kind`.
fn put_value(kind: u16, value: &[u8], message: &mut crate::netlink::Message) {
    message.nest(kind, |data| {
        data.put(NFTA_DATA_VALUE, value);
    });
}
