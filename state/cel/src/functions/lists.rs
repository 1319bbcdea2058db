//! Lists: Kubernetes' library and cel-go's `lists` extension (version 3); `indexOf` of texts is here too.

use std::cmp::Ordering;
use std::sync::Arc;

use super::strings::{count, index_of, last_index_of};
use super::{Failure, Meter, Outcome, Row, no_overload, operators};
use crate::value::{List, Value};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "isSorted",
        signatures: &[
            "list(int).() -> bool",
            "list(uint).() -> bool",
            "list(double).() -> bool",
            "list(bool).() -> bool",
            "list(duration).() -> bool",
            "list(timestamp).() -> bool",
            "list(string).() -> bool",
            "list(bytes).() -> bool",
        ],
        run: is_sorted,
    },
    Row {
        name: "sum",
        signatures: &[
            "list(int).() -> int",
            "list(uint).() -> uint",
            "list(double).() -> double",
            "list(duration).() -> duration",
        ],
        run: sum,
    },
    Row {
        name: "min",
        signatures: EXTREMES,
        run: |args, _| extreme(args, "min", Ordering::Less),
    },
    Row {
        name: "max",
        signatures: EXTREMES,
        run: |args, _| extreme(args, "max", Ordering::Greater),
    },
    Row {
        name: "indexOf",
        signatures: &[
            "list(A).(A) -> int",
            "string.(string) -> int",
            "string.(string, int) -> int",
        ],
        run: first_index,
    },
    Row {
        name: "lastIndexOf",
        signatures: &[
            "list(A).(A) -> int",
            "string.(string) -> int",
            "string.(string, int) -> int",
        ],
        run: last_index,
    },
    Row {
        name: "includes",
        signatures: &["dyn.(dyn) -> bool"],
        run: includes,
    },
    Row {
        name: "slice",
        signatures: &["list(A).(int, int) -> list(A)"],
        run: slice,
    },
    Row {
        name: "flatten",
        signatures: &["list(list(A)).() -> list(A)", "list(dyn).(int) -> list(dyn)"],
        run: flatten,
    },
    Row {
        name: "sort",
        signatures: &[
            "list(int).() -> list(int)",
            "list(uint).() -> list(uint)",
            "list(double).() -> list(double)",
            "list(bool).() -> list(bool)",
            "list(duration).() -> list(duration)",
            "list(timestamp).() -> list(timestamp)",
            "list(string).() -> list(string)",
            "list(bytes).() -> list(bytes)",
        ],
        run: sort,
    },
    Row {
        name: "@sortByAssociatedKeys",
        signatures: &[
            "list(A).(list(int)) -> list(A)",
            "list(A).(list(uint)) -> list(A)",
            "list(A).(list(double)) -> list(A)",
            "list(A).(list(bool)) -> list(A)",
            "list(A).(list(duration)) -> list(A)",
            "list(A).(list(timestamp)) -> list(A)",
            "list(A).(list(string)) -> list(A)",
            "list(A).(list(bytes)) -> list(A)",
        ],
        run: sort_by,
    },
    Row {
        name: "lists.range",
        signatures: &["(int) -> list(int)"],
        run: range,
    },
    Row {
        name: "reverse",
        signatures: &["list(A).() -> list(A)"],
        run: reverse,
    },
    Row {
        name: "distinct",
        signatures: &["list(A).() -> list(A)"],
        run: distinct,
    },
];

const EXTREMES: &[&str] = &[
    "list(int).() -> int",
    "list(uint).() -> uint",
    "list(double).() -> double",
    "list(bool).() -> bool",
    "list(duration).() -> duration",
    "list(timestamp).() -> timestamp",
    "list(string).() -> string",
    "list(bytes).() -> bytes",
];

fn ordering(a: &Value, b: &Value) -> Result<Ordering, Failure> {
    match a.compare(b) {
        Some(ordering) => Ok(ordering),
        None if matches!((a, b), (Value::Double(_), Value::Double(_))) => Err("NaN values cannot be ordered".into()),
        None => no_overload(),
    }
}

fn is_sorted(args: &[Value], _: &mut Meter) -> Outcome {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    for pair in list.items.windows(2) {
        if ordering(&pair[0], &pair[1])? == Ordering::Greater {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut items = list.items.iter().cloned();
    // The type of an empty list's sum is lost here; every zero compares like every other.
    let Some(mut total) = items.next() else {
        return Ok(Value::Int(0));
    };
    for item in items {
        total = operators::add(&[total, item], meter)?;
    }
    Ok(total)
}

fn extreme(args: &[Value], name: &str, wanted: Ordering) -> Outcome {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut items = list.items.iter();
    let Some(mut best) = items.next() else {
        return Err(format!("{name} called on empty list").into());
    };
    for item in items {
        if ordering(item, best)? == wanted {
            best = item;
        }
    }
    Ok(best.clone())
}

fn position(list: &List, wanted: &Value, meter: &mut Meter, backwards: bool) -> Outcome {
    let last = list.items.len();
    for step in 0..last {
        let at = if backwards { last - 1 - step } else { step };
        meter.work(1)?;
        if meter.equal(&list.items[at], wanted)? {
            return Ok(Value::Int(count(at)));
        }
    }
    Ok(Value::Int(-1))
}

fn first_index(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [Value::List(list), wanted] => position(list, wanted, meter, false),
        [Value::String(text), Value::String(part)] => index_of(text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(offset)] => index_of(text, part, *offset),
        _ => no_overload(),
    }
}

fn last_index(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [Value::List(list), wanted] => position(list, wanted, meter, true),
        [Value::String(text), Value::String(part)] => last_index_of(text, part, None),
        [Value::String(text), Value::String(part), Value::Int(offset)] => last_index_of(text, part, Some(*offset)),
        _ => no_overload(),
    }
}

