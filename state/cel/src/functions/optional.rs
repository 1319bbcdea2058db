//! Optional values.

use super::{Meter, Outcome, Row, no_overload};
use crate::value::{Moment, Value};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "optional.none",
        signatures: &["() -> optional(A)"],
        run: |_, _| Ok(Value::Optional(None)),
    },
    Row {
        name: "optional.of",
        signatures: &["(A) -> optional(A)"],
        run: of,
    },
    Row {
        name: "optional.ofNonZeroValue",
        signatures: &["(A) -> optional(A)"],
        run: of_non_zero,
    },
    Row {
        name: "value",
        signatures: &["optional(A).() -> A"],
        run: value,
    },
    Row {
        name: "hasValue",
        signatures: &["optional(A).() -> bool"],
        run: has_value,
    },
    // These two look at their argument only where they need it; that is done where they are evaluated.
    Row {
        name: "or",
        signatures: &["optional(A).(optional(A)) -> optional(A)"],
        run: |_, _| no_overload(),
    },
    Row {
        name: "orValue",
        signatures: &["optional(A).(A) -> A"],
        run: |_, _| no_overload(),
    },
    Row {
        name: "first",
        signatures: &["list(A).() -> optional(A)"],
        run: |args, _| end(args, |items| items.first()),
    },
    Row {
        name: "last",
        signatures: &["list(A).() -> optional(A)"],
        run: |args, _| end(args, |items| items.last()),
    },
    Row {
        name: "optional.unwrap",
        signatures: &["(list(optional(A))) -> list(A)"],
        run: unwrap,
    },
    Row {
        name: "unwrapOpt",
        signatures: &["list(optional(A)).() -> list(A)"],
        run: unwrap,
    },
];

fn of(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [value] => Ok(Value::some(value.clone())),
        _ => no_overload(),
    }
}

fn of_non_zero(args: &[Value], _: &mut Meter) -> Outcome {
    let [value] = args else { return no_overload() };
    let zero = match value {
        Value::Null
        | Value::Bool(false)
        | Value::Int(0)
        | Value::Uint(0)
        | Value::Duration(0)
        | Value::Optional(None) => true,
        Value::Double(number) => *number == 0.0,
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.size() == 0,
        Value::Timestamp(moment) => *moment == Moment::ZERO,
        _ => false,
    };
    Ok(if zero {
        Value::Optional(None)
    } else {
        Value::some(value.clone())
    })
}

fn value(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Optional(Some(inner))] => Ok((**inner).clone()),
        [Value::Optional(None)] => Err("optional.none() dereference".into()),
        _ => no_overload(),
    }
}

fn has_value(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => no_overload(),
    }
}

fn end(args: &[Value], pick: fn(&[Value]) -> Option<&Value>) -> Outcome {
    match args {
        [Value::List(list)] => match pick(&list.items) {
            Some(item) => super::operators::whole(item).map(Value::some),
            None => Ok(Value::Optional(None)),
        },
        _ => no_overload(),
    }
}

fn unwrap(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    meter.work(list.items.len())?;
    let mut out = Vec::new();
    for item in &list.items {
        match item {
            Value::Optional(Some(inner)) => out.push((**inner).clone()),
            Value::Optional(None) => {}
            _ => return Err(format!("value {} is not optional", item.shown()).into()),
        }
    }
    Ok(Value::list(out))
}
