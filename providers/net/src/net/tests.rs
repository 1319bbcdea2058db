//! Real packets through real rules, in network namespaces that end with the tests' threads.
//!
//! These need root (CAP_SYS_ADMIN and CAP_NET_ADMIN) and fail without.

mod dual;
mod keep;
mod ways;

use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::*;

use crate::nft::Hook;
use crate::{Netns, Protocol, ServicePort};

const LIMIT: Duration = Duration::from_secs(5);
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Runs a test in a network namespace that stands for the host.
fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test());
        };
        scope
            .spawn(run)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace with a thread in it.
struct Pod {
    ip: Ipv4Addr,
    addresses: AddressPair,
    work: mpsc::Sender<Work>,
}

impl Pod {
    async fn start(net: &Net, last: u8) -> Pod {
        let octets = net.config().ranges.pods.network().octets();
        let ip = Ipv4Addr::new(octets[0], octets[1], octets[2], last);
        let addresses = net.config().ranges.addresses(ip);
        let (work, inbox) = mpsc::channel::<Work>();
        let (opened, file) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            opened.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
            inbox.into_iter().for_each(|work| work());
        });
        let netns = Netns::File(file.recv().unwrap());
        net.attach(AttachRequest {
            sandbox: format!("sandbox-{last}"),
            netns,
            addresses,
        })
        .await
        .unwrap();
        Pod { ip, addresses, work }
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, answer) = mpsc::channel();
        self.work.send(Box::new(move || sender.send(work()).unwrap())).unwrap();
        answer.recv_timeout(LIMIT * 3).unwrap()
    }

    /// Answers each connection with this text and the peer's address, then echoes.
    fn serve(&self, port: u16, text: &'static str) -> Backend {
        self.serve_at(self.ip.into(), port, text)
    }

    fn serve_at(&self, ip: IpAddr, port: u16, text: &'static str) -> Backend {
        self.run(move || {
            let listener = TcpListener::bind((ip, port)).unwrap();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    thread::spawn(move || {
                        let peer = stream.peer_addr().unwrap();
                        if writeln!(stream, "{text} {}", peer.ip()).is_err() {
                            return;
                        }
                        let mut buffer = [0; 64];
                        while let Ok(count @ 1..) = stream.read(&mut buffer) {
                            stream.write_all(&buffer[..count]).unwrap();
                        }
                    });
                }
            });
        });
        Backend { ip, port }
    }
}

/// Answers each datagram on port 53 with this text.
fn echo(pod: &Pod, text: &'static str) -> Backend {
    echo_at(pod, pod.ip.into(), text)
}

fn echo_at(pod: &Pod, ip: IpAddr, text: &'static str) -> Backend {
    pod.run(move || {
        let socket = UdpSocket::bind((ip, 53)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                socket.send_to(text.as_bytes(), peer).unwrap();
            }
        });
    });
    Backend { ip, port: 53 }
}

fn line(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        text.push(char::from(byte[0]));
    }
    Ok(text)
}

