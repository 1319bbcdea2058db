//! The bytes that an object is stored and sent as.
//!
//! They start with `{"kind":…,"apiVersion":…,"metadata":{` and carry no resourceVersion: that is the revision of the
//! write, which nobody knows beforehand. [`splice`] puts it in when the bytes are sent.

use serde_json::{Map, Value};

const METADATA: &[u8] = b"\"metadata\":{";

/// Encodes an object: kind, apiVersion, metadata, then the rest; without `metadata.resourceVersion`.
pub fn encode(object: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        if let Some(value) = fields.get(key) {
            member(&mut out, key, value);
        }
    }
    separate(&mut out);
    out.extend_from_slice(METADATA);
    for (key, value) in crate::meta::metadata(object).unwrap_or(&empty) {
        if key != "resourceVersion" {
            member(&mut out, key, value);
        }
    }
    out.push(b'}');
    for (key, value) in fields {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            member(&mut out, key, value);
        }
    }
    out.push(b'}');
    out
}

fn separate(out: &mut Vec<u8>) {
    if !out.ends_with(b"{") {
        out.push(b',');
    }
}

fn member(out: &mut Vec<u8>, key: &str, value: &Value) {
    separate(out);
    write(out, key);
    out.push(b':');
    write(out, value);
}

fn write(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("a JSON value has text keys, and a vector takes all bytes");
}

/// Returns where the resourceVersion goes in bytes made by [`encode`], or `None` in others.
pub fn splice_point(bytes: &[u8]) -> Option<usize> {
    // Before metadata stand only kind and apiVersion; a text that contains the mark would have its quotes escaped.
    let start = bytes.windows(METADATA.len()).position(|window| window == METADATA)?;
    Some(start + METADATA.len())
}

/// Appends bytes made by [`encode`] to `out`, with the resourceVersion as first member of metadata.
///
/// Bytes that were not made by [`encode`] are appended as they are.
pub fn splice(bytes: &[u8], resource_version: u64, out: &mut Vec<u8>) {
    let Some(at) = splice_point(bytes) else {
        out.extend_from_slice(bytes);
        return;
    };
    let number = resource_version.to_string();
    out.reserve(bytes.len() + number.len() + 24);
    out.extend_from_slice(&bytes[..at]);
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(number.as_bytes());
    out.push(b'"');
    if bytes.get(at) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(&bytes[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn kind_comes_first_and_the_resource_version_not_at_all() {
        let object = json!({"data": {"a": "b"}, "metadata": {"name": "x", "resourceVersion": "7"}, "apiVersion": "v1", "kind": "ConfigMap"});
        let bytes = encode(&object);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":"b"}}"#
        );
        let mut out = Vec::new();
        splice(&bytes, 42, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"42","name":"x"}"#)
        );
    }

    #[test]
    fn empty_metadata_takes_a_resource_version() {
        let mut out = Vec::new();
        splice(&encode(&json!({})), 1, &mut out);
        assert_eq!(out, br#"{"metadata":{"resourceVersion":"1"}}"#);
    }

    proptest! {
        #[test]
        fn encoding_and_splicing_keep_everything_else(kind in ".*", name in ".*", data in proptest::collection::btree_map(".*", ".*", 0..4), revision: u64) {
            let mut object = json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name}, "data": data});
            let mut out = Vec::new();
            splice(&encode(&object), revision, &mut out);
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), object);
        }
    }
}
