//! Services: each gets its cluster IP and its node ports, which no other service has.
//!
//! What is taken is read from the cache under one lock, which a writer holds until the cache shows its write: there is
//! no second book that could disagree, and what a deleted service had is free by its absence.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rand::Rng;
use serde_json::{Map, Value, json};
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, meta};
use tokio::sync::Mutex;

use super::{Scene, Strategy};
use crate::cache::Stored;

const RESOURCE: &str = "core/services";

/// The ranges that are given out.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    base: u32,
    bits: u32,
    ports: RangeInclusive<u16>,
}

impl Ranges {
    /// Reads `a.b.c.d/len`; `None` when that is no usable IPv4 range.
    pub(crate) fn parse(cidr: &str, ports: RangeInclusive<u16>) -> Option<Ranges> {
        let (address, len) = cidr.split_once('/')?;
        let address: Ipv4Addr = address.trim().parse().ok()?;
        let len: u32 = len.trim().parse().ok()?;
        if !(12..=30).contains(&len) {
            return None;
        }
        let bits = 32 - len;
        Some(Ranges {
            base: u32::from(address) & !((1 << bits) - 1),
            bits,
            ports,
        })
    }

    /// The first address: that of `default/kubernetes`.
    pub(crate) fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        // The first and the last are the network's own.
        offset > 0 && offset < (1 << self.bits) - 1
    }

    /// A free address; from the upper part, so that fixed ones find room in the lower.
    fn free_address(&self, taken: &HashSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let size = (1u32 << self.bits) - 2;
        let reserved = (size / 16).clamp(1, 256);
        let start = rand::rng().random_range(reserved..size);
        (0..size)
            .map(|step| (start + step) % size)
            // The lower part is used once the upper is full.
            .filter(|offset| *offset >= reserved)
            .chain(1..reserved)
            .map(|offset| Ipv4Addr::from(self.base + 1 + offset))
            .find(|address| !taken.contains(address))
    }

    fn free_port(&self, taken: &HashSet<i64>) -> Option<i64> {
        let (from, to) = (i64::from(*self.ports.start()), i64::from(*self.ports.end()));
        let size = to - from + 1;
        if size <= 0 {
            return None;
        }
        let start = rand::rng().random_range(0..size);
        (0..size)
            .map(|step| from + (start + step) % size)
            .find(|port| !taken.contains(port))
    }
}

impl fmt::Display for Ranges {
    /// The range of addresses, as `a.b.c.d/len`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", Ipv4Addr::from(self.base), 32 - self.bits)
    }
}

pub(crate) struct Services {
    ranges: Ranges,
    lock: Mutex<()>,
}

impl Services {
    pub(crate) fn new(ranges: Ranges) -> Services {
        Services {
            ranges,
            lock: Mutex::new(()),
        }
    }

