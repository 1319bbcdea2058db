//! Dates and durations. The clock is handed in.

use std::rc::Rc;

use super::arguments::{Outcome, string, text};
use crate::gotemplate::exec::{Exec, Function};
use crate::value::{DateTime, IntKind, Value, format_duration, parse_duration, to_float64};

pub(super) const FUNCTIONS: &[Function] = &[
    row!("now", "", |exec, _| Ok(Value::Time(Rc::new(exec.host.now.clone())))),
    row!("date", "sa", |exec, a| in_zone(exec, &text(a, 0), &a[1], "Local")),
    row!("date_in_zone", "sas", |exec, a| in_zone(
        exec,
        &text(a, 0),
        &a[1],
        &text(a, 2)
    )),
    row!("dateInZone", "sas", |exec, a| in_zone(
        exec,
        &text(a, 0),
        &a[1],
        &text(a, 2)
    )),
    row!("htmlDate", "a", |exec, a| in_zone(exec, "2006-01-02", &a[0], "Local")),
    row!("htmlDateInZone", "as", |exec, a| in_zone(
        exec,
        "2006-01-02",
        &a[0],
        &text(a, 1)
    )),
    row!("date_modify", "st", |_, a| modify(a, false)),
    row!("dateModify", "st", |_, a| modify(a, false)),
    row!("must_date_modify", "st", |_, a| modify(a, true)),
    row!("mustDateModify", "st", |_, a| modify(a, true)),
    row!("toDate", "ss", |_, a| {
        // Go's zero time stands for what does not parse.
        let time = DateTime::parse(&text(a, 0), &text(a, 1)).unwrap_or_else(|_| DateTime::utc(-62_135_596_800, 0));
        Ok(Value::Time(Rc::new(time)))
    }),
    row!("mustToDate", "ss", |_, a| Ok(Value::Time(Rc::new(DateTime::parse(
        &text(a, 0),
        &text(a, 1)
    )?)))),
    row!("unixEpoch", "t", |_, a| match &a[0] {
        Value::Time(time) => string(time.seconds.to_string()),
        _ => string("0"),
    }),
    row!("ago", "a", |exec, a| {
        let since = exec.host.now.seconds.saturating_sub(instant(exec, &a[0]).seconds);
        string(format_duration(since.saturating_mul(1_000_000_000)))
    }),
    row!("duration", "a", |_, a| {
        let seconds = match &a[0] {
            Value::Str(text) => text.text().parse().unwrap_or(0),
            Value::Int(IntKind::Int64, seconds) => *seconds,
            _ => 0,
        };
        string(format_duration(seconds.saturating_mul(1_000_000_000)))
    }),
    row!("durationRound", "a", |exec, a| {
        let nanos = match &a[0] {
            Value::Str(text) => parse_duration(&text.text()).unwrap_or(0),
            Value::Int(IntKind::Int64, nanos) => *nanos,
            Value::Time(time) => exec
                .host
                .now
                .seconds
                .saturating_sub(time.seconds)
                .saturating_mul(1_000_000_000),
            _ => 0,
        };
        string(rounded(nanos.unsigned_abs()))
    }),
    row!("mustToDuration", "a", |_, a| Ok(Value::Int(
        IntKind::Duration,
        as_duration(&a[0])?
    ))),
    row!("durationSeconds", "a", |_, a| Ok(Value::Float(
        as_duration(&a[0]).unwrap_or(0) as f64 / 1e9
    ))),
    row!("durationMilliseconds", "a", |_, a| Ok(Value::int64(
        as_duration(&a[0]).unwrap_or(0) / 1_000_000
    ))),
    row!("durationMicroseconds", "a", |_, a| Ok(Value::int64(
        as_duration(&a[0]).unwrap_or(0) / 1000
    ))),
    row!("durationNanoseconds", "a", |_, a| Ok(Value::int64(
        as_duration(&a[0]).unwrap_or(0)
    ))),
    row!("durationMinutes", "a", |_, a| Ok(Value::Float(
        as_duration(&a[0]).unwrap_or(0) as f64 / 60e9
    ))),
    row!("durationHours", "a", |_, a| Ok(Value::Float(
        as_duration(&a[0]).unwrap_or(0) as f64 / 3600e9
    ))),
    row!("durationDays", "a", |_, a| Ok(Value::Float(
        as_duration(&a[0]).unwrap_or(0) as f64 / 86_400e9
    ))),
    row!("durationWeeks", "a", |_, a| Ok(Value::Float(
        as_duration(&a[0]).unwrap_or(0) as f64 / 604_800e9
    ))),
    row!("durationRoundTo", "aa", |_, a| Ok(to_multiple(a, true))),
    row!("durationTruncateTo", "aa", |_, a| Ok(to_multiple(a, false))),
];

