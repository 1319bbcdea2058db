//! What this host needs to have: tried out in a network namespace that ends with the thread.

use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use crate::netlink::Socket;
use crate::nft::Batch;
use crate::rules::{self, Programmed};
use crate::{
    Backend, Family, HostPort, Ipv6Ranges, Missing, NetConfig, NetError, Protocol, Ranges, ServicePort, ServiceTable,
    Subnets, route, sysctl,
};

const NET_ADMIN: u32 = 12;

/// Returns what this host lacks for pod networks and services; blocking, some milliseconds, leaves nothing behind.
pub fn preflight() -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut miss = |what: &str, advice: &str| {
        missing.push(Missing {
            what: what.to_owned(),
            advice: advice.to_owned(),
        })
    };
    if !has_net_admin() {
        miss(
            "the capability CAP_NET_ADMIN",
            "run as root, or give the container that you run in NET_ADMIN",
        );
        return missing;
    }
    // Opened for writing, not written.
    if let Err(error) = OpenOptions::new().write(true).open("/proc/sys/net/ipv4/ip_forward") {
        miss(
            &format!("write access to /proc/sys/net ({error})"),
            "run where /proc/sys is writable (in a container: privileged)",
        );
    }
    missing.extend(apart(rehearse));
    missing
}

/// Returns what this host lacks for addresses of IPv6 beside those of IPv4; empty where it has no IPv6 at all. Blocking like [`preflight`].
pub fn preflight_ipv6() -> Vec<Missing> {
    match sysctl::has_ipv6() {
        true => apart(rehearse_ipv6),
        false => Vec::new(),
    }
}

/// Runs it on a thread of its own, with which the namespaces that it makes end.
fn apart(rehearsal: fn() -> Vec<Missing>) -> Vec<Missing> {
    match thread::Builder::new().spawn(rehearsal).map(|thread| thread.join()) {
        Ok(Ok(found)) => found,
        Ok(Err(_)) | Err(_) => vec![Missing {
            what: "a thread to try the network on".to_owned(),
            advice: "raise the limit on processes".to_owned(),
        }],
    }
}

fn missing(what: &str, error: &dyn std::error::Error, advice: &str) -> Missing {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Missing {
        what: format!("{what} ({error}{cause})"),
        advice: advice.to_owned(),
    }
}

fn enter_own_network() -> Result<(), Missing> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
        missing(
            "network namespaces",
            &errno,
            "run as root on a kernel with CONFIG_NET_NS",
        )
    })
}

/// Makes the rules of both families.
fn rehearse_ipv6() -> Vec<Missing> {
    let ranges = Ipv6Ranges {
        pods: ipnet::Ipv6Net::new_assert([0xfd00, 0, 0, 0x42, 0, 0, 0, 0].into(), 64),
        services: ipnet::Ipv6Net::new_assert([0xfd00, 0, 0, 0x96, 0, 0, 0, 0].into(), 112),
    };
    let tried = enter_own_network().and_then(|()| {
        try_rules(Some(ranges)).map_err(|error| {
            let advice = "load the kernel modules nft_fib_ipv6 and nft_reject_ipv6, or use a kernel that has them";
            missing("nftables with NAT for IPv6", &error, advice)
        })
    });
    tried.err().into_iter().collect()
}

fn has_net_admin() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .is_some_and(|bits| bits >> NET_ADMIN & 1 == 1)
}

/// Makes a link and a full set of rules in a network namespace of this thread's own.
fn rehearse() -> Vec<Missing> {
    if let Err(missing) = enter_own_network() {
        return vec![missing];
    }
    let mut found = Vec::new();
    if let Err(error) = try_veth() {
        found.push(missing(
            "veth links",
            &error,
            "load the kernel module veth (modprobe veth)",
        ));
    }
    if let Err(error) = try_rules(None) {
        let advice = "load the kernel modules nf_tables, nft_chain_nat, nft_fib_ipv4, nft_numgen, nft_masq, \
                      nft_reject_ipv4 and nft_ct, or use a kernel that has them";
        found.push(missing("nftables with NAT", &error, advice));
    }
    found
}

fn try_veth() -> Result<(), NetError> {
    let file = fs::File::open("/proc/thread-self/ns/net").map_err(|source| NetError::Netlink {
        operation: "open this thread's network namespace".to_owned(),
        source: Box::new(source),
    })?;
    Socket::route()?.all(vec![route::add_veth(
        "sptry",
        0,
        1500,
        file.as_fd(),
        [2, 0, 0, 0, 0, 1],
    )])
}

fn try_rules(ipv6: Option<Ipv6Ranges>) -> Result<(), NetError> {
    let config = NetConfig {
        instance: "0000".to_owned(),
        ranges: Ranges {
            pods: ipnet::Ipv4Net::new_assert([10, 42, 0, 0].into(), 24),
            services: ipnet::Ipv4Net::new_assert([10, 96, 0, 0].into(), 16),
            ipv6,
        },
    };
    let subnets = config.ranges.subnets();
    let table = ServiceTable {
        ports: subnets.iter().map(service_port).collect(),
        host_ports: subnets.iter().map(host_port).collect(),
    };
    let pod = config.ranges.addresses([10, 42, 0, 2].into());
    let mut batch = Batch::new(&rules::Names::of(&config).table, Family::V4);
    rules::base(&mut batch, &config, &[Family::V4, Family::V6], &[pod]);
    let next = Programmed::default().next(&table, &subnets);
    Programmed::default().change(&next, &subnets, &mut batch);
    batch.commit(&mut Socket::netfilter()?)?;
    Ok(())
}

fn backend(subnets: &Subnets, port: u16) -> Backend {
    Backend {
        ip: subnets.gateway,
        port,
    }
}

/// A service that every kind of rule is made for.
fn service_port(subnets: &Subnets) -> ServicePort {
    let address = subnets.services.network();
    ServicePort {
        name: "preflight".to_owned(),
        family: subnets.family,
        protocol: Protocol::Tcp,
        cluster_ip: Some(address),
        external_ips: Vec::new(),
        balancer_ips: vec![subnets.pods.network()],
        balancer_sources: Some(vec![subnets.pods]),
        port: 80,
        node_port: Some(30_000),
        affinity_seconds: Some(60),
        backends: vec![backend(subnets, 80), backend(subnets, 81)],
        local_backends: vec![backend(subnets, 80)],
        internal_local: false,
        external_local: true,
    }
}

fn host_port(subnets: &Subnets) -> HostPort {
    HostPort {
        protocol: Protocol::Tcp,
        port: 8080,
        ip: None,
        backend: backend(subnets, 80),
    }
}
