//! A pod's link: both ends, from nothing to working.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::fault::NetStep;
use crate::netlink::{Message, Socket, failed};
use crate::rules::Names;
use crate::{AttachRequest, Attachment, NetError, Netns, route, sysctl};

/// Makes the host's end of a pod's link what it was, where somebody has changed it; returns whether it was changed.
///
/// A link that is gone meanwhile needs nothing.
pub(crate) fn mend(
    socket: &mut Socket,
    gateway: Ipv4Addr,
    link: &route::Link,
    ip: Ipv4Addr,
    routes: &[route::Route],
) -> Result<bool, NetError> {
    let mut mended = false;
    for (parameter, value) in host_parameters(&link.name) {
        mended |= sysctl::restore(&parameter, value)?;
    }
    let to = Ipv4Net::from(ip);
    let has_route = routes
        .iter()
        .any(|route| route.to == to && route.out == Some(link.index));
    if link.up && has_route {
        return Ok(mended);
    }
    for message in host_messages(link.index, None, ip, gateway) {
        let what = message.what().to_owned();
        match socket.one(message)? {
            Ok(()) => {}
            Err(Errno::ENODEV | Errno::ENXIO) => return Ok(mended),
            Err(errno) => return Err(failed(&what, errno)),
        }
    }
    Ok(true)
}

/// A pod sends from its own address only; 127.0.0.1:<node port> is for the host alone, which the raw chain sees to.
fn host_parameters(interface: &str) -> [(String, &'static str); 2] {
    [
        (format!("net/ipv4/conf/{interface}/rp_filter"), "1"),
        (format!("net/ipv4/conf/{interface}/route_localnet"), "1"),
    ]
}

fn host_messages(index: u32, alias: Option<&str>, ip: Ipv4Addr, gateway: Ipv4Addr) -> Vec<Message> {
    vec![
        route::set_up(index, alias),
        route::add_link_route(Ipv4Net::from(ip), index, Some(gateway)),
        route::add_neighbour(index, ip, pod_mac(ip)),
    ]
}

/// A locally administered address, one per pod address.
fn pod_mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x53, a, b, c, d]
}

/// Fails after a step if a test wants that.
pub(crate) fn passed(step: NetStep) -> Result<(), NetError> {
    step.passed().map_err(|source| NetError::Netlink {
        operation: "connect the pod".to_owned(),
        source: Box::new(source),
    })
}

/// Makes the link; on failure none is left.
pub(crate) fn attach(names: &Names, gateway: Ipv4Addr, request: &AttachRequest) -> Result<Attachment, NetError> {
    let interface = names.link(request.ip);
    let opened;
    let netns = match &request.netns {
        Netns::File(file) => file.as_fd(),
        Netns::Pid(pid) => {
            let path = format!("/proc/{pid}/ns/net");
            opened = File::open(&path).map_err(|source| NetError::Netlink {
                operation: format!("open {path} of sandbox {}", request.sandbox),
                source: Box::new(source),
            })?;
            opened.as_fd()
        }
    };
    let mut socket = Socket::route()?;
    let mtu = uplink_mtu(&mut socket)?;
    let add = || route::add_veth(&interface, names.group, mtu, netns, pod_mac(request.ip));
    if let Err(errno) = socket.one(add())? {
        // The address was free, so a link of this name is a dead sandbox's.
        if errno != Errno::EEXIST {
            return Err(failed(add().what(), errno));
        }
        delete(&mut socket, &interface)?;
        socket.all(vec![add()])?;
    }
    let finish = |socket: &mut Socket| {
        passed(NetStep::Link)?;
        host_end(socket, gateway, request, &interface)?;
        passed(NetStep::HostRoute)?;
        within(netns, || pod_end(request.ip))?;
        passed(NetStep::PodAddress)?;
        wait_until_it_carries(socket, &interface)?;
        passed(NetStep::Carrier)
    };
    if let Err(error) = finish(&mut socket) {
        if let Err(left) = delete(&mut socket, &interface) {
            tracing::warn!(%interface, error = &left as &dyn std::error::Error, "a link of a failed attach is left");
        }
        return Err(error);
    }
    Ok(Attachment {
        ip: request.ip,
        sandbox: request.sandbox.clone(),
        interface,
    })
}

