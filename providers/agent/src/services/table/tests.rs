use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use setpoint_net::Protocol;

use super::*;
use crate::services::view::SliceEntry;

fn view(services: &[Value], slices: &[Value]) -> View {
    let services = services.iter().map(|value| {
        let service = serde_json::from_value(value.clone()).unwrap();
        let entry = ServiceEntry::from_service(&service).unwrap();
        (entry.key.clone(), Arc::new(entry))
    });
    let slices = slices.iter().filter_map(|value| {
        let slice = serde_json::from_value(value.clone()).unwrap();
        let entry = SliceEntry::from_slice(&slice)?;
        Some((entry.key.clone(), Arc::new(entry)))
    });
    View::new(&services.collect::<BTreeMap<_, _>>(), &slices.collect())
}

fn service(spec: &Value) -> Value {
    json!({"metadata": {"namespace": "default", "name": "web"}, "spec": spec})
}

fn slice(name: &str, ports: &Value, endpoints: &Value) -> Value {
    json!({
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}

fn http() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn plain() -> Value {
    json!({"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]})
}

fn here() -> Here {
    Here {
        node: "one".to_owned(),
        zone: Some("east".to_owned()),
    }
}

fn build(view: &View) -> ServiceTable {
    super::build(view, &here(), &[])
}

fn serving(view: &View) -> BTreeSet<IpAddr> {
    super::serving(view, &here())
}

fn ips(view: &View) -> Vec<String> {
    build(view).ports[0]
        .backends
        .iter()
        .map(|backend| backend.ip.to_string())
        .collect()
}

#[test]
fn ready_endpoints_of_all_slices_are_backends() {
    let one = slice(
        "a",
        &http(),
        &json!([{"addresses": ["10.42.0.2"], "conditions": {"ready": true}}]),
    );
    let two = slice(
        "b",
        &http(),
        &json!([{"addresses": ["10.42.0.1"]}, {"addresses": ["10.42.0.3"], "conditions": {"ready": false}}]),
    );
    let view = view(&[service(&plain())], &[one, two]);
    assert_eq!(ips(&view), ["10.42.0.1", "10.42.0.2"]);
    let table = build(&view);
    assert_eq!(table.ports[0].name, "default/web:http");
    assert_eq!(table.ports[0].backends[0].port, 8080);
    assert_eq!(serving(&view).len(), 2);
}

#[test]
fn endpoints_count_before_they_are_ready_where_the_service_says_so() {
    let mut spec = plain();
    spec["publishNotReadyAddresses"] = json!(true);
    let slice = slice(
        "a",
        &http(),
        &json!([{"addresses": ["10.42.0.2"], "conditions": {"ready": false}}]),
    );
    assert_eq!(ips(&view(&[service(&spec)], &[slice])), ["10.42.0.2"]);
}

#[test]
fn terminating_endpoints_serve_only_for_want_of_ready_ones() {
    let terminating = json!({"ready": false, "serving": true, "terminating": true});
    let leaving = json!({"addresses": ["10.42.0.2"], "conditions": terminating});
    let ready = json!({"addresses": ["10.42.0.3"], "conditions": {"ready": true}});
    let alone = view(&[service(&plain())], &[slice("a", &http(), &json!([leaving]))]);
    assert_eq!(ips(&alone), ["10.42.0.2"]);
    assert!(
        serving(&alone).is_empty(),
        "it serves by fallback only, so its pod may go"
    );
    let both = view(&[service(&plain())], &[slice("a", &http(), &json!([leaving, ready]))]);
    assert_eq!(ips(&both), ["10.42.0.3"]);
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let spec = json!({"clusterIP": "10.96.0.9", "type": "NodePort", "ports": [
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": "tcp"},
    ]});
    let ports = json!([
        {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 5354, "protocol": "TCP"},
        {"name": "metrics", "port": 9153, "protocol": "TCP"},
    ]);
    let table = build(&view(
        &[service(&spec)],
        &[slice("a", &ports, &json!([{"addresses": ["10.42.0.2"]}]))],
    ));
    let seen: Vec<_> = table
        .ports
        .iter()
        .map(|port| (port.protocol, port.port, port.node_port, port.backends[0].port))
        .collect();
    assert_eq!(
        seen,
        [(Protocol::Udp, 53, Some(30_053), 5353), (Protocol::Tcp, 53, None, 5354)]
    );
}

#[test]
fn external_and_load_balancer_addresses_lead_in_too() {
    let mut value = service(&plain());
    value["spec"]["type"] = json!("LoadBalancer");
    value["spec"]["loadBalancerSourceRanges"] = json!(["198.51.100.9/24", "2001:db8::/32"]);
    value["spec"]["externalIPs"] = json!(["192.0.2.7", "2001:db8::1"]);
    value["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"hostname": "lb.example"}]}});
    value["spec"]["sessionAffinity"] = json!("ClientIP");
    let table = build(&view(&[value], &[]));
    let port = &table.ports[0];
    let text = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(&port.external_ips), ["192.0.2.7"]);
    assert_eq!(text(&port.balancer_ips), ["192.0.2.1"]);
    assert_eq!(port.balancer_sources, Some(vec!["198.51.100.0/24".parse().unwrap()]));
    assert_eq!(table.ports[0].affinity_seconds, Some(10_800));
    assert!(
        table.ports[0].backends.is_empty(),
        "a service without endpoints is there, to refuse"
    );
}

#[test]
fn headless_and_external_services_need_no_rules() {
    let headless = service(&json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    assert!(build(&view(&[headless], &[])).ports.is_empty());
    let external = service(&json!({"type": "ExternalName", "externalName": "example.com"}));
    assert!(build(&view(&[external], &[])).ports.is_empty());
    assert!(
        build(&view(&[service(&json!({"ports": [{"port": 80}]}))], &[]))
            .ports
            .is_empty()
    );
}

#[test]
fn slices_of_other_address_families_do_not_count() {
    let mut six = slice("a", &http(), &json!([{"addresses": ["fd00::1"]}]));
    six["addressType"] = json!("IPv6");
    assert!(ips(&view(&[service(&plain())], &[six])).is_empty());
}

fn on(ip: &str, node: &str, hints: Value) -> Value {
    json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}, "hints": hints})
}

fn last(backends: &[Backend]) -> Vec<u8> {
    let last = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    backends.iter().map(|backend| last(backend.ip)).collect()
}

#[test]
fn local_policies_know_the_backends_of_this_node() {
    let mut spec = plain();
    spec["type"] = json!("NodePort");
    spec["externalTrafficPolicy"] = json!("Local");
    let leaving = json!({"addresses": ["10.42.0.4"], "nodeName": "one", "conditions": {"ready": false, "serving": true, "terminating": true}});
    let endpoints = json!([
        on("10.42.0.2", "one", json!(null)),
        on("10.42.0.3", "two", json!(null)),
        leaving
    ]);
    let both = view(&[service(&spec)], &[slice("a", &http(), &endpoints)]);
    let port = build(&both).ports.remove(0);
    assert!(port.external_local && !port.internal_local);
    assert_eq!(
        (last(&port.backends), last(&port.local_backends)),
        (vec![2, 3], vec![2])
    );
    assert_eq!(
        local_endpoints(&both, &here(), both.service("default", "web").unwrap()),
        1
    );
    // For want of a ready one here, the one that leaves: the two are chosen each for itself.
    let endpoints = json!([on("10.42.0.3", "two", json!(null)), leaving]);
    let view = view(&[service(&spec)], &[slice("a", &http(), &endpoints)]);
    let port = build(&view).ports.remove(0);
    assert_eq!((last(&port.backends), last(&port.local_backends)), (vec![3], vec![4]));
    assert_eq!(serving(&view), [IpAddr::from([10, 42, 0, 3])].into());
}

#[test]
fn hints_count_when_every_ready_endpoint_has_one_and_some_are_for_here() {
    let zone = |name: &str| json!({"forZones": [{"name": name}]});
    let node = |name: &str, of: &str| json!({"forZones": [{"name": of}], "forNodes": [{"name": name}]});
    let chosen = |endpoints: Value| {
        let port = build(&view(&[service(&plain())], &[slice("a", &http(), &endpoints)]))
            .ports
            .remove(0);
        last(&port.backends)
    };
    let (two, three) = ("10.42.0.2", "10.42.0.3");
    assert_eq!(
        chosen(json!([on(two, "one", zone("east")), on(three, "two", zone("west"))])),
        [2]
    );
    assert_eq!(
        chosen(json!([on(two, "one", zone("east")), on(three, "two", json!(null))])),
        [2, 3]
    );
    assert_eq!(
        chosen(json!([on(two, "one", zone("west")), on(three, "two", zone("west"))])),
        [2, 3]
    );
    assert_eq!(
        chosen(json!([
            on(two, "x", node("one", "east")),
            on(three, "y", node("two", "east"))
        ])),
        [2]
    );
    assert_eq!(
        chosen(json!([
            on(two, "x", node("six", "east")),
            on(three, "y", node("two", "west"))
        ])),
        [2],
        "no node is meant, but the zone is"
    );
}

#[test]
fn a_load_balanced_service_with_the_local_policy_has_a_health_check() {
    let mut spec = plain();
    spec["healthCheckNodePort"] = json!(31_000);
    spec["type"] = json!("LoadBalancer");
    let port = |spec: &Value| {
        let view = view(&[service(spec)], &[]);
        view.service("default", "web").unwrap().health_check_port
    };
    assert_eq!(port(&spec), None);
    spec["externalTrafficPolicy"] = json!("Local");
    assert_eq!(port(&spec), Some(31_000));
}

#[test]
fn a_service_of_both_families_has_a_port_of_each_with_backends_of_its_own() {
    let mut value = service(&plain());
    value["spec"]["clusterIPs"] = json!(["10.96.0.9", "fd00:0:1:96::9"]);
    value["spec"]["type"] = json!("LoadBalancer");
    value["spec"]["loadBalancerSourceRanges"] = json!(["198.51.100.9/24"]);
    value["spec"]["externalIPs"] = json!(["192.0.2.7", "2001:db8::1"]);
    let four = slice("a", &http(), &json!([{"addresses": ["10.42.0.2"], "nodeName": "one"}]));
    let mut six = slice(
        "b",
        &http(),
        &json!([{"addresses": ["fd00:0:1:42::2"], "nodeName": "one"}]),
    );
    six["addressType"] = json!("IPv6");
    let view = view(&[value], &[four, six]);
    let table = build(&view);
    let shown: Vec<String> = table
        .ports
        .iter()
        .map(|port| {
            let (ips, backends) = (&port.external_ips, &port.backends);
            format!(
                "{} {:?} {ips:?} {:?}",
                port.family,
                port.cluster_ip.unwrap(),
                backends[0].ip
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "IPv4 10.96.0.9 [192.0.2.7] 10.42.0.2",
            "IPv6 fd00:0:1:96::9 [2001:db8::1] fd00:0:1:42::2"
        ]
    );
    // Who names sources of one family lets nobody of the other in.
    assert_eq!(table.ports[1].balancer_sources, Some(Vec::new()));
    assert_eq!(serving(&view).len(), 2);
    let entry = view.services().next().unwrap();
    assert_eq!(local_endpoints(&view, &here(), entry), 1, "a pod of both is one");
}