fn connect(to: impl Into<IpAddr>, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(to.into(), port), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn greeting(to: impl Into<IpAddr>, port: u16) -> std::io::Result<String> {
    line(&mut connect(to, port)?)
}

fn service(name: &str, backends: Vec<Backend>) -> ServicePort {
    ServicePort {
        name: name.to_owned(),
        family: Family::V4,
        protocol: Protocol::Tcp,
        cluster_ip: Some(CLUSTER_IP.into()),
        external_ips: Vec::new(),
        balancer_ips: Vec::new(),
        balancer_sources: None,
        port: 80,
        node_port: Some(30_080),
        affinity_seconds: None,
        backends,
        local_backends: Vec::new(),
        internal_local: false,
        external_local: false,
    }
}

fn table(ports: Vec<ServicePort>) -> ServiceTable {
    ServiceTable {
        ports,
        host_ports: Vec::new(),
    }
}

async fn open(instance: &str) -> Net {
    let mut ranges = Net::choose_ranges().await.unwrap();
    // As on a host with both families: what holds for IPv4 holds there.
    let global_id = u64::from_str_radix(instance, 16).unwrap();
    ranges.ipv6 = Some(Net::choose_ipv6_ranges(global_id).await.unwrap());
    Net::open(NetConfig {
        instance: instance.to_owned(),
        ranges,
    })
    .await
    .unwrap()
}

/// Everything of the host that a [`Net`] may change, but for forwarding.
fn dump() -> String {
    let mut socket = Socket::route().unwrap();
    let links: Vec<_> = route::links(&mut socket)
        .unwrap()
        .into_iter()
        .map(|link| (link.name, link.alias))
        .collect();
    let tables = nft::tables(&mut Socket::netfilter().unwrap()).unwrap();
    let mut text = format!("{links:?} {tables:?}");
    for family in Family::ALL {
        let mut addresses = route::addresses(&mut socket, family).unwrap();
        addresses.sort();
        let routes: Vec<_> = route::routes(&mut socket, family)
            .unwrap()
            .into_iter()
            .map(|route| (route.to, route.out))
            .collect();
        text += &format!(" {addresses:?} {routes:?}");
    }
    text
}

#[test]
fn a_service_answers_on_every_way_to_it() {
    on_a_host(|| async {
        let net = open("a001").await;
        let (server, client) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let backend = server.serve(8080, "hello");
        let external = Ipv4Addr::new(192, 0, 2, 7);
        let port = ServicePort {
            external_ips: vec![external.into()],
            ..service("default/web", vec![backend])
        };
        net.apply(&table(vec![port])).await.unwrap();
        let gateway = net.config().ranges.gateway();
        let (pod, own) = (client.ip, server.ip);

        assert_eq!(greeting(own, 8080).unwrap(), format!("hello {gateway}"), "host to pod");
        assert_eq!(
            greeting(CLUSTER_IP, 80).unwrap(),
            format!("hello {gateway}"),
            "host to service"
        );
        assert_eq!(
            greeting(Ipv4Addr::LOCALHOST, 30_080).unwrap(),
            format!("hello {gateway}"),
            "localhost node port"
        );
        assert_eq!(
            greeting(gateway, 30_080).unwrap(),
            format!("hello {gateway}"),
            "node port"
        );
        assert_eq!(
            client.run(move || greeting(own, 8080)).unwrap(),
            format!("hello {pod}"),
            "pod to pod"
        );
        assert_eq!(
            client.run(|| greeting(CLUSTER_IP, 80)).unwrap(),
            format!("hello {pod}"),
            "pod to service"
        );
        assert_eq!(
            client.run(move || greeting(gateway, 30_080)).unwrap(),
            format!("hello {pod}"),
            "pod to node port"
        );
        assert_eq!(
            client.run(move || greeting(external, 80)).unwrap(),
            format!("hello {pod}"),
            "pod to external"
        );
        assert_eq!(
            server.run(|| greeting(CLUSTER_IP, 80)).unwrap(),
            format!("hello {gateway}"),
            "hairpin"
        );
    });
}

#[test]
fn a_pod_cannot_send_from_another_address() {
    on_a_host(|| async {
        let net = open("a014").await;
        let pod = Pod::start(&net, 10).await;
        let public = UdpSocket::bind((net.config().ranges.gateway(), 0)).unwrap();
        let to = public.local_addr().unwrap();
        let spoofed = Ipv4Addr::new(10, 42, 0, 99);
        pod.run(move || {
            let mut route = Socket::route().unwrap();
            let eth0 = route::link(&mut route, "eth0").unwrap().index;
            route.all(vec![route::add_address(eth0, spoofed.into(), None)]).unwrap();
            UdpSocket::bind((spoofed, 0)).unwrap().send_to(b"spoofed", to).unwrap();
            let honest = UdpSocket::bind((Ipv4Addr::new(10, 42, 0, 10), 0)).unwrap();
            honest.send_to(b"honest", to).unwrap();
        });
        public.set_read_timeout(Some(LIMIT)).unwrap();
        let mut buffer = [0; 64];
        let count = public.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"honest");
    });
}

#[test]
fn reverse_path_filtering_does_not_stop_services() {
    on_a_host(|| async {
        sysctl::set("net/ipv4/conf/all/rp_filter", "1").unwrap();
        sysctl::set("net/ipv4/conf/default/rp_filter", "1").unwrap();
        let net = open("a002").await;
        let (server, client) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let backend = server.serve(80, "hello");
        net.apply(&table(vec![service("default/web", vec![backend])]))
            .await
            .unwrap();
        greeting(CLUSTER_IP, 80).unwrap();
        greeting(Ipv4Addr::LOCALHOST, 30_080).unwrap();
        client.run(|| greeting(CLUSTER_IP, 80)).unwrap();
        server.run(|| greeting(CLUSTER_IP, 80)).unwrap();
    });
}

