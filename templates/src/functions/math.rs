//! Arithmetic and sequences.

use super::arguments::{Outcome, int, string, text};
use crate::gotemplate::exec::{Exec, Failure, Function};
use crate::value::{ListKind, Value, parse_int, to_float64, to_int64};

pub(super) const FUNCTIONS: &[Function] = &[
    row!("atoi", "s", |_, a| Ok(Value::int(
        parse_int(&text(a, 0), 10).unwrap_or(0)
    ))),
    row!("int64", "a", |_, a| Ok(Value::int64(to_int64(&a[0])))),
    row!("int", "a", |_, a| Ok(Value::int(to_int64(&a[0])))),
    row!("float64", "a", |_, a| Ok(Value::Float(to_float64(&a[0])))),
    row!("toDecimal", "a", |_, a| {
        let text = crate::value::string_value(&a[0]).text().into_owned();
        Ok(Value::int64(parse_int(&text, 8).unwrap_or(0)))
    }),
    row!("add1", "a", |_, a| Ok(Value::int64(to_int64(&a[0]).wrapping_add(1)))),
    row!("add", "*a", |_, a| Ok(Value::int64(
        a.iter().map(to_int64).fold(0, i64::wrapping_add)
    ))),
    row!("sub", "aa", |_, a| Ok(Value::int64(
        to_int64(&a[0]).wrapping_sub(to_int64(&a[1]))
    ))),
    row!("mul", "a*a", |_, a| Ok(Value::int64(
        a.iter().map(to_int64).fold(1, i64::wrapping_mul)
    ))),
    row!("div", "aa", |_, a| divide(a, i64::wrapping_div)),
    row!("mod", "aa", |_, a| divide(a, i64::wrapping_rem)),
    row!("add1f", "a", |_, a| Ok(Value::Float(decimal(to_float64(&a[0]) + 1.0)))),
    row!("addf", "*a", |_, a| Ok(Value::Float(decimal(
        a.iter().map(to_float64).sum()
    )))),
    row!("subf", "a*a", |_, a| Ok(Value::Float(decimal(fold(a, |x, y| x - y))))),
    row!("mulf", "a*a", |_, a| Ok(Value::Float(decimal(fold(a, |x, y| x * y))))),
    row!("divf", "a*a", |_, a| {
        if a[1..].iter().any(|value| to_float64(value) == 0.0) {
            return Err("decimal division by 0".into());
        }
        Ok(Value::Float(fold(a, |x, y| x / y)))
    }),
    row!("biggest", "a*a", |_, a| Ok(Value::int64(
        a.iter().map(to_int64).max().unwrap_or(0)
    ))),
    row!("max", "a*a", |_, a| Ok(Value::int64(
        a.iter().map(to_int64).max().unwrap_or(0)
    ))),
    row!("min", "a*a", |_, a| Ok(Value::int64(
        a.iter().map(to_int64).min().unwrap_or(0)
    ))),
    row!("maxf", "a*a", |_, a| Ok(Value::Float(fold(a, f64::max)))),
    row!("minf", "a*a", |_, a| Ok(Value::Float(fold(a, f64::min)))),
    row!("ceil", "a", |_, a| Ok(Value::Float(to_float64(&a[0]).ceil()))),
    row!("floor", "a", |_, a| Ok(Value::Float(to_float64(&a[0]).floor()))),
    row!("round", "ai*f", |_, a| Ok(Value::Float(round(a)))),
    row!("until", "i", |exec, a| sequence(
        exec,
        0,
        int(a, 0),
        if int(a, 0) < 0 { -1 } else { 1 }
    )
    .map(ints)),
    row!("untilStep", "iii", |exec, a| sequence(
        exec,
        int(a, 0),
        int(a, 1),
        int(a, 2)
    )
    .map(ints)),
    row!("seq", "*i", seq),
];

fn divide(args: &[Value], operation: fn(i64, i64) -> i64) -> Outcome {
    match to_int64(&args[1]) {
        0 => Err("runtime error: integer divide by zero".into()),
        divisor => Ok(Value::int64(operation(to_int64(&args[0]), divisor))),
    }
}

fn fold(args: &[Value], operation: fn(f64, f64) -> f64) -> f64 {
    args.iter().map(to_float64).reduce(operation).unwrap_or(0.0)
}

/// Rounds away what binary fractions add to decimal arithmetic.
fn decimal(value: f64) -> f64 {
    format!("{value:.14e}").parse().unwrap_or(value)
}

fn round(args: &[Value]) -> f64 {
    let on = args.get(2).map_or(0.5, to_float64);
    let power = 10f64.powi(i32::try_from(int(args, 1)).unwrap_or(0));
    let digit = power * to_float64(&args[0]);
    let rounded = if digit.fract() >= on {
        digit.ceil()
    } else {
        digit.floor()
    };
    rounded / power
}

fn sequence(exec: &mut Exec<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, Failure> {
    if (stop < start && step >= 0) || (stop >= start && step <= 0) {
        return Ok(Vec::new());
    }
    let count = usize::try_from(stop.abs_diff(start) / step.unsigned_abs()).unwrap_or(usize::MAX);
    exec.spend(count.saturating_mul(size_of::<Value>()))?;
    let mut values = Vec::with_capacity(count + 1);
    let mut value = start;
    while if step > 0 { value < stop } else { value > stop } {
        values.push(value);
        match value.checked_add(step) {
            Some(next) => value = next,
            None => break,
        }
    }
    Ok(values)
}

fn ints(values: Vec<i64>) -> Value {
    Value::typed_list(ListKind::Ints, values.into_iter().map(Value::int).collect())
}

fn seq(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let (start, step, end) = match args.len() {
        1 => (1, None, int(args, 0)),
        2 => (int(args, 0), None, int(args, 1)),
        3 => (int(args, 0), Some(int(args, 1)), int(args, 2)),
        _ => return string(""),
    };
    let increment = if end < start { -1 } else { 1 };
    if end < start && step.is_some_and(|step| step > 0) {
        return string("");
    }
    let values = sequence(exec, start, end.saturating_add(increment), step.unwrap_or(increment))?;
    string(values.iter().map(i64::to_string).collect::<Vec<_>>().join(" "))
}
