//! Kubernetes' library of quantities; versions share three of its functions.

use std::cmp::Ordering;

use super::{Meter, Outcome, Row, no_overload};
use crate::quantity::Quantity;
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "quantity",
        signatures: &["(string) -> quantity"],
        run: quantity,
    },
    Row {
        name: "isQuantity",
        signatures: &["(string) -> bool"],
        run: is_quantity,
    },
    Row {
        name: "sign",
        signatures: &["(quantity) -> int", "quantity.() -> int"],
        run: sign,
    },
    Row {
        name: "isGreaterThan",
        signatures: &["quantity.(quantity) -> bool", "semver.(semver) -> bool"],
        run: |args, _| Ok(Value::Bool(compare(args)? == Ordering::Greater)),
    },
    Row {
        name: "isLessThan",
        signatures: &["quantity.(quantity) -> bool", "semver.(semver) -> bool"],
        run: |args, _| Ok(Value::Bool(compare(args)? == Ordering::Less)),
    },
    Row {
        name: "compareTo",
        signatures: &["quantity.(quantity) -> int", "semver.(semver) -> int"],
        run: |args, _| Ok(Value::Int(compare(args)? as i64)),
    },
    Row {
        name: "asApproximateFloat",
        signatures: &["quantity.() -> double"],
        run: as_double,
    },
    Row {
        name: "asInteger",
        signatures: &["quantity.() -> int"],
        run: as_int,
    },
    Row {
        name: "isInteger",
        signatures: &["quantity.() -> bool"],
        run: is_int,
    },
    Row {
        name: "add",
        signatures: &["quantity.(quantity) -> quantity", "quantity.(int) -> quantity"],
        run: |args, _| combine(args, |a, b| a + b),
    },
    Row {
        name: "sub",
        signatures: &["quantity.(quantity) -> quantity", "quantity.(int) -> quantity"],
        run: |args, _| combine(args, |a, b| a - b),
    },
];

fn quantity(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => text
            .parse()
            .map(Value::Quantity)
            .map_err(|error| error.to_string().into()),
        _ => no_overload(),
    }
}

fn is_quantity(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => Ok(Value::Bool(text.parse::<Quantity>().is_ok())),
        _ => no_overload(),
    }
}

fn sign(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Quantity(quantity)] => Ok(Value::Int(quantity.cmp(&Quantity::ZERO) as i64)),
        _ => no_overload(),
    }
}

fn compare(args: &[Value]) -> Result<Ordering, super::Failure> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(a.cmp(b)),
        [Value::Semver(a), Value::Semver(b)] => Ok(a.precedence(b)),
        _ => no_overload(),
    }
}

fn as_double(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Quantity(quantity)] => Ok(Value::Double(quantity.as_f64())),
        _ => no_overload(),
    }
}

fn as_int(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Quantity(quantity)] if quantity.is_fractional() => Err("cannot convert value to integer".into()),
        [Value::Quantity(quantity)] => Ok(Value::Int(quantity.value())),
        _ => no_overload(),
    }
}

fn is_int(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Quantity(quantity)] => Ok(Value::Bool(!quantity.is_fractional())),
        _ => no_overload(),
    }
}

fn combine(args: &[Value], operation: fn(Quantity, Quantity) -> Quantity) -> Outcome {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(Value::Quantity(operation(*a, *b))),
        [Value::Quantity(a), Value::Int(b)] => Ok(Value::Quantity(operation(*a, Quantity::from_units(*b)))),
        _ => no_overload(),
    }
}