fn instant(exec: &Exec<'_>, value: &Value) -> DateTime {
    match value {
        Value::Time(time) => (**time).clone(),
        Value::Int(_, seconds) => DateTime::utc(*seconds, 0),
        _ => exec.host.now.clone(),
    }
}

fn in_zone(exec: &Exec<'_>, layout: &str, value: &Value, zone: &str) -> Outcome {
    let time = instant(exec, value);
    let local = time
        .in_zone(zone)
        .unwrap_or_else(|| DateTime::utc(time.seconds, time.nanos));
    string(local.format(layout))
}

fn modify(args: &[Value], must: bool) -> Outcome {
    let Value::Time(time) = &args[1] else {
        return Ok(args[1].clone());
    };
    match parse_duration(&text(args, 0)) {
        Some(nanos) => Ok(Value::Time(Rc::new(time.add(nanos)))),
        None if must => Err(format!(
            "time: invalid duration {}",
            crate::value::go_quote(text(args, 0).as_bytes())
        )
        .into()),
        None => Ok(args[1].clone()),
    }
}

fn rounded(nanos: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (31_536_000, "y"),
        (2_592_000, "mo"),
        (86_400, "d"),
        (3600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    for (seconds, name) in UNITS {
        let unit = seconds * 1_000_000_000;
        if nanos > unit {
            return format!("{}{name}", nanos / unit);
        }
    }
    "0s".to_owned()
}

fn as_duration(value: &Value) -> Result<i64, String> {
    let seconds = |seconds: f64| -> Result<i64, String> {
        let nanos = seconds * 1e9;
        if nanos.is_finite() && nanos.abs() < 9.2e18 {
            Ok(nanos as i64)
        } else {
            Err(format!("duration seconds overflow: {seconds}"))
        }
    };
    match value {
        Value::Int(IntKind::Duration, nanos) => Ok(*nanos),
        Value::Str(text) => {
            let text = text.text();
            let trimmed = text.trim();
            if trimmed.is_empty() {
                return Err("empty duration".to_owned());
            }
            match parse_duration(trimmed) {
                Some(nanos) => Ok(nanos),
                None => match trimmed.parse() {
                    Ok(number) => seconds(number),
                    Err(_) => Err(format!(
                        "could not parse duration {}",
                        crate::value::go_quote(text.as_bytes())
                    )),
                },
            }
        }
        Value::Nil | Value::Invalid => Err("invalid duration".to_owned()),
        Value::Int(..) | Value::Float(_) => seconds(to_float64(value)),
        other => Err(format!("unsupported duration type {}", other.type_name())),
    }
}

fn to_multiple(args: &[Value], round: bool) -> Value {
    let (Ok(nanos), Ok(unit)) = (as_duration(&args[0]), as_duration(&args[1])) else {
        return Value::Int(IntKind::Duration, 0);
    };
    if unit <= 0 {
        return Value::Int(IntKind::Duration, nanos);
    }
    let truncated = nanos - nanos % unit;
    let rest = (nanos % unit).abs();
    let result = if round && rest >= unit - rest {
        truncated.saturating_add(unit * nanos.signum())
    } else {
        truncated
    };
    Value::Int(IntKind::Duration, result)
}
