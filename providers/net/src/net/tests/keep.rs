//! What others change is mended, and their firewalls let pods through. Other people's tools do the changing: `nft`,
//! `ip` and `iptables` of Debian.

use std::process::Command;

use super::*;

/// Runs a tool in this thread's network namespace.
fn tool(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}; these tests need {}", words[0]));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until it is so; returns how long that took.
async fn until(what: &str, mut wanted: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !wanted() {
        assert!(started.elapsed() < LIMIT, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

fn answers(to: impl Into<IpAddr>, port: u16) -> bool {
    let to = SocketAddr::new(to.into(), port);
    TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_ok()
}

/// A host with a pod that a service and a node port lead to, and its keeper.
async fn kept(instance: &str) -> (Net, Pod, tokio::task::JoinHandle<()>) {
    let net = open(instance).await;
    let server = Pod::start(&net, 10).await;
    let backend = server.serve(80, "hello");
    net.apply(&table(vec![service("default/web", vec![backend])]))
        .await
        .unwrap();
    let own = net.clone();
    let keeper = tokio::spawn(async move { own.keep().await });
    until("served", || answers(CLUSTER_IP, 80)).await;
    // The keeper listens before its first look, and its first look is over when it has mended this.
    sysctl::set("net/ipv4/ip_forward", "0").unwrap();
    until("the keeper is awake", forwards).await;
    (net, server, keeper)
}

fn forwards() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim() == "1"
}

#[test]
fn what_it_writes_itself_while_it_listens_is_no_change_by_others() {
    on_a_host(|| async {
        let net = open("b006").await;
        let own = net.clone();
        let keeper = tokio::spawn(async move { own.keep().await });
        // Protocol 12 is netfilter's; who listens has groups.
        let listens = || {
            let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
            let mut sockets = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            sockets.any(|socket| socket[1] == "12" && socket[3] != "00000000")
        };
        until("the keeper listens", listens).await;
        // Written by a socket that is made while it listens.
        net.apply(&table(vec![service("default/web", Vec::new())]))
            .await
            .unwrap();
        let written = tool("nft --handle list table ip setpoint_b006");
        let look = async || {
            sysctl::set("net/ipv4/ip_forward", "0").unwrap();
            until("the keeper has looked", forwards).await;
        };
        // The second look begins when the first one, which hears of the write, is over.
        look().await;
        look().await;
        assert_eq!(tool("nft --handle list table ip setpoint_b006"), written);
        keeper.abort();
    });
}

#[test]
fn what_others_remove_is_made_again_on_the_kernels_word() {
    on_a_host(|| async {
        let (net, server, keeper) = kept("b001").await;
        let gateway = net.config().ranges.gateway();
        let link = net.attached().await.unwrap()[0].interface.clone();
        let deeds = [
            "nft flush ruleset".to_owned(),
            "nft delete table ip setpoint_b001".to_owned(),
            "nft delete element ip setpoint_b001 node_ports { tcp . 30080 }".to_owned(),
            "nft flush chain ip setpoint_b001 dispatch".to_owned(),
            "ip route flush root 10.96.0.0/16".to_owned(),
            "ip route flush table main".to_owned(),
            format!("ip address del {gateway}/32 dev lo"),
            format!("ip link set {link} down"),
        ];
        for deed in &deeds {
            tool(deed);
            let own = server.ip;
            let took = until(deed, || {
                answers(CLUSTER_IP, 80) && answers(gateway, 30_080) && answers(own, 80)
            })
            .await;
            println!("{deed}: {took:?}");
            server.run(|| greeting(CLUSTER_IP, 80)).unwrap();
        }
        keeper.abort();
    });
}

#[test]
fn what_others_remove_of_ipv6_is_made_again_too() {
    on_a_host(|| async {
        let (net, server, keeper) = kept("b005").await;
        let subnets = net.config().ranges.subnets()[1];
        let (gateway, services) = (subnets.gateway, subnets.services);
        let cluster_ip = IpAddr::from(match services.network() {
            IpAddr::V6(first) => std::net::Ipv6Addr::from(u128::from(first) + 10),
            IpAddr::V4(_) => unreachable!(),
        });
        let own = server.addresses.ipv6.unwrap();
        let backend = server.serve_at(own.into(), 80, "hello");
        let port = ServicePort {
            family: Family::V6,
            cluster_ip: Some(cluster_ip),
            ..service("default/web", vec![backend])
        };
        net.apply(&table(vec![port])).await.unwrap();
        let link = net.attached().await.unwrap()[0].interface.clone();
        let deeds = [
            "nft delete table ip6 setpoint_b005".to_owned(),
            "nft delete element ip6 setpoint_b005 node_ports { tcp . 30080 }".to_owned(),
            format!("ip -6 route flush root {services}"),
            "ip -6 route flush table main".to_owned(),
            format!("ip -6 address del {gateway}/128 dev lo"),
            format!("ip link set {link} down"),
            format!("sysctl -w net.ipv6.conf.{link}.disable_ipv6=1"),
            "sysctl -w net.ipv6.conf.all.forwarding=0".to_owned(),
        ];
        for deed in &deeds {
            tool(deed);
            let took = until(deed, || {
                answers(cluster_ip, 80)
                    && answers(gateway, 30_080)
                    && answers(own, 80)
                    && sysctl::is("net/ipv6/conf/all/forwarding", "1")
            })
            .await;
            println!("{deed}: {took:?}");
            server.run(move || greeting(cluster_ip, 80)).unwrap();
        }
        keeper.abort();
    });
}

#[test]
fn dockers_forward_policy_of_ipv6_is_opened_at_its_documented_place_too() {
    on_a_host(|| async {
        let (net, server, keeper) = kept("b006").await;
        let client = Pod::start(&net, 11).await;
        let ip = server.addresses.ipv6.unwrap();
        server.serve_at(ip.into(), 80, "hello");
        for line in [
            "ip6tables-nft -P FORWARD DROP",
            "ip6tables-nft -N DOCKER-USER",
            "ip6tables-nft -A FORWARD -j DOCKER-USER",
        ] {
            tool(line);
        }
        until("pods reach each other", || client.run(move || answers(ip, 80))).await;
        assert!(net.warnings().await.unwrap().is_empty());
        tool("ip6tables-nft -D FORWARD -j DOCKER-USER");
        until("it is named", || !client.run(move || answers(ip, 80))).await;
        let warnings = net.warnings().await.unwrap();
        assert!(warnings[0].contains("ip6tables -I FORWARD -i spb006+"), "{warnings:?}");
        keeper.abort();
        net.remove_all().await.unwrap();
        assert_eq!(tool("ip6tables-nft -S DOCKER-USER"), "-N DOCKER-USER\n");
    });
}

/// A ruleset such as Docker's.
fn docker() {
    for line in [
        "iptables-nft -P FORWARD DROP",
        "iptables-nft -N DOCKER-USER",
        "iptables-nft -A FORWARD -j DOCKER-USER",
        "iptables-nft -A DOCKER-USER -j RETURN",
        "iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ] {
        tool(line);
    }
}

#[test]
fn dockers_forward_policy_is_opened_at_its_documented_place_and_closed_with_the_instance() {
    on_a_host(|| async {
        let (net, server, keeper) = kept("b002").await;
        let client = Pod::start(&net, 11).await;
        let ip = server.ip;
        let reaches = || client.run(move || answers(ip, 80));
        assert!(reaches());
        docker();
        let listed = || tool("iptables-nft -S DOCKER-USER");
        until("the rules", || listed().matches("-A DOCKER-USER").count() == 3).await;
        assert!(reaches(), "Docker came later");
        let text = listed();
        println!("{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].contains("-i spb002+") && lines[1].contains("-j ACCEPT"),
            "{text}"
        );
        assert!(
            lines[2].contains("-o spb002+") && lines[2].contains("-j ACCEPT"),
            "{text}"
        );
        assert!(net.warnings().await.unwrap().is_empty());
        // Docker rewrites its chain; a rule of somebody's own stays where it is.
        tool("iptables-nft -F DOCKER-USER");
        tool("iptables-nft -A DOCKER-USER -s 198.51.100.1 -j DROP");
        tool("iptables-nft -A DOCKER-USER -j RETURN");
        until("the rules again", || listed().matches("-A DOCKER-USER").count() == 4).await;
        assert!(reaches());
        // Nothing leads to it any more: its owner has gone.
        tool("iptables-nft -D FORWARD -j DOCKER-USER");
        until("ours are gone", || listed().matches("-A DOCKER-USER").count() == 2).await;
        tool("iptables-nft -I FORWARD -j DOCKER-USER");
        until("they are back", || listed().matches("-A DOCKER-USER").count() == 4).await;
        keeper.abort();
        Net::remove(net.config()).await.unwrap();
        assert_eq!(
            listed(),
            "-N DOCKER-USER\n-A DOCKER-USER -s 198.51.100.1/32 -j DROP\n-A DOCKER-USER -j RETURN\n"
        );
    });
}

#[test]
fn ufws_place_is_used_when_it_comes_and_left_when_the_instance_goes() {
    on_a_host(|| async {
        let (net, server, keeper) = kept("b004").await;
        let client = Pod::start(&net, 11).await;
        let ip = server.ip;
        for line in [
            "iptables-nft -P FORWARD DROP",
            "iptables-nft -N ufw-before-forward",
            "iptables-nft -A FORWARD -j ufw-before-forward",
        ] {
            tool(line);
        }
        until("pods reach each other", || client.run(move || answers(ip, 80))).await;
        keeper.abort();
        net.remove_all().await.unwrap();
        assert_eq!(tool("iptables-nft -S ufw-before-forward"), "-N ufw-before-forward\n");
    });
}

#[test]
fn what_a_firewall_drops_that_comes_in_is_named_until_it_knows_the_pods() {
    on_a_host(|| async {
        let net = open("b003").await;
        tool("iptables-nft -P INPUT DROP");
        let warnings = net.warnings().await.unwrap();
        assert!(warnings[0].contains("DNS"), "{warnings:?}");
        tool("iptables-nft -A INPUT -s 10.42.0.0/24 -j ACCEPT");
        assert!(net.warnings().await.unwrap().is_empty());
        tool("nft add table inet firewalld");
        let warnings = net.warnings().await.unwrap();
        assert!(warnings[0].contains("--add-source=10.42.0.0/24"), "{warnings:?}");
        tool("nft add chain inet firewalld zones");
        tool("nft add rule inet firewalld zones ip saddr 10.42.0.0/24 accept");
        let pods = net.config().ranges.ipv6.unwrap().pods;
        let warnings = net.warnings().await.unwrap();
        assert!(warnings[0].contains(&format!("--add-source={pods}")), "{warnings:?}");
        tool(&format!("nft add rule inet firewalld zones ip6 saddr {pods} accept"));
        assert!(net.warnings().await.unwrap().is_empty());
    });
}
