//! The parts of moments and spans of time.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Failure, Meter, Outcome, Row, no_overload};
use crate::value::{Moment, Value};

const MOMENT: &[&str] = &["timestamp.() -> int", "timestamp.(string) -> int"];
const BOTH: &[&str] = &["timestamp.() -> int", "timestamp.(string) -> int", "duration.() -> int"];

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "getFullYear",
        signatures: MOMENT,
        run: |args, _| part(args, |at| i64::from(at.year()), None),
    },
    Row {
        name: "getMonth",
        signatures: MOMENT,
        run: |args, _| part(args, |at| i64::from(at.month()) - 1, None),
    },
    Row {
        name: "getDate",
        signatures: MOMENT,
        run: |args, _| part(args, |at| i64::from(at.day()), None),
    },
    Row {
        name: "getDayOfMonth",
        signatures: MOMENT,
        run: |args, _| part(args, |at| i64::from(at.day()) - 1, None),
    },
    Row {
        name: "getDayOfYear",
        signatures: MOMENT,
        run: |args, _| part(args, |at| i64::from(at.day_of_year()) - 1, None),
    },
    Row {
        name: "getDayOfWeek",
        signatures: MOMENT,
        run: |args, _| part(args, |at| i64::from(at.weekday().to_sunday_zero_offset()), None),
    },
    Row {
        name: "getHours",
        signatures: BOTH,
        run: |args, _| part(args, |at| i64::from(at.hour()), Some(3_600_000_000_000)),
    },
    Row {
        name: "getMinutes",
        signatures: BOTH,
        run: |args, _| part(args, |at| i64::from(at.minute()), Some(60_000_000_000)),
    },
    Row {
        name: "getSeconds",
        signatures: BOTH,
        run: |args, _| part(args, |at| i64::from(at.second()), Some(1_000_000_000)),
    },
    Row {
        name: "getMilliseconds",
        signatures: BOTH,
        run: milliseconds,
    },
];

/// Returns a part of a moment, or how many units a span has.
fn part(args: &[Value], read: fn(DateTime) -> i64, unit: Option<i64>) -> Outcome {
    let (moment, offset) = match args {
        [Value::Timestamp(moment)] => (moment, 0),
        [Value::Timestamp(moment), Value::String(zone)] => (moment, offset(*moment, zone)?),
        [Value::Duration(nanos)] => match unit {
            Some(unit) => return Ok(Value::Int(nanos / unit)),
            None => return no_overload(),
        },
        _ => return no_overload(),
    };
    moment
        .civil(offset)
        .map(|at| Value::Int(read(at)))
        .ok_or_else(|| "timestamp overflow".into())
}

fn milliseconds(args: &[Value], _: &mut Meter) -> Outcome {
    part(
        args,
        |at| i64::from(at.subsec_nanosecond()) / 1_000_000,
        Some(1_000_000),
    )
}

/// Returns the offset of a zone, in seconds: a name of the database, or an offset such as `-08:00` or `02:00`.
fn offset(moment: Moment, zone: &str) -> Result<i32, Failure> {
    let unknown = || Failure::Error(format!("unknown time zone {zone}"));
    let Some((hours, minutes)) = zone.split_once(':') else {
        if zone.is_empty() {
            return Ok(0);
        }
        return TimeZone::get(zone)
            .map(|zone| moment.offset_in(&zone))
            .map_err(|_| unknown());
    };
    let negative = hours.starts_with('-');
    let hours: i32 = hours.trim_start_matches(['-', '+']).parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    if !(0..=24).contains(&hours) || !(0..60).contains(&minutes) {
        return Err(unknown());
    }
    let seconds = (hours * 60 + minutes) * 60;
    Ok(if negative { -seconds } else { seconds })
}
