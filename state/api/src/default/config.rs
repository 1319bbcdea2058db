//! Defaults of Namespaces, Nodes, Secrets and CustomResourceDefinitions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{fill, fill_text, inside, spec};
use crate::meta;
use crate::quantity::canonicalize;

/// The label that every namespace carries its name in.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Fills in a Namespace; its name has to be known by now.
pub fn namespace(namespace: &mut Value) {
    let name = meta::name(namespace).to_owned();
    if !name.is_empty() {
        meta::set_label(namespace, NAME_LABEL, &name);
    }
}

/// Fills in a Node: what can be allocated is its capacity, unless it says otherwise.
pub fn node(node: &mut Value) {
    inside(meta::map_of(node), "status", |status| {
        if let Some(capacity) = status.get("capacity").cloned().filter(Value::is_object) {
            fill(status, "allocatable", capacity);
        }
        for key in ["capacity", "allocatable"] {
            inside(status, key, |amounts| amounts.values_mut().for_each(canonicalize));
        }
    });
}

/// Fills in a Secret; `stringData` goes into `data`.
pub fn secret(secret: &mut Value) {
    let map = meta::map_of(secret);
    fill_text(map, "type", "Opaque");
    if let Some(Value::Object(texts)) = map.remove("stringData")
        && !texts.is_empty()
    {
        let data = meta::map_mut(map, "data");
        for (key, text) in texts {
            data.insert(key, STANDARD.encode(text.as_str().unwrap_or("")).into());
        }
    }
}

/// Fills in a CustomResourceDefinition.
pub fn definition(definition: &mut Value) {
    let spec = spec(definition);
    inside(spec, "names", |names| {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
        if !kind.is_empty() {
            fill_text(names, "singular", &kind.to_lowercase());
            fill_text(names, "listKind", &format!("{kind}List"));
        }
    });
    fill(spec, "conversion", json!({}));
    inside(spec, "conversion", |conversion| {
        fill_text(conversion, "strategy", "None")
    });
}