#[test]
fn connections_spread_over_the_backends() {
    on_a_host(|| async {
        let net = open("a003").await;
        let (one, two) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let backends = vec![one.serve(80, "one"), two.serve(81, "two")];
        net.apply(&table(vec![service("default/web", backends)])).await.unwrap();
        let seen: BTreeSet<_> = (0..64)
            .map(|_| greeting(CLUSTER_IP, 80).unwrap()[..3].to_owned())
            .collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    });
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    on_a_host(|| async {
        let net = open("a004").await;
        let client = Pod::start(&net, 11).await;
        let external = Ipv4Addr::new(192, 0, 2, 7);
        let port = ServicePort {
            external_ips: vec![external.into()],
            ..service("default/web", vec![])
        };
        net.apply(&table(vec![port])).await.unwrap();
        let gateway = net.config().ranges.gateway();
        let unknown = Ipv4Addr::new(10, 96, 7, 7);
        let refused = |to, port| move || greeting(to, port).unwrap_err().kind();
        for (to, port) in [(CLUSTER_IP, 80), (gateway, 30_080), (unknown, 80)] {
            assert_eq!(refused(to, port)(), ErrorKind::ConnectionRefused, "{to} from the host");
            assert_eq!(
                client.run(refused(to, port)),
                ErrorKind::ConnectionRefused,
                "{to} from a pod"
            );
        }
        assert_eq!(refused(Ipv4Addr::LOCALHOST, 30_080)(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn established_connections_outlive_their_backend_and_new_ones_go_elsewhere() {
    on_a_host(|| async {
        let net = open("a005").await;
        let (one, two) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let (first, second) = (one.serve(80, "one"), two.serve(80, "two"));
        net.apply(&table(vec![service("default/web", vec![first])]))
            .await
            .unwrap();
        let mut stream = connect(CLUSTER_IP, 80).unwrap();
        line(&mut stream).unwrap();
        for backends in [vec![first, second], vec![second], vec![]] {
            let expected = backends.last().copied();
            net.apply(&table(vec![service("default/web", backends)])).await.unwrap();
            stream.write_all(b"still here\n").unwrap();
            assert_eq!(line(&mut stream).unwrap(), "still here");
            if expected.is_none() {
                assert_eq!(
                    greeting(CLUSTER_IP, 80).unwrap_err().kind(),
                    ErrorKind::ConnectionRefused
                );
            }
        }
        // A new process knows nothing of the rules and writes all of them anew.
        let again = Net::open(net.config().clone()).await.unwrap();
        again
            .apply(&table(vec![service("default/web", vec![second])]))
            .await
            .unwrap();
        assert!(greeting(CLUSTER_IP, 80).unwrap().starts_with("two"));
        stream.write_all(b"still here\n").unwrap();
        assert_eq!(line(&mut stream).unwrap(), "still here");
    });
}

#[test]
fn opening_again_leaves_services_in_force() {
    on_a_host(|| async {
        let net = open("a006").await;
        let server = Pod::start(&net, 10).await;
        let backend = server.serve(80, "one");
        net.apply(&table(vec![service("default/web", vec![backend])]))
            .await
            .unwrap();
        let again = Net::open(net.config().clone()).await.unwrap();
        greeting(CLUSTER_IP, 80).unwrap();
        server.run(|| greeting(CLUSTER_IP, 80)).unwrap();
        assert_eq!(again.attached().await.unwrap().len(), 1);
        again
            .apply(&table(vec![service("default/web", vec![backend])]))
            .await
            .unwrap();
        server.run(|| greeting(CLUSTER_IP, 80)).unwrap();
    });
}

#[test]
fn equal_tables_are_not_applied_twice_and_a_lost_table_is_written_again() {
    on_a_host(|| async {
        let net = open("a007").await;
        let server = Pod::start(&net, 10).await;
        let rules = table(vec![service("default/web", vec![server.serve(80, "one")])]);
        assert!(net.apply(&rules).await.unwrap().changed);
        assert!(!net.apply(&rules).await.unwrap().changed);
        remove_table(&mut Socket::netfilter().unwrap(), Family::V4, &net.inner.names).unwrap();
        assert!(net.apply(&rules).await.unwrap().changed);
        server.run(|| greeting(CLUSTER_IP, 80)).unwrap();
    });
}

#[test]
fn a_client_stays_with_its_backend_until_that_goes() {
    on_a_host(|| async {
        let net = open("a008").await;
        let (one, two) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let backends = vec![one.serve(80, "one"), two.serve(80, "two")];
        let sticky = |backends| ServicePort {
            affinity_seconds: Some(60),
            ..service("default/web", backends)
        };
        net.apply(&table(vec![sticky(backends.clone())])).await.unwrap();
        let first = greeting(CLUSTER_IP, 80).unwrap();
        for _ in 0..32 {
            assert_eq!(greeting(CLUSTER_IP, 80).unwrap(), first);
        }
        let other = usize::from(first.starts_with("one"));
        net.apply(&table(vec![sticky(vec![backends[other]])])).await.unwrap();
        let second = greeting(CLUSTER_IP, 80).unwrap();
        assert_ne!(second, first);
        net.apply(&table(vec![sticky(backends)])).await.unwrap();
        for _ in 0..32 {
            assert_eq!(greeting(CLUSTER_IP, 80).unwrap(), second);
        }
    });
}

#[test]
fn a_udp_client_is_moved_when_its_backend_goes() {
    on_a_host(|| async {
        let net = open("a009").await;
        let (one, two) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let (first, second) = (echo(&one, "one"), echo(&two, "two"));
        let udp = |backend| {
            table(vec![ServicePort {
                protocol: Protocol::Udp,
                port: 53,
                ..service("default/dns", vec![backend])
            }])
        };
        net.apply(&udp(first)).await.unwrap();
        let client = UdpSocket::bind((net.config().ranges.gateway(), 0)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let ask = || {
            let mut buffer = [0; 64];
            client.send_to(b"?", (CLUSTER_IP, 53)).unwrap();
            let count = client.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        };
        assert_eq!(ask(), "one");
        net.apply(&udp(second)).await.unwrap();
        assert_eq!(ask(), "two");
    });
}

#[test]
fn two_instances_share_a_host_and_each_removes_only_its_own() {
    on_a_host(|| async {
        sysctl::set("net/ipv4/ip_forward", "1").unwrap();
        Socket::route()
            .unwrap()
            .all(vec![route::set_up(route::LOOPBACK, None)])
            .unwrap();
        let empty = dump();
        let (a, b) = (open("aaaa").await, open("bbbb").await);
        assert_ne!(a.config().ranges, b.config().ranges);
        let clash = NetConfig {
            instance: "cccc".to_owned(),
            ranges: a.config().ranges.clone(),
        };
        assert!(matches!(Net::open(clash).await, Err(NetError::RangeTaken { .. })));
        let (pod_a, pod_b) = (Pod::start(&a, 10).await, Pod::start(&b, 10).await);
        let (backend_a, backend_b) = (pod_a.serve(80, "a"), pod_b.serve(80, "b"));
        let ip_b = Ipv4Addr::new(10, 97, 0, 10);
        let port_b = ServicePort {
            cluster_ip: Some(ip_b.into()),
            node_port: Some(30_081),
            ..service("default/web", vec![backend_b])
        };
        a.apply(&table(vec![service("default/web", vec![backend_a])]))
            .await
            .unwrap();
        b.apply(&table(vec![port_b])).await.unwrap();
        assert!(greeting(CLUSTER_IP, 80).unwrap().starts_with("a "));
        assert!(greeting(ip_b, 80).unwrap().starts_with("b "));
        assert!(pod_b.run(|| greeting(CLUSTER_IP, 80)).unwrap().starts_with("a "));
        assert!(
            pod_b
                .run(|| greeting(Ipv4Addr::new(10, 42, 0, 1), 30_080))
                .unwrap()
                .starts_with("a ")
        );

        a.remove_all().await.unwrap();
        assert!(greeting(ip_b, 80).unwrap().starts_with("b "));
        assert_eq!(b.attached().await.unwrap().len(), 1);
        Net::remove(b.config()).await.unwrap();
        assert_eq!(dump(), empty);
        Net::remove(b.config()).await.unwrap();
    });
}

#[test]
fn detaching_leaves_no_link_and_the_address_can_be_used_again() {
    on_a_host(|| async {
        let net = open("a010").await;
        let pod = Pod::start(&net, 10).await;
        let link = &net.attached().await.unwrap()[0];
        assert_eq!((link.addresses, link.sandbox.as_str()), (pod.addresses, "sandbox-10"));
        // The second takes the place of the first, as after a crash between the two.
        let second = Pod::start(&net, 10).await;
        second.serve(80, "second");
        assert!(greeting(second.ip, 80).unwrap().starts_with("second"));
        net.detach(second.ip).await.unwrap();
        net.detach(second.ip).await.unwrap();
        assert!(net.attached().await.unwrap().is_empty());
        let started = Instant::now();
        assert!(connect(second.ip, 80).is_err());
        assert!(
            started.elapsed() < LIMIT,
            "the address of a pod that is gone is unreachable at once"
        );
    });
}

#[test]
fn a_hundred_services_are_applied() {
    on_a_host(|| async {
        let net = open("a011").await;
        let pod = Pod::start(&net, 10).await;
        let backend = pod.serve(80, "one");
        let many = |count: u16| {
            let port = |n: u16| ServicePort {
                cluster_ip: Some(Ipv4Addr::new(10, 96, 1 + (n >> 8) as u8, n as u8).into()),
                node_port: None,
                ..service(&format!("default/web-{n:04}"), vec![backend; 1 + usize::from(n % 3)])
            };
            (0..count).map(port).collect::<Vec<_>>()
        };
        for count in [100, 1000] {
            let mut ports = many(count);
            let started = Instant::now();
            let all = net.apply(&table(ports.clone())).await.unwrap();
            let first = started.elapsed();
            ports[7].backends.clear();
            let started = Instant::now();
            let one = net.apply(&table(ports)).await.unwrap();
            println!(
                "{count} services {first:?} {all:?}; one change {:?} {one:?}",
                started.elapsed()
            );
            assert!(one.messages < 10);
            assert!(greeting(Ipv4Addr::new(10, 96, 1, 9), 80).unwrap().starts_with("one"));
        }
    });
}

#[test]
fn attaching_many_pods_leaves_each_reachable() {
    on_a_host(|| async {
        let net = open("a012").await;
        let mut times = Vec::new();
        let mut pods = Vec::new();
        for last in 10..60 {
            let (work, inbox) = mpsc::channel::<Work>();
            let (opened, file) = mpsc::channel();
            thread::spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                opened.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
                inbox.into_iter().for_each(|work| work());
            });
            let netns = Netns::File(file.recv().unwrap());
            let ip = Ipv4Addr::new(10, 42, 0, last);
            let addresses = net.config().ranges.addresses(ip);
            let started = Instant::now();
            net.attach(AttachRequest {
                sandbox: last.to_string(),
                netns,
                addresses,
            })
            .await
            .unwrap();
            times.push(started.elapsed());
            pods.push(Pod { ip, addresses, work });
        }
        times.sort();
        println!("attach p50 {:?} p90 {:?} max {:?}", times[25], times[45], times[49]);
        for pod in &pods {
            pod.serve(80, "pod");
            greeting(pod.ip, 80).unwrap();
        }
        let started = Instant::now();
        for pod in &pods[..10] {
            net.detach(pod.ip).await.unwrap();
        }
        println!("detach {:?} each", started.elapsed() / 10);
        let started = Instant::now();
        net.remove_all().await.unwrap();
        println!("remove all {:?}", started.elapsed());
        assert!(net.attached().await.unwrap().is_empty());
    });
}

#[test]
fn this_host_has_what_is_needed() {
    assert_eq!(crate::preflight(), []);
    assert_eq!(crate::preflight_ipv6(), []);
}

#[test]
fn a_firewall_that_drops_forwarded_packets_is_named() {
    on_a_host(|| async {
        let net = open("a013").await;
        assert!(net.warnings().await.unwrap().is_empty());
        let mut batch = Batch::new("filter", Family::V4);
        batch.add_table();
        batch.add_dropping_chain("FORWARD", Hook::Forward);
        batch.commit(&mut Socket::netfilter().unwrap()).unwrap();
        let warnings = net.warnings().await.unwrap();
        assert!(warnings[0].contains("spa013+"), "{warnings:?}");
    });
}
