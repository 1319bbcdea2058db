//! The generation of a DaemonSet's template, which old clients read from an annotation.

use serde_json::Value;

use crate::meta::{self, at};

const GENERATION: &str = "deprecated.daemonset.template.generation";

/// A new DaemonSet has the first generation of its template.
pub fn create(object: &mut Value) {
    meta::set_annotation(object, GENERATION, "1");
}

/// The generation grows with each change of the template; it is not for clients to say.
pub fn update(new: &mut Value, old: &Value) {
    let before: i64 = meta::annotation(old, GENERATION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let changed = at(new, &["spec", "template"]) != at(old, &["spec", "template"]);
    let generation = before.saturating_add(i64::from(changed));
    if generation > 0 {
        meta::set_annotation(new, GENERATION, &generation.to_string());
    }
}
