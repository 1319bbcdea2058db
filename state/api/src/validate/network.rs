//! The rules of Services, Endpoints and EndpointSlices.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::field::{FieldError, Path};
use super::{all_invalid, immutable, one_of};
use crate::meta::{at, int_at, list_at, str_at};
use crate::names;

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const TRAFFIC_DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];
/// How many endpoints and ports a slice may have, and how many addresses each endpoint.
const MOST_ENDPOINTS: usize = 1000;
const MOST_PORTS: usize = 20_000;
const MOST_ADDRESSES: usize = 100;
const BAD_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Returns what is wrong with a Service.
pub fn service(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    let text = |key: &str| str_at(service, &["spec", key]);
    let ports = list_at(service, &["spec", "ports"]);
    let headless = text("clusterIP") == "None";
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(&mut errors, &spec.child("type"), text("type"), &types, true);
    one_of(
        &mut errors,
        &spec.child("sessionAffinity"),
        text("sessionAffinity"),
        &["ClientIP", "None"],
        true,
    );
    match text("type") {
        "ExternalName" => {
            let name = text("externalName").trim_end_matches('.');
            if name.is_empty() {
                errors.push(FieldError::required(spec.child("externalName"), ""));
            } else {
                all_invalid(
                    &mut errors,
                    &spec.child("externalName"),
                    name,
                    names::dns_subdomain(name),
                );
            }
            if !text("clusterIP").is_empty() && !headless {
                errors.push(FieldError::forbidden(
                    spec.child("clusterIP"),
                    "may not be set for ExternalName services",
                ));
            }
        }
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {} services", text("type"));
            errors.push(FieldError::invalid(spec.child("clusterIPs").index(0), "None", detail));
        }
        _ => {}
    }
    if ports.is_empty() && !headless && text("type") != "ExternalName" {
        errors.push(FieldError::required(spec.child("ports"), ""));
    }
    service_ports(&mut errors, &spec.child("ports"), ports, text("type"), headless);
    errors.extend(super::metadata::labels(
        &spec.child("selector"),
        at(service, &["spec", "selector"]),
    ));
    let address = text("clusterIP");
    if !address.is_empty() && !headless && address.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(
            spec.child("clusterIPs").index(0),
            address,
            BAD_ADDRESS,
        ));
    }
    for (index, address) in list_at(service, &["spec", "externalIPs"])
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        if address.parse::<IpAddr>().is_err() {
            errors.push(FieldError::invalid(
                spec.child("externalIPs").index(index),
                address,
                BAD_ADDRESS,
            ));
        }
    }
    one_of(
        &mut errors,
        &spec.child("internalTrafficPolicy"),
        text("internalTrafficPolicy"),
        &["Cluster", "Local"],
        false,
    );
    one_of(
        &mut errors,
        &spec.child("externalTrafficPolicy"),
        text("externalTrafficPolicy"),
        &["Cluster", "Local"],
        false,
    );
    if let Some(spread) = at(service, &["spec", "trafficDistribution"]).and_then(Value::as_str)
        && !TRAFFIC_DISTRIBUTIONS.contains(&spread)
    {
        let path = spec.child("trafficDistribution");
        errors.push(FieldError::not_supported_in_order(path, spread, TRAFFIC_DISTRIBUTIONS));
    }
    if let Some(seconds) = int_at(
        service,
        &["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"],
    ) && !(1..=86400).contains(&seconds)
    {
        let path = spec
            .child("sessionAffinityConfig")
            .child("clientIP")
            .child("timeoutSeconds");
        errors.push(FieldError::invalid(
            path,
            seconds,
            "must be greater than 0 and less than 86400",
        ));
    }
    service_exposure(&mut errors, &spec, service);
    errors
}

