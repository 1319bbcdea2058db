//! Which addresses a load balanced service gets.

use serde_json::{Value, json};

use super::*;

fn node(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Node> {
    let mut node = json!({ "metadata": { "name": name, "labels": {} }, "status": {
        "addresses": [{ "type": "Hostname", "address": name }, { "type": "InternalIP", "address": "192.0.2.1" }],
        "conditions": [{ "type": "Ready", "status": "True" }],
    } });
    change(&mut node);
    Arc::new(serde_json::from_value(node).expect("a node"))
}

/// A service made in that second.
fn service(name: &str, second: u8, change: impl FnOnce(&mut Value)) -> Arc<Service> {
    let mut service = json!({
        "metadata": { "name": name, "namespace": "default", "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z") },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP" }] },
    });
    change(&mut service);
    Arc::new(serde_json::from_value(service).expect("a service"))
}

fn decided(service: &Arc<Service>, others: &[&Arc<Service>], nodes: &[Arc<Node>]) -> Decision {
    let mut services: Vec<_> = others.iter().map(|other| (*other).clone()).collect();
    services.push(service.clone());
    decide(&Observed {
        service: service.clone(),
        services,
        nodes: nodes.to_vec(),
    })
}

fn got(decision: &Decision) -> Option<Vec<String>> {
    let addresses = decision.addresses.as_ref()?;
    Some(addresses.iter().map(ToString::to_string).collect())
}

fn with_status(value: &mut Value) {
    value["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "VIP" }] } });
}

#[test]
fn a_service_gets_the_addresses_of_the_ready_nodes_once() {
    let nodes = [
        node("a", |_| {}),
        node("b", |node| {
            node["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "10.0.0.2" }, { "type": "ExternalIP", "address": "198.51.100.2" }]);
        }),
        node("down", |node| {
            node["status"]["addresses"][1]["address"] = json!("192.0.2.3");
            node["status"]["conditions"][0]["status"] = json!("Unknown");
        }),
        node("left out", |node| {
            node["status"]["addresses"][1]["address"] = json!("192.0.2.4");
            node["metadata"]["labels"] = json!({ EXCLUDED: "" });
        }),
    ];
    let web = service("web", 1, |_| {});
    assert_eq!(got(&decided(&web, &[], &nodes)).unwrap(), ["192.0.2.1", "198.51.100.2"]);
    let settled = service("web", 1, with_status);
    assert_eq!(decided(&settled, &[], &nodes[..1]), Decision::default());
    assert_eq!(
        decided(&settled, &[], &nodes[2..3]),
        Decision::default(),
        "no node is no news"
    );
}

#[test]
fn a_service_of_another_class_or_type_is_left_alone_but_for_what_it_was() {
    let nodes = [node("a", |_| {})];
    let foreign = service("web", 1, |service| {
        service["spec"]["loadBalancerClass"] = json!("example.com/lb")
    });
    assert_eq!(decided(&foreign, &[], &nodes), Decision::default());
    let former = service("web", 1, |service| {
        service["spec"]["type"] = json!("ClusterIP");
        with_status(service);
    });
    assert_eq!(got(&decided(&former, &[], &nodes)).unwrap(), [""; 0]);
}

#[test]
fn of_two_with_the_same_port_the_older_has_it_and_the_other_is_told() {
    let nodes = [node("a", |_| {})];
    let first = service("first", 1, |_| {});
    let second = service("second", 2, |_| {});
    assert_eq!(got(&decided(&first, &[&second], &nodes)).unwrap(), ["192.0.2.1"]);
    let refused = decided(&second, &[&first], &nodes);
    assert_eq!(refused.addresses, None);
    assert_eq!(
        refused.conflicts,
        ["port 80/TCP of 192.0.2.1 is taken by service default/first"]
    );
    let other_port = service("second", 2, |service| {
        service["spec"]["ports"][0]["protocol"] = json!("UDP")
    });
    assert_eq!(got(&decided(&other_port, &[&first], &nodes)).unwrap(), ["192.0.2.1"]);
    // One that got nothing holds nothing.
    let third = service("third", 3, |service| service["spec"]["ports"] = json!([{ "port": 81 }]));
    let greedy = service("second", 2, |service| {
        service["spec"]["ports"] = json!([{ "port": 80 }, { "port": 81 }])
    });
    assert_eq!(
        got(&decided(&third, &[&first, &greedy], &nodes)).unwrap(),
        ["192.0.2.1"]
    );
}

#[test]
fn a_service_gets_addresses_of_its_families() {
    let nodes = [node("a", |node| {
        let both = json!([{ "type": "InternalIP", "address": "192.0.2.1" }, { "type": "InternalIP", "address": "2001:db8::1" }]);
        node["status"]["addresses"] = both;
    })];
    let of = |families: Value| {
        let service = service("a", 1, |service| service["spec"]["ipFamilies"] = families);
        got(&decided(&service, &[], &nodes)).expect("addresses")
    };
    assert_eq!(of(Value::Null), ["192.0.2.1"]);
    assert_eq!(of(json!(["IPv6"])), ["2001:db8::1"]);
    assert_eq!(of(json!(["IPv6", "IPv4"])), ["192.0.2.1", "2001:db8::1"]);
}
