//! Arithmetic, comparison, indexing and what only the type check has to know of `&&`, `||` and `?:`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Failure, Meter, Outcome, Row, no_overload};
use crate::value::{Key, Moment, Value};

const ORDERED: &[&str] = &[
    "(bool, bool) -> bool",
    "(int, int) -> bool",
    "(int, double) -> bool",
    "(int, uint) -> bool",
    "(uint, uint) -> bool",
    "(uint, double) -> bool",
    "(uint, int) -> bool",
    "(double, double) -> bool",
    "(double, int) -> bool",
    "(double, uint) -> bool",
    "(string, string) -> bool",
    "(bytes, bytes) -> bool",
    "(timestamp, timestamp) -> bool",
    "(duration, duration) -> bool",
];

pub(super) const ROWS: &[Row] = &[
    // These are evaluated where they stand: not all of their arguments may be looked at.
    Row {
        name: "_?_:_",
        signatures: &["(bool, A, A) -> A"],
        run: |_, _| no_overload(),
    },
    Row {
        name: "_&&_",
        signatures: &["(bool, bool) -> bool"],
        run: |_, _| no_overload(),
    },
    Row {
        name: "_||_",
        signatures: &["(bool, bool) -> bool"],
        run: |_, _| no_overload(),
    },
    Row {
        name: "@not_strictly_false",
        signatures: &["(bool) -> bool"],
        run: |_, _| no_overload(),
    },
    Row {
        name: "!_",
        signatures: &["(bool) -> bool"],
        run: not,
    },
    Row {
        name: "_+_",
        signatures: &[
            "(bytes, bytes) -> bytes",
            "(double, double) -> double",
            "(duration, duration) -> duration",
            "(duration, timestamp) -> timestamp",
            "(timestamp, duration) -> timestamp",
            "(int, int) -> int",
            "(list(A), list(A)) -> list(A)",
            "(string, string) -> string",
            "(uint, uint) -> uint",
        ],
        run: add,
    },
    Row {
        name: "_-_",
        signatures: &[
            "(double, double) -> double",
            "(duration, duration) -> duration",
            "(int, int) -> int",
            "(timestamp, duration) -> timestamp",
            "(timestamp, timestamp) -> duration",
            "(uint, uint) -> uint",
        ],
        run: subtract,
    },
    Row {
        name: "_*_",
        signatures: &[
            "(double, double) -> double",
            "(int, int) -> int",
            "(uint, uint) -> uint",
        ],
        run: multiply,
    },
    Row {
        name: "_/_",
        signatures: &[
            "(double, double) -> double",
            "(int, int) -> int",
            "(uint, uint) -> uint",
        ],
        run: divide,
    },
    Row {
        name: "_%_",
        signatures: &["(int, int) -> int", "(uint, uint) -> uint"],
        run: modulo,
    },
    Row {
        name: "-_",
        signatures: &["(double) -> double", "(int) -> int"],
        run: negate,
    },
    Row {
        name: "_==_",
        signatures: &["(A, A) -> bool"],
        run: |args, meter| equals(args, meter, true),
    },
    Row {
        name: "_!=_",
        signatures: &["(A, A) -> bool"],
        run: |args, meter| equals(args, meter, false),
    },
    Row {
        name: "_<_",
        signatures: ORDERED,
        run: |args, _| ordered(args, Ordering::is_lt),
    },
    Row {
        name: "_<=_",
        signatures: ORDERED,
        run: |args, _| ordered(args, Ordering::is_le),
    },
    Row {
        name: "_>_",
        signatures: ORDERED,
        run: |args, _| ordered(args, Ordering::is_gt),
    },
    Row {
        name: "_>=_",
        signatures: ORDERED,
        run: |args, _| ordered(args, Ordering::is_ge),
    },
    Row {
        name: "_[_]",
        signatures: &[
            "(list(A), int) -> A",
            "(map(A, B), A) -> B",
            "(optional(list(A)), int) -> optional(A)",
            "(optional(map(A, B)), A) -> optional(B)",
        ],
        run: index,
    },
    Row {
        name: "_[?_]",
        signatures: &[
            "(list(A), int) -> optional(A)",
            "(optional(list(A)), int) -> optional(A)",
            "(map(A, B), A) -> optional(B)",
            "(optional(map(A, B)), A) -> optional(B)",
        ],
        run: optional_index,
    },
    Row {
        name: "_?._",
        signatures: &["(dyn, string) -> optional(dyn)"],
        run: optional_index,
    },
    Row {
        name: "@in",
        signatures: &["(A, list(A)) -> bool", "(A, map(A, B)) -> bool"],
        run: contained,
    },
    Row {
        name: "cel.@mapInsert",
        signatures: &["(map(A, B), A, B) -> map(A, B)", "(map(A, B), map(A, B)) -> map(A, B)"],
        run: insert,
    },
];

fn not(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => no_overload(),
    }
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const SPAN: &str = "duration overflow";
const MOMENT: &str = "timestamp overflow";

fn int(number: Option<i64>) -> Outcome {
    number.map(Value::Int).ok_or_else(|| INT.into())
}

fn uint(number: Option<u64>) -> Outcome {
    number.map(Value::Uint).ok_or_else(|| UINT.into())
}

fn span(nanos: Option<i64>) -> Outcome {
    nanos.map(Value::Duration).ok_or_else(|| SPAN.into())
}

fn shifted(moment: Moment, nanos: Option<i64>) -> Outcome {
    let moment = nanos.and_then(|nanos| moment.plus(nanos));
    moment.map(Value::Timestamp).ok_or_else(|| MOMENT.into())
}

