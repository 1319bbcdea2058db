//! Which families of addresses a service has, and its cluster IPs: as kube-apiserver has it (`pkg/registry/core/service/storage/alloc.go`).
//!
//! A service never changes between one address and two but by `ipFamilyPolicy`, or by naming a second address or family.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use setpoint_api::validate::field::FieldError;
use setpoint_api::validate::network::cluster_ips as validate;

use super::ranges::{Ranges, family};
use super::{internal, text};

type Spec = Map<String, Value>;

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";
const NONE: &str = "None";
const POLICY: &str = "spec.ipFamilyPolicy";

pub(super) fn list<'a>(spec: &'a Spec, key: &str) -> Vec<&'a str> {
    let values = spec.get(key).and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_external(spec: &Spec) -> bool {
    text(spec, "type") == "ExternalName"
}

/// What a client leaves out of a service that has it stays as it is, and its two ways to say an address say the same.
pub(super) fn link(spec: &mut Spec, before: Option<&Spec>) {
    let Some(before) = before else {
        if !text(spec, "clusterIP").is_empty() && list(spec, "clusterIPs").is_empty() {
            let ip = text(spec, "clusterIP").to_owned();
            spec.insert("clusterIPs".into(), json!([ip]));
        }
        return;
    };
    if !is_external(spec) && !is_external(before) {
        if text(spec, "clusterIP").is_empty() {
            copy(spec, before, "clusterIP");
        }
        if list(spec, "clusterIPs").is_empty() {
            copy(spec, before, "clusterIPs");
        }
    }
    let (own, old) = (text(spec, "clusterIP").to_owned(), text(before, "clusterIP"));
    if own == old || list(spec, "clusterIPs") != list(before, "clusterIPs") {
        return;
    }
    match own.is_empty() {
        true => spec.remove("clusterIPs"),
        false => spec.insert("clusterIPs".into(), json!([own])),
    };
}

fn copy(spec: &mut Spec, before: &Spec, key: &str) {
    if let Some(value) = before.get(key) {
        spec.insert(key.to_owned(), value.clone());
    }
}

/// A service that prefers two and stays as it was gets no second when the cluster has learnt the other family since, and loses none.
fn stays(spec: &Spec, before: Option<&Spec>) -> bool {
    before.is_some_and(|before| {
        text(before, "type") == text(spec, "type")
            && !is_external(spec)
            && text(spec, "ipFamilyPolicy") == PREFER
            && matches!(text(before, "ipFamilyPolicy"), "" | PREFER)
            && list(spec, "clusterIPs") == list(before, "clusterIPs")
            && list(spec, "ipFamilies") == list(before, "ipFamilies")
    })
}