    fn complete(&self, scene: &Scene<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        // By name, because who replaces a service need not say its uid.
        let is_own = |stored: &Stored| {
            old.is_some_and(|old| *stored.namespace == *meta::namespace(old) && *stored.name == *meta::name(old))
        };
        let mut others = scene.cache.list(RESOURCE, None);
        others.retain(|stored| !is_own(stored));
        let name = meta::name(object).to_owned();
        let spec = meta::map_mut(meta::map_of(object), "spec");
        let invalid = |error: FieldError| Status::invalid("", "Service", &name, &[error]);
        if text(spec, "type") == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                spec.remove(field);
            }
            clear_node_ports(spec);
            return Ok(());
        }
        if spec
            .get("ipFamilies")
            .and_then(Value::as_array)
            .is_some_and(|families| families.iter().any(|family| family != "IPv4"))
        {
            let error = FieldError::invalid("spec.ipFamilies[0]", "IPv6", "not configured on this cluster");
            return Err(invalid(error));
        }
        if text(spec, "ipFamilyPolicy") == "RequireDualStack" {
            let error = FieldError::invalid(
                "spec.ipFamilyPolicy",
                "RequireDualStack",
                "this cluster is not configured for dual-stack services",
            );
            return Err(invalid(error));
        }
        spec.insert("ipFamilies".into(), json!(["IPv4"]));
        if text(spec, "ipFamilyPolicy").is_empty() {
            spec.insert("ipFamilyPolicy".into(), "SingleStack".into());
        }
        self.address(spec, &others).map_err(invalid)?;
        self.ports(spec, &others).map_err(invalid)
    }

    fn address(&self, spec: &mut Map<String, Value>, others: &[Arc<Stored>]) -> Result<(), FieldError> {
        let first_of_list = spec
            .get("clusterIPs")
            .and_then(Value::as_array)
            .and_then(|list| list.first())
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let wanted = match text(spec, "clusterIP") {
            "" => first_of_list,
            wanted => wanted.to_owned(),
        };
        let address = if wanted == "None" {
            wanted
        } else {
            let taken: HashSet<Ipv4Addr> = others
                .iter()
                .filter_map(|other| other.field("spec.clusterIP").parse().ok())
                .collect();
            if wanted.is_empty() {
                let free = self.ranges.free_address(&taken);
                free.ok_or_else(|| internal("spec.clusterIPs", "failed to allocate IP: range is full"))?
                    .to_string()
            } else {
                let address = wanted.parse().ok();
                let Some(address) = address.filter(|address| self.ranges.contains(*address)) else {
                    let detail = format!(
                        "failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {}",
                        self.ranges
                    );
                    return Err(FieldError::invalid("spec.clusterIPs", json!([wanted]), detail));
                };
                if taken.contains(&address) {
                    let detail = format!("failed to allocate IP {wanted}: provided IP is already allocated");
                    return Err(FieldError::invalid("spec.clusterIPs", json!([wanted]), detail));
                }
                wanted
            }
        };
        spec.insert("clusterIPs".into(), json!([address]));
        spec.insert("clusterIP".into(), address.into());
        Ok(())
    }

    fn ports(&self, spec: &mut Map<String, Value>, others: &[Arc<Stored>]) -> Result<(), FieldError> {
        if !matches!(text(spec, "type"), "NodePort" | "LoadBalancer") {
            clear_node_ports(spec);
            spec.remove("healthCheckNodePort");
            return Ok(());
        }
        // Only these have ports of nodes: the others need not be read.
        let holders = others
            .iter()
            .filter(|other| matches!(other.field("spec.type"), "NodePort" | "LoadBalancer"));
        let mut taken = HashSet::new();
        for holder in holders {
            let holder = holder.value();
            let ports = meta::list_at(&holder, &["spec", "ports"]).iter();
            taken.extend(ports.filter_map(|port| meta::int_at(port, &["nodePort"])));
            taken.extend(meta::int_at(&holder, &["spec", "healthCheckNodePort"]));
        }
        self.health_check_port(spec, &mut taken)?;
        let allocate = spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
        let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else {
            return Ok(());
        };
        // The ones asked for first, so that a free choice does not take them. TCP and UDP of one service may share one.
        let mut mine: HashSet<(i64, String)> = HashSet::new();
        for (at, port) in ports.iter().enumerate() {
            let Some(number) = meta::int_at(port, &["nodePort"]).filter(|number| *number != 0) else {
                continue;
            };
            let field = format!("spec.ports[{at}].nodePort");
            let in_range = u16::try_from(number).is_ok_and(|number| self.ranges.ports.contains(&number));
            if !in_range {
                let (from, to) = (self.ranges.ports.start(), self.ranges.ports.end());
                let detail =
                    format!("provided port is not in the valid range. The range of valid ports is {from}-{to}");
                return Err(FieldError::invalid(field, number, detail));
            }
            let protocol = meta::str_at(port, &["protocol"]).to_owned();
            if taken.contains(&number) || !mine.insert((number, protocol)) {
                return Err(FieldError::invalid(field, number, "provided port is already allocated"));
            }
        }
        taken.extend(mine.iter().map(|(number, _)| *number));
        for (at, port) in ports.iter_mut().enumerate() {
            if meta::int_at(port, &["nodePort"]).unwrap_or(0) != 0 || !allocate {
                continue;
            }
            let free = self.ranges.free_port(&taken);
            let free = free.ok_or_else(|| {
                internal(
                    &format!("spec.ports[{at}].nodePort"),
                    "failed to allocate a nodePort: range is full",
                )
            })?;
            taken.insert(free);
            meta::map_of(port).insert("nodePort".into(), free.into());
        }
        Ok(())
    }
}

