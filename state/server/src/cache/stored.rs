//! One object as it is kept: the log's bytes and what is asked of them most often.
//!
//! Bytes that are no JSON object (the store was damaged, or written by something else) are kept too, as a damaged object: it keeps its name, so
//! that it can be asked for and deleted, and is never sent, because one of it in a list would make the list no JSON.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value, json};
use setpoint_api::{Resource, meta};
use setpoint_store::Revision;

/// What stands before the place where `resourceVersion` goes.
const METADATA: &[u8] = b"\"metadata\":{";

/// An object at one revision.
#[derive(Debug)]
pub struct Stored {
    /// The key within its kind: `namespace/name`, `-/name` without a namespace.
    pub key: Box<str>,
    /// The write that it came from; 0 for what is not stored.
    pub revision: Revision,
    /// The JSON as stored, without `metadata.resourceVersion`.
    pub bytes: Bytes,
    /// The namespace; empty for what has none.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// The uid.
    pub uid: Box<str>,
    /// The labels.
    pub labels: Map<String, Value>,
    /// The fields that field selectors may ask for, beside name and namespace, by [`setpoint_api::scheme::SelectableField::key`].
    pub fields: Box<[(Box<str>, Box<str>)]>,
    /// The uids of the owners.
    pub owners: Box<[Box<str>]>,
    /// Whether the object was asked to go.
    pub deleting: bool,
    /// Why the bytes are no object, where they are none.
    pub damage: Option<Box<str>>,
    /// Where `resourceVersion` goes in the bytes.
    splice: u32,
}

impl Stored {
    /// Says whether the text is anywhere in the JSON: for a look that spares reading most objects.
    pub fn mentions(&self, text: &str) -> bool {
        find(&self.bytes, text.as_bytes()).is_some()
    }

    /// Reads what is kept beside the bytes; `row` says which fields can be selected, `None` that none can.
    pub fn new(key: &str, revision: Revision, bytes: Bytes, row: Option<&Resource>) -> Stored {
        let (object, damage) = match serde_json::from_slice(&bytes) {
            Ok(object @ Value::Object(_)) => (object, None),
            Ok(_) => (Value::Null, Some("it is JSON, but no object".into())),
            Err(error) => (Value::Null, Some(error.to_string().into())),
        };
        // What was made just now and is not stored is at no revision, and says none.
        let splice = match revision {
            0 => 0,
            _ => find(&bytes, METADATA).map_or(0, |at| (at + METADATA.len()) as u32),
        };
        let (namespace, name) = key.split_once('/').unwrap_or(("-", key));
        let labels = meta::labels(&object).cloned().unwrap_or_default();
        let fields = row.map_or_else(Vec::new, |row| selectable(row, &object));
        Stored {
            key: key.into(),
            revision,
            namespace: if namespace == "-" { "".into() } else { namespace.into() },
            name: name.into(),
            uid: meta::uid(&object).into(),
            labels,
            fields: fields.into_boxed_slice(),
            owners: meta::owner_references(&object)
                .iter()
                .filter_map(|owner| owner.get("uid").and_then(Value::as_str).map(Into::into))
                .collect(),
            deleting: meta::is_being_deleted(&object),
            damage,
            splice,
            bytes,
        }
    }

    /// The value of a selectable field by its key; absent ones are empty.
    pub fn field(&self, path: &str) -> &str {
        match path {
            "metadata.name" => &self.name,
            "metadata.namespace" => &self.namespace,
            _ => self
                .fields
                .iter()
                .find(|(name, _)| **name == *path)
                .map_or("", |(_, value)| value),
        }
    }

    /// The object with `metadata.resourceVersion`; of a damaged one what its key says.
    pub fn value(&self) -> Value {
        let mut object = match serde_json::from_slice(&self.bytes) {
            Ok(object @ Value::Object(_)) => object,
            _ => self.remains(),
        };
        if self.revision != 0 {
            meta::set(&mut object, "resourceVersion", self.revision.to_string());
        }
        object
    }

