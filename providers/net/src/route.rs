//! Links, addresses, routes and neighbours as rtnetlink messages, and the host's as values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use nix::errno::Errno;

use crate::address::octets;
use crate::netlink::{Attributes, CREATE, DUMP, EXCLUSIVE, Message, REPLACE, REQUEST, Socket, failed, u32_at};
use crate::{Family, NetError};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
const NEWNEIGH: u16 = 28;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_QDISC: u16 = 6;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
/// It is used at once, and nobody is asked whether it is taken (IPv6).
const IFA_F_NODAD: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

const MAIN_TABLE: u8 = 254;
const STATIC: u8 = 4;
const SCOPE_LINK: u8 = 253;
const SCOPE_UNIVERSE: u8 = 0;
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const UNREACHABLE: u8 = 7;

/// The loopback's index: the kernel makes it first in every network namespace.
pub(crate) const LOOPBACK: u32 = 1;
/// The address of every host end: neighbours are permanent, so that all may share it.
pub(crate) const HOST_MAC: [u8; 6] = [0xee; 6];
/// The pods' next hop; nobody holds it, the permanent neighbour stands for it.
pub(crate) const fn next_hop(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    }
}

/// A link of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) mtu: u32,
    /// Whether it is switched on.
    pub(crate) up: bool,
    /// Whether packets get through: a link that has just got its carrier drops them until the kernel has taken note.
    pub(crate) carries: bool,
}

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) net: IpNet,
    pub(crate) label: String,
}

/// A route of this host, in any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: IpNet,
    pub(crate) out: Option<u32>,
}

fn interface(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// A veth whose other end is `eth0` in the given network namespace.
pub(crate) fn add_veth(name: &str, group: u32, mtu: u32, netns: BorrowedFd<'_>, pod_mac: [u8; 6]) -> Message {
    let mut message = Message::new(NEWLINK, REQUEST | CREATE | EXCLUSIVE, format!("add the link {name}"));
    message
        .raw(&interface(0, 0, 0))
        .put_str(IFLA_IFNAME, name)
        .put(IFLA_ADDRESS, &HOST_MAC)
        .put_u32(IFLA_GROUP, group)
        .put_u32(IFLA_MTU, mtu);
    message.nest(IFLA_LINKINFO, |info| {
        info.put(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.raw(&interface(0, 0, 0))
                    .put_str(IFLA_IFNAME, "eth0")
                    .put(IFLA_ADDRESS, &pod_mac);
                peer.put_u32(IFLA_MTU, mtu)
                    .put_u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
            });
        });
    });
    message
}

/// Brings a link up and names its purpose.
pub(crate) fn set_up(index: u32, alias: Option<&str>) -> Message {
    let mut message = Message::new(NEWLINK, REQUEST, format!("bring link {index} up"));
    message.raw(&interface(index, IFF_UP, IFF_UP));
    if let Some(alias) = alias {
        message.put(IFLA_IFALIAS, alias.as_bytes());
    }
    message
}

/// Removes all links of a group in one go: links that are removed one by one cost an RCU grace period each.
pub(crate) fn delete_group(group: u32) -> Message {
    let mut message = Message::new(DELLINK, REQUEST, format!("remove the links of group {group}"));
    message.raw(&interface(0, 0, 0)).put_u32(IFLA_GROUP, group);
    message
}

pub(crate) fn delete_link(name: &str) -> Message {
    let mut message = Message::new(DELLINK, REQUEST, format!("remove the link {name}"));
    message.raw(&interface(0, 0, 0)).put_str(IFLA_IFNAME, name);
    message
}

