//! Objects of a table, changed in one transaction.

use nix::errno::Errno;

use super::{NFTA_LIST_ELEM, Rule, Verdict, put_value};
use crate::netlink::{APPEND, CREATE, Failure, Message, REQUEST, Socket, failed};
use crate::{Family, NetError};

pub(super) const SUBSYSTEM: u16 = 10 << 8;
const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const DELCHAIN: u16 = SUBSYSTEM | 5;
const NEWRULE: u16 = SUBSYSTEM | 6;
const DELRULE: u16 = SUBSYSTEM | 8;
const NEWSET: u16 = SUBSYSTEM | 9;
const DELSET: u16 = SUBSYSTEM | 11;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const DELSETELEM: u16 = SUBSYSTEM | 14;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// An attribute is below 64 KiB; an element with key and chain name is below 128 bytes.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// Where a base chain hooks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainHook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// A set or map to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetSpec<'a> {
    pub(crate) name: &'a str,
    /// The lengths of the key's fields; each is padded to four bytes.
    pub(crate) key: &'a [u32],
    /// nft's number of the key's type, for people's eyes only.
    pub(crate) key_type: u32,
    pub(crate) value: Value,
    /// Made for one rule; the kernel picks the number in the name and removes it with the rule.
    pub(crate) anonymous: Option<u32>,
    /// Filled by packets; elements live so long in milliseconds.
    pub(crate) timeout: Option<u64>,
}

/// What a map's keys lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing: it is a set.
    None,
    Verdict,
    /// Address and port.
    Endpoint,
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Key(Vec<u8>),
    Verdict(Vec<u8>, Verdict),
    Value(Vec<u8>, Vec<u8>),
}

/// A transaction under construction, on the tables of one name in both families.
#[derive(Debug)]
pub(crate) struct Batch {
    table: String,
    family: Family,
    messages: Vec<Message>,
    next_id: u32,
}

pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let resource = resource.to_be_bytes();
    [family, 0, resource[0], resource[1]]
}

pub(super) fn request(kind: u16, flags: u16, family: Family, what: String) -> Message {
    let mut message = Message::new(kind, REQUEST | flags, what);
    message.raw(&header(family.number(), 0));
    message
}

impl Batch {
    /// Begins a transaction, with the table of a family.
    pub(crate) fn new(table: &str, family: Family) -> Batch {
        let mut begin = Message::new(BATCH_BEGIN, REQUEST, "begin a transaction");
        begin.raw(&header(0, 10));
        Batch {
            table: table.to_owned(),
            family,
            messages: vec![begin],
            next_id: 1,
        }
    }

    /// Returns the number of messages so far, without the frame.
    pub(crate) fn len(&self) -> usize {
        self.messages.len() - 1
    }

    /// Goes on with the table of this family.
    pub(crate) fn turn_to(&mut self, family: Family) {
        self.family = family;
    }

