//! Values as people may see them: those of Secrets hidden, long ones shortened.
//!
//! Of a hidden value its length and the start of its hash are shown, so that one sees that it changed and whether two are the same. The
//! start is so short that nobody can find the value by guessing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::diff::FieldChange;
use crate::object::ObjectRef;
use crate::secret;

/// A shown value has no more characters than this.
const MAX_SHOWN: usize = 80;
/// The fields of a Secret whose values are hidden.
const HIDDEN: [&str; 2] = ["data", "stringData"];
/// Where `kubectl apply` keeps what it applied, values of Secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Returns the changes of an object with the values of Secrets hidden.
pub fn changes(object: &ObjectRef, changes: &[FieldChange]) -> Vec<FieldChange> {
    let is_secret = object.group.is_empty() && object.kind == "Secret";
    changes
        .iter()
        .map(|change| if is_secret { masked(change) } else { change.clone() })
        .collect()
}

fn masked(change: &FieldChange) -> FieldChange {
    let hide: fn(&Value) -> Value = if change.path.contains(LAST_APPLIED) {
        |value| hidden(value, false)
    } else if is_below(&change.path, "data") {
        |value| hidden(value, true)
    } else if is_below(&change.path, "stringData") {
        |value| hidden(value, false)
    } else if change.path == "metadata" || change.path == "metadata.annotations" {
        hide_last_applied
    } else {
        return change.clone();
    };
    FieldChange {
        path: change.path.clone(),
        from: change.from.as_ref().map(hide),
        to: change.to.as_ref().map(hide),
    }
}

fn is_below(path: &str, field: &str) -> bool {
    path.strip_prefix(field)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Returns an object as people may see it: a Secret's values hidden, anything else as it is.
pub fn object(object: &Value) -> Value {
    let mut out = object.clone();
    if !secret::is_secret(object) {
        return out;
    }
    if let Some(map) = out.as_object_mut() {
        for field in HIDDEN {
            if let Some(value) = map.get_mut(field) {
                *value = hidden(value, field == "data");
            }
        }
        if let Some(metadata) = map.get_mut("metadata") {
            *metadata = hide_last_applied(metadata);
        }
    }
    out
}

/// Hides the annotation in metadata or in annotations.
fn hide_last_applied(value: &Value) -> Value {
    let mut out = value.clone();
    if let Some(map) = out.as_object_mut() {
        if let Some(text) = map.get_mut(LAST_APPLIED) {
            *text = hidden(text, false);
        }
        if let Some(annotations) = map.get_mut("annotations") {
            *annotations = hide_last_applied(annotations);
        }
    }
    out
}

/// Hides a value, or each value of a map.
fn hidden(value: &Value, base64: bool) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), hidden(value, base64)))
            .collect::<Map<_, _>>()
            .into(),
        Value::String(text) => {
            let decoded = if base64 {
                STANDARD.decode(text.replace(['\r', '\n'], "")).ok()
            } else {
                None
            };
            summary(decoded.as_deref().unwrap_or(text.as_bytes())).into()
        }
        other => summary(other.to_string().as_bytes()).into(),
    }
}

fn summary(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let unit = if bytes.len() == 1 { "byte" } else { "bytes" };
    format!("hidden, {} {unit}, {:02x}{:02x}", bytes.len(), digest[0], digest[1])
}

/// Writes a value on one line, shortened.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().nth(MAX_SHOWN).is_none() {
        return text;
    }
    let kept: String = text.chars().take(MAX_SHOWN - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret() -> ObjectRef {
        ObjectRef {
            version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            name: "s".to_owned(),
            ..ObjectRef::default()
        }
    }

    #[test]
    fn a_secrets_values_never_show() {
        let password = "hunter2hunter2";
        let encoded = STANDARD.encode(password);
        let written = vec![
            FieldChange {
                path: "data.password".to_owned(),
                from: Some(json!(encoded)),
                to: Some(json!("bmV3")),
            },
            FieldChange {
                path: "data[\"tls.key\"]".to_owned(),
                from: None,
                to: Some(json!(encoded)),
            },
            FieldChange {
                path: "data".to_owned(),
                from: Some(json!({"password": encoded})),
                to: None,
            },
            FieldChange {
                path: "metadata.annotations".to_owned(),
                from: Some(json!({ LAST_APPLIED: encoded, "a": "b" })),
                to: None,
            },
            FieldChange {
                path: format!("metadata.annotations[\"{LAST_APPLIED}\"]"),
                from: Some(json!(encoded)),
                to: None,
            },
        ];
        let shown = serde_json::to_string(&changes(&secret(), &written)).unwrap();
        assert!(!shown.contains(&encoded) && !shown.contains(password), "{shown}");
        assert!(
            shown.contains("hidden, 14 bytes, ") && shown.contains("hidden, 3 bytes, "),
            "{shown}"
        );
        let whole = object(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations": {LAST_APPLIED: password}},
            "data": {"password": encoded}, "stringData": {"other": password}, "type": "Opaque",
        }))
        .to_string();
        assert!(!whole.contains(&encoded) && !whole.contains(password), "{whole}");
        assert!(whole.contains("Opaque"));
    }

    #[test]
    fn what_is_no_secret_shows() {
        let object = ObjectRef {
            kind: "ConfigMap".to_owned(),
            ..secret()
        };
        let change = FieldChange {
            path: "data.a".to_owned(),
            from: None,
            to: Some(json!("b")),
        };
        assert_eq!(changes(&object, std::slice::from_ref(&change)), [change]);
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let shown = shown(&json!("ä".repeat(500)));
        assert_eq!(shown.chars().count(), MAX_SHOWN);
        assert!(shown.ends_with('…'));
    }
}
