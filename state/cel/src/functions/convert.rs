//! Conversions between types, and `size`.

use super::{Failure, Meter, Outcome, Row, no_overload};
use crate::value::{Moment, Value, text};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "size",
        signatures: &[
            "(string) -> int",
            "(bytes) -> int",
            "(list(A)) -> int",
            "(map(A, B)) -> int",
            "string.() -> int",
            "bytes.() -> int",
            "list(A).() -> int",
            "map(A, B).() -> int",
        ],
        run: size,
    },
    Row {
        name: "type",
        signatures: &["(A) -> type(A)"],
        run: kind,
    },
    Row {
        name: "dyn",
        signatures: &["(A) -> dyn"],
        run: |args, _| args.first().cloned().map_or_else(no_overload, Ok),
    },
    Row {
        name: "bool",
        signatures: &["(bool) -> bool", "(string) -> bool"],
        run: bool,
    },
    Row {
        name: "bytes",
        signatures: &["(bytes) -> bytes", "(string) -> bytes"],
        run: bytes,
    },
    Row {
        name: "int",
        signatures: &[
            "(int) -> int",
            "(double) -> int",
            "(duration) -> int",
            "(string) -> int",
            "(timestamp) -> int",
            "(uint) -> int",
        ],
        run: int,
    },
    Row {
        name: "uint",
        signatures: &[
            "(uint) -> uint",
            "(double) -> uint",
            "(int) -> uint",
            "(string) -> uint",
        ],
        run: uint,
    },
    Row {
        name: "double",
        signatures: &[
            "(double) -> double",
            "(int) -> double",
            "(string) -> double",
            "(uint) -> double",
        ],
        run: double,
    },
    Row {
        name: "string",
        signatures: &[
            "(string) -> string",
            "(bool) -> string",
            "(bytes) -> string",
            "(double) -> string",
            "(duration) -> string",
            "(int) -> string",
            "(timestamp) -> string",
            "(uint) -> string",
            "(ip) -> string",
            "(cidr) -> string",
        ],
        run: string,
    },
    Row {
        name: "timestamp",
        signatures: &[
            "(timestamp) -> timestamp",
            "(int) -> timestamp",
            "(string) -> timestamp",
        ],
        run: timestamp,
    },
    Row {
        name: "duration",
        signatures: &["(duration) -> duration", "(int) -> duration", "(string) -> duration"],
        run: duration,
    },
];

fn impossible(value: &Value, wanted: &str) -> Failure {
    format!("type conversion error from '{}' to '{wanted}'", value.type_name()).into()
}

fn size(args: &[Value], meter: &mut Meter) -> Outcome {
    if let [Value::String(text)] = args {
        meter.count(text)?;
    }
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            // Nothing in memory has more than i64 can count.
            Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
        }
        _ => no_overload(),
    }
}

fn kind(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [value] => Ok(Value::Type(value.type_name().into())),
        _ => no_overload(),
    }
}

fn bool(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(*value)),
        [value @ Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(impossible(value, "bool")),
        },
        _ => no_overload(),
    }
}

fn bytes(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [value @ Value::Bytes(_)] => Ok(value.clone()),
        [Value::String(text)] => {
            meter.work(text.len())?;
            Ok(Value::Bytes(text.as_bytes().into()))
        }
        _ => no_overload(),
    }
}

#[allow(clippy::cast_possible_truncation)]
fn int(args: &[Value], meter: &mut Meter) -> Outcome {
    const OVERFLOW: &str = "integer overflow";
    match args {
        [value @ Value::Int(_)] => Ok(value.clone()),
        [Value::Uint(number)] => i64::try_from(*number).map(Value::Int).map_err(|_| OVERFLOW.into()),
        // The ends themselves are not exact as doubles.
        [Value::Double(number)] if *number > -9_223_372_036_854_775_808.0 && *number < 9_223_372_036_854_775_807.0 => {
            Ok(Value::Int(*number as i64))
        }
        [Value::Double(_)] => Err(OVERFLOW.into()),
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(moment)] => Ok(Value::Int(moment.seconds())),
        [value @ Value::String(text)] => {
            meter.work(text.len())?;
            text.parse().map(Value::Int).map_err(|_| impossible(value, "int"))
        }
        _ => no_overload(),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn uint(args: &[Value], meter: &mut Meter) -> Outcome {
    const OVERFLOW: &str = "unsigned integer overflow";
    match args {
        [value @ Value::Uint(_)] => Ok(value.clone()),
        [Value::Int(number)] => u64::try_from(*number).map(Value::Uint).map_err(|_| OVERFLOW.into()),
        [Value::Double(number)] if *number >= 0.0 && *number < 18_446_744_073_709_551_615.0 => {
            Ok(Value::Uint(*number as u64))
        }
        [Value::Double(_)] => Err(OVERFLOW.into()),
        [value @ Value::String(text)] => {
            meter.work(text.len())?;
            text.parse().map(Value::Uint).map_err(|_| impossible(value, "uint"))
        }
        _ => no_overload(),
    }
}

#[allow(clippy::cast_precision_loss)]
fn double(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [value @ Value::Double(_)] => Ok(value.clone()),
        [Value::Int(number)] => Ok(Value::Double(*number as f64)),
        [Value::Uint(number)] => Ok(Value::Double(*number as f64)),
        [value @ Value::String(text)] => {
            meter.work(text.len())?;
            text.parse().map(Value::Double).map_err(|_| impossible(value, "double"))
        }
        _ => no_overload(),
    }
}

fn string(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [value @ Value::String(_)] => Ok(value.clone()),
        [Value::Bytes(bytes)] => {
            meter.work(bytes.len())?;
            let text = String::from_utf8(bytes.to_vec());
            text.map(Value::from)
                .map_err(|_| "invalid UTF-8 in bytes, cannot convert to string".into())
        }
        [
            value @ (Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::Duration(_)
            | Value::Ip(_)
            | Value::Cidr(..)),
        ] => value.to_text().map(Value::from).map_or_else(no_overload, Ok),
        _ => no_overload(),
    }
}

fn timestamp(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [value @ Value::Timestamp(_)] => Ok(value.clone()),
        [Value::Int(seconds)] => {
            let moment = Moment::from_seconds(*seconds);
            moment.map(Value::Timestamp).ok_or_else(|| "timestamp overflow".into())
        }
        [value @ Value::String(source)] => {
            meter.work(source.len())?;
            let moment = Moment::parse(source).map(Value::Timestamp);
            moment.ok_or_else(|| impossible(value, "google.protobuf.Timestamp"))
        }
        _ => no_overload(),
    }
}

fn duration(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [value @ Value::Duration(_)] => Ok(value.clone()),
        [Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [value @ Value::String(source)] => {
            meter.work(source.len())?;
            let nanos = text::parse_duration(source).map(Value::Duration);
            nanos.ok_or_else(|| impossible(value, "google.protobuf.Duration"))
        }
        _ => no_overload(),
    }
}
