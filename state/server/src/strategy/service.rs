//! Services: each gets its cluster IP and its node ports, which no other service has.
//!
//! What is taken is read from the cache under one lock, which a writer holds until the cache shows its write: there is
//! no second book that could disagree, and what a deleted service had is free by its absence.

mod families;
mod ranges;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, meta};
use tokio::sync::Mutex;

use super::{Scene, Strategy};
use crate::cache::Stored;

pub(crate) use ranges::Ranges;

const RESOURCE: &str = "core/services";

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
        if text(spec, "type") == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                spec.remove(field);
            }
            clear_node_ports(spec);
            return Ok(());
        }
        let before = old.and_then(|old| old.get("spec")).and_then(Value::as_object);
        families::allocate(&self.ranges, spec, before, || taken_addresses(&others))
            .map_err(|errors| Status::invalid("", "Service", &name, &errors))?;
        self.ports(spec, &others)
            .map_err(|error| Status::invalid("", "Service", &name, &[error]))
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
        families::link(meta::map_mut(meta::map_of(object), "spec"), None);
        self.complete(scene, object, None)
    }

    fn update(&self, scene: &Scene<'_>, new: &mut Value, old: &Value, _: &mut Vec<String>) -> Result<(), Status> {
        carry_allocations(new, old);
        self.complete(scene, new, Some(old))
    }
}

/// The addresses that services have.
fn taken_addresses(others: &[Arc<Stored>]) -> HashSet<IpAddr> {
    let mut taken: HashSet<IpAddr> = others
        .iter()
        .filter_map(|other| other.field("spec.clusterIP").parse().ok())
        .collect();
    // Only these can have a second: the others need not be read.
    let dual = others.iter().filter(|other| other.mentions("DualStack"));
    for holder in dual {
        let holder = holder.value();
        let ips = meta::list_at(&holder, &["spec", "clusterIPs"]).iter();
        taken.extend(ips.filter_map(|ip| ip.as_str()?.parse::<IpAddr>().ok()));
    }
    taken
}

/// What a client leaves out of a service that has it stays as it is.
fn carry_allocations(new: &mut Value, old: &Value) {
    let empty = Map::new();
    let before = old.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    let spec = meta::map_mut(meta::map_of(new), "spec");
    families::link(spec, Some(before));
    if text(spec, "type") == "ExternalName" || text(before, "type") == "ExternalName" {
        return;
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
