//! Real questions over real sockets.

use std::collections::BTreeMap;

use hickory_proto::rr::RData;
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::{A, CNAME};
use serde_json::json;

use super::*;
use crate::services::view::{ServiceEntry, SliceEntry};

const LIMIT: Duration = Duration::from_secs(5);

fn cluster() -> View {
    let services = [
        json!({"metadata": {"namespace": "default", "name": "web"}, "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:0:1:96::9"], "ports": [
            {"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}}),
        json!({"metadata": {"namespace": "default", "name": "db"}, "spec": {"clusterIP": "None", "ports": [
            {"name": "sql", "port": 5432}]}}),
        json!({"metadata": {"namespace": "default", "name": "empty"}, "spec": {"clusterIP": "None"}}),
        json!({"metadata": {"namespace": "other", "name": "away"}, "spec": {
            "type": "ExternalName", "externalName": "www.example.com"}}),
        json!({"metadata": {"namespace": "other", "name": "near"}, "spec": {
            "type": "ExternalName", "externalName": "web.default.svc.cluster.local"}}),
        json!({"metadata": {"namespace": "other", "name": "circle"}, "spec": {
            "type": "ExternalName", "externalName": "circle.other.svc.cluster.local"}}),
    ];
    let slices = [
        json!({
            "metadata": {"namespace": "default", "name": "db-2", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv6", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}], "endpoints": [
                {"addresses": ["fd00:0:1:42::5"], "hostname": "db-0"},
                {"addresses": ["fd00:0:1:42::6"]},
            ],
        }),
        json!({
        "metadata": {"namespace": "default", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}], "endpoints": [
            {"addresses": ["10.42.0.5"], "hostname": "db-0"},
            {"addresses": ["10.42.0.6"]},
            {"addresses": ["10.42.0.7"], "conditions": {"ready": false}},
        ],
        }),
    ];
    let services = services.into_iter().map(|value| {
        let entry = ServiceEntry::from_service(&serde_json::from_value(value).unwrap()).unwrap();
        (entry.key.clone(), Arc::new(entry))
    });
    let slices = slices.into_iter().map(|value| {
        let entry = SliceEntry::from_slice(&serde_json::from_value(value).unwrap()).unwrap();
        (entry.key.clone(), Arc::new(entry))
    });
    View::new(&services.collect::<BTreeMap<_, _>>(), &slices.collect())
}

struct World {
    dns: Dns,
    view: watch::Sender<Arc<View>>,
}

async fn start(view: View, upstreams: Vec<SocketAddr>) -> World {
    let config = DnsConfig {
        bind: Ipv4Addr::LOCALHOST,
        clients: "10.42.0.0/24".parse().unwrap(),
        port: 0,
        cluster_domain: "cluster.local".to_owned(),
        upstreams: Some(upstreams),
    };
    let (view, receiver) = watch::channel(Arc::new(view));
    World {
        dns: Dns::start(config, receiver).await.unwrap(),
        view,
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question
        .queries
        .push(Query::query(Name::from_ascii(name).unwrap(), kind));
    question
}

async fn over_udp(world: &World, question: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket
        .send_to(&question.to_vec().unwrap(), world.dns.address())
        .await
        .unwrap();
    let mut buffer = vec![0; 4096];
    let length = timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap().unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, question.metadata.id);
    assert_eq!(answer.queries, question.queries);
    answer
}

async fn over_tcp(world: &World, question: &Message) -> Message {
    let mut stream = TcpStream::connect(world.dns.address()).await.unwrap();
    let bytes = question.to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buffer = vec![0; usize::from(timeout(LIMIT, stream.read_u16()).await.unwrap().unwrap())];
    timeout(LIMIT, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer).unwrap()
}

async fn ask(world: &World, name: &str, kind: RecordType) -> Message {
    over_udp(world, &question(name, kind)).await
}

fn data(message: &Message) -> Vec<String> {
    let mut all: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    all.sort();
    all
}

/// A name server that knows `www.example.com` and `large.example.com`, counts its questions and drops the first.
async fn upstream(drop_first: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let (udp, tcp) = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = udp.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let answer = |bytes: &[u8], tcp: bool| {
        let mut message = Message::from_vec(bytes).unwrap().into_response();
        let name = message.queries[0].name().clone();
        match name.to_ascii().as_str() {
            "www.example.com." => {
                message
                    .answers
                    .push(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(192, 0, 2, 80)))));
            }
            "old.example.com." if Message::from_vec(bytes).unwrap().edns.is_some() => {
                message.metadata.response_code = ResponseCode::FormErr;
            }
            "old.example.com." => {
                message
                    .answers
                    .push(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(192, 0, 2, 81)))));
            }
            "large.example.com." if !tcp => message.metadata.truncation = true,
            "large.example.com." => message.answers.extend(
                (0..200).map(|n| Record::from_rdata(name.clone(), 60, RData::A(A(Ipv4Addr::new(192, 0, 2, n))))),
            ),
            _ => message.metadata.response_code = ResponseCode::NXDomain,
        }
        message.to_vec().unwrap()
    };
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 && drop_first {
                continue;
            }
            udp.send_to(&answer(&buffer[..length], false), peer).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut buffer).await.unwrap();
            let bytes = answer(&buffer, true);
            stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    (address, count)
}

