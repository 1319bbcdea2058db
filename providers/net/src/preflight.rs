//! What this host needs to have: tried out in a network namespace that ends with the thread.

use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use crate::netlink::Socket;
use crate::nft::Batch;
use crate::rules::{self, Programmed};
use crate::{Backend, HostPort, Missing, NetConfig, NetError, Protocol, Ranges, ServicePort, ServiceTable, route};

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
    match thread::Builder::new().spawn(rehearse).map(|thread| thread.join()) {
        Ok(Ok(found)) => missing.extend(found),
        Ok(Err(_)) | Err(_) => missing.push(Missing {
            what: "a thread to try the network on".to_owned(),
            advice: "raise the limit on processes".to_owned(),
        }),
    }
    missing
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
    let missing = |what: &str, error: &dyn std::error::Error, advice: &str| {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Missing {
            what: format!("{what} ({error}{cause})"),
            advice: advice.to_owned(),
        }
    };
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return vec![missing(
            "network namespaces",
            &errno,
            "run as root on a kernel with CONFIG_NET_NS",
        )];
    }
    let mut found = Vec::new();
    if let Err(error) = try_veth() {
        found.push(missing(
            "veth links",
            &error,
            "load the kernel module veth (modprobe veth)",
        ));
    }
    if let Err(error) = try_rules() {
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

fn try_rules() -> Result<(), NetError> {
    let ranges = Ranges {
        pods: ipnet::Ipv4Net::new_assert([10, 42, 0, 0].into(), 24),
        services: ipnet::Ipv4Net::new_assert([10, 96, 0, 0].into(), 16),
    };
    let backend = |last| Backend {
        ip: [10, 42, 0, last].into(),
        port: 80,
    };
    let port = ServicePort {
        name: "preflight".to_owned(),
        protocol: Protocol::Tcp,
        cluster_ip: Some(ranges.kubernetes_service()),
        external_ips: Vec::new(),
        balancer_ips: vec![[192, 0, 2, 1].into()],
        balancer_sources: Some(vec![ipnet::Ipv4Net::new_assert([192, 0, 2, 0].into(), 24)]),
        port: 80,
        node_port: Some(30_000),
        affinity_seconds: Some(60),
        backends: vec![backend(2), backend(3)],
        local_backends: vec![backend(2)],
        internal_local: false,
        external_local: true,
    };
    let host_port = HostPort {
        protocol: Protocol::Tcp,
        port: 8080,
        ip: None,
        backend: backend(2),
    };
    let config = NetConfig {
        instance: "0000".to_owned(),
        ranges,
    };
    let mut batch = Batch::new(&rules::Names::of(&config).table);
    rules::base(&mut batch, &config, &[[10, 42, 0, 2].into()]);
    let next = Programmed::default().next(&ServiceTable {
        ports: vec![port],
        host_ports: vec![host_port],
    });
    Programmed::default().change(&next, config.ranges.pods, &mut batch);
    batch.commit(&mut Socket::netfilter()?)?;
    Ok(())
}
