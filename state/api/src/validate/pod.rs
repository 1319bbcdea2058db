//! The rules of pods and of pod templates.

use std::collections::HashSet;

use serde_json::Value;

use super::container::{self, Surroundings};
use super::field::{FieldError, Path};
use super::{all_invalid, immutable, metadata, non_negative, one_of, placement, pod_network, security, volume};
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::names;

/// Returns what is wrong with a new pod.
pub fn create(pod: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = at(pod, &["spec"]).unwrap_or(&Value::Null);
    let path = Path::new("spec");
    pod_spec(&mut errors, &path, spec);
    if !list_at(spec, &["ephemeralContainers"]).is_empty() {
        errors.push(FieldError::forbidden(
            path.child("ephemeralContainers"),
            "cannot be set on create",
        ));
    }
    errors
}

/// Returns what is wrong with a template of pods, whatever they are for.
pub fn any_template(path: &Path, template: &Value) -> Vec<FieldError> {
    let labels = path.child("metadata").child("labels");
    let mut errors = metadata::labels(&labels, at(template, &["metadata", "labels"]));
    let annotations = path.child("metadata").child("annotations");
    errors.extend(metadata::annotations(
        &annotations,
        at(template, &["metadata", "annotations"]),
    ));
    let spec = at(template, &["spec"]).unwrap_or(&Value::Null);
    pod_spec(&mut errors, &path.child("spec"), spec);
    errors
}

/// Returns what is wrong with the template of a workload, whose pods restart always.
pub fn template(path: &Path, template: &Value) -> Vec<FieldError> {
    let mut errors = any_template(path, template);
    restarts_always(&mut errors, path, template, "ReplicaSet");
    errors
}

/// Refuses a template whose pods come to an end by themselves; `kind` is what the message calls the workload.
pub(crate) fn restarts_always(errors: &mut Vec<FieldError>, path: &Path, template: &Value, kind: &str) {
    let path = path.child("spec");
    let policy = str_at(template, &["spec", "restartPolicy"]);
    if !policy.is_empty() && policy != "Always" {
        errors.push(FieldError::not_supported(
            path.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if at(template, &["spec", "activeDeadlineSeconds"]).is_some_and(|deadline| !deadline.is_null()) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(path.child("activeDeadlineSeconds"), detail));
    }
}

fn pod_spec(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let surroundings = Surroundings {
        volumes: volume::volumes(errors, &path.child("volumes"), list_at(spec, &["volumes"])),
        host_network: at(spec, &["hostNetwork"]) == Some(&Value::Bool(true)),
    };
    let containers = list_at(spec, &["containers"]);
    if containers.is_empty() {
        errors.push(FieldError::required(path.child("containers"), ""));
    }
    let mut seen = HashSet::new();
    for (key, list) in [
        ("containers", containers),
        ("initContainers", list_at(spec, &["initContainers"])),
    ] {
        for (index, found) in list.iter().enumerate() {
            let path = path.child(key).index(index);
            container::container(errors, &path, found, &surroundings);
            let name = str_at(found, &["name"]);
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
            if key == "initContainers" && str_at(found, &["restartPolicy"]) != "Always" {
                for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                    if at(found, &[probe]).is_some_and(Value::is_object) {
                        let detail = "may not be set for init containers without restartPolicy=Always";
                        errors.push(FieldError::forbidden(path.child(probe), detail));
                    }
                }
            }
        }
    }
    let text = |key: &str| str_at(spec, &[key]);
    one_of(
        errors,
        &path.child("restartPolicy"),
        text("restartPolicy"),
        &["Always", "Never", "OnFailure"],
        true,
    );
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(errors, &path.child("dnsPolicy"), text("dnsPolicy"), &policies, true);
    non_negative(
        errors,
        &path.child("terminationGracePeriodSeconds"),
        at(spec, &["terminationGracePeriodSeconds"]),
    );
    if let Some(deadline) = int_at(spec, &["activeDeadlineSeconds"])
        && deadline < 1
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(
            path.child("activeDeadlineSeconds"),
            deadline,
            detail,
        ));
    }
    for (key, rule) in [
        ("serviceAccountName", names::dns_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
    ] {
        if !text(key).is_empty() {
            all_invalid(errors, &path.child(key), text(key), rule(text(key)));
        }
    }
    errors.extend(metadata::labels(
        &path.child("nodeSelector"),
        at(spec, &["nodeSelector"]),
    ));
    tolerations(errors, &path.child("tolerations"), list_at(spec, &["tolerations"]));
    if let Some(affinity) = at(spec, &["affinity"]).filter(|affinity| affinity.is_object()) {
        placement::affinity(errors, &path.child("affinity"), affinity);
    }
    let constraints = list_at(spec, &["topologySpreadConstraints"]);
    placement::spread(errors, &path.child("topologySpreadConstraints"), constraints);
    pod_network::dns(errors, path, spec);
    pod_network::host_aliases(errors, &path.child("hostAliases"), list_at(spec, &["hostAliases"]));
    if let Some(context) = at(spec, &["securityContext"]).filter(|context| context.is_object()) {
        security::pod(errors, &path.child("securityContext"), context);
    }
    for (index, gate) in list_at(spec, &["readinessGates"]).iter().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        let kind = str_at(gate, &["conditionType"]);
        all_invalid(errors, &path, kind, names::qualified_name(kind));
    }
    let preemption = ["Never", "PreemptLowerPriority"];
    one_of(
        errors,
        &path.child("preemptionPolicy"),
        text("preemptionPolicy"),
        &preemption,
        false,
    );
}

