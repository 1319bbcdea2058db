//! Defaults of PriorityClasses and RuntimeClasses.

use serde_json::Value;

use super::{fill_text, inside};
use crate::meta;
use crate::quantity::canonicalize;

/// Fills in a PriorityClass.
pub fn priority_class(class: &mut Value) {
    fill_text(meta::map_of(class), "preemptionPolicy", "PreemptLowerPriority");
}

/// Fills in a RuntimeClass: amounts are written in their canonical form.
pub fn runtime_class(class: &mut Value) {
    inside(meta::map_of(class), "overhead", |overhead| {
        inside(overhead, "podFixed", |amounts| {
            amounts.values_mut().for_each(canonicalize);
        });
    });
}
