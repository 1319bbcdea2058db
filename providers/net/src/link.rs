//! A pod's link: both ends, from nothing to working.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::fault::NetStep;
use crate::netlink::{Message, Socket, failed};
use crate::rules::Names;
use crate::{AddressPair, AttachRequest, Attachment, Family, NetError, Netns, Ranges, Subnets, route, sysctl};

/// Makes the host's end of a pod's link what it was, where somebody has changed it; returns whether it was changed.
///
/// A link that is gone meanwhile needs nothing.
pub(crate) fn mend(
    socket: &mut Socket,
    subnets: &[Subnets],
    link: &route::Link,
    pod: AddressPair,
    routes: &[route::Route],
) -> Result<bool, NetError> {
    let mut mended = false;
    for (parameter, value) in host_parameters(&link.name, pod) {
        mended |= sysctl::restore(&parameter, value)?;
    }
    let has_route = |to: IpNet| {
        routes
            .iter()
            .any(|route| route.to == to && route.out == Some(link.index))
    };
    let mut ways = subnets.iter().filter_map(|subnets| pod.of(subnets.family));
    if link.up && ways.all(|ip| has_route(ip.into())) {
        return Ok(mended);
    }
    for message in host_messages(link.index, None, pod, subnets) {
        let what = message.what().to_owned();
        match socket.one(message)? {
            Ok(()) => {}
            Err(Errno::ENODEV | Errno::ENXIO) => return Ok(mended),
            Err(errno) => return Err(failed(&what, errno)),
        }
    }
    Ok(true)
}

/// A pod sends from its own address only (in IPv6 the raw chain sees to that); a node port of 127.0.0.1 is for the host alone, which the raw chain
/// sees to. A pod must not send router advertisements to the host (CVE-2020-13401), and the host's end needs no address of its own.
///
/// Whether IPv6 is switched on there says whether the pod has an address of it.
fn host_parameters(interface: &str, pod: AddressPair) -> Vec<(String, &'static str)> {
    let ipv4 = |name, value| (format!("net/ipv4/conf/{interface}/{name}"), value);
    let ipv6 = |name, value| (ipv6_parameter(interface, name), value);
    let mut parameters = vec![ipv4("rp_filter", "1"), ipv4("route_localnet", "1")];
    match pod.ipv6 {
        Some(_) => parameters.extend([
            ipv6("accept_ra", "0"),
            ipv6("addr_gen_mode", "1"),
            ipv6(SWITCHED_OFF, "0"),
        ]),
        None => parameters.push(ipv6(SWITCHED_OFF, "1")),
    }
    parameters
}

const SWITCHED_OFF: &str = "disable_ipv6";

fn ipv6_parameter(interface: &str, name: &str) -> String {
    format!("net/ipv6/conf/{interface}/{name}")
}

fn host_messages(index: u32, alias: Option<&str>, pod: AddressPair, subnets: &[Subnets]) -> Vec<Message> {
    let mut messages = vec![route::set_up(index, alias)];
    for Subnets { family, gateway, .. } in subnets {
        if let Some(ip) = pod.of(*family) {
            messages.push(route::add_link_route(ip.into(), index, Some(*gateway)));
            messages.push(route::add_neighbour(index, ip, pod_mac(pod.ipv4)));
        }
    }
    messages
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
pub(crate) fn attach(names: &Names, ranges: &Ranges, request: &AttachRequest) -> Result<Attachment, NetError> {
    let pod = request.addresses;
    let interface = names.link(pod.ipv4);
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
    let add = || route::add_veth(&interface, names.group, mtu, netns, pod_mac(pod.ipv4));
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
        host_end(socket, ranges, request, &interface)?;
        passed(NetStep::HostRoute)?;
        within(netns, || pod_end(pod))?;
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
        addresses: pod,
        sandbox: request.sandbox.clone(),
        interface,
    })
}

/// The host's end: the kernel parameters before it goes up, then its routes and neighbours.
fn host_end(socket: &mut Socket, ranges: &Ranges, request: &AttachRequest, interface: &str) -> Result<(), NetError> {
    for (parameter, value) in host_parameters(interface, request.addresses) {
        // The kernel may have no IPv6.
        match request.addresses.ipv6 {
            Some(_) => sysctl::set(&parameter, value)?,
            None => sysctl::set_if_there(&parameter, value)?,
        }
    }
    passed(NetStep::HostParameters)?;
    let index = route::link(socket, interface)?.index;
    let alias = Some(request.sandbox.as_str());
    socket.all(host_messages(index, alias, request.addresses, &ranges.subnets()))
}

/// The pod's end, in its network namespace.
fn pod_end(pod: AddressPair) -> Result<(), NetError> {
    if pod.ipv6.is_some() {
        // Nobody else is on the link: nobody is asked for a way, nor whether an address is taken, which would take a second.
        for (name, value) in [("accept_ra", "0"), ("accept_dad", "0"), (SWITCHED_OFF, "0")] {
            sysctl::set(&ipv6_parameter("eth0", name), value)?;
        }
    }
    let mut socket = Socket::route()?;
    let index = route::link(&mut socket, "eth0")?.index;
    let mut messages = vec![route::set_up(route::LOOPBACK, None), route::set_up(index, None)];
    for ip in pod.all() {
        let next_hop = route::next_hop(Family::of(ip));
        messages.extend([
            route::add_address(index, ip, None),
            route::add_link_route(next_hop.into(), index, None),
            route::add_default_route(index, next_hop),
            route::add_neighbour(index, next_hop, route::HOST_MAC),
        ]);
    }
    socket.all(messages)?;
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
pub(crate) fn list(socket: &mut Socket, names: &Names, ranges: &Ranges) -> Result<Vec<Attachment>, NetError> {
    let attachment = |link: route::Link| {
        let ip = names.link_address(&link.name)?;
        Some(Attachment {
            addresses: addresses(ranges, ip, &link.name),
            sandbox: link.alias,
            interface: link.name,
        })
    };
    let mut found: Vec<Attachment> = route::links(socket)?.into_iter().filter_map(attachment).collect();
    found.sort();
    Ok(found)
}

/// Returns the addresses of the pod behind a link: those of pods that were started without IPv6 stay without.
fn addresses(ranges: &Ranges, ip: Ipv4Addr, interface: &str) -> AddressPair {
    let has_ipv6 = sysctl::is(&ipv6_parameter(interface, SWITCHED_OFF), "0");
    match has_ipv6 {
        true => ranges.addresses(ip),
        false => ip.into(),
    }
}

/// Returns the MTU of the link that the default route leaves by, so that pods need no path discovery; else 1500.
fn uplink_mtu(socket: &mut Socket) -> Result<u32, NetError> {
    const ETHERNET: u32 = 1500;
    // An address of documentation: nobody has a route of its own to it, so that it goes where everything else goes.
    const ANYWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    let Some(index) = route::way_out(socket, ANYWHERE)? else {
        return Ok(ETHERNET);
    };
    // A blackhole leads to the loopback, whose packets have any size.
    match route::link_at(socket, index)? {
        _ if index == route::LOOPBACK => Ok(ETHERNET),
        link => Ok(link.mtu.clamp(1280, 9500)),
    }
}