#[tokio::test]
async fn a_service_has_its_cluster_ip_over_udp_and_tcp() {
    let world = start(cluster(), vec![]).await;
    let asked = question("web.default.svc.cluster.local.", RecordType::A);
    for answer in [over_udp(&world, &asked).await, over_tcp(&world, &asked).await] {
        assert_eq!(data(&answer), ["10.96.0.9"]);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    }
    let shouted = ask(&world, "WEB.Default.SVC.cluster.LOCAL.", RecordType::A).await;
    assert_eq!(data(&shouted), ["10.96.0.9"]);
}

#[tokio::test]
async fn an_absent_name_and_an_absent_type_are_told_apart() {
    let world = start(cluster(), vec![]).await;
    let codes = [
        ("web.default.svc.cluster.local.", ResponseCode::NoError),
        ("default.svc.cluster.local.", ResponseCode::NoError),
        ("svc.cluster.local.", ResponseCode::NoError),
        ("cluster.local.", ResponseCode::NoError),
        ("_tcp.web.default.svc.cluster.local.", ResponseCode::NoError),
        ("empty.default.svc.cluster.local.", ResponseCode::NoError),
        ("absent.default.svc.cluster.local.", ResponseCode::NXDomain),
        ("absent.svc.cluster.local.", ResponseCode::NXDomain),
        ("www.example.com.default.svc.cluster.local.", ResponseCode::NXDomain),
        ("_ftp._tcp.web.default.svc.cluster.local.", ResponseCode::NXDomain),
        ("db-9.db.default.svc.cluster.local.", ResponseCode::NXDomain),
    ];
    for (name, code) in codes {
        let answer = ask(&world, name, RecordType::MX).await;
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert!(answer.answers.is_empty(), "{name}");
        assert_eq!(
            answer.authorities.len(),
            1,
            "{name} has an SOA, so that its absence can be kept"
        );
    }
}