/// Checks the fields that mean something for a part of all services only.
fn service_exposure(errors: &mut Vec<FieldError>, spec: &Path, service: &Value) {
    let text = |key: &str| str_at(service, &["spec", key]);
    let external = list_at(service, &["spec", "externalIPs"]);
    let exposed =
        matches!(text("type"), "LoadBalancer" | "NodePort") || (text("type") == "ClusterIP" && !external.is_empty());
    if !text("externalTrafficPolicy").is_empty() && !exposed {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(
            spec.child("externalTrafficPolicy"),
            text("externalTrafficPolicy"),
            detail,
        ));
    }
    let ranges = list_at(service, &["spec", "loadBalancerSourceRanges"]);
    let path = spec.child("loadBalancerSourceRanges");
    if !ranges.is_empty() && text("type") != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&path, detail));
    }
    for (index, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        if !is_range(range.trim()) {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(path.index(index), range, detail));
        }
    }
    if !text("loadBalancerClass").is_empty() && text("type") != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(spec.child("loadBalancerClass"), detail));
    }
    ip_families(errors, service);
}

fn ip_families(errors: &mut Vec<FieldError>, service: &Value) {
    let spec = Path::new("spec");
    one_of(
        errors,
        &spec.child("ipFamilyPolicy"),
        str_at(service, &["spec", "ipFamilyPolicy"]),
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
        false,
    );
    let mut families = HashSet::new();
    for (index, family) in list_at(service, &["spec", "ipFamilies"])
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        let path = spec.child("ipFamilies").index(index);
        one_of(errors, &path, family, &["IPv4", "IPv6"], true);
        if !families.insert(family) {
            errors.push(FieldError::duplicate(&path, family));
        }
    }
}

