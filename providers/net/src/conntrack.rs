//! Connections that the kernel tracks, as far as UDP services need it.
//!
//! A UDP client that keeps its port keeps its translation as long as it goes on sending. When a backend goes, its
//! entries must go too; TCP's end by themselves.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nix::errno::Errno;

use crate::netlink::{Attributes, DUMP, Message, REQUEST, Socket, failed};
use crate::{Backend, NetError};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const UDP: u8 = 17;
const HEADER: [u8; 4] = [2, 0, 0, 0];

/// Removes the entries of UDP connections that were sent to these backends by translation.
pub(crate) fn forget(socket: &mut Socket, backends: &BTreeSet<Backend>) -> Result<(), NetError> {
    if backends.is_empty() {
        return Ok(());
    }
    let mut message = Message::new(GET, REQUEST | DUMP, "list the tracked connections");
    message.raw(&HEADER);
    let mut doomed = Vec::new();
    socket.get(message, |_, payload| doomed.extend(read(payload, backends)))?;
    for (tuple, id) in doomed {
        let mut message = Message::new(DELETE, REQUEST, "remove a tracked connection");
        message
            .raw(&HEADER)
            .put(CTA_TUPLE_ORIG | 0x8000, &tuple)
            .put(CTA_ID, &id);
        match socket.one(message)? {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed("remove a tracked connection", errno)),
        }
    }
    Ok(())
}

/// Returns the original tuple and the id of an entry that one of the backends answers and that was translated.
fn read(payload: &[u8], backends: &BTreeSet<Backend>) -> Option<(Vec<u8>, Vec<u8>)> {
    let attributes = || payload.get(4..).map(Attributes);
    let original = attributes()?.find(CTA_TUPLE_ORIG)?;
    let reply = attributes()?.find(CTA_TUPLE_REPLY)?;
    let protocol = Attributes(reply).find(CTA_TUPLE_PROTO)?;
    if Attributes(protocol).find(1)? != [UDP] {
        return None;
    }
    let address = |tuple, kind| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = Attributes(Attributes(tuple).find(CTA_TUPLE_IP)?)
            .find(kind)?
            .try_into()
            .ok()?;
        Some(octets.into())
    };
    let answering = address(reply, 1)?;
    let port = u16::from_be_bytes(Attributes(protocol).find(2)?.try_into().ok()?);
    let translated = address(original, 2)? != answering;
    (translated && backends.contains(&Backend { ip: answering, port }))
        .then(|| Some((original.to_vec(), attributes()?.find(CTA_ID)?.to_vec())))?
}
