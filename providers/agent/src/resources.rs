//! Kubernetes' quantities as numbers, and what a container's resources mean for cgroups and the out-of-memory killer. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use setpoint_runtime::spec::Resources;

/// The CPU period in microseconds.
const PERIOD: i128 = 100_000;

/// Reads a quantity in thousandths, rounded up; `None` when it is not well formed.
pub fn millis(text: &str) -> Option<i128> {
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    // Numerator and denominator of what one unit is in thousandths.
    let (up, down): (i128, i128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        "Pi" => (1_000 << 50, 1),
        "Ei" => (1_000 << 60, 1),
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10i128.checked_pow(exponent)?.checked_mul(1_000)?, 1)
        }
    };
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !plain || whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let all: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = scale.checked_mul(down)?;
    let product = all.checked_mul(up)?;
    Some(sign * (product + divisor - 1).div_euclid(divisor))
}

/// Reads a quantity in units, rounded up; `None` when it is not well formed, or negative.
pub fn bytes(quantity: &Quantity) -> Option<u64> {
    let units = (millis(&quantity.0)? + 999).div_euclid(1000);
    u64::try_from(units).ok()
}

fn amount(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i128> {
    millis(&list?.get(name)?.0)
}

/// Returns a container's limit of a resource in thousandths.
pub fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<i128> {
    amount(resources?.limits.as_ref(), name)
}

/// Returns a container's request of a resource in thousandths; its limit where it requests nothing.
pub fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<i128> {
    amount(resources?.requests.as_ref(), name).or_else(|| limit(resources, name))
}

/// Returns the cgroup values of one container.
pub fn of_container(container: &Container) -> Resources {
    of_requirements(container.resources.as_ref())
}

/// Returns the cgroup values of what a container asks for.
pub fn of_requirements(resources: Option<&ResourceRequirements>) -> Resources {
    let limits = (limit(resources, "cpu"), limit(resources, "memory"));
    cgroup(request(resources, "cpu").unwrap_or(0), limits.0, limits.1)
}

/// Adds up what a pod needs at most at one time: its containers and sidecars together, or an init container beside the sidecars that were
/// started before it. `None` as soon as `own` has nothing to say of a container.
fn at_most(spec: &PodSpec, own: impl Fn(&Container) -> Option<i128>) -> Option<i128> {
    let mut sidecars = 0;
    let mut starting = 0;
    for container in spec.init_containers.iter().flatten() {
        let needed = sidecars + own(container)?;
        if crate::decide::is_sidecar(container) {
            sidecars = needed;
        }
        starting = starting.max(needed);
    }
    let mut running = sidecars;
    for container in &spec.containers {
        running += own(container)?;
    }
    Some(running.max(starting))
}

/// Returns what a pod requests of a resource, in thousandths: its own request, or that of its containers and sidecars, or of an init container where
/// that is more; and the overhead.
pub fn pod_request(spec: &PodSpec, name: &str) -> i128 {
    let whole = request(spec.resources.as_ref(), name).filter(|whole| *whole > 0);
    let parts = || {
        at_most(spec, |container| {
            Some(request(container.resources.as_ref(), name).unwrap_or(0))
        })
    };
    whole.or_else(parts).unwrap_or(0) + amount(spec.overhead.as_ref(), name).unwrap_or(0)
}

/// Returns what a pod may use of a resource, in thousandths, counted as its request is; `None` unless it or every container is limited.
fn pod_limit(spec: &PodSpec, name: &str) -> Option<i128> {
    let declared = |resources: Option<&ResourceRequirements>| limit(resources, name).filter(|limit| *limit > 0);
    let parts = || at_most(spec, |container| declared(container.resources.as_ref()));
    let whole = declared(spec.resources.as_ref()).or_else(parts)?;
    Some(whole + amount(spec.overhead.as_ref(), name).unwrap_or(0))
}

/// Returns the cgroup values of a pod.
pub fn of_pod(spec: &PodSpec) -> Resources {
    cgroup(
        pod_request(spec, "cpu"),
        pod_limit(spec, "cpu"),
        pod_limit(spec, "memory"),
    )
}

fn cgroup(cpu_request: i128, cpu_limit: Option<i128>, memory_limit: Option<i128>) -> Resources {
    let shares = (cpu_request * 1024 / 1000).clamp(2, 262_144);
    let quota = cpu_limit
        .filter(|limit| *limit > 0)
        .map(|limit| (limit * PERIOD / 1000).clamp(1_000, i128::from(i64::MAX)));
    Resources {
        cpu_shares: u64::try_from(shares).ok(),
        cpu_quota: quota.and_then(|quota| i64::try_from(quota).ok()),
        cpu_period: quota.and_then(|_| u64::try_from(PERIOD).ok()),
        memory_limit: memory_limit
            .filter(|limit| *limit > 0)
            .and_then(|limit| u64::try_from(limit / 1000).ok()),
        pids_limit: None,
    }
}

/// Returns the pod's quality of service class by Kubernetes' rules.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let all = || {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .map(|container| container.resources.as_ref())
    };
    let names = ["cpu", "memory"];
    let positive = |value: Option<i128>| value.filter(|value| *value > 0);
    if spec.resources.is_none()
        && all().all(|resources| {
            names.iter().all(|name| {
                positive(limit(resources, name))
                    .or(positive(request(resources, name)))
                    .is_none()
            })
        })
    {
        return "BestEffort";
    }
    let guaranteed = |resources: Option<&ResourceRequirements>| {
        names.iter().all(|name| {
            let limit = positive(limit(resources, name));
            limit.is_some() && request(resources, name) == limit
        })
    };
    let whole = match &spec.resources {
        Some(resources) => guaranteed(Some(resources)),
        None => all().all(guaranteed),
    };
    if whole { "Guaranteed" } else { "Burstable" }
}

