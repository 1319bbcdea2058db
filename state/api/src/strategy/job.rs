//! The selector of a Job, which the server makes so that no two Jobs share pods.

use serde_json::{Value, json};

use crate::meta::{self, at};

/// How the value of a label is read from its Job.
type Labelled = fn(&Value) -> String;

/// The labels of a Job's pods, under the names of today and under those of before.
pub const LABELS: [(&str, Labelled); 4] = [
    ("controller-uid", uid),
    ("job-name", name),
    ("batch.kubernetes.io/controller-uid", uid),
    ("batch.kubernetes.io/job-name", name),
];

/// The label that the selector asks for.
const SELECTED: &str = "batch.kubernetes.io/controller-uid";

fn uid(job: &Value) -> String {
    meta::uid(job).to_owned()
}

fn name(job: &Value) -> String {
    meta::name(job).to_owned()
}

/// Whether a Job brings a selector of its own.
pub fn is_selector_given(job: &Value) -> bool {
    at(job, &["spec", "manualSelector"]) == Some(&Value::Bool(true))
}

/// Gives a Job with a name and a uid its selector and its pods their labels, unless it brings its own.
///
/// A label that is there stays: validation refuses it if it is another.
pub fn generate_selector(job: &mut Value) {
    if is_selector_given(job) {
        return;
    }
    let values = LABELS.map(|(key, value)| (key, value(job)));
    let selected = uid(job);
    let spec = meta::map_mut(meta::map_of(job), "spec");
    let template = meta::map_mut(spec, "template");
    let labels = meta::map_mut(meta::map_mut(template, "metadata"), "labels");
    for (key, value) in values {
        labels.entry(key).or_insert_with(|| json!(value));
    }
    let selector = meta::map_mut(meta::map_mut(spec, "selector"), "matchLabels");
    selector.entry(SELECTED).or_insert_with(|| json!(selected));
}

/// Drops what Kubernetes does not keep either while its feature is off.
pub fn drop_disabled(job: &mut Value) {
    meta::map_mut(meta::map_of(job), "spec").remove("scheduling");
}
