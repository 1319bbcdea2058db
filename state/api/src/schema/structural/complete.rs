//! Whether what `allOf`, `anyOf`, `oneOf` and `not` constrain has its structure outside of them.
//!
//! As Kubernetes has it, only those at the root of a schema are looked at.

use serde_json::{Map, Value};

use crate::FieldError;
use crate::validate::field::Path;

/// Returns what is constrained in the alternatives of a schema, and what they nest, but stands nowhere in `outside` (at `at`).
pub(super) fn faults(schema: &Value, outside: &Value, at: &Path, path: &Path, errors: &mut Vec<FieldError>) {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| {
        let list = schema.get(key).and_then(Value::as_array).into_iter().flatten();
        list.enumerate()
            .map(move |(index, inner)| (path.child(key).index(index), inner))
    });
    let not = schema.get("not").filter(|not| not.is_object());
    for (path, inner) in lists.chain(not.map(|not| (path.child("not"), not))) {
        nested(inner, Some(outside), at, &path, errors);
    }
}

fn nested(schema: &Value, outside: Option<&Value>, at: &Path, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(outside) = outside.filter(|outside| outside.is_object()) else {
        errors.push(FieldError::required(at, format!("because it is defined in {path}")));
        return;
    };
    faults(schema, outside, at, path, errors);
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        let (at, path) = (at.child("items"), path.child("items"));
        nested(items, outside.get("items"), &at, &path, errors);
    }
    let known = outside.get("properties");
    for (name, inner) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
    {
        let (at, path) = (at.child("properties").key(name), path.child("properties").key(name));
        nested(inner, known.and_then(|known| known.get(name)), &at, &path, errors);
    }
}
