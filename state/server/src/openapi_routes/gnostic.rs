//! The OpenAPI v2 document in the binary form (`openapi.v2.Document` of gnostic) that kubectl before 1.28 insists on.
//!
//! Such a kubectl looks up in it whether the server checks unknown fields (`fieldValidation`) and does dry runs for a
//! kind, by the parameters of the kind's PATCH. That is all that is in it: no definitions, so that it has nothing to
//! check by itself and leaves that to the server.

use std::sync::Arc;

use setpoint_api::Resource;

/// The media type that asks for this form.
pub(super) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// What is answered then: `@` may stand in no media type, and Go's parser refuses it.
pub(super) const CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Writes the document.
pub(super) fn document(rows: &[Arc<Resource>]) -> Vec<u8> {
    let info = [text(1, "Kubernetes"), text(2, "unversioned")].concat();
    let paths: Vec<u8> = rows
        .iter()
        .filter(|row| row.allows("patch"))
        .flat_map(|row| field(2, &path(row)))
        .collect();
    [text(1, "2.0"), field(2, &info), field(8, &paths)].concat()
}

/// A `NamedPathItem` with a PATCH.
fn path(row: &Resource) -> Vec<u8> {
    let root = if row.group.is_empty() { "/api" } else { "/apis" };
    let namespace = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    let name = format!("{root}/{}{namespace}/{}/{{name}}", row.api_version(), row.plural);
    // JSON is YAML too.
    let kind = serde_json::json!({"group": row.group, "version": row.version, "kind": row.kind});
    let extension = [
        text(1, "x-kubernetes-group-version-kind"),
        field(2, &text(2, &kind.to_string())),
    ]
    .concat();
    let operation = [parameter("dryRun"), parameter("fieldValidation"), field(13, &extension)].concat();
    [text(1, &name), field(2, &field(8, &operation))].concat()
}

/// A parameter in the query, as a field of an `Operation`.
fn parameter(name: &str) -> Vec<u8> {
    let query = [text(2, "query"), text(4, name), text(6, "string")].concat();
    field(8, &field(1, &field(2, &field(3, &query))))
}

fn text(number: u64, value: &str) -> Vec<u8> {
    field(number, value.as_bytes())
}

/// A length-delimited field.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 6);
    varint(&mut out, number << 3 | 2);
    varint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    // Below 0x80 by now.
    out.push(value as u8);
}
