//! The rows of Services, Endpoints and EndpointSlices.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, columns, format_labels, or_none};
use crate::meta::{self, at, int_at, list_at, str_at};

/// How many endpoints or ports are listed before "more".
const SHOWN: usize = 3;

/// Returns the columns and the row of Services.
pub(crate) fn service() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Type|string|0|How the service is exposed.
Cluster-IP|string|0|The address inside the cluster.
External-IP|string|0|The addresses outside the cluster.
Port(s)|string|0|The ports of the service, with their node ports.
Age|string|0|How long ago the object was created.
Selector|string|1|Which pods stand behind it.";
    (columns(text), Row::Builtin(service_row))
}

/// Returns the columns and the row of Endpoints.
pub(crate) fn endpoints() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Endpoints|string|0|The addresses and ports behind a service.
Age|string|0|How long ago the object was created.";
    (columns(text), Row::Builtin(endpoints_row))
}

/// Returns the columns and the row of EndpointSlices.
pub(crate) fn endpoint_slice() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
AddressType|string|0|The sort of the addresses.
Ports|string|0|The ports of each endpoint.
Endpoints|string|0|The addresses of the endpoints.
Age|string|0|How long ago the object was created.";
    (columns(text), Row::Builtin(endpoint_slice_row))
}

fn texts<'a>(object: &'a Value, path: &[&str]) -> Vec<&'a str> {
    list_at(object, path).iter().filter_map(Value::as_str).collect()
}

fn service_row(service: &Value, now: Timestamp) -> Vec<Value> {
    let address = texts(service, &["spec", "clusterIPs"]).first().copied().unwrap_or("");
    let address = if address.is_empty() {
        str_at(service, &["spec", "clusterIP"])
    } else {
        address
    };
    vec![
        meta::name(service).into(),
        str_at(service, &["spec", "type"]).into(),
        or_none(address),
        external(service),
        ports(service),
        age(service, now),
        format_labels(at(service, &["spec", "selector"])),
    ]
}

fn external(service: &Value) -> Value {
    let external = texts(service, &["spec", "externalIPs"]).join(",");
    match str_at(service, &["spec", "type"]) {
        "ExternalName" => or_none(str_at(service, &["spec", "externalName"])),
        "LoadBalancer" => {
            let ingress = list_at(service, &["status", "loadBalancer", "ingress"]);
            let name = |ingress| match str_at(ingress, &["ip"]) {
                "" => str_at(ingress, &["hostname"]),
                ip => ip,
            };
            let mut all: Vec<&str> = ingress.iter().map(name).collect();
            all.extend(texts(service, &["spec", "externalIPs"]));
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",").into()
            }
        }
        _ => or_none(&external),
    }
}

fn ports(service: &Value) -> Value {
    let port = |port: &Value| {
        let (number, protocol) = (int_at(port, &["port"]).unwrap_or(0), str_at(port, &["protocol"]));
        match int_at(port, &["nodePort"]) {
            Some(node_port) if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    or_none(
        &list_at(service, &["spec", "ports"])
            .iter()
            .map(port)
            .collect::<Vec<_>>()
            .join(","),
    )
}

/// Joins the first few of a list and says how many more there are.
fn shortened(all: &[String]) -> String {
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    if all.len() > SHOWN {
        format!("{shown} + {} more...", all.len() - SHOWN)
    } else {
        shown
    }
}

fn endpoints_row(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list_at(endpoints, &["subsets"]) {
        let addresses = list_at(subset, &["addresses"])
            .iter()
            .map(|address| str_at(address, &["ip"]));
        let ports = list_at(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(addresses.clone().map(str::to_owned));
        }
        for port in ports {
            let number = int_at(port, &["port"]).unwrap_or(0);
            let join = |ip: &str| {
                if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                }
            };
            all.extend(addresses.clone().map(join));
        }
    }
    vec![
        meta::name(endpoints).into(),
        or_none(&shortened(&all)),
        age(endpoints, now),
    ]
}

fn endpoint_slice_row(slice: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match int_at(port, &["port"]) {
        Some(number) => number.to_string(),
        None => "*".to_owned(),
    };
    let ports: Vec<String> = list_at(slice, &["ports"]).iter().map(port).collect();
    let endpoints = list_at(slice, &["endpoints"]).iter();
    let addresses: Vec<String> = endpoints
        .flat_map(|endpoint| texts(endpoint, &["addresses"]))
        .map(str::to_owned)
        .collect();
    let or_unset = |all: &[String]| {
        Value::from(if all.is_empty() {
            "<unset>".to_owned()
        } else {
            shortened(all)
        })
    };
    vec![
        meta::name(slice).into(),
        str_at(slice, &["addressType"]).into(),
        or_unset(&ports),
        or_unset(&addresses),
        age(slice, now),
    ]
}