pub(super) fn tolerations(errors: &mut Vec<FieldError>, path: &Path, tolerations: &[Value]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let text = |key: &str| str_at(toleration, &[key]);
        if !text("key").is_empty() {
            all_invalid(
                errors,
                &path.child("key"),
                text("key"),
                names::qualified_name(text("key")),
            );
        } else if text("operator") != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(path.child("operator"), text("operator"), detail));
        }
        if at(toleration, &["tolerationSeconds"]).is_some_and(Value::is_number) && text("effect") != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(path.child("effect"), text("effect"), detail));
        }
        one_of(
            errors,
            &path.child("operator"),
            text("operator"),
            &["Equal", "Exists"],
            false,
        );
        if text("operator") == "Exists" && !text("value").is_empty() {
            let detail = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(path.child("operator"), toleration.clone(), detail));
        }
        let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
        one_of(errors, &path.child("effect"), text("effect"), &effects, false);
    }
}

/// What may change in a pod's spec, in Kubernetes' words.
const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Returns what is wrong with the change of a pod.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    let spec = |pod: &Value| at(pod, &["spec"]).cloned().unwrap_or(Value::Null);
    let (mut changed, before) = (spec(new), spec(old));
    for key in ["containers", "initContainers"] {
        let (new_list, old_list) = (list_at(&before, &[key]).len(), list_at(&changed, &[key]).len());
        if new_list != old_list {
            errors.push(FieldError::forbidden(
                path.child(key),
                "pod updates may not add or remove containers",
            ));
        }
        for (index, container) in list_at(&changed, &[key]).iter().enumerate() {
            if str_at(container, &["image"]).trim().is_empty() {
                errors.push(FieldError::required(path.child(key).index(index).child("image"), ""));
            }
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    deadline(&mut errors, &path.child("activeDeadlineSeconds"), &changed, &before);
    only_added_tolerations(&mut errors, &path.child("tolerations"), &changed, &before);
    scheduling_gates(&mut errors, &path.child("schedulingGates"), &changed, &before);
    // What may change is taken back; all else has to be as it was.
    for key in ["containers", "initContainers"] {
        let images: Vec<Value> = list_at(&before, &[key])
            .iter()
            .map(|c| c.get("image").cloned().unwrap_or(Value::Null))
            .collect();
        if let Some(Value::Array(list)) = changed.get_mut(key) {
            for (container, image) in list.iter_mut().zip(images) {
                meta::map_of(container).insert("image".into(), image);
            }
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        let map = meta::map_of(&mut changed);
        match before.get(key) {
            Some(value) => map.insert(key.to_owned(), value.clone()),
            None => map.remove(key),
        };
    }
    if int_at(&before, &["terminationGracePeriodSeconds"]).is_some_and(|seconds| seconds < 0)
        && int_at(&changed, &["terminationGracePeriodSeconds"]) == Some(1)
    {
        let value = before
            .get("terminationGracePeriodSeconds")
            .cloned()
            .unwrap_or(Value::Null);
        meta::map_of(&mut changed).insert("terminationGracePeriodSeconds".into(), value);
    }
    if changed != before {
        let keys = differing(&changed, &before).join(", ");
        errors.push(FieldError::forbidden(&path, format!("{CHANGEABLE}\nchanged: {keys}")));
    }
    immutable(
        &mut errors,
        &Path::new("status.qosClass"),
        at(new, &["status", "qosClass"]),
        at(old, &["status", "qosClass"]),
    );
    errors
}

/// Returns the names of the top-level fields that differ.
fn differing(new: &Value, old: &Value) -> Vec<String> {
    let keys = |value: &Value| {
        value
            .as_object()
            .map(|map| map.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let mut all = keys(new);
    all.extend(keys(old));
    all.sort();
    all.dedup();
    all.retain(|key| new.get(key) != old.get(key));
    all
}

fn deadline(errors: &mut Vec<FieldError>, path: &Path, new: &Value, old: &Value) {
    let deadline = |spec: &Value| int_at(spec, &["activeDeadlineSeconds"]);
    match (deadline(new), deadline(old)) {
        (Some(new), Some(old)) if new > old => {
            let detail = "must be less than or equal to previous value";
            errors.push(FieldError::invalid(path, new, detail));
        }
        (Some(new), _) if new < 1 => {
            errors.push(FieldError::invalid(
                path,
                new,
                "must be between 1 and 2147483647, inclusive",
            ));
        }
        (None, Some(old)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, old, detail));
        }
        _ => {}
    }
}

fn only_added_tolerations(errors: &mut Vec<FieldError>, path: &Path, new: &Value, old: &Value) {
    let same = |a: &Value, b: &Value| {
        ["key", "operator", "value", "effect"]
            .iter()
            .all(|key| str_at(a, &[key]) == str_at(b, &[key]))
    };
    let kept = list_at(old, &["tolerations"])
        .iter()
        .all(|old| list_at(new, &["tolerations"]).iter().any(|new| same(new, old)));
    if !kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path, detail));
    }
    tolerations(errors, path, list_at(new, &["tolerations"]));
}

fn scheduling_gates(errors: &mut Vec<FieldError>, path: &Path, new: &Value, old: &Value) {
    let before = list_at(old, &["schedulingGates"]);
    let names = |list: &[Value]| {
        list.iter()
            .map(|gate| str_at(gate, &["name"]).to_owned())
            .collect::<Vec<_>>()
    };
    let before: HashSet<String> = names(before).into_iter().collect();
    let added: Vec<String> = names(list_at(new, &["schedulingGates"]))
        .into_iter()
        .filter(|gate| !before.contains(gate))
        .collect();
    if !added.is_empty() {
        let detail = format!(
            "only deletion is allowed, but found new scheduling gate '{}'",
            added.join("', '")
        );
        errors.push(FieldError::forbidden(path, detail));
    }
}