impl Services {
    /// Gives a load balanced service whose traffic stays on the node the port that its load balancer asks for pods, and takes
    /// it from every other.
    fn health_check_port(&self, spec: &mut Map<String, Value>, taken: &mut HashSet<i64>) -> Result<(), FieldError> {
        const FIELD: &str = "spec.healthCheckNodePort";
        if !has_health_check(spec) {
            spec.remove("healthCheckNodePort");
            return Ok(());
        }
        let wanted = spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0);
        let node_ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
        let own: HashSet<i64> = node_ports
            .filter_map(|port| meta::int_at(port, &["nodePort"]))
            .collect();
        let number = if wanted == 0 {
            let free = self.ranges.free_port(&taken.union(&own).copied().collect());
            free.ok_or_else(|| internal(FIELD, "failed to allocate a HealthCheck NodePort: range is full"))?
        } else {
            let in_range = u16::try_from(wanted).is_ok_and(|wanted| self.ranges.ports.contains(&wanted));
            let (from, to) = (self.ranges.ports.start(), self.ranges.ports.end());
            let why = match in_range {
                false => format!("provided port is not in the valid range. The range of valid ports is {from}-{to}"),
                true if taken.contains(&wanted) || own.contains(&wanted) => {
                    "provided port is already allocated".to_owned()
                }
                true => String::new(),
            };
            if !why.is_empty() {
                let detail = format!("failed to allocate requested HealthCheck NodePort {wanted}: {why}");
                return Err(internal(FIELD, &detail));
            }
            wanted
        };
        taken.insert(number);
        spec.insert("healthCheckNodePort".into(), number.into());
        Ok(())
    }
}

fn has_health_check(spec: &Map<String, Value>) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn internal(field: &str, detail: &str) -> FieldError {
    let mut error = FieldError::required(field, detail);
    error.kind = setpoint_api::FieldErrorKind::Internal;
    error
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn clear_node_ports(spec: &mut Map<String, Value>) {
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        meta::map_of(port).remove("nodePort");
    }
}

impl Strategy for Services {
    fn exclusive(&self) -> Option<&Mutex<()>> {
        Some(&self.lock)
    }

    fn create(&self, scene: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        meta::map_of(object).insert("status".into(), json!({"loadBalancer": {}}));
        self.complete(scene, object, None)
    }

    fn update(&self, scene: &Scene<'_>, new: &mut Value, old: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        carry_allocations(new, old);
        self.complete(scene, new, Some(old))
    }
}

/// What a client leaves out of a service that has it stays as it is.
fn carry_allocations(new: &mut Value, old: &Value) {
    let external = |object: &Value| meta::str_at(object, &["spec", "type"]) == "ExternalName";
    if external(new) || external(old) {
        return;
    }
    let empty = Map::new();
    let before = old.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    let spec = meta::map_mut(meta::map_of(new), "spec");
    if text(spec, "clusterIP").is_empty()
        && spec
            .get("clusterIPs")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
    {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = before.get(field) {
                spec.insert(field.to_owned(), value.clone());
            }
        }
    }
    if !matches!(text(spec, "type"), "NodePort" | "LoadBalancer") {
        return;
    }
    let health = |spec: &Map<String, Value>| spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0);
    if has_health_check(spec) && has_health_check(before) && health(spec) == 0 && health(before) != 0 {
        spec.insert("healthCheckNodePort".into(), health(before).into());
    }
    let old_ports: &[Value] = before.get("ports").and_then(Value::as_array).map_or(&[], Vec::as_slice);
    let key = |port: &Value| {
        (
            meta::int_at(port, &["port"]),
            meta::str_at(port, &["protocol"]).to_owned(),
        )
    };
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        if meta::int_at(port, &["nodePort"]).unwrap_or(0) != 0 {
            continue;
        }
        let kept = old_ports
            .iter()
            .find(|old| key(old) == key(port))
            .and_then(|old| meta::int_at(old, &["nodePort"]));
        if let Some(kept) = kept.filter(|kept| *kept != 0) {
            meta::map_of(port).insert("nodePort".into(), kept.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_given_out_to_its_last_address() {
        let ranges = Ranges::parse("10.96.0.9/28", 30000..=30001).unwrap();
        assert_eq!(ranges.first().to_string(), "10.96.0.1");
        let mut taken = HashSet::from([ranges.first()]);
        for _ in 0..13 {
            let free = ranges.free_address(&taken).unwrap();
            assert!(ranges.contains(free), "{free}");
            assert!(taken.insert(free));
        }
        assert_eq!(ranges.free_address(&taken), None);
        let mut ports = HashSet::new();
        ports.insert(ranges.free_port(&ports).unwrap());
        ports.insert(ranges.free_port(&ports).unwrap());
        assert_eq!(ranges.free_port(&ports), None);
        assert!(Ranges::parse("10.96.0.0/8", 1..=2).is_none());
    }
}
