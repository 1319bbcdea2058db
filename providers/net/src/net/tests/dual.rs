//! What holds for IPv4 holds for IPv6: the same ways to a service, by real packets.

use std::net::Ipv6Addr;

use super::ways::{WIRE, outside};
use super::*;
use crate::HostPort;

fn cluster_ip(net: &Net) -> IpAddr {
    let services = net.config().ranges.ipv6.unwrap().services;
    Ipv6Addr::from(u128::from(services.network()) + 10).into()
}

fn gateway(net: &Net) -> IpAddr {
    net.config().ranges.subnets()[1].gateway
}

fn ipv6(pod: &Pod) -> IpAddr {
    pod.addresses.ipv6.unwrap().into()
}

fn service_of(net: &Net, name: &str, backends: Vec<Backend>) -> ServicePort {
    ServicePort {
        family: Family::V6,
        cluster_ip: Some(cluster_ip(net)),
        ..service(name, backends)
    }
}

fn serve(pod: &Pod, text: &'static str) -> Backend {
    pod.serve_at(ipv6(pod), 8080, text)
}

#[test]
fn a_service_of_both_families_answers_by_both_on_every_way_to_it() {
    on_a_host(|| async {
        let net = open("d001").await;
        let (server, client) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let external: IpAddr = "2001:db8:9::7".parse().unwrap();
        let (first, second) = (server.serve(8080, "hello"), serve(&server, "hello"));
        let port = ServicePort {
            external_ips: vec![external],
            ..service_of(&net, "default/web", vec![second])
        };
        net.apply(&table(vec![service("default/web", vec![first]), port]))
            .await
            .unwrap();
        let (gateway, cluster_ip) = (gateway(&net), cluster_ip(&net));
        let (pod, own) = (ipv6(&client), ipv6(&server));
        let hello = |ip: IpAddr| format!("hello {ip}");
        assert_eq!(greeting(own, 8080).unwrap(), hello(gateway), "host to pod");
        assert_eq!(greeting(cluster_ip, 80).unwrap(), hello(gateway), "host to service");
        assert_eq!(greeting(gateway, 30_080).unwrap(), hello(gateway), "node port");
        // Who asks for localhost tries ::1 first, and then 127.0.0.1.
        let refused = greeting(Ipv6Addr::LOCALHOST, 30_080).unwrap_err().kind();
        assert_eq!(refused, ErrorKind::ConnectionRefused);
        let by = |to: IpAddr, port| client.run(move || greeting(to, port)).unwrap();
        assert_eq!(by(own, 8080), hello(pod), "pod to pod");
        assert_eq!(by(cluster_ip, 80), hello(pod), "pod to service");
        assert_eq!(by(gateway, 30_080), hello(pod), "pod to node port");
        assert_eq!(by(external, 80), hello(pod), "pod to external");
        assert_eq!(
            server.run(move || greeting(cluster_ip, 80)).unwrap(),
            hello(gateway),
            "hairpin"
        );
        assert_eq!(
            greeting(CLUSTER_IP, 80).unwrap(),
            hello(net.config().ranges.gateway().into())
        );
        let refused = greeting(cluster_ip, 30_080).unwrap_err().kind();
        assert_eq!(
            refused,
            ErrorKind::ConnectionRefused,
            "a service's address is no node's"
        );
    });
}

#[test]
fn a_service_of_ipv6_without_backends_refuses_at_once() {
    on_a_host(|| async {
        let net = open("d002").await;
        let client = Pod::start(&net, 11).await;
        net.apply(&table(vec![service_of(&net, "default/web", vec![])]))
            .await
            .unwrap();
        let IpAddr::V6(known) = cluster_ip(&net) else {
            unreachable!()
        };
        let unknown = IpAddr::from(Ipv6Addr::from(u128::from(known) + 7));
        for (to, port) in [(known.into(), 80), (gateway(&net), 30_080), (unknown, 80)] {
            let refused = move || greeting(to, port).unwrap_err().kind();
            assert_eq!(refused(), ErrorKind::ConnectionRefused, "{to} from the host");
            assert_eq!(client.run(refused), ErrorKind::ConnectionRefused, "{to} from a pod");
        }
    });
}

