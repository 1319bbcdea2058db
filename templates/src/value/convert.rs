//! Conversions to numbers as `spf13/cast` makes them.

use super::Value;

/// Parses an integer with Go's base prefixes.
pub(crate) fn parse_int(text: &str, base: u32) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = if base == 0 { prefix(digits) } else { (base, digits) };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let size = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -size } else { size }).ok()
}

fn prefix(digits: &str) -> (u32, &str) {
    let lower = digits.to_ascii_lowercase();
    if lower.starts_with("0x") {
        (16, &digits[2..])
    } else if lower.starts_with("0b") {
        (2, &digits[2..])
    } else if lower.starts_with("0o") {
        (8, &digits[2..])
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    }
}

/// Converts to `int64`; what is no number is 0.
pub fn to_int64(value: &Value) -> i64 {
    match value {
        Value::Int(_, value) => *value,
        Value::Float(value) => *value as i64,
        Value::Bool(value) => i64::from(*value),
        Value::Str(text) => {
            let text = text.text();
            parse_int(trim_zero_decimal(&text), 0).unwrap_or(0)
        }
        _ => 0,
    }
}

/// Cuts a fraction of zeros, which cast accepts in integers.
fn trim_zero_decimal(text: &str) -> &str {
    match text.rsplit_once('.') {
        Some((head, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => head,
        _ => text,
    }
}

/// Converts to `float64`; what is no number is 0.
pub fn to_float64(value: &Value) -> f64 {
    match value {
        Value::Int(_, value) => *value as f64,
        Value::Float(value) => *value,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Str(text) => text.text().parse().unwrap_or(0.0),
        _ => 0.0,
    }
}