fn address(kind: u16, flags: u16, what: &str, index: u32, ip: IpAddr) -> Message {
    let mut message = Message::new(kind, flags, format!("{what} the address {ip}"));
    let net = IpNet::from(ip);
    let family = Family::of(ip);
    let at_once = match family {
        Family::V4 => 0,
        Family::V6 => IFA_F_NODAD,
    };
    let mut header = [family.number(), net.prefix_len(), at_once, SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let ip = octets(ip);
    message.raw(&header).put(IFA_LOCAL, &ip).put(IFA_ADDRESS, &ip);
    message
}

/// An address of this link alone; refused with `EEXIST` if it is there.
pub(crate) fn add_address(index: u32, ip: IpAddr, label: Option<&str>) -> Message {
    let mut message = address(NEWADDR, REQUEST | CREATE | EXCLUSIVE, "add", index, ip);
    if let Some(label) = label {
        message.put_str(IFA_LABEL, label);
    }
    message
}

/// An address of this link alone, whether it is there or not.
pub(crate) fn set_address(index: u32, ip: IpAddr) -> Message {
    address(NEWADDR, REQUEST | CREATE | REPLACE, "add", index, ip)
}

pub(crate) fn delete_address(index: u32, ip: IpAddr) -> Message {
    address(DELADDR, REQUEST, "remove", index, ip)
}

fn route(kind: u16, flags: u16, what: &str, to: IpNet, scope: u8, route_kind: u8) -> Message {
    let mut message = Message::new(kind, flags, format!("{what} the route to {to}"));
    message.raw(&[
        Family::of_range(to).number(),
        to.prefix_len(),
        0,
        0,
        MAIN_TABLE,
        STATIC,
        scope,
        route_kind,
        0,
        0,
        0,
        0,
    ]);
    if to.prefix_len() > 0 {
        message.put(RTA_DST, &octets(to.network()));
    }
    message
}

/// A route out of a link, with the source address to prefer; replaces one to the same place.
pub(crate) fn add_link_route(to: IpNet, index: u32, source: Option<IpAddr>) -> Message {
    let mut message = route(
        NEWROUTE,
        REQUEST | CREATE | REPLACE,
        "add",
        to,
        SCOPE_LINK,
        link_route_kind(to, index),
    );
    message.put_u32(RTA_OIF, index);
    if let Some(source) = source {
        message.put(RTA_PREFSRC, &octets(source));
    }
    message
}

/// In IPv6 a route by the loopback refuses what is sent, unless it says that the addresses are this host's own.
fn link_route_kind(to: IpNet, index: u32) -> u8 {
    match Family::of_range(to) {
        Family::V6 if index == LOOPBACK => LOCAL,
        Family::V4 | Family::V6 => UNICAST,
    }
}

pub(crate) fn add_default_route(index: u32, via: IpAddr) -> Message {
    let family = Family::of(via);
    let all = IpNet::new_assert(family.unspecified(), 0);
    let mut message = route(
        NEWROUTE,
        REQUEST | CREATE | REPLACE,
        "add",
        all,
        SCOPE_UNIVERSE,
        UNICAST,
    );
    message.put(RTA_GATEWAY, &octets(via)).put_u32(RTA_OIF, index);
    message
}

/// What is sent here and has no better route is refused at once.
pub(crate) fn add_unreachable(to: IpNet) -> Message {
    route(
        NEWROUTE,
        REQUEST | CREATE | REPLACE,
        "add",
        to,
        SCOPE_UNIVERSE,
        UNREACHABLE,
    )
}

pub(crate) fn delete_unreachable(to: IpNet) -> Message {
    route(DELROUTE, REQUEST, "remove", to, SCOPE_UNIVERSE, UNREACHABLE)
}

pub(crate) fn delete_link_route(to: IpNet, index: u32) -> Message {
    let mut message = route(DELROUTE, REQUEST, "remove", to, SCOPE_LINK, link_route_kind(to, index));
    message.put_u32(RTA_OIF, index);
    message
}

/// A neighbour that need not be looked for (ARP, neighbour discovery).
pub(crate) fn add_neighbour(index: u32, ip: IpAddr, mac: [u8; 6]) -> Message {
    let mut message = Message::new(NEWNEIGH, REQUEST | CREATE | REPLACE, format!("add the neighbour {ip}"));
    let mut header = [0; 12];
    header[0] = Family::of(ip).number();
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    message.raw(&header).put(NDA_DST, &octets(ip)).put(NDA_LLADDR, &mac);
    message
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn read_link(payload: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_at(payload, 4)?,
        up: u32_at(payload, 8)? & IFF_UP != 0,
        ..Link::default()
    };
    for (kind, data) in Attributes(payload.get(16..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(data),
            IFLA_IFALIAS => link.alias = text(data),
            IFLA_MTU => link.mtu = u32_at(data, 0)?,
            IFLA_QDISC => link.carries = text(data) != "noop",
            _ => {}
        }
    }
    Some(link)
}

/// Returns the links of the socket's network namespace.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>, NetError> {
    let mut message = Message::new(GETLINK, REQUEST | DUMP, "list the links");
    message.raw(&interface(0, 0, 0));
    let mut links = Vec::new();
    socket.get(message, |kind, payload| {
        if kind == NEWLINK {
            links.extend(read_link(payload));
        }
    })?;
    Ok(links)
}