/// Returns what is wrong with the cluster IPs and families of a Service, before they are given out.
pub fn cluster_ips(service: &Value) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let text = |key: &str| str_at(service, &["spec", key]);
    let texts = |key: &str| -> Vec<&str> {
        let list = list_at(service, &["spec", key]).iter();
        list.map(|value| value.as_str().unwrap_or_default()).collect()
    };
    let mut errors = Vec::new();
    if text("type") == "ExternalName" {
        return errors;
    }
    let path = spec.child("clusterIPs");
    let (ips, families) = (texts("clusterIPs"), texts("ipFamilies"));
    let whole = |detail: &str| FieldError::invalid(&path, json!(ips), detail);
    match (text("clusterIP"), ips.first()) {
        ("", Some(_)) => errors.push(whole("must be empty when `clusterIP` is not specified")),
        ("", None) => {}
        (_, None) => errors.push(FieldError::required(&path, "")),
        (single, Some(first)) if single != *first => errors.push(whole("first value must match `clusterIP`")),
        _ => {}
    }
    ip_families(&mut errors, service);
    let before = errors.len();
    for (at, ip) in ips.iter().enumerate() {
        if at == 0 && *ip == "None" {
            if ips.len() > 1 {
                errors.push(whole("'None' must be the first and only value"));
            }
        } else if ip.parse::<IpAddr>().is_err() {
            errors.push(FieldError::invalid(path.index(at), *ip, BAD_ADDRESS));
        }
    }
    let is_bad = errors.len() > before;
    if ips.len() > 2 {
        errors.push(whole("may only hold up to 2 values"));
    }
    if is_bad {
        return errors;
    }
    let of_ip = |ip: &str| match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => "IPv4",
        Ok(IpAddr::V6(_)) => "IPv6",
        Err(_) => "",
    };
    let several: HashSet<&str> = ips.iter().map(|ip| of_ip(ip)).collect();
    if ips.len() > 1 && several.len() != ips.len() {
        errors.push(whole("may specify no more than one IP for each IP family"));
    }
    for (at, (ip, family)) in ips.iter().zip(&families).enumerate() {
        if *ip != "None" && matches!(*family, "IPv4" | "IPv6") && of_ip(ip) != *family {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{at}]`");
            errors.push(FieldError::invalid(path.index(at), *ip, detail));
        }
    }
    errors
}

/// Whether a text is an address and the length of a prefix of it.
fn is_range(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn service_ports(errors: &mut Vec<FieldError>, path: &Path, ports: &[Value], ty: &str, headless: bool) {
    let mut names_seen = HashSet::new();
    let mut seen = HashSet::new();
    let mut node_ports = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let (name, protocol) = (str_at(port, &["name"]), str_at(port, &["protocol"]));
        let number = int_at(port, &["port"]).unwrap_or(0);
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(path.child("name"), ""));
            }
        } else {
            all_invalid(errors, &path.child("name"), name, names::dns_label(name));
            if !names_seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
        }
        port_number(errors, &path.child("port"), number);
        one_of(errors, &path.child("protocol"), protocol, PROTOCOLS, true);
        if let Some(target) = port.get("targetPort") {
            target_port(errors, &path.child("targetPort"), target);
            let same = target.as_i64() == Some(number);
            if headless && !same && target.is_number() {
                let detail = "must be equal to the value of 'port' when clusterIP = None";
                errors.push(FieldError::invalid(path.child("targetPort"), target.clone(), detail));
            }
        }
        if !seen.insert((number, protocol)) {
            let value = serde_json::json!({"port": number, "protocol": protocol});
            errors.push(FieldError::duplicate(&path, value));
        }
        let protocol_above = str_at(port, &["appProtocol"]);
        if !protocol_above.is_empty() {
            all_invalid(
                errors,
                &path.child("appProtocol"),
                protocol_above,
                names::qualified_name(protocol_above),
            );
        }
        if let Some(node_port) = int_at(port, &["nodePort"]).filter(|number| *number != 0) {
            if ty == "ClusterIP" || ty == "ExternalName" {
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.push(FieldError::forbidden(path.child("nodePort"), detail));
            }
            if !node_ports.insert((node_port, protocol)) {
                errors.push(FieldError::duplicate(path.child("nodePort"), node_port));
            }
        }
    }
}

/// Refuses a number that is no port.
pub fn port_number(errors: &mut Vec<FieldError>, path: &Path, number: i64) {
    errors.extend(
        names::port_number(number)
            .into_iter()
            .map(|detail| FieldError::invalid(path, number, detail)),
    );
}

/// Refuses what is neither a port's number nor a port's name.
pub fn target_port(errors: &mut Vec<FieldError>, path: &Path, target: &Value) {
    match target {
        Value::String(name) => all_invalid(errors, path, name, names::port_name(name)),
        other => port_number(errors, path, other.as_i64().unwrap_or(0)),
    }
}

/// Returns what is wrong with the change of a Service.
pub fn service_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = service(new);
    let external = |value: &Value| str_at(value, &["spec", "type"]) == "ExternalName";
    if !external(old) && !external(new) {
        let headless = |value: &Value| str_at(value, &["spec", "clusterIP"]) == "None";
        if !headless(old) || !headless(new) {
            keeps_first(&mut errors, new, old, "clusterIPs", "clusterIP");
        }
        if !headless(old) && !headless(new) {
            keeps_first(&mut errors, new, old, "ipFamilies", "ipFamily");
        }
    }
    errors
}

/// Checks a list of which a Service may add or give up the second value, and keeps the first.
fn keeps_first(errors: &mut Vec<FieldError>, new: &Value, old: &Value, key: &str, what: &str) {
    let (after, before) = (list_at(new, &["spec", key]), list_at(old, &["spec", key]));
    let path = Path::new("spec").child(key);
    let mut refuse = |at: usize, detail: String| {
        errors.push(FieldError::invalid(path.index(at), json!(after), detail));
    };
    if before.is_empty() {
        return;
    }
    if after.is_empty() {
        refuse(0, format!("primary {what} can not be unset"));
    }
    for (at, (own, other)) in after.iter().zip(before).enumerate() {
        if own != other && (at == 0 || after.len() == before.len()) {
            // Kubernetes names the first family whichever was changed.
            refuse(
                if key == "ipFamilies" { 0 } else { at },
                "may not change once set".to_owned(),
            );
        }
    }
    let policy = str_at(new, &["spec", "ipFamilyPolicy"]);
    if after.len() == 1 && before.len() > 1 && policy != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.push(FieldError::invalid(
            Path::new("spec").child("ipFamilyPolicy"),
            policy,
            detail,
        ));
    }
}

/// Returns what is wrong with an Endpoints object.
pub fn endpoints(endpoints: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, subset) in list_at(endpoints, &["subsets"]).iter().enumerate() {
        let path = Path::new("subsets").index(index);
        let (ready, not_ready) = (list_at(subset, &["addresses"]), list_at(subset, &["notReadyAddresses"]));
        if ready.is_empty() && not_ready.is_empty() {
            errors.push(FieldError::required(
                &path,
                "must specify `addresses` or `notReadyAddresses`",
            ));
        }
        for (key, list) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            for (index, address) in list.iter().enumerate() {
                let ip = str_at(address, &["ip"]);
                special_address(&mut errors, &path.child(key).index(index).child("ip"), ip);
            }
        }
        let ports = list_at(subset, &["ports"]);
        for (index, port) in ports.iter().enumerate() {
            let path = path.child("ports").index(index);
            let name = str_at(port, &["name"]);
            if name.is_empty() && ports.len() > 1 {
                errors.push(FieldError::required(path.child("name"), ""));
            } else if !name.is_empty() {
                all_invalid(&mut errors, &path.child("name"), name, names::dns_label(name));
            }
            port_number(&mut errors, &path.child("port"), int_at(port, &["port"]).unwrap_or(0));
            one_of(
                &mut errors,
                &path.child("protocol"),
                str_at(port, &["protocol"]),
                PROTOCOLS,
                true,
            );
        }
    }
    errors
}

/// Refuses texts that are no address, and addresses that no endpoint can have.
fn special_address(errors: &mut Vec<FieldError>, path: &Path, text: &str) {
    let Ok(address) = text.parse::<IpAddr>() else {
        errors.push(FieldError::invalid(path, text, BAD_ADDRESS));
        return;
    };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let detail = match address {
        address if address.is_unspecified() => format!("may not be unspecified ({text})"),
        address if address.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        _ if link_local => "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        address if address.is_multicast() => "may not be in the multicast range (224.0.0.0/4, ff00::/8)".to_owned(),
        _ => return,
    };
    errors.push(FieldError::invalid(path, text, detail));
}

/// Returns what is wrong with an EndpointSlice.
pub fn endpoint_slice(slice: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ty = str_at(slice, &["addressType"]);
    one_of(
        &mut errors,
        &Path::new("addressType"),
        ty,
        &["FQDN", "IPv4", "IPv6"],
        true,
    );
    let no_more = |errors: &mut Vec<FieldError>, key: &str, most: usize| {
        let list = list_at(slice, &[key]);
        if list.len() > most {
            errors.push(FieldError::too_many(key, list.len(), most));
            return &[][..];
        }
        list
    };
    let endpoints = no_more(&mut errors, "endpoints", MOST_ENDPOINTS);
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = Path::new("endpoints").index(index).child("addresses");
        let addresses = list_at(endpoint, &["addresses"]);
        if addresses.is_empty() {
            errors.push(FieldError::required(&path, "must contain at least 1 address"));
        } else if addresses.len() > MOST_ADDRESSES {
            errors.push(FieldError::too_many(&path, addresses.len(), MOST_ADDRESSES));
        }
        for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            let path = path.index(index);
            let parsed = address.parse::<IpAddr>();
            match (ty, &parsed) {
                ("IPv4", Ok(IpAddr::V6(_)) | Err(_)) => {
                    errors.push(FieldError::invalid(path, address, "must be an IPv4 address"))
                }
                ("IPv6", Ok(IpAddr::V4(_)) | Err(_)) => {
                    errors.push(FieldError::invalid(path, address, "must be an IPv6 address"))
                }
                ("IPv4" | "IPv6", Ok(_)) => special_address(&mut errors, &path, address),
                ("FQDN", _) => all_invalid(
                    &mut errors,
                    &path,
                    address,
                    names::dns_subdomain(address.trim_end_matches('.')),
                ),
                _ => {}
            }
        }
    }
    let mut seen = HashSet::new();
    let ports = no_more(&mut errors, "ports", MOST_PORTS);
    for (index, port) in ports.iter().enumerate() {
        let path = Path::new("ports").index(index);
        let name = str_at(port, &["name"]);
        if !name.is_empty() {
            all_invalid(&mut errors, &path.child("name"), name, names::dns_label(name));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
        if let Some(number) = int_at(port, &["port"]) {
            port_number(&mut errors, &path.child("port"), number);
        }
        one_of(
            &mut errors,
            &path.child("protocol"),
            str_at(port, &["protocol"]),
            PROTOCOLS,
            true,
        );
    }
    errors
}

/// Returns what is wrong with the change of an EndpointSlice.
pub fn endpoint_slice_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = endpoint_slice(new);
    immutable(
        &mut errors,
        &Path::new("addressType"),
        new.get("addressType"),
        old.get("addressType"),
    );
    errors
}
