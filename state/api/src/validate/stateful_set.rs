//! The rules of StatefulSets and ControllerRevisions.

use serde_json::{Value, json};

use super::field::{FieldError, Path};
use super::workload::{self, amount, at_most_all, int_or_percent, spec_of};
use super::{all_invalid, given, immutable, non_negative, non_negative_all, pod};
use crate::meta::{self, at, list_at, str_at};
use crate::names;

/// Returns what is wrong with a new StatefulSet.
pub fn create(object: &Value) -> Vec<FieldError> {
    spec(object, true)
}

/// What may change in a StatefulSet's spec.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// Returns what is wrong with the change of a StatefulSet.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let service = |object: &Value| names::dns_label(str_at(object, &["spec", "serviceName"])).is_empty();
    let mut errors = spec(new, service(old));
    let fixed = |object: &Value| {
        let mut fixed = spec_of(object).clone();
        meta::map_of(&mut fixed).retain(|key, value| !CHANGEABLE.contains(&key.as_str()) && !value.is_null());
        fixed
    };
    if fixed(new) != fixed(old) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(FieldError::forbidden("spec", detail));
    }
    errors
}

/// Returns what is wrong with the change of a StatefulSet's status.
pub fn status(new: &Value, old: &Value) -> Vec<FieldError> {
    const COUNTS: &[&str] = &[
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    const BOUNDED: &[&str] = &[
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    let mut errors = workload::status_counts(new, COUNTS, BOUNDED);
    workload::available_of_ready(&mut errors, new, "cannot be greater than status.readyReplicas");
    workload::collisions_only_grow(&mut errors, new, old);
    errors
}

fn spec(object: &Value, checks_service: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (path, spec) = (Path::new("spec"), spec_of(object));
    let policy = str_at(spec, &["podManagementPolicy"]);
    match policy {
        "" => errors.push(FieldError::required(path.child("podManagementPolicy"), "")),
        "OrderedReady" | "Parallel" => {}
        _ => errors.push(FieldError::invalid(
            path.child("podManagementPolicy"),
            policy,
            "must be 'OrderedReady' or 'Parallel'",
        )),
    }
    update_strategy(&mut errors, &path.child("updateStrategy"), spec);
    if let Some(policy) = given(spec, "persistentVolumeClaimRetentionPolicy") {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            let value = str_at(policy, &[key]);
            if !matches!(value, "Retain" | "Delete") {
                let supported = ["Delete", "Retain"];
                errors.push(FieldError::not_supported(path.child(key), value, &supported));
            }
        }
    }
    non_negative_all(
        &mut errors,
        &path,
        spec,
        &["replicas", "minReadySeconds", "revisionHistoryLimit"],
    );
    non_negative(
        &mut errors,
        &path.child("ordinals.start"),
        at(spec, &["ordinals", "start"]),
    );
    let service = str_at(spec, &["serviceName"]);
    if checks_service && !service.is_empty() {
        all_invalid(
            &mut errors,
            &path.child("serviceName"),
            service,
            names::dns_label(service),
        );
    }
    workload::selector(&mut errors, &path, object, "statefulset");
    let template = with_claims(spec);
    let path = path.child("template");
    errors.extend(pod::any_template(&path, &template));
    pod::restarts_always(&mut errors, &path, &template, "StatefulSet");
    errors
}

/// Returns the template with a volume for each claim, as its pods have them.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec.get("template").cloned().unwrap_or(Value::Null);
    let claims: Vec<&str> = list_at(spec, &["volumeClaimTemplates"])
        .iter()
        .map(meta::name)
        .collect();
    if claims.is_empty() {
        return template;
    }
    let volumes = meta::map_mut(meta::map_of(&mut template), "spec")
        .entry("volumes")
        .or_insert(Value::Null);
    if !volumes.is_array() {
        *volumes = json!([]);
    }
    if let Value::Array(volumes) = volumes {
        for claim in claims {
            // A claim goes before a volume of the pod's own.
            let named = volumes.iter_mut().find(|volume| str_at(volume, &["name"]) == claim);
            let volume = json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
            match named {
                Some(found) => *found = volume,
                None => volumes.push(volume),
            }
        }
    }
    template
}

fn update_strategy(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    let rolling = given(strategy, "rollingUpdate");
    match (str_at(strategy, &["type"]), rolling) {
        ("", _) => errors.push(FieldError::required(path, "")),
        ("OnDelete", Some(rolling)) => errors.push(FieldError::invalid(
            path.child("rollingUpdate"),
            rolling.clone(),
            "only allowed for updateStrategy 'RollingUpdate'",
        )),
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            non_negative(errors, &path.child("partition"), rolling.get("partition"));
            if let Some(most) = given(rolling, "maxUnavailable") {
                let path = path.child("maxUnavailable");
                int_or_percent(errors, &path, Some(most));
                if amount(Some(most)) == 0 {
                    errors.push(FieldError::invalid(&path, most.clone(), "cannot be 0"));
                }
                at_most_all(errors, &path, Some(most));
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => errors.push(FieldError::invalid(
            path,
            strategy.clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        )),
    }
}

/// Returns what is wrong with a new ControllerRevision.
pub fn revision(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if given(object, "data").is_none() {
        errors.push(FieldError::required("data", "data is mandatory"));
    }
    non_negative(&mut errors, &Path::new("revision"), object.get("revision"));
    errors
}

/// Returns what is wrong with the change of a ControllerRevision.
pub fn revision_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = revision(new);
    immutable(&mut errors, &Path::new("data"), new.get("data"), old.get("data"));
    errors
}
