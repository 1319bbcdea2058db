//! The rules of NetworkPolicies.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::workload::spec_of;
use super::{all_invalid, format, given, metadata};
use crate::meta::{int_at, list_at, str_at};
use crate::names;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// The directions, with the key of their peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// Returns what is wrong with a new NetworkPolicy.
pub fn create(object: &Value) -> Vec<FieldError> {
    spec(object, &HashSet::new())
}

/// Returns what is wrong with the change of a NetworkPolicy; ranges that it had it may keep, whatever is wrong with them.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut ranges = HashSet::new();
    for (direction, peers) in DIRECTIONS {
        let rules = list_at(old, &["spec", direction]).iter();
        for peer in rules.flat_map(|rule| list_at(rule, &[peers])) {
            let except = list_at(peer, &["ipBlock", "except"]).iter().filter_map(Value::as_str);
            ranges.insert(str_at(peer, &["ipBlock", "cidr"]));
            ranges.extend(except);
        }
    }
    spec(new, &ranges)
}

fn spec(object: &Value, kept: &HashSet<&str>) -> Vec<FieldError> {
    let (path, spec) = (Path::new("spec"), spec_of(object));
    let mut errors = metadata::selector(&path.child("podSelector"), spec.get("podSelector"));
    for (direction, peers) in DIRECTIONS {
        for (index, rule) in list_at(spec, &[direction]).iter().enumerate() {
            let path = path.child(direction).index(index);
            for (index, found) in list_at(rule, &["ports"]).iter().enumerate() {
                port(&mut errors, &path.child("ports").index(index), found);
            }
            for (index, found) in list_at(rule, &[peers]).iter().enumerate() {
                peer(&mut errors, &path.child(peers).index(index), found, kept);
            }
        }
    }
    let types = list_at(spec, &["policyTypes"]);
    let path = path.child("policyTypes");
    if types.len() > DIRECTIONS.len() {
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(path, types.to_vec(), detail));
        return errors;
    }
    for (index, ty) in types.iter().filter_map(Value::as_str).enumerate() {
        if !matches!(ty, "Ingress" | "Egress") {
            let supported = ["Egress", "Ingress"];
            errors.push(FieldError::not_supported(path.index(index), ty, &supported));
        }
    }
    errors
}

fn port(errors: &mut Vec<FieldError>, path: &Path, port: &Value) {
    if given(port, "protocol").is_some() {
        let protocol = str_at(port, &["protocol"]);
        if !PROTOCOLS.contains(&protocol) {
            errors.push(FieldError::not_supported(path.child("protocol"), protocol, PROTOCOLS));
        }
    }
    let (end, path_of_end) = (int_at(port, &["endPort"]), path.child("endPort"));
    let no_end = |errors: &mut Vec<FieldError>, detail: &str| {
        errors.extend(end.map(|end| FieldError::invalid(&path_of_end, end, detail)));
    };
    match given(port, "port") {
        Some(Value::String(name)) => {
            no_end(errors, "may not be specified when `port` is non-numeric");
            all_invalid(errors, &path.child("port"), name, names::port_name(name));
        }
        Some(number) => {
            let number = number.as_i64().unwrap_or(0);
            number_of(errors, &path.child("port"), number);
            if let Some(end) = end {
                if end < number {
                    let detail = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(&path_of_end, end, detail));
                }
                number_of(errors, &path_of_end, end);
            }
        }
        None => no_end(errors, "may not be specified when `port` is not specified"),
    }
}

fn number_of(errors: &mut Vec<FieldError>, path: &Path, number: i64) {
    let wrong = names::port_number(number).into_iter();
    errors.extend(wrong.map(|detail| FieldError::invalid(path, number, detail)));
}

fn peer(errors: &mut Vec<FieldError>, path: &Path, peer: &Value, kept: &HashSet<&str>) {
    let mut peers = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = given(peer, key) {
            peers += 1;
            errors.extend(metadata::selector(&path.child(key), Some(selector)));
        }
    }
    let block = given(peer, "ipBlock");
    if let Some(block) = block {
        peers += 1;
        ip_block(errors, &path.child("ipBlock"), block, kept);
    }
    if peers == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if peers > 1 && block.is_some() {
        let detail = "may not specify both ipBlock and another peer";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn ip_block(errors: &mut Vec<FieldError>, path: &Path, block: &Value, kept: &HashSet<&str>) {
    let cidr = str_at(block, &["cidr"]);
    if cidr.is_empty() {
        errors.push(FieldError::required(path.child("cidr"), ""));
        return;
    }
    let range = |errors: &mut Vec<FieldError>, path: &Path, text: &str| {
        if kept.contains(text) {
            format::Range::parse(text)
        } else {
            format::range(errors, path, text, false)
        }
    };
    let Some(whole) = range(errors, &path.child("cidr"), cidr) else {
        return;
    };
    let except = list_at(block, &["except"]).iter().filter_map(Value::as_str);
    for (index, text) in except.enumerate() {
        let path = path.child("except").index(index);
        if let Some(part) = range(errors, &path, text)
            && !whole.holds_strictly(part)
        {
            let detail = "must be a strict subset of `cidr`";
            errors.push(FieldError::invalid(path, text, detail));
        }
    }
}
