//! Ways to a pod beside the cluster IP: host ports, and connections from another machine.

use std::net::Ipv6Addr;
use std::os::fd::AsFd;

use super::*;
use crate::HostPort;

/// This host and another machine, by family.
pub(super) const WIRE: [(IpAddr, IpAddr); 2] = [
    (
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2)),
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
    ),
];

/// Another machine on a wire with this host.
pub(super) fn outside() -> Pod {
    let (work, inbox) = mpsc::channel::<Work>();
    let (opened, file) = mpsc::channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        opened.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
        inbox.into_iter().for_each(|work| work());
    });
    let there = Ipv4Addr::new(203, 0, 113, 2);
    let netns = file.recv().unwrap();
    let wire = |name: &str, own: IpAddr, other: IpAddr, mac| {
        let mut socket = Socket::route().unwrap();
        let index = route::link(&mut socket, name).unwrap().index;
        let messages = vec![
            route::add_address(index, own, None),
            route::set_up(index, None),
            route::add_link_route(other.into(), index, None),
            route::add_neighbour(index, other, mac),
        ];
        socket.all(messages).unwrap();
    };
    let mac = [2, 0, 0, 0, 0, 9];
    let veth = route::add_veth("wire", 0, 1500, netns.as_fd(), mac);
    Socket::route().unwrap().all(vec![veth]).unwrap();
    let pod = Pod {
        ip: there,
        addresses: there.into(),
        work,
    };
    for (here, there) in WIRE {
        wire("wire", here, there, mac);
        pod.run(move || wire("eth0", there, here, route::HOST_MAC));
    }
    pod
}

fn host_port(protocol: Protocol, port: u16, ip: Option<Ipv4Addr>, backend: Backend) -> ServiceTable {
    ServiceTable {
        ports: Vec::new(),
        host_ports: vec![HostPort {
            protocol,
            port,
            ip: ip.map(IpAddr::V4),
            backend,
        }],
    }
}

