//! What is in the kernel's tables, and what is changed there, read.

use nix::errno::Errno;

use super::Hook;
use super::batch::{SUBSYSTEM, header, request};
use crate::netlink::{Attributes, DUMP, Message, Notice, REQUEST, Socket, failed};
use crate::{Family, NetError};

const GETTABLE: u16 = SUBSYSTEM | 1;
const GETCHAIN: u16 = SUBSYSTEM | 4;
const GETRULE: u16 = SUBSYSTEM | 7;
const NEWGEN: u16 = SUBSYSTEM | 15;
const INET: u8 = 1;

/// A rule of another's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) chain: String,
    pub(crate) handle: u64,
    pub(crate) comment: Option<String>,
    /// The chains that it may go on in.
    pub(crate) leads_to: Vec<String>,
}

/// A chain that packets pass by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseChain {
    pub(crate) family: &'static str,
    pub(crate) table: String,
    pub(crate) chain: String,
}

/// A change that a notice tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    /// The table's family; `None` for one that is of neither alone.
    pub(crate) family: Option<Family>,
    pub(crate) table: &'a [u8],
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data.strip_suffix(&[0]).unwrap_or(data)).into_owned()
}

fn family(number: u8) -> Option<Family> {
    Family::ALL.into_iter().find(|family| family.number() == number)
}

fn number(data: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(data.try_into().ok()?))
}

/// Reads a notice; `None` for one that is about no table.
pub(crate) fn change<'a>(notice: &Notice<'a>) -> Option<Change<'a>> {
    if notice.kind & 0xff00 != SUBSYSTEM || notice.kind == NEWGEN {
        return None;
    }
    let table = Attributes(notice.payload.get(4..)?).find(1)?;
    Some(Change {
        family: family(*notice.payload.first()?),
        table: table.strip_suffix(&[0]).unwrap_or(table),
    })
}

/// Says whether the table is there.
pub(crate) fn table_exists(socket: &mut Socket, family: Family, table: &str) -> Result<bool, NetError> {
    let mut message = request(GETTABLE, 0, family, format!("look for the table {table}"));
    message.put_str(1, table);
    Ok(match socket.one(message)? {
        Ok(()) => true,
        Err(Errno::ENOENT) => false,
        Err(errno) => return Err(failed(&format!("look for the table {table}"), errno)),
    })
}

/// Returns the names of all tables, with their families where those are IPv4's or IPv6's alone.
pub(crate) fn tables(socket: &mut Socket) -> Result<Vec<(Option<Family>, String)>, NetError> {
    let mut message = Message::new(GETTABLE, REQUEST | DUMP, "list the tables");
    message.raw(&header(0, 0));
    let mut found = Vec::new();
    socket.get(message, |_, payload| {
        let of = payload.first().copied().and_then(family);
        let name = payload.get(4..).and_then(|data| Attributes(data).find(1));
        found.extend(name.map(|name| (of, text(name))));
    })?;
    Ok(found)
}

/// Returns the rules of a family's table; none if there is no such table.
pub(crate) fn rules(socket: &mut Socket, family: Family, table: &str) -> Result<Vec<Listed>, NetError> {
    let what = format!("list the rules of the table {} {table}", family.word());
    let mut message = request(GETRULE, DUMP, family, what);
    message.put_str(1, table);
    let mut found = Vec::new();
    socket.get(message, |_, payload| {
        found.extend(payload.get(4..).and_then(|data| read_rule(data, table)));
    })?;
    Ok(found)
}

fn read_rule(data: &[u8], table: &str) -> Option<Listed> {
    let find = |kind| Attributes(data).find(kind);
    // Old kernels give the rules of every table.
    if text(find(1)?) != table {
        return None;
    }
    let mut leads_to = Vec::new();
    for (_, expression) in Attributes(find(4).unwrap_or_default()) {
        let chain = || {
            let verdict = Attributes(Attributes(Attributes(expression).find(2)?).find(2)?).find(2)?;
            Attributes(verdict).find(2).map(text)
        };
        if Attributes(expression).find(1) == Some(b"immediate\0") {
            leads_to.extend(chain());
        }
    }
    Some(Listed {
        chain: text(find(2)?),
        handle: u64::from_be_bytes(find(3)?.try_into().ok()?),
        comment: find(7).and_then(comment),
        leads_to,
    })
}

/// Reads a rule's comment from what user space has put beside it: type, length and text of each part.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let part = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(text(part));
        }
        data = &rest[usize::from(*length)..];
    }
    None
}

/// Says whether a rule of any table of that name compares something with these bytes: the way to see, without
/// understanding a firewall, whether somebody has told it of an address range.
pub(crate) fn mentions(socket: &mut Socket, table: &str, bytes: &[u8]) -> Result<bool, NetError> {
    let mut message = Message::new(GETRULE, REQUEST | DUMP, "list the rules");
    message.raw(&header(0, 0));
    let mut found = false;
    socket.get(message, |_, payload| {
        let Some(data) = payload.get(4..) else { return };
        if Attributes(data).find(1).map(text).as_deref() != Some(table) {
            return;
        }
        for (_, expression) in Attributes(Attributes(data).find(4).unwrap_or_default()) {
            let compared = || Attributes(Attributes(Attributes(expression).find(2)?).find(3)?).find(1);
            let is_comparison = Attributes(expression).find(1) == Some(b"cmp\0");
            found |= is_comparison && compared().is_some_and(|value| value.starts_with(bytes));
        }
    })?;
    Ok(found)
}

/// Returns the chains on a hook that drop by policy.
pub(crate) fn base_chains_that_drop(socket: &mut Socket, hook: Hook) -> Result<Vec<BaseChain>, NetError> {
    let mut message = Message::new(GETCHAIN, REQUEST | DUMP, "list the chains");
    message.raw(&header(0, 0));
    let mut found = Vec::new();
    socket.get(message, |_, payload| {
        let read = || {
            let attribute = |kind| Attributes(payload.get(4..)?).find(kind);
            let family = match *payload.first()? {
                INET => "inet",
                number => family(number)?.word(),
            };
            let own = number(Attributes(attribute(4)?).find(1)?)?;
            let policy = number(attribute(5)?)?;
            (own == hook as u32 && policy == 0).then(|| {
                Some(BaseChain {
                    family,
                    table: text(attribute(1)?),
                    chain: text(attribute(3)?),
                })
            })?
        };
        found.extend(read());
    })?;
    Ok(found)
}