#[test]
fn a_pod_cannot_send_from_another_address_of_ipv6() {
    on_a_host(|| async {
        let net = open("d003").await;
        let (pod, other) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let public = UdpSocket::bind((gateway(&net), 0)).unwrap();
        let to = public.local_addr().unwrap();
        let (own, spoofed) = (ipv6(&pod), ipv6(&other));
        pod.run(move || {
            let mut route = Socket::route().unwrap();
            let eth0 = route::link(&mut route, "eth0").unwrap().index;
            route.all(vec![route::add_address(eth0, spoofed, None)]).unwrap();
            UdpSocket::bind((spoofed, 0)).unwrap().send_to(b"spoofed", to).unwrap();
            let honest = UdpSocket::bind((own, 0)).unwrap();
            honest.send_to(b"honest", to).unwrap();
        });
        public.set_read_timeout(Some(LIMIT)).unwrap();
        let mut buffer = [0; 64];
        let count = public.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"honest");
    });
}

#[test]
fn what_leaves_the_host_comes_from_its_address_and_who_comes_from_outside_keeps_his() {
    on_a_host(|| async {
        let net = open("d004").await;
        let (server, client) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let outside = outside();
        let (here, there) = WIRE[1];
        let abroad = outside.serve_at(there, 9000, "abroad");
        let greeted = client.run(move || greeting(abroad.ip, abroad.port)).unwrap();
        assert_eq!(greeted, format!("abroad {here}"));
        let backend = serve(&server, "hello");
        let local = ServicePort {
            external_local: true,
            local_backends: vec![backend],
            balancer_ips: vec!["2001:db8:9::8".parse().unwrap()],
            balancer_sources: Some(vec!["2001:db8:77::/64".parse().unwrap()]),
            ..service_of(&net, "default/web", vec![backend])
        };
        net.apply(&table(vec![local.clone()])).await.unwrap();
        let greeted = outside.run(move || greeting(here, 30_080)).unwrap();
        assert_eq!(greeted, format!("hello {there}"), "its address is kept");
        let balanced: IpAddr = "2001:db8:9::8".parse().unwrap();
        outside.run(move || {
            let mut socket = Socket::route().unwrap();
            let eth0 = route::link(&mut socket, "eth0").unwrap().index;
            socket.all(vec![route::add_default_route(eth0, here)]).unwrap();
        });
        let attempt = move || {
            let to = SocketAddr::new(balanced, 80);
            TcpStream::connect_timeout(&to, Duration::from_millis(300)).map(drop)
        };
        assert_eq!(outside.run(attempt).unwrap_err().kind(), ErrorKind::TimedOut);
        let open = ServicePort {
            balancer_sources: Some(vec!["2001:db8::/64".parse().unwrap()]),
            ..local.clone()
        };
        net.apply(&table(vec![open])).await.unwrap();
        outside.run(attempt).unwrap();
        let none_here = ServicePort {
            local_backends: vec![],
            ..local
        };
        net.apply(&table(vec![none_here])).await.unwrap();
        let attempt = move || {
            let to = SocketAddr::new(here, 30_080);
            TcpStream::connect_timeout(&to, Duration::from_millis(300)).map(drop)
        };
        assert_eq!(outside.run(attempt).unwrap_err().kind(), ErrorKind::TimedOut);
        greeting(gateway(&net), 30_080).unwrap();
    });
}

#[test]
fn host_ports_lead_to_the_address_of_the_askers_family() {
    on_a_host(|| async {
        let net = open("d005").await;
        let server = Pod::start(&net, 10).await;
        let backends = [server.serve(8080, "four"), serve(&server, "six")];
        let all = |ip| ServiceTable {
            ports: Vec::new(),
            host_ports: backends
                .map(|backend| HostPort {
                    protocol: Protocol::Tcp,
                    port: 8000,
                    ip,
                    backend,
                })
                .to_vec(),
        };
        net.apply(&all(None)).await.unwrap();
        assert!(
            greeting(net.config().ranges.gateway(), 8000)
                .unwrap()
                .starts_with("four")
        );
        assert!(greeting(gateway(&net), 8000).unwrap().starts_with("six"));
    });
}

