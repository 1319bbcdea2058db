//! The rules of Nodes and Leases.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{immutable, one_of};
use crate::meta::{at, int_at, list_at, str_at};
use crate::quantity::Quantity;

/// Returns what is wrong with a new Node.
pub fn node(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    for (index, taint) in list_at(node, &["spec", "taints"]).iter().enumerate() {
        let path = Path::new("spec.taints").index(index);
        let (key, effect) = (str_at(taint, &["key"]), str_at(taint, &["effect"]));
        super::all_invalid(&mut errors, &path.child("key"), key, crate::names::qualified_name(key));
        let value = str_at(taint, &["value"]);
        super::all_invalid(
            &mut errors,
            &path.child("value"),
            value,
            crate::names::label_value(value),
        );
        one_of(
            &mut errors,
            &path.child("effect"),
            effect,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            true,
        );
        if !seen.insert((key, effect)) {
            errors.push(FieldError::duplicate(path, taint.clone()));
        }
    }
    for key in ["capacity", "allocatable"] {
        for (name, amount) in at(node, &["status", key])
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let path = Path::new("status").child(key).key(name);
            match Quantity::from_value(amount) {
                Ok(quantity) if quantity.is_negative() => {
                    errors.push(FieldError::invalid(
                        path,
                        amount.clone(),
                        "must be greater than or equal to 0",
                    ));
                }
                Ok(_) => {}
                Err(error) => errors.push(FieldError::invalid(path, amount.clone(), error.to_string())),
            }
        }
    }
    errors
}

/// Returns what is wrong with the change of a Node.
pub fn node_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = node(new);
    for key in ["providerID", "podCIDR"] {
        // May be set once.
        if !str_at(old, &["spec", key]).is_empty() {
            immutable(
                &mut errors,
                &Path::new("spec").child(key),
                at(new, &["spec", key]),
                at(old, &["spec", key]),
            );
        }
    }
    errors
}

/// Returns what is wrong with a Lease.
pub fn lease(lease: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    if let Some(seconds) = int_at(lease, &["spec", "leaseDurationSeconds"])
        && seconds <= 0
    {
        errors.push(FieldError::invalid(
            path.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(transitions) = int_at(lease, &["spec", "leaseTransitions"])
        && transitions < 0
    {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path.child("leaseTransitions"), transitions, detail));
    }
    errors
}