    /// What is known of a damaged object. Which one it was is not, so it has a uid of its own: whoever replaces it replaces another object, and
    /// what the former one owned is not the new one's.
    fn remains(&self) -> Value {
        // A UUID of version 8, whose content is for its maker to choose: the revision is unique.
        let revision = self.revision & 0xffff_ffff_ffff;
        let mut metadata = json!({"name": self.name, "uid": format!("00000000-0000-8000-8000-{revision:012x}")});
        if !self.namespace.is_empty() {
            metadata["namespace"] = json!(self.namespace);
        }
        json!({"metadata": metadata})
    }

    /// How many bytes [`Stored::write`] appends, at most.
    pub fn wire_len(&self) -> usize {
        self.bytes.len() + 44
    }

    /// Appends the object as sent, saying that it is at `revision`.
    pub fn write(&self, revision: Revision, out: &mut BytesMut) {
        splice_into(&self.bytes, self.splice as usize, revision, out);
    }

    /// Appends the object's metadata as sent: a `PartialObjectMetadata` that says it is at `revision`. Nothing is parsed.
    pub fn write_partial(&self, revision: Revision, out: &mut BytesMut) {
        out.put_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",");
        let from = (self.splice as usize).saturating_sub(METADATA.len());
        let end = end_of_map(&self.bytes, self.splice as usize);
        if self.splice == 0 {
            out.put_slice(b"\"metadata\":{}");
        } else {
            // The metadata alone, as an object that begins with it would be written.
            splice_into(&self.bytes[from..end], METADATA.len(), revision, out);
        }
        out.put_u8(b'}');
    }

    /// The object as sent.
    pub fn wire(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.wire_len());
        self.write(self.revision, &mut out);
        out.freeze()
    }

    /// Whether the bytes are of this apiVersion already.
    pub fn is_version(&self, api_version: &str) -> bool {
        // `{"kind":"K","apiVersion":"V","metadata":{`: what stands before metadata is short.
        let head = &self.bytes[..(self.splice as usize).min(self.bytes.len())];
        let Some(at) = find(head, b"\"apiVersion\":\"") else {
            return false;
        };
        let rest = &head[at + 14..];
        rest.starts_with(api_version.as_bytes()) && rest.get(api_version.len()) == Some(&b'"')
    }
}

/// Appends bytes with `resourceVersion` put in at a place, the beginning of a map; as they are where the place is 0.
fn splice_into(bytes: &[u8], at: usize, revision: Revision, out: &mut BytesMut) {
    if at == 0 {
        out.put_slice(bytes);
        return;
    }
    out.put_slice(&bytes[..at]);
    out.put_slice(b"\"resourceVersion\":\"");
    let mut digits = [0u8; 20];
    let mut from = digits.len();
    let mut rest = revision;
    loop {
        from -= 1;
        // A decimal digit.
        digits[from] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[from..]);
    out.put_slice(if bytes.get(at) == Some(&b'}') { b"\"" } else { b"\"," });
    out.put_slice(&bytes[at..]);
}

/// Where the map ends, its brace included, that begins right before `from` in well-formed JSON.
fn end_of_map(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut quoted, mut escaped) = (1_usize, false, false);
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// The selectable fields of an object.
fn selectable(row: &Resource, object: &Value) -> Vec<(Box<str>, Box<str>)> {
    row.selectable_fields
        .iter()
        .map(|field| (field.key().into(), field.read(object).into()))
        .collect()
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_metadata_is_cut_out_of_the_bytes_as_it_would_be_parsed() {
        for object in [
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "labels": {"x}": "\"{\\"}, "finalizers": ["]"]}, "spec": {"a": [{}]}}),
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}}),
        ] {
            let stored = Stored::new("n/a", 7, setpoint_api::encode(&object).into(), None);
            let mut out = BytesMut::new();
            stored.write_partial(9, &mut out);
            let mut wanted = setpoint_api::table::partial(&object);
            wanted["metadata"]["resourceVersion"] = "9".into();
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), wanted);
        }
    }
}
