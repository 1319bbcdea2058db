//! What a pod asks for and what a node has, as numbers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use setpoint_api::Quantity;

/// Amounts by resource: `cpu` in thousandths, everything else in units.
pub type Amounts = BTreeMap<String, i64>;

/// Reads quantities; what cannot be read asks for nothing (the API has validated it).
pub fn amounts(quantities: Option<&BTreeMap<String, Text>>) -> Amounts {
    let quantities = quantities.into_iter().flatten();
    quantities
        .filter_map(|(name, text)| {
            let quantity: Quantity = text.0.parse().ok()?;
            Some((
                name.clone(),
                if name == "cpu" {
                    quantity.milli_value()
                } else {
                    quantity.value()
                },
            ))
        })
        .collect()
}

/// Adds `more` to `sum`.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let held = sum.entry(name.clone()).or_insert(0);
        *held = held.saturating_add(*amount);
    }
}

fn at_least(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let held = most.entry(name.clone()).or_insert(0);
        *held = (*held).max(*amount);
    }
}

fn requests(container: &Container) -> Amounts {
    amounts(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    )
}

/// Returns what the pod asks for: its containers and sidecars together, or an init container with the sidecars before it where that is
/// more; and the overhead.
pub fn of_pod(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &requests(container));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut now = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &now);
            now.clone_from(&sidecars);
        } else {
            add(&mut now, &sidecars);
        }
        at_least(&mut starting, &now);
    }
    add(&mut running, &sidecars);
    at_least(&mut running, &starting);
    add(&mut running, &amounts(spec.overhead.as_ref()));
    running
}
