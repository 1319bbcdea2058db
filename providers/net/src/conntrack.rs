//! Connections that the kernel tracks, as far as UDP services need it.
//!
//! A UDP client that keeps its port keeps its translation as long as it goes on sending. When a backend goes, its
//! entries must go too; TCP's end by themselves.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::errno::Errno;

use crate::netlink::{Attributes, DUMP, Message, REQUEST, Socket, failed};
use crate::{Backend, Family, NetError};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const UDP: u8 = 17;

/// The attributes of a tuple's source and destination address.
const fn address_kinds(family: Family) -> (u16, u16) {
    match family {
        Family::V4 => (1, 2),
        Family::V6 => (3, 4),
    }
}

/// Which UDP entries no longer say where packets go.
pub(crate) struct Stale<'a> {
    /// Whether a backend that an entry translates to is no longer one.
    pub(crate) lost: &'a dyn Fn(Backend) -> bool,
    /// Ports that lead somewhere now: entries of packets that came too early are not translated.
    pub(crate) opened: &'a BTreeSet<u16>,
}

/// Removes stale entries of a family's UDP connections.
pub(crate) fn forget(socket: &mut Socket, family: Family, stale: &Stale<'_>) -> Result<(), NetError> {
    let header = [family.number(), 0, 0, 0];
    let mut message = Message::new(GET, REQUEST | DUMP, "list the tracked connections");
    message.raw(&header);
    let mut doomed = Vec::new();
    socket.get(message, |_, payload| doomed.extend(read(payload, family, stale)))?;
    for (tuple, id) in doomed {
        let mut message = Message::new(DELETE, REQUEST, "remove a tracked connection");
        message
            .raw(&header)
            .put(CTA_TUPLE_ORIG | 0x8000, &tuple)
            .put(CTA_ID, &id);
        match socket.one(message)? {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed("remove a tracked connection", errno)),
        }
    }
    Ok(())
}

/// Returns the original tuple and the id of a stale entry.
fn read(payload: &[u8], family: Family, stale: &Stale<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let attributes = || payload.get(4..).map(Attributes);
    let original = attributes()?.find(CTA_TUPLE_ORIG)?;
    let reply = attributes()?.find(CTA_TUPLE_REPLY)?;
    let protocol = |tuple| Attributes(tuple).find(CTA_TUPLE_PROTO);
    if Attributes(protocol(original)?).find(1)? != [UDP] {
        return None;
    }
    let (from, to) = address_kinds(family);
    let address =
        |tuple, kind| -> Option<IpAddr> { family.read(Attributes(Attributes(tuple).find(CTA_TUPLE_IP)?).find(kind)?) };
    let port = |tuple, kind| -> Option<u16> {
        let bytes = Attributes(protocol(tuple)?).find(kind)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    };
    let answering = Backend {
        ip: address(reply, from)?,
        port: port(reply, 2)?,
    };
    let (asked, asked_port) = (address(original, to)?, port(original, 3)?);
    let is_stale = match asked == answering.ip {
        true => stale.opened.contains(&asked_port),
        false => (stale.lost)(answering),
    };
    is_stale.then(|| Some((original.to_vec(), attributes()?.find(CTA_ID)?.to_vec())))?
}
