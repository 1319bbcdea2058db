//! The rules of what a pod knows of the network by its spec: resolvers and names of hosts.

use std::net::IpAddr;

use serde_json::Value;

use super::all_invalid;
use super::field::{FieldError, Path};
use crate::meta::{at, list_at, str_at};
use crate::names;

const BAD_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;

/// Checks the DNS policy and configuration of a pod's spec.
pub(super) fn dns(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let config = at(spec, &["dnsConfig"]).filter(|config| config.is_object());
    let path = path.child("dnsConfig");
    let alone = str_at(spec, &["dnsPolicy"]) == "None";
    let Some(config) = config else {
        if alone {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, detail));
        }
        return;
    };
    let servers = list_at(config, &["nameservers"]);
    let nameservers = path.child("nameservers");
    if alone && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(&nameservers, detail));
    }
    if servers.len() > MOST_NAMESERVERS {
        let detail = format!("must not have more than {MOST_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(&nameservers, Value::from(servers.to_vec()), detail));
    }
    for (index, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        address(errors, &nameservers.index(index), server);
    }
    let searches = list_at(config, &["searches"]);
    let path_of_searches = path.child("searches");
    if searches.len() > MOST_SEARCHES {
        let detail = format!("must not have more than {MOST_SEARCHES} search paths");
        errors.push(FieldError::invalid(
            &path_of_searches,
            Value::from(searches.to_vec()),
            detail,
        ));
    }
    for (index, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        if search != "." {
            let name = search.strip_suffix('.').unwrap_or(search);
            all_invalid(
                errors,
                &path_of_searches.index(index),
                search,
                names::dns_subdomain(name),
            );
        }
    }
    for (index, option) in list_at(config, &["options"]).iter().enumerate() {
        if str_at(option, &["name"]).is_empty() {
            errors.push(FieldError::required(
                path.child("options").index(index),
                "must not be empty",
            ));
        }
    }
}

fn address(errors: &mut Vec<FieldError>, path: &Path, text: &str) {
    if text.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(path, text, BAD_ADDRESS));
    }
}

/// Checks the names that a pod's spec gives to addresses.
pub(super) fn host_aliases(errors: &mut Vec<FieldError>, path: &Path, aliases: &[Value]) {
    for (index, alias) in aliases.iter().enumerate() {
        let path = path.index(index);
        address(errors, &path.child("ip"), str_at(alias, &["ip"]));
        for (index, name) in list_at(alias, &["hostnames"])
            .iter()
            .filter_map(Value::as_str)
            .enumerate()
        {
            all_invalid(
                errors,
                &path.child("hostnames").index(index),
                name,
                names::dns_subdomain(name),
            );
        }
    }
}
