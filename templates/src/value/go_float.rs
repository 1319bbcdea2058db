//! Floating-point numbers as Go writes them.

/// The shortest digits that read back as the number, and the decimal exponent of the first of them.
fn shortest(value: f64) -> (String, i32) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (digits.replace('.', ""), exponent.parse().unwrap_or(0))
}

fn exponential(negative: bool, digits: &str, exponent: i32) -> String {
    let sign = if negative { "-" } else { "" };
    let (head, tail) = digits.split_at(1);
    let point = if tail.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{head}{point}{tail}e{exponent_sign}{:02}", exponent.abs())
}

/// Writes a number as `%v` does: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub fn float_general(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let (digits, exponent) = shortest(value.abs());
    if value != 0.0 && !(-4..6).contains(&exponent) {
        return exponential(value.is_sign_negative(), &digits, exponent);
    }
    format!("{value}")
}

/// Writes a number as `encoding/json` does.
pub fn float_json(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let (digits, exponent) = shortest(size);
        let text = exponential(value.is_sign_negative(), &digits, exponent);
        // Go drops the zero of e-09.
        return match text.strip_suffix(|c: char| c.is_ascii_digit()) {
            Some(head) if head.ends_with("e-0") => {
                format!("{}{}", &head[..head.len() - 1], &text[text.len() - 1..])
            }
            _ => text,
        };
    }
    format!("{value}")
}
