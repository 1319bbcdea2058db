//! Node selectors and node affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, Pod};

/// Returns whether the node's labels and name satisfy what the pod requires.
pub fn required(pod: &Pod, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let terms = node_affinity(pod)
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|selector| selector.node_selector_terms.as_slice());
    selected && terms.is_none_or(|terms| terms.iter().any(|term| matches(term, labels, name)))
}

/// Returns the sum of the weights of the pod's preferences that the node meets.
pub fn preferred(pod: &Pod, labels: &BTreeMap<String, String>, name: &str) -> i64 {
    let preferences =
        node_affinity(pod).and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
    preferences
        .into_iter()
        .flatten()
        .filter(|preference| matches(&preference.preference, labels, name))
        .map(|preference| i64::from(preference.weight))
        .sum()
}

fn node_affinity(pod: &Pod) -> Option<&NodeAffinity> {
    pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()
}

/// Returns whether a node of these labels and this name satisfies a term; one without any requirement is satisfied by none.
pub fn matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
        && fields
            .iter()
            .all(|requirement| requirement.key == "metadata.name" && holds(requirement, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |order: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|bound| number(bound));
        value
            .and_then(number)
            .zip(bound)
            .is_some_and(|(value, bound)| order(value, bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
        "NotIn" => value.is_none_or(|value| values.iter().all(|wanted| wanted != value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}
