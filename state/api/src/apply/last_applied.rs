//! The annotation in which `kubectl apply` keeps what it applied on the client's side, and the way from there to server-side
//! apply.

use serde_json::Value;

use super::differ::{compare, field_set};
use super::fields::Set;
use super::node::Node;

/// The manager for which this is done.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The limit of all annotations together.
const MAX_BYTES: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()
}

/// Returns the fields that kubectl applied last and that still have the value which it gave them.
pub(super) fn unchanged_since(root: &Node<'_>, live: &Value) -> Set {
    let Some(applied) = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Set::default();
    };
    // What was said in another version says nothing about the fields of this one.
    if applied.get("apiVersion") != live.get("apiVersion") {
        return Set::default();
    }
    let comparison = compare(root, Some(&applied), Some(live));
    field_set(root, &applied).difference(&comparison.modified)
}

/// Keeps the annotation of an object that has one up to date, so that client-side apply can be gone back to. One that does not fit
/// any more goes.
pub(super) fn refresh(object: &mut Value, applied: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut said = applied.clone();
    if let Some(annotations) = said.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    let mut text = said.to_string();
    text.push('\n');
    let annotations = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut);
    let Some(annotations) = annotations else { return };
    annotations.insert(ANNOTATION.to_owned(), text.into());
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > MAX_BYTES {
        annotations.remove(ANNOTATION);
    }
}
