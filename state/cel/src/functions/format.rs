//! `string.format`: a template with clauses such as `%s`, `%d` and `%.3f`.

use super::{Failure, Meter, Outcome, Row, no_overload};
use crate::value::{Value, text};

pub(super) const ROWS: &[Row] = &[Row {
    name: "format",
    signatures: &["string.(list(dyn)) -> string"],
    run: format,
}];

/// The most digits behind the point.
const PRECISION: usize = 100;
/// The digits behind the point where none are asked for.
const DEFAULT_PRECISION: usize = 6;

/// A part of a template.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    /// Text that stays.
    Text(String),
    /// What an argument is written as, with how many digits behind the point.
    Clause(char, Option<usize>),
}

/// Reads a template.
///
/// Errors: what is wrong with it, as cel-go says it.
pub(crate) fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let failed = |why: &str| format!("could not parse formatting clause: {why}");
    let mut out = Vec::new();
    let mut text = String::new();
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let number = digits.parse::<usize>().ok();
            let number = number
                .ok_or_else(|| failed("error while parsing precision: could not find end of precision specifier"))?;
            if number > PRECISION {
                let why = format!(
                    "error while parsing precision: precision {number} exceeds maximum allowed precision {PRECISION}"
                );
                return Err(failed(&why));
            }
            precision = Some(number);
        }
        let clause = chars.next().ok_or("unexpected end of string")?;
        if !"sdfebxXo".contains(clause) {
            return Err(failed(&format!("unrecognized formatting clause \"{clause}\"")));
        }
        if !text.is_empty() {
            out.push(Piece::Text(std::mem::take(&mut text)));
        }
        out.push(Piece::Clause(clause, precision));
    }
    if !text.is_empty() {
        out.push(Piece::Text(text));
    }
    Ok(out)
}

/// Says which values a clause takes, for an argument of another type.
pub(crate) fn refusal(clause: char, given: &str) -> String {
    let what = match clause {
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'o' => "octal clause can only be used on integers",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        _ => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
    };
    format!("error during formatting: {what}, was given {given}")
}

fn format(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::String(template), Value::List(list)] = args else {
        return no_overload();
    };
    meter.work(template.len())?;
    let mut out = String::with_capacity(template.len());
    let mut next = 0;
    for piece in pieces(template)? {
        match piece {
            Piece::Text(text) => out.push_str(&text),
            Piece::Clause(clause, precision) => {
                let value = list
                    .items
                    .get(next)
                    .ok_or_else(|| Failure::from(format!("index {next} out of range")))?;
                next += 1;
                let before = out.len();
                write(clause, precision, value, &mut out, meter)?;
                meter.work(out.len() - before)?;
            }
        }
    }
    Ok(Value::from(out))
}

/// Writes a number with commas between thousands, as Kubernetes' locale has it.
fn grouped(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$}");
    let (sign, digits) = text.strip_prefix('-').map_or(("", &*text), |digits| ("-", digits));
    let (whole, fraction) = digits
        .split_once('.')
        .map_or((digits, ""), |(whole, fraction)| (whole, fraction));
    let mut out = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// Writes a number with a power of ten, as Kubernetes' locale has it: `3.14×10⁰⁰`.
fn scientific(number: f64, precision: usize) -> String {
    let text = text::exponent(&format!("{number:.precision$e}"));
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let raised = exponent.chars().filter_map(|c| match c {
        '-' => Some('⁻'),
        '0'..='9' => "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(c as usize - '0' as usize),
        _ => None,
    });
    format!("{mantissa}×10{}", raised.collect::<String>())
}

fn mismatch(clause: char, value: &Value) -> Failure {
    refusal(clause, value.type_name()).into()
}