    /// Returns the family of the table that is changed now.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    fn push(&mut self, kind: u16, flags: u16, what: String, fill: impl FnOnce(&mut Message)) {
        let mut message = request(kind, flags, self.family, what);
        message.put_str(1, &self.table);
        fill(&mut message);
        self.messages.push(message);
    }

    /// Makes the table unless it is there.
    pub(crate) fn add_table(&mut self) {
        self.push(NEWTABLE, CREATE, format!("add the table {}", self.table), |_| {});
    }

    /// Removes the table with all that is in it.
    pub(crate) fn delete_table(&mut self) {
        self.push(DELTABLE, 0, format!("remove the table {}", self.table), |_| {});
    }

    /// Makes a chain.
    pub(crate) fn add_chain(&mut self, name: &str, hook: Option<ChainHook>, comment: &str) {
        self.push(NEWCHAIN, CREATE, format!("add the chain {name}"), |message| {
            message.put_str(3, name);
            if let Some(ChainHook { kind, hook, priority }) = hook {
                message.nest(4, |inner| {
                    inner.put_be32(1, hook as u32).put_be32(2, priority.cast_unsigned());
                });
                message.put_be32(5, 1).put_str(7, kind);
            }
            let comment = &comment.as_bytes()[..comment.len().min(120)];
            if !comment.is_empty() {
                // As libnftnl keeps a comment: type 0, length, text with its NUL.
                let mut data = vec![0, u8::try_from(comment.len() + 1).expect("at most 121")];
                data.extend_from_slice(comment);
                data.push(0);
                message.put(12, &data);
            }
        });
    }

    /// Removes a chain and its rules.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.push(DELRULE, 0, format!("empty the chain {name}"), |message| {
            message.put_str(2, name);
        });
        self.push(DELCHAIN, 0, format!("remove the chain {name}"), |message| {
            message.put_str(3, name);
        });
    }

    /// Appends a rule to a chain.
    pub(crate) fn add_rule(&mut self, chain: &str, rule: &Rule) {
        self.push(
            NEWRULE,
            CREATE | APPEND,
            format!("add a rule to the chain {chain}"),
            |message| {
                message.put_str(2, chain);
                rule.put(4, message);
            },
        );
    }

    /// Puts a rule with a comment before all others of a chain.
    pub(crate) fn insert_rule(&mut self, chain: &str, rule: &Rule, comment: &str) {
        let what = format!("add a rule to the chain {chain}");
        self.push(NEWRULE, CREATE, what, |message| {
            message.put_str(2, chain);
            rule.put(4, message);
            // As libnftnl keeps a comment: type 0, length, text with its NUL.
            let comment = &comment.as_bytes()[..comment.len().min(120)];
            let length = u8::try_from(comment.len() + 1).expect("at most 121");
            message.put(7, &[&[0, length], comment, &[0]].concat());
        });
    }

    /// Removes one rule.
    pub(crate) fn delete_rule(&mut self, chain: &str, handle: u64) {
        let what = format!("remove a rule from the chain {chain}");
        self.push(DELRULE, 0, what, |message| {
            message.put_str(2, chain).put_be64(3, handle);
        });
    }

    /// Returns a number for an anonymous set, unique in this transaction.
    pub(crate) fn next_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Makes a set or map.
    pub(crate) fn add_set(&mut self, spec: SetSpec<'_>) {
        const ANONYMOUS: u32 = 0x1 | 0x2;
        const MAP: u32 = 0x8;
        const TIMEOUT: u32 = 0x10 | 0x20;
        const CONCATENATED: u32 = 0x80;
        let id = spec.anonymous.unwrap_or_else(|| self.next_id());
        let mut flags = spec.anonymous.map_or(0, |_| ANONYMOUS);
        flags |= if spec.value == Value::None { 0 } else { MAP };
        flags |= spec.timeout.map_or(0, |_| TIMEOUT);
        flags |= if spec.key.len() > 1 { CONCATENATED } else { 0 };
        let length: u32 = spec.key.iter().map(|field| field.next_multiple_of(4)).sum();
        // nft's number for an address and a port, for people's eyes only.
        let endpoint_type = address_type(self.family) << 6 | 13;
        let endpoint_length = self.family.length() + 4;
        self.push(NEWSET, CREATE, format!("add the set {}", spec.name), |message| {
            message
                .put_str(2, spec.name)
                .put_be32(3, flags)
                .put_be32(4, spec.key_type)
                .put_be32(5, length);
            match spec.value {
                Value::None => {}
                Value::Verdict => {
                    message.put_be32(6, 0xffff_ff00).put_be32(7, 0);
                }
                Value::Endpoint => {
                    message.put_be32(6, endpoint_type).put_be32(7, endpoint_length);
                }
            }
            message.nest(9, |description| {
                if spec.timeout.is_some() {
                    description.put_be32(1, 65_536);
                }
                if spec.key.len() > 1 {
                    description.nest(2, |fields| {
                        for field in spec.key {
                            fields.nest(NFTA_LIST_ELEM, |inner| {
                                inner.put_be32(1, *field);
                            });
                        }
                    });
                }
            });
            message.put_be32(10, id);
            if let Some(timeout) = spec.timeout {
                message.put_be64(11, timeout);
            }
        });
    }

    /// Removes a set or map.
    pub(crate) fn delete_set(&mut self, name: &str) {
        self.push(DELSET, 0, format!("remove the set {name}"), |message| {
            message.put_str(2, name);
        });
    }

    /// Adds elements (`id` for a set made in this transaction).
    pub(crate) fn add_elements(&mut self, set: &str, id: Option<u32>, elements: &[Element]) {
        self.elements(NEWSETELEM, CREATE, "add elements to", set, id, elements);
    }

    /// Removes elements.
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(DELSETELEM, 0, "remove elements from", set, None, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, what: &str, set: &str, id: Option<u32>, elements: &[Element]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.push(kind, flags, format!("{what} {set}"), |message| {
                message.put_str(2, set);
                if let Some(id) = id {
                    message.put_be32(4, id);
                }
                message.nest(3, |list| {
                    for element in chunk {
                        list.nest(NFTA_LIST_ELEM, |inner| match element {
                            Element::Key(key) => put_value(1, key, inner),
                            Element::Verdict(key, verdict) => {
                                put_value(1, key, inner);
                                verdict.put(2, inner);
                            }
                            Element::Value(key, value) => {
                                put_value(1, key, inner);
                                put_value(2, value, inner);
                            }
                        });
                    }
                });
            });
        }
    }

    /// Sends the transaction; after an error nothing of it is in force.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<usize, BatchError> {
        let count = self.len();
        if count == 0 {
            return Ok(0);
        }
        let mut end = Message::new(BATCH_END, REQUEST, "end a transaction");
        end.raw(&header(0, 10));
        self.messages.push(end);
        match socket.transaction(&mut self.messages).map_err(BatchError::Other)? {
            Ok(()) => Ok(count),
            Err(Failure { index, errno }) => Err(BatchError::Refused {
                operation: self
                    .messages
                    .get(index)
                    .map_or("change the rules", Message::what)
                    .to_owned(),
                errno,
            }),
        }
    }
}

/// nft's number of the type of a family's addresses.
pub(crate) const fn address_type(family: Family) -> u32 {
    match family {
        Family::V4 => 7,
        Family::V6 => 8,
    }
}

/// Why a transaction failed.
#[derive(Debug)]
pub(crate) enum BatchError {
    /// The kernel refused an operation.
    Refused { operation: String, errno: Errno },
    /// It was not even asked.
    Other(NetError),
}

impl BatchError {
    /// Says whether something that the transaction refers to is not there.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(
            self,
            BatchError::Refused {
                errno: Errno::ENOENT,
                ..
            }
        )
    }
}

impl From<BatchError> for NetError {
    fn from(error: BatchError) -> NetError {
        match error {
            BatchError::Refused { operation, errno } => failed(&format!("{operation} (nftables)"), errno),
            BatchError::Other(error) => error,
        }
    }
}

#[cfg(test)]
impl Batch {
    /// Returns what each message is for.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &str> {
        self.messages.iter().map(Message::what)
    }

    /// Makes a chain as firewalls have it.
    pub(crate) fn add_dropping_chain(&mut self, name: &str, hook: Hook) {
        self.push(NEWCHAIN, CREATE, format!("add the chain {name}"), |message| {
            message.put_str(3, name).nest(4, |inner| {
                inner.put_be32(1, hook as u32).put_be32(2, 0);
            });
            message.put_be32(5, 0).put_str(7, "filter");
        });
    }
}
