//! Who a proxied request is for: `[scheme:]NAME[:port]` of a pod or a service.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use setpoint_api::Status;

use crate::cache::Cache;
use crate::pods::{self, Place};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub place: Place,
    pub tls: bool,
    pub ip: IpAddr,
    pub port: u16,
}

/// The parts of a name; `None` when it is none.
fn split(id: &str) -> Option<(bool, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return None,
    };
    let tls = match scheme {
        "" | "http" => false,
        "https" => true,
        _ => return None,
    };
    (!name.is_empty()).then_some((tls, name, port))
}

/// The pod that a name means; without a port the first that its containers name.
pub(super) fn of_pod(cache: &Cache, namespace: &str, id: &str) -> Result<Target, Status> {
    let (tls, name, port) = split(id).ok_or_else(|| Status::bad_request(format!("invalid pod request {id:?}")))?;
    let pod = pods::pod(cache, namespace, name)?;
    let ip = address(&pod).ok_or_else(|| Status::bad_request("address not allowed"))?;
    let first = || {
        let containers = pod["spec"]["containers"].as_array()?;
        let port = containers
            .iter()
            .find_map(|container| container["ports"][0]["containerPort"].as_u64());
        u16::try_from(port?).ok()
    };
    let port = match port {
        "" => first().unwrap_or(if tls { 443 } else { 80 }),
        port => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| Status::bad_request(format!("invalid pod request {id:?}")))?,
    };
    Ok(Target {
        place: Place::of(&pod)?,
        tls,
        ip,
        port,
    })
}

/// The address of a pod that may be reached through the API: none of the host's own.
fn address(pod: &Value) -> Option<IpAddr> {
    let text = pod["status"]["podIPs"][0]["ip"]
        .as_str()
        .or(pod["status"]["podIP"].as_str())?;
    let ip: IpAddr = text.parse().ok()?;
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    (!ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !local).then_some(ip)
}

/// A ready endpoint of the service that a name means, each in its turn.
pub(super) fn of_service(cache: &Cache, namespace: &str, id: &str) -> Result<Target, Status> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let (tls, name, port) = split(id).ok_or_else(|| Status::bad_request(format!("invalid service request {id:?}")))?;
    let service = cache
        .get("core/services", namespace, name)
        .ok_or_else(|| Status::not_found("", "services", name))?
        .value();
    let mut wanted = port.to_owned();
    if let Ok(number) = port.parse::<i64>() {
        let declared = service["spec"]["ports"].as_array();
        let found = declared
            .into_iter()
            .flatten()
            .find(|port| port["port"].as_i64() == Some(number));
        let found =
            found.ok_or_else(|| Status::unavailable(format!("no service port {number} found for service {name:?}")))?;
        found["name"].as_str().unwrap_or_default().clone_into(&mut wanted);
    }
    let slices: Vec<Value> = cache
        .list("discovery.k8s.io/endpointslices", Some(namespace))
        .into_iter()
        .filter(|slice| slice.labels.get("kubernetes.io/service-name").and_then(Value::as_str) == Some(name))
        .map(|slice| slice.value())
        .collect();
    let candidates = endpoints(&slices, &wanted);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let count = candidates.len();
    (0..count)
        .filter_map(|try_| candidates.get((turn + try_) % count))
        .find_map(|endpoint| {
            // Only what is a pod of that address is reached, whatever somebody wrote into a slice.
            let pod = pods::pod(cache, namespace, &endpoint.pod).ok()?;
            let ip = address(&pod).filter(|ip| *ip == endpoint.ip)?;
            Some(Target {
                place: Place::of(&pod).ok()?,
                tls,
                ip,
                port: endpoint.port,
            })
        })
        .ok_or_else(|| Status::unavailable(format!("no endpoints available for service {name:?}")))
}

#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    pod: String,
    ip: IpAddr,
    port: u16,
}

/// The ready endpoints behind a port's name.
fn endpoints(slices: &[Value], wanted: &str) -> Vec<Endpoint> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for slice in slices {
        let ports = list(&slice["ports"]);
        let port = ports
            .iter()
            .find(|port| port["name"].as_str().unwrap_or_default() == wanted)
            .and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
        let Some(port) = port else { continue };
        for endpoint in list(&slice["endpoints"]) {
            let pod = &endpoint["targetRef"];
            let ip = endpoint["addresses"][0].as_str().and_then(|text| text.parse().ok());
            if let (Some("Pod"), Some(name), Some(ip), Some(true) | None) = (
                pod["kind"].as_str(),
                pod["name"].as_str(),
                ip,
                endpoint["conditions"]["ready"].as_bool(),
            ) {
                found.push(Endpoint {
                    pod: name.to_owned(),
                    ip,
                    port,
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_may_carry_scheme_and_port() {
        assert_eq!(split("web"), Some((false, "web", "")));
        assert_eq!(split("web:http"), Some((false, "web", "http")));
        assert_eq!(split("https:web:"), Some((true, "web", "")));
        assert_eq!(split(":web:80"), Some((false, "web", "80")));
        for wrong in ["ftp:web:1", "a:b:c:d", "", ":80"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_ready_pods_behind_the_named_port_are_endpoints() {
        let slice = json!({
            "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9000}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "b"}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": true}},
            ],
        });
        let slices = [slice];
        let ip = "10.0.0.1".parse().expect("an address");
        let a = |port| {
            vec![Endpoint {
                pod: "a".to_owned(),
                ip,
                port,
            }]
        };
        assert_eq!(endpoints(&slices, "http"), a(8080));
        assert_eq!(endpoints(&slices, "admin"), a(9000));
        assert_eq!(endpoints(&slices, ""), []);
    }

    #[test]
    fn addresses_of_the_host_itself_are_not_reached() {
        let pod = |ip: &str| json!({"status": {"podIPs": [{"ip": ip}]}});
        assert!(address(&pod("10.42.0.7")).is_some());
        for wrong in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "fe80::1",
            "x",
        ] {
            assert_eq!(address(&pod(wrong)), None, "{wrong}");
        }
    }
}