pub(super) fn add(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => {
            meter.work(a.len() + b.len())?;
            Ok(Value::from([&**a, &**b].concat()))
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            meter.work(a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        [Value::List(a), Value::List(b)] => {
            meter.work(a.items.len() + b.items.len())?;
            Ok(Value::List(Arc::new(a.plus(b))))
        }
        [Value::Duration(a), Value::Duration(b)] => span(a.checked_add(*b)),
        [Value::Timestamp(moment), Value::Duration(nanos)] | [Value::Duration(nanos), Value::Timestamp(moment)] => {
            shifted(*moment, Some(*nanos))
        }
        _ => no_overload(),
    }
}

fn subtract(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => span(a.checked_sub(*b)),
        [Value::Timestamp(moment), Value::Duration(nanos)] => shifted(*moment, nanos.checked_neg()),
        [Value::Timestamp(a), Value::Timestamp(b)] => span(i64::try_from(a.since(*b)).ok()),
        _ => no_overload(),
    }
}

fn multiply(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => no_overload(),
    }
}

fn divide(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err("division by zero".into()),
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => no_overload(),
    }
}

fn modulo(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err("modulus by zero".into()),
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
        _ => no_overload(),
    }
}

fn negate(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Int(number)] => int(number.checked_neg()),
        [Value::Double(number)] => Ok(Value::Double(-number)),
        _ => no_overload(),
    }
}

fn equals(args: &[Value], meter: &mut Meter, wanted: bool) -> Outcome {
    let [left, right] = args else { return no_overload() };
    Ok(Value::Bool(meter.equal(left, right)? == wanted))
}

fn ordered(args: &[Value], fits: fn(Ordering) -> bool) -> Outcome {
    let [left, right] = args else { return no_overload() };
    if let (Value::Double(number), other) | (other, Value::Double(number)) = (left, right)
        && number.is_nan()
        && matches!(other, Value::Int(_) | Value::Uint(_) | Value::Double(_))
    {
        return Ok(Value::Bool(false));
    }
    match left.compare(right) {
        Some(ordering) => Ok(Value::Bool(fits(ordering))),
        None => no_overload(),
    }
}

/// Returns what a container has at a place, or nothing.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn at<'a>(container: &'a Value, place: &Value) -> Result<Option<&'a Value>, Failure> {
    match container {
        Value::List(list) => {
            let index = match place {
                Value::Int(number) => Some(*number),
                Value::Uint(number) => i64::try_from(*number).ok(),
                Value::Double(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => Some(*number as i64),
                _ => return Err(format!("unsupported index type '{}' in list", place.type_name()).into()),
            };
            Ok(index
                .and_then(|index| usize::try_from(index).ok())
                .and_then(|index| list.items.get(index)))
        }
        Value::Map(map) => match Key::of(place) {
            Some(key) => Ok(map.entries.get(&key)),
            None => Err(format!("unsupported key type: {}", place.type_name()).into()),
        },
        _ => no_overload(),
    }
}

fn index(args: &[Value], _: &mut Meter) -> Outcome {
    let [container, place] = args else { return no_overload() };
    match container {
        Value::Optional(_) => optional_at(container, place),
        _ => match at(container, place)? {
            Some(found) => whole(found),
            None => Err(missing(container, place)),
        },
    }
}

/// Says that a container has nothing at a place.
pub(crate) fn missing(container: &Value, place: &Value) -> Failure {
    let what = match container {
        Value::List(_) => "index out of bounds",
        _ => "no such key",
    };
    format!("{what}: {}", place.shown()).into()
}

/// Refuses data that does not fit its schema.
pub(crate) fn whole(found: &Value) -> Outcome {
    match found {
        Value::Broken(problem) => Err(problem.to_string().into()),
        found => Ok(found.clone()),
    }
}

fn optional_index(args: &[Value], _: &mut Meter) -> Outcome {
    let [container, place] = args else { return no_overload() };
    optional_at(container, place)
}

fn optional_at(container: &Value, place: &Value) -> Outcome {
    let inner = match container {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => inner,
        other => other,
    };
    match at(inner, place)? {
        Some(found) => whole(found).map(Value::some),
        None => Ok(Value::Optional(None)),
    }
}

fn contained(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [wanted, Value::List(list)] => {
            for item in &list.items {
                meter.work(1)?;
                if meter.equal(item, wanted)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [wanted, Value::Map(map)] => Ok(Value::Bool(
            Key::of(wanted).is_some_and(|key| map.entries.contains_key(&key)),
        )),
        _ => no_overload(),
    }
}

fn insert(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::Map(map), added @ ..] = args else {
        return no_overload();
    };
    let added = entries(added)?;
    meter.work(map.entries.len() + added.len())?;
    let mut all = map.entries.clone();
    insert_all(&mut all, added)?;
    Ok(Value::map(all))
}

/// Returns the entries that a key and a value are, or those of a map.
pub(crate) fn entries(added: &[Value]) -> Result<Vec<(Key, Value)>, Failure> {
    match added {
        [key, value] => match Key::of(key) {
            Some(key) => Ok(vec![(key, value.clone())]),
            None => Err(format!("unsupported key type: {}", key.type_name()).into()),
        },
        [Value::Map(more)] => Ok(more.entries.clone().into_iter().collect()),
        _ => no_overload(),
    }
}

/// Adds entries to a map; a key that it has is an error.
pub(crate) fn insert_all(map: &mut BTreeMap<Key, Value>, added: Vec<(Key, Value)>) -> Result<(), Failure> {
    for (key, value) in added {
        if map.contains_key(&key) {
            return Err(format!("insert failed: key {} already exists", key.value().shown()).into());
        }
        map.insert(key, value);
    }
    Ok(())
}