fn write(
    clause: char,
    precision: Option<usize>,
    value: &Value,
    out: &mut String,
    meter: &mut Meter,
) -> Result<(), Failure> {
    let precision = precision.unwrap_or(DEFAULT_PRECISION);
    match (clause, value) {
        ('s', value) => return string(value, out, meter),
        ('d', Value::Int(number)) => out.push_str(&number.to_string()),
        ('d', Value::Uint(number)) => out.push_str(&number.to_string()),
        ('d', other) => return Err(mismatch('d', other)),
        ('f' | 'e', Value::String(word)) if matches!(&**word, "NaN" | "Infinity" | "-Infinity") => {
            out.push_str(&word.replace("Infinity", "∞"));
        }
        ('f' | 'e', Value::Double(number)) if !number.is_finite() => {
            out.push_str(&number.to_string().replace("inf", "∞"));
        }
        ('f', Value::Double(number)) => out.push_str(&grouped(*number, precision)),
        ('e', Value::Double(number)) => out.push_str(&scientific(*number, precision)),
        ('f', other) => return Err(mismatch('f', other)),
        ('e', other) => return Err(mismatch('e', other)),
        ('b', Value::Bool(value)) => out.push(if *value { '1' } else { '0' }),
        ('b', Value::Int(number)) => out.push_str(&signed(*number, |magnitude| format!("{magnitude:b}"))),
        ('b', Value::Uint(number)) => out.push_str(&format!("{number:b}")),
        ('b', other) => return Err(mismatch('b', other)),
        ('o', Value::Int(number)) => out.push_str(&signed(*number, |magnitude| format!("{magnitude:o}"))),
        ('o', Value::Uint(number)) => out.push_str(&format!("{number:o}")),
        ('o', other) => return Err(mismatch('o', other)),
        (_, value) => return hexadecimal(clause == 'X', value, out),
    }
    Ok(())
}

/// Writes a negative number as its magnitude behind a minus, as Go does.
fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

fn hexadecimal(upper: bool, value: &Value, out: &mut String) -> Result<(), Failure> {
    let bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digits = match value {
        Value::Int(number) => signed(*number, |magnitude| format!("{magnitude:x}")),
        Value::Uint(number) => format!("{number:x}"),
        Value::String(text) => bytes(text.as_bytes()),
        Value::Bytes(found) => bytes(found),
        other => return Err(mismatch('x', other)),
    };
    out.push_str(&if upper { digits.to_uppercase() } else { digits });
    Ok(())
}

fn string(value: &Value, out: &mut String, meter: &mut Meter) -> Result<(), Failure> {
    match value {
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.items.iter().enumerate() {
                meter.work(2)?;
                out.push_str(if index > 0 { ", " } else { "" });
                nested(item, out, meter)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.entries.len());
            for (key, value) in &map.entries {
                let mut entry = String::new();
                nested(&key.value(), &mut entry, meter)?;
                entry.push(':');
                nested(value, &mut entry, meter)?;
                meter.work(entry.len())?;
                entries.push(entry);
            }
            entries.sort_unstable();
            out.push_str(&format!("{{{}}}", entries.join(", ")));
        }
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::Duration(_)
        | Value::Type(_)
        | Value::Null => match value.to_text() {
            Some(text) => out.push_str(&text),
            None => out.push('\u{fffd}'),
        },
        Value::Broken(problem) => return Err(problem.to_string().into()),
        other => {
            return Err(mismatch('s', other));
        }
    }
    Ok(())
}

/// Writes a value inside a list or map, where texts are quoted.
fn nested(value: &Value, out: &mut String, meter: &mut Meter) -> Result<(), Failure> {
    match value {
        Value::String(text) => {
            meter.work(text.len())?;
            out.push_str(&format!("{text:?}"));
        }
        Value::Double(number) if number.is_finite() => out.push_str(&format!("{number:.DEFAULT_PRECISION$}")),
        Value::Double(_) => out.push_str(&format!("{:?}", value.shown())),
        Value::Timestamp(_) => out.push_str(&format!("timestamp(\"{}\")", value.shown())),
        Value::Duration(_) => out.push_str(&format!("duration(\"{}\")", value.shown())),
        Value::Bytes(_) => out.push_str(&format!("b{:?}", value.shown())),
        other => string(other, out, meter)?,
    }
    Ok(())
}