#[test]
fn a_udp_client_of_ipv6_is_moved_when_its_backend_goes_and_a_tcp_client_stays_with_its_own() {
    on_a_host(|| async {
        let net = open("d006").await;
        let (one, two) = (Pod::start(&net, 10).await, Pod::start(&net, 11).await);
        let (first, second) = (echo_at(&one, ipv6(&one), "one"), echo_at(&two, ipv6(&two), "two"));
        let cluster_ip = cluster_ip(&net);
        let udp = |backend| {
            table(vec![ServicePort {
                protocol: Protocol::Udp,
                port: 53,
                ..service_of(&net, "default/dns", vec![backend])
            }])
        };
        net.apply(&udp(first)).await.unwrap();
        let client = UdpSocket::bind((gateway(&net), 0)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let ask = || {
            let mut buffer = [0; 64];
            client.send_to(b"?", (cluster_ip, 53)).unwrap();
            let count = client.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        };
        assert_eq!(ask(), "one");
        net.apply(&udp(second)).await.unwrap();
        assert_eq!(ask(), "two");
        let mut backends = vec![serve(&one, "one"), serve(&two, "two")];
        backends.sort();
        let sticky = ServicePort {
            affinity_seconds: Some(60),
            ..service_of(&net, "default/web", backends)
        };
        net.apply(&table(vec![sticky])).await.unwrap();
        let first = greeting(cluster_ip, 80).unwrap();
        for _ in 0..16 {
            assert_eq!(greeting(cluster_ip, 80).unwrap(), first);
        }
    });
}

#[test]
fn a_pod_of_before_goes_on_and_what_is_of_ipv6_goes_when_it_is_switched_off() {
    on_a_host(|| async {
        let ranges = Net::choose_ranges().await.unwrap();
        let mut config = NetConfig {
            instance: "d007".to_owned(),
            ranges,
        };
        let net = Net::open(config.clone()).await.unwrap();
        let empty = dump();
        let old = Pod::start(&net, 10).await;
        assert_eq!(old.addresses.ipv6, None);
        config.ranges.ipv6 = Some(Net::choose_ipv6_ranges(7).await.unwrap());
        let net = Net::open(config.clone()).await.unwrap();
        let new = Pod::start(&net, 11).await;
        let attached: Vec<_> = net
            .attached()
            .await
            .unwrap()
            .into_iter()
            .map(|pod| pod.addresses)
            .collect();
        assert_eq!(attached, [old.addresses, new.addresses]);
        let backend = serve(&new, "new");
        net.apply(&table(vec![service_of(&net, "default/web", vec![backend])]))
            .await
            .unwrap();
        let (cluster_ip, own) = (cluster_ip(&net), old.ip);
        new.run(move || greeting(cluster_ip, 80)).unwrap();
        old.serve(80, "old");
        new.run(move || greeting(own, 80)).unwrap();
        let again = Net::open(config.clone()).await.unwrap();
        new.run(move || greeting(cluster_ip, 80)).unwrap();
        assert_eq!(again.attached().await.unwrap().len(), 2);
        net.detach(old.ip).await.unwrap();
        net.detach(new.ip).await.unwrap();
        Net::leave_ipv6(&config).await.unwrap();
        assert_eq!(dump(), empty);
        Net::leave_ipv6(&config).await.unwrap();
    });
}

#[test]
fn a_host_that_has_its_address_from_router_advertisements_keeps_listening_to_them() {
    on_a_host(|| async {
        let outside = outside();
        sysctl::set("net/ipv6/conf/wire/accept_ra", "1").unwrap();
        let net = open("d008").await;
        assert!(sysctl::is("net/ipv6/conf/wire/accept_ra", "2"));
        assert!(sysctl::is("net/ipv6/conf/default/accept_ra", "1"));
        let pod = Pod::start(&net, 10).await;
        let link = &net.attached().await.unwrap()[0].interface;
        assert!(sysctl::is(&format!("net/ipv6/conf/{link}/accept_ra"), "0"));
        pod.run(|| assert!(sysctl::is("net/ipv6/conf/eth0/accept_ra", "0")));
        drop(outside);
    });
}
