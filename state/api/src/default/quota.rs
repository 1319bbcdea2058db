//! Defaults of ResourceQuotas and LimitRanges.

use serde_json::{Map, Value};

use super::{each, fill, inside, spec};
use crate::meta;
use crate::quantity::canonicalize;

/// Fills in a ResourceQuota: amounts are written in their canonical form.
pub fn quota(quota: &mut Value) {
    for (part, keys) in [("spec", &["hard"][..]), ("status", &["hard", "used"])] {
        inside(meta::map_of(quota), part, |part| {
            for key in keys {
                inside(part, key, |amounts| amounts.values_mut().for_each(canonicalize));
            }
        });
    }
}

/// Fills in a LimitRange: what a container is given follows from the bounds that it has.
pub fn limit_range(range: &mut Value) {
    each(spec(range), "limits", |item| {
        for key in ["default", "defaultRequest", "max", "maxLimitRequestRatio", "min"] {
            inside(item, key, |amounts| amounts.values_mut().for_each(canonicalize));
        }
        if item.get("type").and_then(Value::as_str) == Some("Container") {
            for (from, to) in [
                ("max", "default"),
                ("default", "defaultRequest"),
                ("min", "defaultRequest"),
            ] {
                follow(item, from, to);
            }
        }
    });
}

/// Takes over the amounts that a field does not say.
fn follow(item: &mut Map<String, Value>, from: &str, to: &str) {
    let Some(Value::Object(amounts)) = item.get(from).cloned() else {
        return;
    };
    for (name, amount) in amounts {
        fill(meta::map_mut(item, to), &name, amount);
    }
}
