//! What a call costs, as Kubernetes counts it: by the sizes of its arguments.
//!
//! The numbers are cel-go's and those of Kubernetes' own estimator (`apiserver/pkg/cel/library/cost.go`).

use crate::value::Value;

pub(super) const IDENT: u64 = 1;
pub(super) const SELECT: u64 = 1;
pub(super) const LIST: u64 = 10;
pub(super) const MAP: u64 = 30;

/// What looking at a character costs.
const TRAVERSAL: f64 = 0.1;
/// What a character of a pattern costs.
const PATTERN: f64 = 0.25;

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn scaled(size: u64, factor: f64) -> u64 {
    // Sizes are of what is in memory: far below where doubles get coarse.
    (size as f64 * factor).ceil() as u64
}

fn size(args: &[Value], index: usize) -> u64 {
    args.get(index).map_or(1, Value::size)
}

/// Returns the smaller of two values' sizes; of a text no more is counted than the other one can have.
fn smaller(args: &[Value]) -> u64 {
    match args {
        [Value::String(a), Value::String(b)] => {
            let most = a.len().min(b.len());
            let counted = |text: &str| text.chars().take(most).count();
            counted(a).min(counted(b)) as u64
        }
        _ => size(args, 0).min(size(args, 1)),
    }
}

/// What a look at the whole of a value costs.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn traversal(value: &Value) -> u64 {
    let bytes = |length: usize| (length as f64 * TRAVERSAL) as u64;
    match value {
        Value::String(text) => bytes(text.len()),
        Value::Bytes(found) => bytes(found.len()),
        // A list in a list counts by its items: what is deeper is bounded by the work.
        Value::List(list) => list.items.iter().map(shallow).sum(),
        Value::Map(map) => map
            .entries
            .iter()
            .map(|(key, value)| traversal(&key.value()) + shallow(value))
            .sum(),
        _ => 1,
    }
}

fn shallow(value: &Value) -> u64 {
    match value {
        Value::List(_) | Value::Map(_) => value.size(),
        other => traversal(other),
    }
}

fn pattern(text: u64, pattern: u64) -> u64 {
    scaled(text + 1, TRAVERSAL).saturating_mul(scaled(pattern, PATTERN))
}

/// What a list that is compared with itself costs.
fn self_compared(list: Option<&Value>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let size = list.items.len() as u64;
    let factor = match list.items.first() {
        Some(Value::String(_) | Value::Bytes(_)) => 2.0 + TRAVERSAL,
        _ => 2.0,
    };
    scaled(size.saturating_mul(size), factor).saturating_add(1 + LIST)
}

/// Returns the cost of a call that is better paid before it runs.
pub(super) fn known_before(function: &str, args: &[Value]) -> Option<u64> {
    match (function, args) {
        ("matches" | "find" | "findAll", [Value::String(_), Value::String(_), ..]) => {
            Some(pattern(size(args, 0), size(args, 1)))
        }
        ("sort", [list @ Value::List(_)]) => Some(self_compared(Some(list))),
        ("@sortByAssociatedKeys", [_, keys @ Value::List(_)]) => Some(self_compared(Some(keys))),
        ("distinct", [list @ Value::List(_)]) => Some(self_compared(Some(list))),
        _ => None,
    }
}

/// Returns what a call cost.
pub(super) fn of_call(function: &str, args: &[Value], result: &Value) -> u64 {
    let first = || size(args, 0);
    match function {
        "isSorted" | "sum" | "min" | "max" | "indexOf" | "lastIndexOf" | "includes" => {
            args.first().map_or(1, traversal)
        }
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR" | "quantity"
        | "isQuantity" | "semver" | "isSemver" | "strings.quote" | "format" | "isURL" => scaled(first(), TRAVERSAL),
        "replace" | "split" | "ip.isCanonical" => scaled(first(), 2.0 * TRAVERSAL),
        "join" => scaled(result.size(), 2.0 * TRAVERSAL),
        "sets.contains" | "sets.intersects" => first().saturating_mul(size(args, 1)).saturating_add(1),
        "sets.equivalent" => first()
            .saturating_mul(size(args, 1))
            .saturating_mul(2)
            .saturating_add(1),
        "ip" if matches!(args, [Value::String(_)]) => scaled(first(), TRAVERSAL),
        "containsIP" => {
            let parsed = if matches!(args, [_, Value::String(_)]) {
                scaled(size(args, 1), TRAVERSAL)
            } else {
                0
            };
            scaled(first() * 2, TRAVERSAL) + parsed
        }
        "containsCIDR" => {
            let parsed = if matches!(args, [_, Value::String(_)]) {
                scaled(size(args, 1), TRAVERSAL)
            } else {
                0
            };
            scaled(first() * 2, TRAVERSAL) + scaled(first(), TRAVERSAL) + 1 + parsed
        }
        "validate" => match args {
            [Value::Format(format), text] => pattern(text.size(), format.pattern_size),
            _ => 1,
        },
        "startsWith" | "endsWith" => scaled(size(args, 1), TRAVERSAL),
        "contains" => scaled(first(), TRAVERSAL).saturating_mul(scaled(size(args, 1), TRAVERSAL)),
        "bytes" if matches!(args, [Value::String(_)]) => scaled(first(), TRAVERSAL),
        "string" if matches!(args, [Value::Bytes(_)]) => scaled(first(), TRAVERSAL),
        "@in" if matches!(args, [_, Value::List(_)]) => size(args, 1),
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => scaled(smaller(args), TRAVERSAL),
        "_+_" if matches!(args, [Value::String(_) | Value::Bytes(_), _]) => scaled(first() + size(args, 1), TRAVERSAL),
        "slice" | "lists.range" | "reverse" => result.size() + 1 + LIST,
        "flatten" => {
            let levels = match args.get(1) {
                Some(Value::Int(levels)) => u64::try_from(*levels).unwrap_or(1),
                _ => 1,
            };
            first().saturating_mul(levels).saturating_add(1 + LIST)
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_two_texts_is_that_of_fewer_characters() {
        for (a, b, wanted) in [("", "abc", 0), ("ééé", "abcdef", 3), ("éé", "abc", 2), ("👑👑", "a", 1)] {
            assert_eq!(smaller(&[Value::from(a), Value::from(b)]), wanted, "{a} {b}");
            assert_eq!(smaller(&[Value::from(b), Value::from(a)]), wanted, "{b} {a}");
        }
    }
}