#[tokio::test]
async fn a_headless_service_has_its_ready_pods() {
    let world = start(cluster(), vec![]).await;
    let all = ask(&world, "db.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(data(&all), ["10.42.0.5", "10.42.0.6"]);
    let next = ask(&world, "db.default.svc.cluster.local.", RecordType::A).await;
    assert_ne!(all.answers[0], next.answers[0], "the order turns");
    assert_eq!(
        data(&ask(&world, "db-0.db.default.svc.cluster.local.", RecordType::A).await),
        ["10.42.0.5"]
    );
    assert_eq!(
        data(&ask(&world, "10-42-0-6.db.default.svc.cluster.local.", RecordType::A).await),
        ["10.42.0.6"]
    );
}

#[tokio::test]
async fn ports_are_found_by_name() {
    let world = start(cluster(), vec![]).await;
    let one = ask(&world, "_http._tcp.web.default.svc.cluster.local.", RecordType::SRV).await;
    assert_eq!(data(&one), ["0 100 80 web.default.svc.cluster.local."]);
    assert_eq!(one.additionals.len(), 2, "an address of each family");
    let all = ask(&world, "web.default.svc.cluster.local.", RecordType::SRV).await;
    assert_eq!(all.answers.len(), 2);
    let pods = ask(&world, "_sql._tcp.db.default.svc.cluster.local.", RecordType::SRV).await;
    let expected = [
        "0 33 5432 10-42-0-6.db.default.svc.cluster.local.",
        "0 33 5432 db-0.db.default.svc.cluster.local.",
        "0 33 5432 fd00-0-1-42--6.db.default.svc.cluster.local.",
    ];
    assert_eq!(data(&pods), expected);
}

#[tokio::test]
async fn addresses_have_names() {
    let world = start(cluster(), vec![]).await;
    let service = ask(&world, "9.0.96.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(data(&service), ["web.default.svc.cluster.local."]);
    let pod = ask(&world, "5.0.42.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(data(&pod), ["db-0.db.default.svc.cluster.local."]);
    assert_eq!(
        data(&ask(&world, "10-42-0-77.default.pod.cluster.local.", RecordType::A).await),
        ["10.42.0.77"]
    );
    let bad = ask(&world, "10-42-0.default.pod.cluster.local.", RecordType::A).await;
    assert_eq!(bad.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn external_names_are_followed() {
    let (address, _) = upstream(false).await;
    let world = start(cluster(), vec![address]).await;
    let away = ask(&world, "away.other.svc.cluster.local.", RecordType::A).await;
    assert_eq!(data(&away), ["192.0.2.80", "www.example.com."]);
    assert!(
        matches!(&away.answers[0].data, RData::CNAME(CNAME(_))),
        "the alias comes first"
    );
    let near = ask(&world, "near.other.svc.cluster.local.", RecordType::A).await;
    assert_eq!(data(&near), ["10.96.0.9", "web.default.svc.cluster.local."]);
    let circle = ask(&world, "circle.other.svc.cluster.local.", RecordType::A).await;
    assert_eq!(circle.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn other_names_are_asked_for_once_and_kept() {
    let (address, count) = upstream(false).await;
    let world = start(cluster(), vec![address]).await;
    for _ in 0..3 {
        let answer = ask(&world, "www.example.com.", RecordType::A).await;
        assert_eq!(data(&answer), ["192.0.2.80"]);
        assert!(!answer.metadata.authoritative);
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let absent = ask(&world, "absent.example.com.", RecordType::A).await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_resolver_that_knows_no_extensions_is_asked_without_them() {
    let (upstream, _) = upstream(false).await;
    let world = start(cluster(), vec![upstream]).await;
    assert_eq!(
        data(&ask(&world, "old.example.com.", RecordType::A).await),
        ["192.0.2.81"]
    );
}

#[tokio::test]
async fn a_lost_question_is_asked_again() {
    let (address, count) = upstream(true).await;
    let world = start(cluster(), vec![address]).await;
    assert_eq!(
        data(&ask(&world, "www.example.com.", RecordType::A).await),
        ["192.0.2.80"]
    );
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_large_answer_is_cut_over_udp_and_whole_over_tcp() {
    let (address, _) = upstream(false).await;
    let world = start(cluster(), vec![address]).await;
    let asked = question("large.example.com.", RecordType::A);
    let cut = over_udp(&world, &asked).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(over_tcp(&world, &asked).await.answers.len(), 200);
}

#[tokio::test]
async fn without_resolvers_the_failure_is_told_at_once() {
    let world = start(cluster(), vec![]).await;
    let answer = ask(&world, "www.example.com.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn before_the_api_is_read_nothing_is_denied() {
    let world = start(View::default(), vec![]).await;
    let early = ask(&world, "web.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(early.metadata.response_code, ResponseCode::ServFail);
    world.view.send_replace(Arc::new(cluster()));
    assert_eq!(
        data(&ask(&world, "web.default.svc.cluster.local.", RecordType::A).await),
        ["10.96.0.9"]
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_advice() {
    let world = start(cluster(), vec![]).await;
    let config = DnsConfig {
        bind: Ipv4Addr::LOCALHOST,
        clients: "10.42.0.0/24".parse().unwrap(),
        port: world.dns.address().port(),
        cluster_domain: "cluster.local".to_owned(),
        upstreams: None,
    };
    let error = Dns::start(config.clone(), world.view.subscribe())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&world.dns.address().to_string()) && error.contains("ss -lnp"),
        "{error}"
    );
    world.dns.shutdown().await;
    Dns::start(config, world.view.subscribe())
        .await
        .unwrap()
        .shutdown()
        .await;
}

#[tokio::test]
async fn what_is_no_plain_question_is_refused() {
    let world = start(cluster(), vec![]).await;
    let transfer = ask(&world, "cluster.local.", RecordType::AXFR).await;
    assert_eq!(transfer.metadata.response_code, ResponseCode::Refused);
    let mut two = question("a.example.com.", RecordType::A);
    two.queries
        .push(Query::query(Name::from_ascii("b.example.com.").unwrap(), RecordType::A));
    assert_eq!(
        over_udp(&world, &two).await.metadata.response_code,
        ResponseCode::FormErr
    );
}

#[test]
fn pods_and_this_host_are_answered_and_nobody_else() {
    let clients = "10.42.0.0/24".parse().unwrap();
    let served = |address: &str| serves(clients, address.parse().unwrap());
    assert!(served("10.42.0.7") && served("127.0.0.1"));
    assert!(!served("192.0.2.7") && !served("10.42.1.7") && !served("2001:db8::1"));
}

#[tokio::test]
async fn addresses_of_ipv6_are_told_and_have_names() {
    let world = start(cluster(), Vec::new()).await;
    let service = ask(&world, "web.default.svc.cluster.local.", RecordType::AAAA).await;
    assert_eq!(data(&service), ["fd00:0:1:96::9"]);
    let pods = ask(&world, "db.default.svc.cluster.local.", RecordType::AAAA).await;
    assert_eq!(data(&pods), ["fd00:0:1:42::5", "fd00:0:1:42::6"]);
    let pod = ask(&world, "db-0.db.default.svc.cluster.local.", RecordType::AAAA).await;
    assert_eq!(data(&pod), ["fd00:0:1:42::5"]);
    let dashed = "fd00-0-1-42--6.db.default.svc.cluster.local.";
    assert_eq!(data(&ask(&world, dashed, RecordType::AAAA).await), ["fd00:0:1:42::6"]);
    let by_address = ask(&world, "fd00-0-1-42--9.default.pod.cluster.local.", RecordType::AAAA).await;
    assert_eq!(data(&by_address), ["fd00:0:1:42::9"]);
    let port = ask(&world, "_http._tcp.web.default.svc.cluster.local.", RecordType::SRV).await;
    assert_eq!(port.answers.len(), 1, "one port at one name");
    let mut told: Vec<String> = port.additionals.iter().map(|record| record.data.to_string()).collect();
    told.sort();
    assert_eq!(told, ["10.96.0.9", "fd00:0:1:96::9"]);
    let reverse = |ip: &str| {
        let digits = format!("{:032x}", u128::from(ip.parse::<std::net::Ipv6Addr>().unwrap()));
        let digits: Vec<String> = digits.chars().rev().map(String::from).collect();
        format!("{}.ip6.arpa.", digits.join("."))
    };
    let service = ask(&world, &reverse("fd00:0:1:96::9"), RecordType::PTR).await;
    assert_eq!(data(&service), ["web.default.svc.cluster.local."]);
    let pod = ask(&world, &reverse("fd00:0:1:42::5"), RecordType::PTR).await;
    assert_eq!(data(&pod), ["db-0.db.default.svc.cluster.local."]);
}
