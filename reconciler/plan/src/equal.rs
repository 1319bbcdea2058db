//! When two values mean the same.

use serde_json::Value;
use setpoint_api::Quantity;
use setpoint_api::apply::{Place, Sort};

use crate::ownership::MAX_DEPTH;

/// Returns whether a value says as much as its absence: null, and what is empty where the server does not keep that.
pub(crate) fn is_hollow(place: Place<'_>, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty() && place.drops_empty(),
        Value::Object(map) => place.drops_empty() && map.iter().all(|(key, value)| is_hollow(place.child(key), value)),
        _ => false,
    }
}

/// Returns whether a value is what Go leaves out of most fields: an empty text, 0 or false.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(truth) => !truth,
        _ => false,
    }
}

/// Returns whether two values of one place mean the same; with `zeros`, also where one leaves out what the other has as zero.
pub(crate) fn same(place: Place<'_>, a: &Value, b: &Value, zeros: bool) -> bool {
    same_at(place, a, b, zeros, 0)
}

fn same_at(place: Place<'_>, a: &Value, b: &Value, zeros: bool, depth: usize) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) if depth < MAX_DEPTH => {
            let absent = |key: &str, value: &Value| {
                let place = place.child(key);
                is_hollow(place, value) || (zeros && place.is_field() && is_zero(value))
            };
            a.iter().all(|(key, value)| match b.get(key) {
                Some(other) => same_at(place.child(key), value, other, zeros, depth + 1),
                None => absent(key, value),
            }) && b.iter().all(|(key, value)| a.contains_key(key) || absent(key, value))
        }
        (Value::Array(a), Value::Array(b)) if depth < MAX_DEPTH => {
            let inner = place.items();
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_at(inner, a, b, zeros, depth + 1))
        }
        _ => a == b || same_scalar(place, a, b),
    }
}

fn same_scalar(place: Place<'_>, a: &Value, b: &Value) -> bool {
    match (place.sort(), a, b) {
        (Sort::Quantity, _, _) => match (Quantity::from_value(a), Quantity::from_value(b)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        },
        (Sort::Bytes, Value::String(a), Value::String(b)) => {
            let meant = |text: &str| {
                text.bytes()
                    .filter(|byte| !matches!(byte, b'\r' | b'\n'))
                    .collect::<Vec<_>>()
            };
            meant(a) == meant(b)
        }
        (_, Value::Number(a), Value::Number(b)) => {
            // Whole numbers are compared as such; this is for 1 and 1.0.
            (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64()
        }
        (_, Value::Null, other) | (_, other, Value::Null) => is_hollow(place, other),
        _ => false,
    }
}
