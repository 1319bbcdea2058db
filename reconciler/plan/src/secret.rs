//! What is special about Secrets: their texts are another way to write their data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use setpoint_api::meta;

/// Returns whether an object is a Secret.
pub(crate) fn is_secret(object: &Value) -> bool {
    meta::kind(object) == "Secret" && meta::api_version(object) == "v1"
}

/// Returns whether a Secret is written with texts.
pub(crate) fn has_texts(object: &Value) -> bool {
    is_secret(object) && object.get("stringData").is_some()
}

/// Writes a Secret's texts as data: what is applied is then what is kept, so that a key that goes from git goes from the cluster.
pub(crate) fn encode_texts(object: &mut Value) {
    if !has_texts(object) {
        return;
    }
    // What is no map of texts stays for the API to refuse.
    let readable = |texts: &Value| {
        texts.is_null()
            || texts
                .as_object()
                .is_some_and(|texts| texts.values().all(|text| text.is_string() || text.is_null()))
    };
    let Some(map) = object.as_object_mut() else { return };
    if !map.get("stringData").is_some_and(readable)
        || map.get("data").is_some_and(|data| !data.is_object() && !data.is_null())
    {
        return;
    }
    let Some(Value::Object(texts)) = map.remove("stringData") else {
        return;
    };
    if texts.is_empty() {
        return;
    }
    let data = meta::map_mut(map, "data");
    for (key, text) in texts {
        data.insert(key, STANDARD.encode(text.as_str().unwrap_or_default()).into());
    }
}
