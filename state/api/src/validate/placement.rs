//! The rules of where a pod may run: affinities and the spread over domains.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, metadata, one_of};
use crate::meta::{at, int_at, list_at, str_at};
use crate::names;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks the affinities of a pod's spec.
pub(super) fn affinity(errors: &mut Vec<FieldError>, path: &Path, affinity: &Value) {
    let node = path.child("nodeAffinity");
    if let Some(required) = at(affinity, &["nodeAffinity", REQUIRED]).filter(|required| required.is_object()) {
        node_selector(errors, &node.child(REQUIRED), required);
    }
    for (index, preferred) in list_at(affinity, &["nodeAffinity", PREFERRED]).iter().enumerate() {
        let path = node.child(PREFERRED).index(index);
        weight(errors, &path, preferred);
        node_term(
            errors,
            &path.child("preference"),
            at(preferred, &["preference"]).unwrap_or(&Value::Null),
        );
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(key);
        for (index, term) in list_at(affinity, &[key, REQUIRED]).iter().enumerate() {
            pod_term(errors, &path.child(REQUIRED).index(index), term);
        }
        for (index, preferred) in list_at(affinity, &[key, PREFERRED]).iter().enumerate() {
            let path = path.child(PREFERRED).index(index);
            weight(errors, &path, preferred);
            let term = at(preferred, &["podAffinityTerm"]).unwrap_or(&Value::Null);
            pod_term(errors, &path.child("podAffinityTerm"), term);
        }
    }
}

fn weight(errors: &mut Vec<FieldError>, path: &Path, preferred: &Value) {
    let weight = int_at(preferred, &["weight"]).unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(
            path.child("weight"),
            weight,
            "must be in the range 1-100",
        ));
    }
}

/// Checks a NodeSelector, which has to say something.
pub(super) fn node_selector(errors: &mut Vec<FieldError>, path: &Path, selector: &Value) {
    let terms = list_at(selector, &["nodeSelectorTerms"]);
    let path = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        let detail = "must have at least one node selector term";
        errors.push(FieldError::required(&path, detail));
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(errors, &path.index(index), term);
    }
}

fn node_term(errors: &mut Vec<FieldError>, path: &Path, term: &Value) {
    for (index, expression) in list_at(term, &["matchExpressions"]).iter().enumerate() {
        node_requirement(errors, &path.child("matchExpressions").index(index), expression);
    }
}

fn node_requirement(errors: &mut Vec<FieldError>, path: &Path, expression: &Value) {
    let values = list_at(expression, &["values"]).len();
    let (operator, values_path) = (str_at(expression, &["operator"]), path.child("values"));
    match operator {
        "In" | "NotIn" if values == 0 => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(values_path, detail));
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(values_path, detail));
        }
        "Gt" | "Lt" if values != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(values_path, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let detail = "not a valid selector operator";
            errors.push(FieldError::invalid(path.child("operator"), other, detail));
        }
    }
    let key = str_at(expression, &["key"]);
    all_invalid(errors, &path.child("key"), key, names::qualified_name(key));
}

fn pod_term(errors: &mut Vec<FieldError>, path: &Path, term: &Value) {
    for key in ["labelSelector", "namespaceSelector"] {
        errors.extend(metadata::selector(&path.child(key), at(term, &[key])));
    }
    for name in list_at(term, &["namespaces"]).iter().filter_map(Value::as_str) {
        // Kubernetes names the term's field without its place in the list.
        all_invalid(errors, &path.child("namespace"), name, names::dns_label(name));
    }
    topology_key(errors, &path.child("topologyKey"), str_at(term, &["topologyKey"]));
}

fn topology_key(errors: &mut Vec<FieldError>, path: &Path, key: &str) {
    match key {
        "" => errors.push(FieldError::required(path, "can not be empty")),
        key => all_invalid(errors, path, key, names::qualified_name(key)),
    }
}

/// Checks how a pod's spec wants its kind spread.
pub(super) fn spread(errors: &mut Vec<FieldError>, path: &Path, constraints: &[Value]) {
    let mut seen = HashSet::new();
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        let text = |key: &str| str_at(constraint, &[key]);
        let skew = int_at(constraint, &["maxSkew"]).unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(
                path.child("maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        topology_key(errors, &path.child("topologyKey"), text("topologyKey"));
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        one_of(
            errors,
            &path.child("whenUnsatisfiable"),
            text("whenUnsatisfiable"),
            &actions,
            true,
        );
        let pair = (text("topologyKey"), text("whenUnsatisfiable"));
        if !seen.insert(pair) {
            let value = format!("{{{}, {}}}", pair.0, pair.1);
            errors.push(FieldError::duplicate(
                path.child("{topologyKey, whenUnsatisfiable}"),
                value,
            ));
        }
        if let Some(domains) = int_at(constraint, &["minDomains"]) {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.push(FieldError::invalid(&path, domains, "must be greater than zero"));
            }
            if text("whenUnsatisfiable") == "ScheduleAnyway" {
                let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
                errors.push(FieldError::invalid(&path, domains, detail));
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(errors, &path.child(key), text(key), &["Honor", "Ignore"], false);
        }
        errors.extend(metadata::selector(
            &path.child("labelSelector"),
            at(constraint, &["labelSelector"]),
        ));
    }
}
