//! cel-go's `sets` extension: lists as sets.

use super::{Failure, Meter, Outcome, Row, no_overload};
use crate::value::{List, Value};

const SIGNATURE: &[&str] = &["(list(A), list(A)) -> bool"];

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "sets.contains",
        signatures: SIGNATURE,
        run: |args, meter| both(args, meter, contains),
    },
    Row {
        name: "sets.equivalent",
        signatures: SIGNATURE,
        run: |args, meter| {
            both(args, meter, |a, b, meter| {
                Ok(contains(a, b, meter)? && contains(b, a, meter)?)
            })
        },
    },
    Row {
        name: "sets.intersects",
        signatures: SIGNATURE,
        run: |args, meter| both(args, meter, intersects),
    },
];

type Test = fn(&List, &List, &mut Meter) -> Result<bool, Failure>;

fn both(args: &[Value], meter: &mut Meter, test: Test) -> Outcome {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(test(a, b, meter)?)),
        _ => no_overload(),
    }
}

fn has(list: &List, wanted: &Value, meter: &mut Meter) -> Result<bool, Failure> {
    for item in &list.items {
        meter.work(1)?;
        if meter.equal(item, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains(list: &List, part: &List, meter: &mut Meter) -> Result<bool, Failure> {
    for wanted in &part.items {
        if !has(list, wanted, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects(a: &List, b: &List, meter: &mut Meter) -> Result<bool, Failure> {
    for wanted in &b.items {
        if has(a, wanted, meter)? {
            return Ok(true);
        }
    }
    Ok(false)
}