/// The priority from which on a pod is critical, and the class of those that are critical to their node.
const CRITICAL: (i32, &str) = (2_000_000_000, "system-node-critical");

/// Returns the adjustment of the out-of-memory killer, as the kubelet sets it; `memory_bytes` is the node's capacity.
pub fn oom_score_adj(spec: &PodSpec, container: &Container, memory_bytes: u64) -> i32 {
    let (priority, class) = CRITICAL;
    if spec.priority.is_some_and(|own| own >= priority) && spec.priority_class_name.as_deref() == Some(class) {
        return -997;
    }
    match qos_class(spec) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let own = burstable(spec, container, memory_bytes);
            // A sidecar is killed no sooner than the first of those that it serves.
            let served = spec.containers.iter().map(|main| burstable(spec, main, memory_bytes));
            match served.max().filter(|_| crate::decide::is_sidecar(container)) {
                Some(served) => own.min(served),
                None => own,
            }
        }
    }
}

/// What is left of a thousand when a container's share of the node's memory is taken off. Of what the pod requests beyond its containers each has an
/// equal part.
fn burstable(spec: &PodSpec, container: &Container, memory_bytes: u64) -> i32 {
    let own = |container: &Container| Some(request(container.resources.as_ref(), "memory").unwrap_or(0));
    let whole = request(spec.resources.as_ref(), "memory").filter(|whole| *whole > 0);
    let beyond = whole.map_or(0, |whole| {
        let count = spec.containers.len() + spec.init_containers.iter().flatten().count();
        (whole - at_most(spec, own).unwrap_or(0)).max(0) / i128::try_from(count.max(1)).unwrap_or(1)
    });
    let requested = (own(container).unwrap_or(0) + beyond) / 1000;
    let adjustment = 1000 - 1000 * requested / i128::from(memory_bytes.max(1));
    i32::try_from(adjustment.clamp(3, 999)).unwrap_or(999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
        let map = |list: &[(&str, &str)]| {
            (!list.is_empty()).then(|| {
                list.iter()
                    .map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())))
                    .collect()
            })
        };
        let resources = ResourceRequirements {
            requests: map(requests),
            limits: map(limits),
            ..Default::default()
        };
        Container {
            name: "c".to_owned(),
            resources: Some(resources),
            ..Container::default()
        }
    }

    fn spec(containers: Vec<Container>) -> PodSpec {
        PodSpec {
            containers,
            ..PodSpec::default()
        }
    }

    #[test]
    fn quantities_are_read_in_thousandths() {
        for (text, value) in [
            ("100m", 100),
            ("1", 1000),
            ("1.5", 1500),
            ("1Ki", 1_024_000),
            ("2k", 2_000_000),
            ("1e3", 1_000_000),
            ("500u", 1),
            (".5", 500),
        ] {
            assert_eq!(millis(text), Some(value), "{text}");
        }
        for text in ["", "x", "1x", "1.2.3", "--1", "m", "1e999"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn requests_become_shares_and_limits_quotas() {
        let resources = of_container(&container(&[("cpu", "250m")], &[("cpu", "500m"), ("memory", "64Mi")]));
        assert_eq!(resources.cpu_shares, Some(256));
        assert_eq!(resources.cpu_quota, Some(50_000));
        assert_eq!(resources.memory_limit, Some(64 << 20));
        let nothing = of_container(&container(&[], &[]));
        assert_eq!(
            (nothing.cpu_shares, nothing.cpu_quota, nothing.memory_limit),
            (Some(2), None, None)
        );
    }

    #[test]
    fn a_pod_is_limited_only_where_every_container_is() {
        let limited = || container(&[], &[("cpu", "1"), ("memory", "1Gi")]);
        assert_eq!(of_pod(&spec(vec![limited(), limited()])).memory_limit, Some(2 << 30));
        assert_eq!(
            of_pod(&spec(vec![limited(), container(&[("cpu", "1")], &[])])).memory_limit,
            None
        );
    }

    #[test]
    fn a_pod_may_use_what_it_needs_at_most_at_one_time() {
        let mebibytes = |amount: u64, sidecar: bool| Container {
            restart_policy: sidecar.then(|| "Always".to_owned()),
            ..container(
                &[],
                &[("memory", &format!("{amount}Mi")), ("cpu", &format!("{amount}m"))],
            )
        };
        // Init containers with whether they stay, containers, and what the pod may use.
        type Row = (&'static [(u64, bool)], &'static [u64], u64);
        let table: &[Row] = &[
            (&[], &[100, 50], 150),
            (&[(200, false)], &[100], 200),
            (&[(50, false)], &[100], 100),
            (&[(50, true)], &[100], 150),
            // A sidecar that was started before an init container runs beside it.
            (&[(50, true), (200, false)], &[100], 250),
            (&[(200, false), (50, true)], &[100], 200),
            (&[(50, true), (120, false), (60, true)], &[100], 210),
            (&[(50, true), (60, true), (120, false)], &[100], 230),
        ];
        for (inits, containers, memory) in table {
            let spec = PodSpec {
                init_containers: Some(inits.iter().map(|(amount, stays)| mebibytes(*amount, *stays)).collect()),
                ..spec(containers.iter().map(|amount| mebibytes(*amount, false)).collect())
            };
            let got = of_pod(&spec);
            assert_eq!(got.memory_limit, Some(memory << 20), "{inits:?}");
            assert_eq!(
                pod_request(&spec, "memory"),
                i128::from(memory << 20) * 1000,
                "{inits:?}"
            );
            assert_eq!(
                got.cpu_quota,
                Some(i64::try_from(memory * 100).expect("small").max(1000)),
                "{inits:?}"
            );
        }
        let unlimited = PodSpec {
            init_containers: Some(vec![container(&[], &[("memory", "0")])]),
            ..spec(vec![mebibytes(100, false)])
        };
        assert_eq!(of_pod(&unlimited).memory_limit, None);
    }

    #[test]
    fn sidecars_and_pods_that_a_node_needs_outlive_others() {
        let sidecar = Container {
            restart_policy: Some("Always".to_owned()),
            ..container(&[], &[])
        };
        let main = container(&[("memory", "1Gi")], &[]);
        let small = container(&[("memory", "256Mi")], &[]);
        let mut pod = PodSpec {
            init_containers: Some(vec![sidecar.clone()]),
            ..spec(vec![main.clone(), small])
        };
        assert_eq!(oom_score_adj(&pod, &sidecar, 4 << 30), 938);
        assert_eq!(oom_score_adj(&pod, &main, 4 << 30), 750);
        // What the pod requests beyond its containers: 768 MiB for three.
        pod.resources = container(&[("memory", "2Gi")], &[]).resources;
        assert_eq!(oom_score_adj(&pod, &main, 4 << 30), 688);
        pod.priority = Some(2_000_001_000);
        assert_eq!(oom_score_adj(&pod, &main, 4 << 30), 688);
        pod.priority_class_name = Some("system-node-critical".to_owned());
        assert_eq!(oom_score_adj(&pod, &main, 4 << 30), -997);
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        assert_eq!(qos_class(&spec(vec![container(&[], &[])])), "BestEffort");
        assert_eq!(qos_class(&spec(vec![container(&[("cpu", "1")], &[])])), "Burstable");
        assert_eq!(
            qos_class(&spec(vec![container(&[], &[("cpu", "1"), ("memory", "1Gi")])])),
            "Guaranteed"
        );
        let burstable = container(&[("memory", "1Gi")], &[]);
        assert_eq!(oom_score_adj(&spec(vec![burstable.clone()]), &burstable, 4 << 30), 750);
    }
}