fn includes(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [Value::List(list), wanted] => {
            let place = position(list, wanted, meter, false)?;
            Ok(Value::Bool(place != Value::Int(-1)))
        }
        [value, wanted] => Ok(Value::Bool(meter.equal(value, wanted)?)),
        _ => no_overload(),
    }
}

fn slice(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return no_overload();
    };
    let length = list.items.len();
    if *start < 0 || *end < 0 {
        return Err(format!("cannot slice({start}, {end}), negative indexes not supported").into());
    }
    if start > end {
        return Err(
            format!("cannot slice({start}, {end}), start index must be less than or equal to end index").into(),
        );
    }
    match (usize::try_from(*start), usize::try_from(*end)) {
        (Ok(first), Ok(last)) if last <= length => {
            meter.work(last - first)?;
            Ok(Value::list(list.items[first..last].to_vec()))
        }
        _ => Err(format!("cannot slice({start}, {end}), list is length {length}").into()),
    }
}

fn flatten(args: &[Value], meter: &mut Meter) -> Outcome {
    let (list, levels) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(levels)] => (list, *levels),
        _ => return no_overload(),
    };
    if levels < 0 {
        return Err("level must be non-negative".into());
    }
    let mut out = Vec::new();
    spread(list, levels, &mut out, meter)?;
    Ok(Value::list(out))
}

fn spread(list: &List, levels: i64, out: &mut Vec<Value>, meter: &mut Meter) -> Result<(), Failure> {
    for item in &list.items {
        meter.work(1)?;
        match item {
            Value::List(inner) if levels > 0 => spread(inner, levels - 1, out, meter)?,
            item => out.push(item.clone()),
        }
    }
    Ok(())
}

fn sort(args: &[Value], meter: &mut Meter) -> Outcome {
    let [list @ Value::List(_)] = args else {
        return no_overload();
    };
    sort_by(&[list.clone(), list.clone()], meter)
}

fn sort_by(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::List(list), Value::List(keys)] = args else {
        return no_overload();
    };
    if list.items.len() != keys.items.len() {
        return no_overload();
    }
    let Some(first) = keys.items.first() else {
        return Ok(Value::list(Vec::new()));
    };
    if first.compare(first).is_none() && !matches!(first, Value::Double(_)) {
        return Err("list elements must be comparable".into());
    }
    if keys.items.iter().any(|key| key.type_name() != first.type_name()) {
        return Err("list elements must have the same type".into());
    }
    // A comparison looks at the shorter of two texts; twenty of them for each item are more than a sort needs.
    for key in &keys.items {
        meter.work(20 + usize::try_from(key.size()).unwrap_or(usize::MAX))?;
    }
    let mut order: Vec<usize> = (0..keys.items.len()).collect();
    order.sort_by(|a, b| keys.items[*a].compare(&keys.items[*b]).unwrap_or(Ordering::Equal));
    Ok(Value::list(
        order.into_iter().map(|at| list.items[at].clone()).collect(),
    ))
}

fn range(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::Int(end)] = args else { return no_overload() };
    // It is known what this will cost.
    let size = usize::try_from(*end).unwrap_or(0);
    if size as u64 > meter.limit.saturating_sub(meter.cost) {
        return Err(Failure::Budget);
    }
    meter.work(size)?;
    Ok(Value::list((0..*end).map(Value::Int).collect()))
}

fn reverse(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    meter.work(list.items.len())?;
    Ok(Value::list(list.items.iter().rev().cloned().collect()))
}

fn distinct(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    // Kubernetes charges this much when it is done.
    let size = list.items.len() as u64;
    if size.saturating_mul(size).saturating_mul(2) > meter.limit.saturating_sub(meter.cost) {
        return Err(Failure::Budget);
    }
    let mut out: Vec<Value> = Vec::new();
    for item in &list.items {
        let mut seen = false;
        for other in &out {
            meter.work(1)?;
            if meter.equal(other, item)? {
                seen = true;
                break;
            }
        }
        if !seen {
            out.push(item.clone());
        }
    }
    Ok(Value::List(Arc::new(List {
        items: out,
        merge: crate::value::Merge::Atomic,
    })))
}