#[test]
fn a_host_port_answers_on_every_address_or_on_its_own_until_it_goes() {
    on_a_host(|| async {
        let net = open("a015").await;
        let (server, client) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let backend = server.serve(8080, "hello");
        let gateway = net.config().ranges.gateway();
        let tcp = |ip| host_port(Protocol::Tcp, 8000, ip, backend);
        net.apply(&tcp(None)).await.unwrap();
        let pod = client.ip;
        assert_eq!(greeting(gateway, 8000).unwrap(), format!("hello {gateway}"));
        assert_eq!(greeting(Ipv4Addr::LOCALHOST, 8000).unwrap(), format!("hello {gateway}"));
        assert_eq!(
            client.run(move || greeting(gateway, 8000)).unwrap(),
            format!("hello {pod}"),
            "a pod keeps its address"
        );
        server.run(move || greeting(gateway, 8000)).unwrap();
        net.apply(&tcp(Some(Ipv4Addr::LOCALHOST))).await.unwrap();
        greeting(Ipv4Addr::LOCALHOST, 8000).unwrap();
        assert_eq!(
            greeting(gateway, 8000).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        net.apply(&table(vec![])).await.unwrap();
        assert_eq!(
            greeting(Ipv4Addr::LOCALHOST, 8000).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn a_udp_client_that_came_before_the_host_port_reaches_it() {
    on_a_host(|| async {
        let net = open("a016").await;
        let server = Pod::start(&net, 10).await;
        let backend = echo(&server, "here");
        net.apply(&table(vec![])).await.unwrap();
        let gateway = net.config().ranges.gateway();
        let client = UdpSocket::bind((gateway, 0)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        // Somebody is there who takes it and does not answer: the connection is tracked as it is.
        let before = UdpSocket::bind((gateway, 8053)).unwrap();
        client.send_to(b"?", (gateway, 8053)).unwrap();
        before.recv(&mut [0; 8]).unwrap();
        net.apply(&host_port(Protocol::Udp, 8053, None, backend)).await.unwrap();
        client.send_to(b"?", (gateway, 8053)).unwrap();
        let mut buffer = [0; 64];
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"here");
    });
}

#[test]
fn from_outside_a_local_service_is_dropped_where_it_has_no_backend_and_from_here_it_is_served() {
    on_a_host(|| async {
        let net = open("a017").await;
        let (server, client) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let backend = server.serve(80, "hello");
        let outside = outside();
        let port = |local_backends| ServicePort {
            external_local: true,
            local_backends,
            ..service("default/web", vec![backend])
        };
        let gateway = net.config().ranges.gateway();
        let short = Duration::from_millis(300);
        let attempt = move || {
            let to = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 30_080));
            TcpStream::connect_timeout(&to, short).map(|mut stream| line(&mut stream).unwrap())
        };
        net.apply(&table(vec![port(vec![])])).await.unwrap();
        assert_eq!(outside.run(attempt).unwrap_err().kind(), ErrorKind::TimedOut);
        greeting(gateway, 30_080).unwrap();
        client.run(move || greeting(gateway, 30_080)).unwrap();
        net.apply(&table(vec![port(vec![backend])])).await.unwrap();
        assert_eq!(
            outside.run(attempt).unwrap(),
            "hello 203.0.113.2",
            "its address is kept"
        );
        net.apply(&table(vec![ServicePort {
            internal_local: true,
            ..service("default/web", vec![backend])
        }]))
        .await
        .unwrap();
        let to = SocketAddr::V4(SocketAddrV4::new(CLUSTER_IP, 80));
        let refused = TcpStream::connect_timeout(&to, short).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn only_who_is_in_the_source_ranges_comes_by_the_load_balancer() {
    on_a_host(|| async {
        let net = open("a018").await;
        let server = Pod::start(&net, 10).await;
        let backend = server.serve(80, "hello");
        let outside = outside();
        let address = Ipv4Addr::new(203, 0, 113, 1);
        let port = |range: &str| ServicePort {
            balancer_ips: vec![address.into()],
            balancer_sources: Some(vec![range.parse().unwrap()]),
            ..service("default/web", vec![backend])
        };
        let attempt = move |port: u16| {
            move || {
                let to = SocketAddr::V4(SocketAddrV4::new(address, port));
                TcpStream::connect_timeout(&to, Duration::from_millis(300)).map(drop)
            }
        };
        net.apply(&table(vec![port("198.51.100.0/24")])).await.unwrap();
        assert_eq!(outside.run(attempt(80)).unwrap_err().kind(), ErrorKind::TimedOut);
        outside.run(attempt(30_080)).unwrap();
        net.apply(&table(vec![port("203.0.113.0/24")])).await.unwrap();
        outside.run(attempt(80)).unwrap();
    });
}

#[test]
fn every_transport_has_services_and_host_ports_and_a_client_stays_by_each_way() {
    on_a_host(|| async {
        let net = open("a019").await;
        let (one, two) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let mut backends = vec![one.serve(53, "one"), two.serve(53, "two")];
        assert_eq!(backends, [echo(&one, "one"), echo(&two, "two")]);
        backends.sort();
        let port = |name: &str, protocol| ServicePort {
            protocol,
            port: 53,
            node_port: Some(30_053),
            affinity_seconds: Some(60),
            ..service(name, backends.clone())
        };
        let every = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let host_ports = every.map(|protocol| HostPort {
            protocol,
            port: 5300,
            ip: None,
            backend: backends[0],
        });
        let ports = ["default/a", "default/b", "default/c"].into_iter().zip(every);
        let all = ServiceTable {
            ports: ports.map(|(name, protocol)| port(name, protocol)).collect(),
            host_ports: host_ports.to_vec(),
        };
        net.apply(&all).await.unwrap();
        let gateway = net.config().ranges.gateway();
        let word = |text: String| text.split(' ').next().unwrap_or_default().to_owned();
        let tcp: BTreeSet<String> = (0..16)
            .flat_map(|_| [(CLUSTER_IP, 53), (gateway, 30_053)])
            .map(|(to, port)| word(greeting(to, port).unwrap()))
            .collect();
        let udp: BTreeSet<String> = (0..16)
            .flat_map(|_| [(CLUSTER_IP, 53), (gateway, 30_053)])
            .map(|to| {
                let socket = UdpSocket::bind((gateway, 0)).unwrap();
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                socket.send_to(b"?", to).unwrap();
                let mut buffer = [0; 16];
                let count = socket.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..count]).into_owned()
            })
            .collect();
        assert_eq!((tcp.len(), udp.len()), (1, 1), "{tcp:?} {udp:?}");
        assert_eq!(word(greeting(gateway, 5300).unwrap()), "one");
    });
}
