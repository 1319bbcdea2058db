//! The rows of PriorityClasses and RuntimeClasses.

use serde_json::Value;

use super::{Column, Row, age, columns};
use crate::meta::{self, at, int_at, str_at};

/// Returns the columns and the row of PriorityClasses.
pub(crate) fn priority_class() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Value|integer|0|The priority that pods of this class get.
Global-Default|boolean|0|Whether pods without a class get this one.
Age|string|0|How long ago the object was created.
PreemptionPolicy|string|0|Whether pods of this class may push others away.";
    let row = |object: &Value, now| {
        vec![
            meta::name(object).into(),
            int_at(object, &["value"]).unwrap_or(0).into(),
            (at(object, &["globalDefault"]) == Some(&Value::Bool(true))).into(),
            age(object, now),
            str_at(object, &["preemptionPolicy"]).into(),
        ]
    };
    (columns(text), Row::Builtin(row))
}

/// Returns the columns and the row of RuntimeClasses.
pub(crate) fn runtime_class() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique.
Handler|string|0|The handler that runs the pods of this class.
Age|string|0|How long ago the object was created.";
    let row = |object: &Value, now| {
        vec![
            meta::name(object).into(),
            str_at(object, &["handler"]).into(),
            age(object, now),
        ]
    };
    (columns(text), Row::Builtin(row))
}