/// Fills in policy and families, and refuses what the cluster cannot give.
fn settle(ranges: &Ranges, spec: &mut Spec, before: Option<&Spec>) -> Result<(), Vec<FieldError>> {
    let bare = text(spec, "clusterIP") == NONE && spec.get("selector").is_none_or(is_empty);
    if text(spec, "ipFamilyPolicy").is_empty() {
        let known = before
            .map(|before| text(before, "ipFamilyPolicy"))
            .filter(|policy| !policy.is_empty());
        let policy = known.unwrap_or(if bare { REQUIRE } else { SINGLE }).to_owned();
        spec.insert("ipFamilyPolicy".into(), policy.into());
    }
    let errors = validate(&json!({ "spec": spec }));
    if !errors.is_empty() {
        return Err(errors);
    }
    let policy = text(spec, "ipFamilyPolicy").to_owned();
    let mut errors = Vec::new();
    if let Some(before) = before {
        reduce(spec, before, &policy, &mut errors);
    }
    let mut refuse = |field: &str, value: Value, detail: &str| errors.push(FieldError::invalid(field, value, detail));
    if policy == SINGLE {
        for (key, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if list(spec, key).len() == 2 {
                let detail =
                    format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                refuse(POLICY, json!(policy), &detail);
            }
        }
    }
    let mut families: Vec<String> = list(spec, "ipFamilies").into_iter().map(str::to_owned).collect();
    let ips = list(spec, "clusterIPs");
    for (at, ip) in ips.iter().enumerate().skip(families.len()) {
        let Ok(address) = ip.parse::<IpAddr>() else { break };
        let family = family(address);
        match ranges.of(family) {
            Some(_) => families.push(family.to_owned()),
            None => {
                let detail = format!("{family} is not configured on this cluster");
                refuse(&format!("spec.clusterIPs[{at}]"), json!(ips), &detail);
            }
        }
    }
    let is_dual = ranges.addresses.len() == 2;
    if errors.is_empty() && !bare {
        if policy == REQUIRE && !is_dual {
            let detail = "this cluster is not configured for dual-stack services";
            errors.push(FieldError::invalid(POLICY, json!(policy), detail));
        }
        for (at, family) in families.iter().enumerate() {
            if ranges.of(family).is_none() {
                let field = format!("spec.ipFamilies[{at}]");
                errors.push(FieldError::invalid(
                    field,
                    json!(family),
                    "not configured on this cluster",
                ));
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if families.is_empty() {
        families.extend(ranges.addresses.first().map(|range| range.family().to_owned()));
    }
    // Without a selector and an address a service may have a family that the cluster does not.
    if policy != SINGLE && families.len() == 1 && (is_dual || bare) {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    spec.insert("ipFamilies".into(), json!(families));
    Ok(())
}

/// Takes the second of what a service had as it goes back to one; refuses to take it from one that does not say so.
fn reduce(spec: &mut Spec, before: &Spec, policy: &str, errors: &mut Vec<FieldError>) {
    for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (own, old) = (list(spec, key), list(before, key));
        if policy == SINGLE {
            if own == old && own.len() > 1 {
                let first = json!([own[0]]);
                spec.insert(key.to_owned(), first);
            }
        } else if !own.is_empty() && own.len() < old.len() {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(FieldError::invalid(POLICY, json!(policy), detail));
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// Gives a service its families and cluster IPs; `taken` says which addresses other services have.
pub(super) fn allocate(
    ranges: &Ranges,
    spec: &mut Spec,
    before: Option<&Spec>,
    taken: impl FnOnce() -> HashSet<IpAddr>,
) -> Result<(), Vec<FieldError>> {
    // What was an ExternalName had none of it.
    let before = before.filter(|before| !is_external(before));
    if stays(spec, before) {
        return Ok(());
    }
    settle(ranges, spec, before)?;
    let mut ips: Vec<String> = list(spec, "clusterIPs").into_iter().map(str::to_owned).collect();
    if ips.first().is_some_and(|first| first == NONE) {
        return Ok(());
    }
    let old = before.map(|before| list(before, "clusterIPs")).unwrap_or_default();
    if old.first() == Some(&NONE) {
        // Refused by what is checked next.
        return Ok(());
    }
    let families: Vec<String> = list(spec, "ipFamilies").into_iter().map(str::to_owned).collect();
    // What a service has it keeps: another in its place is refused by what is checked next.
    let open = old.len()..families.len();
    if !open.is_empty() {
        let taken = taken();
        ips.resize(families.len().max(ips.len()), String::new());
        for at in open {
            if let Some(range) = ranges.of(&families[at]) {
                ips[at] = one(range, &ips[at], &taken, &json!(ips)).map_err(|error| vec![error])?;
            }
        }
    }
    if let Some(first) = ips.first() {
        spec.insert("clusterIP".into(), first.clone().into());
    }
    spec.insert("clusterIPs".into(), json!(ips));
    Ok(())
}

fn one(
    range: &super::ranges::Range,
    wanted: &str,
    taken: &HashSet<IpAddr>,
    shown: &Value,
) -> Result<String, FieldError> {
    const FIELD: &str = "spec.clusterIPs";
    if wanted.is_empty() {
        let free = range.free_address(taken);
        let free = free.ok_or_else(|| internal(FIELD, "failed to allocate IP: range is full"))?;
        return Ok(free.to_string());
    }
    let address = wanted.parse().ok().filter(|address| range.contains(*address));
    let Some(address) = address else {
        let detail = format!(
            "failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {range}"
        );
        return Err(FieldError::invalid(FIELD, shown.clone(), detail));
    };
    if taken.contains(&address) {
        let detail = format!("failed to allocate IP {wanted}: provided IP is already allocated");
        return Err(FieldError::invalid(FIELD, shown.clone(), detail));
    }
    Ok(wanted.to_owned())
}

#[cfg(test)]
mod tests;
