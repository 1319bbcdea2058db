//! Reading arguments whose types the call has checked already; the fallbacks are never reached.

use std::borrow::Cow;

use crate::gotemplate::exec::Failure;
use crate::value::{Entries, List, Map, Str, Value};

pub(super) type Outcome = Result<Value, Failure>;

pub(super) fn bytes(args: &[Value], index: usize) -> &[u8] {
    match args.get(index) {
        Some(Value::Str(text) | Value::Bytes(text)) => text,
        _ => b"",
    }
}

pub(super) fn text(args: &[Value], index: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes(args, index))
}

pub(super) fn int(args: &[Value], index: usize) -> i64 {
    match args.get(index) {
        Some(Value::Int(_, value)) => *value,
        _ => 0,
    }
}

pub(super) fn flag(args: &[Value], index: usize) -> bool {
    matches!(args.get(index), Some(Value::Bool(true)))
}

pub(super) fn map(args: &[Value], index: usize) -> Map {
    match args.get(index) {
        Some(Value::Map(map)) => map.clone(),
        _ => Map::new(Entries::new()),
    }
}

/// Reads a slice of whatever type as values.
pub(super) fn items(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::List(List { items, .. }) => Some(items.to_vec()),
        Value::Bytes(bytes) => Some(
            bytes
                .iter()
                .map(|byte| Value::Int(crate::value::IntKind::Uint8, i64::from(*byte)))
                .collect(),
        ),
        _ => None,
    }
}

pub(super) fn string(value: impl Into<Str>) -> Outcome {
    Ok(Value::Str(value.into()))
}