/// Returns the link of that name.
pub(crate) fn link(socket: &mut Socket, name: &str) -> Result<Link, NetError> {
    let mut message = Message::new(GETLINK, REQUEST, format!("find the link {name}"));
    message.raw(&interface(0, 0, 0)).put_str(IFLA_IFNAME, name);
    one_link(socket, message)
}

/// Returns the link of that number.
pub(crate) fn link_at(socket: &mut Socket, index: u32) -> Result<Link, NetError> {
    let mut message = Message::new(GETLINK, REQUEST, format!("find link {index}"));
    message.raw(&interface(index, 0, 0));
    one_link(socket, message)
}

fn one_link(socket: &mut Socket, message: Message) -> Result<Link, NetError> {
    let what = message.what().to_owned();
    let mut found = None;
    socket.get(message, |kind, payload| {
        if kind == NEWLINK {
            found = read_link(payload);
        }
    })?;
    found.ok_or_else(|| NetError::Invalid {
        what: format!("the kernel's answer to \"{what}\" is not readable"),
    })
}

/// Returns the link by which packets to an address leave; `None` where no route leads there. As cheap with many routes as with few.
pub(crate) fn way_out(socket: &mut Socket, to: Ipv4Addr) -> Result<Option<u32>, NetError> {
    let mut message = Message::new(GETROUTE, REQUEST, format!("find the way to {to}"));
    let mut header = [0; 12];
    header[0] = Family::V4.number();
    header[1] = 32;
    message.raw(&header).put(RTA_DST, &to.octets());
    let mut out = None;
    let answer = socket.ask(message, |kind, payload| {
        if kind == NEWROUTE {
            let attributes = payload.get(12..).map(Attributes);
            let index = attributes.and_then(|attributes| attributes.find(RTA_OIF));
            out = index.and_then(|data| u32_at(data, 0));
        }
    })?;
    match answer {
        Ok(()) => Ok(out),
        Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(failed(&format!("find the way to {to}"), errno)),
    }
}

/// Returns all addresses of a family.
pub(crate) fn addresses(socket: &mut Socket, family: Family) -> Result<Vec<Address>, NetError> {
    let mut message = Message::new(GETADDR, REQUEST | DUMP, "list the addresses");
    message.raw(&[family.number(), 0, 0, 0, 0, 0, 0, 0]);
    let mut found = Vec::new();
    socket.get(message, |kind, payload| {
        let read = || {
            let attributes = || payload.get(8..).map(Attributes);
            let ip = attributes()?
                .find(IFA_LOCAL)
                .or_else(|| attributes()?.find(IFA_ADDRESS))?;
            Some(Address {
                link: u32_at(payload, 4)?,
                net: IpNet::new(family.read(ip)?, *payload.get(1)?).ok()?,
                label: attributes()?.find(IFA_LABEL).map(text).unwrap_or_default(),
            })
        };
        if kind == NEWADDR {
            found.extend(read());
        }
    })?;
    Ok(found)
}

/// Returns all routes of a family in all tables.
pub(crate) fn routes(socket: &mut Socket, family: Family) -> Result<Vec<Route>, NetError> {
    let mut message = Message::new(GETROUTE, REQUEST | DUMP, "list the routes");
    message.raw(&[family.number(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut found = Vec::new();
    socket.get(message, |kind, payload| {
        let read = || {
            let to = Attributes(payload.get(12..)?)
                .find(RTA_DST)
                .map_or(Some(family.unspecified()), |bytes| family.read(bytes))?;
            Some(Route {
                to: IpNet::new(to, *payload.get(1)?).ok()?,
                out: Attributes(payload.get(12..)?)
                    .find(RTA_OIF)
                    .and_then(|data| u32_at(data, 0)),
            })
        };
        if kind == NEWROUTE {
            found.extend(read());
        }
    })?;
    Ok(found)
}