/// The host's end: the kernel parameters before it goes up, then its route and neighbour.
fn host_end(socket: &mut Socket, gateway: Ipv4Addr, request: &AttachRequest, interface: &str) -> Result<(), NetError> {
    // A pod must not send router advertisements to the host (CVE-2020-13401); pods have IPv4 only.
    sysctl::set_if_there(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "1")?;
    for (parameter, value) in host_parameters(interface) {
        sysctl::set(&parameter, value)?;
    }
    passed(NetStep::HostParameters)?;
    let index = route::link(socket, interface)?.index;
    socket.all(host_messages(index, Some(&request.sandbox), request.ip, gateway))
}

/// The pod's end, in its network namespace.
fn pod_end(ip: Ipv4Addr) -> Result<(), NetError> {
    let mut socket = Socket::route()?;
    let index = route::link(&mut socket, "eth0")?.index;
    socket.all(vec![
        route::set_up(route::LOOPBACK, None),
        route::add_address(index, ip, None),
        route::set_up(index, None),
        route::add_link_route(Ipv4Net::from(route::NEXT_HOP), index, None),
        route::add_default_route(index, route::NEXT_HOP),
        route::add_neighbour(index, route::NEXT_HOP, route::HOST_MAC),
    ])?;
    wait_until_it_carries(&mut socket, "eth0")
}

/// Waits until a link passes packets: a pod's first one is often its only DNS question for the next five seconds.
///
/// Newer kernels finish what is pending when they are asked, so that the first look suffices.
fn wait_until_it_carries(socket: &mut Socket, interface: &str) -> Result<(), NetError> {
    const LIMIT: Duration = Duration::from_secs(2);
    const LOOK_AGAIN: Duration = Duration::from_micros(250);
    let started = Instant::now();
    while !route::link(socket, interface)?.carries {
        if started.elapsed() > LIMIT {
            return Err(failed(
                &format!("get the link {interface} to pass packets"),
                Errno::ETIMEDOUT,
            ));
        }
        thread::park_timeout(LOOK_AGAIN);
    }
    Ok(())
}

/// Runs `work` on a thread of its own in another network namespace; the thread ends with it.
fn within<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> Result<T, NetError> + Send) -> Result<T, NetError> {
    let enter = || {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| failed("enter the pod's network namespace", errno))?;
        work()
    };
    let outcome = thread::scope(|scope| {
        thread::Builder::new()
            .spawn_scoped(scope, enter)
            .map(|thread| thread.join())
    });
    match outcome {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(source) => Err(NetError::Netlink {
            operation: "start a thread".to_owned(),
            source: Box::new(source),
        }),
    }
}

/// Removes a link by name; fine if there is none.
pub(crate) fn delete(socket: &mut Socket, interface: &str) -> Result<(), NetError> {
    let message = route::delete_link(interface);
    let what = message.what().to_owned();
    match socket.one(message)? {
        Ok(()) | Err(Errno::ENODEV) => Ok(()),
        Err(errno) => Err(failed(&what, errno)),
    }
}

/// Removes all of an instance's links.
pub(crate) fn delete_all(socket: &mut Socket, names: &Names) -> Result<(), NetError> {
    let message = route::delete_group(names.group);
    let what = message.what().to_owned();
    match socket.one(message)? {
        Ok(()) | Err(Errno::ENODEV) => Ok(()),
        Err(errno) => Err(failed(&what, errno)),
    }
}

/// Lists an instance's links.
pub(crate) fn list(socket: &mut Socket, names: &Names) -> Result<Vec<Attachment>, NetError> {
    let attachment = |link: route::Link| {
        let ip = names.link_address(&link.name)?;
        Some(Attachment {
            ip,
            sandbox: link.alias,
            interface: link.name,
        })
    };
    let mut found: Vec<Attachment> = route::links(socket)?.into_iter().filter_map(attachment).collect();
    found.sort();
    Ok(found)
}

/// Returns the MTU of the link that the default route leaves by, so that pods need no path discovery; else 1500.
fn uplink_mtu(socket: &mut Socket) -> Result<u32, NetError> {
    const ETHERNET: u32 = 1500;
    let default = route::routes(socket)?
        .into_iter()
        .find(|route| route.to.prefix_len() == 0 && route.out.is_some());
    let Some(index) = default.and_then(|route| route.out) else {
        return Ok(ETHERNET);
    };
    let link = route::links(socket)?.into_iter().find(|link| link.index == index);
    Ok(link.map_or(ETHERNET, |link| link.mtu).clamp(1280, 9500))
}
