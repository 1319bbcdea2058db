//! The rows of the kinds of networking.k8s.io/v1.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Row, age, columns, or_none};
use crate::LabelSelector;
use crate::meta::{self, at, list_at, str_at};

/// How many hosts are listed before "more".
const SHOWN: usize = 3;

/// Returns the columns and the row of Ingresses.
pub(crate) fn ingress() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Class|string|0|The name of the IngressClass resource that should be used for additional configuration
Hosts|string|0|Hosts that incoming requests are matched against before the ingress rule
Address|string|0|Address is a list containing ingress points for the load-balancer
Ports|string|0|Ports of TLS configurations that open
Age|string|0|How long ago the object was created.";
    (columns(text), Row::Builtin(ingress_row))
}

/// Returns the columns and the row of IngressClasses.
pub(crate) fn ingress_class() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Controller|string|0|Controller that is responsible for handling this class
Parameters|string|0|A reference to a resource with additional parameters
Age|string|0|How long ago the object was created.";
    (columns(text), Row::Builtin(ingress_class_row))
}

/// Returns the columns and the row of NetworkPolicies.
pub(crate) fn network_policy() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Pod-Selector|string|0|Which pods it is about.
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        let selector = at(object, &["spec", "podSelector"]).unwrap_or(&Value::Null);
        let shown = LabelSelector::from_value(selector).map_or_else(
            |_| "<error>".into(),
            |selector| {
                if selector.is_everything() {
                    "<none>".into()
                } else {
                    or_none(&selector.to_string())
                }
            },
        );
        vec![meta::name(object).into(), shown, age(object, now)]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of IPAddresses.
pub(crate) fn ip_address() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
ParentRef|string|0|The object that the address is given to.";
    let row = |object: &Value, _| {
        let parent = at(object, &["spec", "parentRef"]).filter(|parent| parent.is_object());
        let shown = parent.map(|parent| {
            let text = |key: &str| str_at(parent, &[key]);
            let resource = crate::status::qualified(text("resource"), text("group")).to_lowercase();
            format!("{resource}/{}/{}", text("namespace"), text("name"))
        });
        vec![meta::name(object).into(), or_none(&shown.unwrap_or_default())]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of ServiceCIDRs.
pub(crate) fn service_range() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
CIDRs|string|0|The ranges that services' addresses are taken from.
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        let cidrs: Vec<&str> = list_at(object, &["spec", "cidrs"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        vec![meta::name(object).into(), cidrs.join(",").into(), age(object, now)]
    };
    (columns(text), Row::Builtin(row))
}

fn ingress_row(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let class = match str_at(ingress, &["spec", "ingressClassName"]) {
        "" => meta::annotation(ingress, "kubernetes.io/ingress.class").unwrap_or(""),
        class => class,
    };
    let mut addresses: Vec<&str> = list_at(ingress, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|entry| match str_at(entry, &["ip"]) {
            "" => str_at(entry, &["hostname"]),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let ports = if list_at(ingress, &["spec", "tls"]).is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        meta::name(ingress).into(),
        or_none(class),
        hosts(list_at(ingress, &["spec", "rules"])).into(),
        addresses.join(",").into(),
        ports.into(),
        age(ingress, now),
    ]
}

fn hosts(rules: &[Value]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == SHOWN;
        let host = str_at(rule, &["host"]);
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.join(","), more) {
        (text, _) if text.is_empty() => "*".to_owned(),
        (text, true) => format!("{text} + {} more...", rules.len() - SHOWN),
        (text, false) => text,
    }
}

fn ingress_class_row(class: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = at(class, &["spec", "parameters"]).filter(|found| found.is_object());
    let shown = parameters.map(|parameters| {
        let text = |key: &str| str_at(parameters, &[key]);
        let group = match text("apiGroup") {
            "" => String::new(),
            group => format!(".{group}"),
        };
        format!("{}{group}/{}", text("kind"), text("name"))
    });
    vec![
        meta::name(class).into(),
        str_at(class, &["spec", "controller"]).into(),
        or_none(&shown.unwrap_or_default()),
        age(class, now),
    ]
}
