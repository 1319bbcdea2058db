//! Printing as Go's `fmt` does.

use super::{Str, Value, float_general};

/// Appends the value as `%v` does.
pub fn print(value: &Value, out: &mut Vec<u8>) {
    print_depth(value, 0, out);
}

fn print_depth(value: &Value, depth: usize, out: &mut Vec<u8>) {
    if depth > 500 {
        out.extend_from_slice(b"...");
        return;
    }
    match value {
        Value::Invalid | Value::Nil => out.extend_from_slice(b"<nil>"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Int(super::IntKind::Duration, value) => out.extend_from_slice(super::format_duration(*value).as_bytes()),
        Value::Int(super::IntKind::Month, value) => out.extend_from_slice(super::time::month_name(*value).as_bytes()),
        Value::Int(_, value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Float(value) => out.extend_from_slice(float_general(*value).as_bytes()),
        Value::Str(text) => out.extend_from_slice(text),
        Value::Bytes(bytes) => {
            let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
            out.extend_from_slice(format!("[{}]", numbers.join(" ")).as_bytes());
        }
        Value::List(list) => {
            out.push(b'[');
            for (index, item) in list.items.iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                print_depth(item, depth + 1, out);
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.extend_from_slice(b"map[");
            for (index, (key, item)) in map.entries().iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(key);
                out.push(b':');
                print_depth(item, depth + 1, out);
            }
            out.push(b']');
        }
        Value::Time(time) => out.extend_from_slice(time.to_string().as_bytes()),
        Value::Object(object) => match &object.text {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => {
                out.extend_from_slice(if object.type_name.starts_with('*') { b"&{" } else { b"{" });
                for (index, (.., item)) in object.fields.iter().enumerate() {
                    if index > 0 {
                        out.push(b' ');
                    }
                    print_depth(item, depth + 1, out);
                }
                out.push(b'}');
            }
        },
    }
}

/// Gives the value as sprig's `toString` does: bytes are text.
pub fn string_value(value: &Value) -> Str {
    match value {
        Value::Str(text) | Value::Bytes(text) => text.clone(),
        other => {
            let mut out = Vec::new();
            print(other, &mut out);
            Str::from(out)
        }
    }
}

/// Prints operands with spaces between those of which neither is a string.
pub fn sprint(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 && !matches!(value, Value::Str(_)) && !matches!(values[index - 1], Value::Str(_)) {
            out.push(b' ');
        }
        print(value, &mut out);
    }
    out
}

/// Prints operands with spaces between and a newline after.
pub fn sprintln(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        print(value, &mut out);
    }
    out.push(b'\n');
    out
}

/// Writes a string in double quotes with Go's escapes, as `%q` does.
pub fn go_quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(c, '"', &mut out);
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn printable(c: char) -> bool {
    // Spaces other than U+0020, controls, surrogates, private use and unassigned are not printable to Go; Rust's debug
    // escaping decides by the same tables of categories, but escapes combining marks, which Go prints.
    if c == '\u{fffd}' || c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ' {
        return true;
    }
    if c.is_whitespace() || c.is_control() {
        return false;
    }
    c.escape_debug().count() == 1
}

fn quote_char(c: char, quote: char, out: &mut String) {
    match c {
        '\\' => out.push_str("\\\\"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if printable(c) => out.push(c),
        c if (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
        c => out.push_str(&format!("\\U{:08x}", c as u32)),
    }
}

#[derive(Default, Clone)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// What padding may grow to, so that a width cannot exhaust memory.
const WIDTH_LIMIT: usize = 1_000_000;

/// Formats as `fmt.Sprintf` does, its complaints included.
pub fn printf(format: &[u8], values: &[Value]) -> Vec<u8> {
    let mut out = Vec::with_capacity(format.len() + 16);
    let mut next = 0;
    let mut reordered = false;
    let mut i = 0;
    while i < format.len() {
        if format[i] != b'%' {
            out.push(format[i]);
            i += 1;
            continue;
        }
        i += 1;
        let mut flags = Flags::default();
        while let Some(byte) = format.get(i) {
            match byte {
                b'-' => {
                    flags.minus = true;
                    flags.zero = false;
                }
                b'+' => flags.plus = true,
                b'#' => flags.sharp = true,
                b' ' => flags.space = true,
                b'0' => flags.zero = !flags.minus,
                _ => break,
            }
            i += 1;
        }
        (next, i, reordered) = argument_number(format, next, i, values.len(), reordered);
        if format.get(i) == Some(&b'*') {
            i += 1;
            match values.get(next) {
                Some(Value::Int(_, width)) if width.unsigned_abs() <= WIDTH_LIMIT as u64 => {
                    flags.minus |= *width < 0;
                    flags.width = Some(width.unsigned_abs() as usize);
                }
                _ => out.extend_from_slice(b"%!(BADWIDTH)"),
            }
            next += 1;
        } else {
            flags.width = number(format, &mut i);
        }
        if format.get(i) == Some(&b'.') {
            i += 1;
            if format.get(i) == Some(&b'*') {
                i += 1;
                match values.get(next) {
                    Some(Value::Int(_, size)) if (0..=WIDTH_LIMIT as i64).contains(size) => {
                        flags.precision = Some(*size as usize);
                    }
                    _ => out.extend_from_slice(b"%!(BADPREC)"),
                }
                next += 1;
            } else {
                flags.precision = Some(number(format, &mut i).unwrap_or(0));
            }
        }
        (next, i, reordered) = argument_number(format, next, i, values.len(), reordered);
        let rest = String::from_utf8_lossy(&format[i.min(format.len())..(i + 4).min(format.len())]).into_owned();
        let Some(verb) = rest.chars().next() else {
            out.extend_from_slice(b"%!(NOVERB)");
            break;
        };
        i += verb.len_utf8();
        if verb == '%' {
            out.push(b'%');
            continue;
        }
        let Some(value) = values.get(next) else {
            out.extend_from_slice(format!("%!{verb}(MISSING)").as_bytes());
            continue;
        };
        next += 1;
        print_verb(value, verb, &flags, &mut out);
    }
    if !reordered && next < values.len() {
        out.extend_from_slice(b"%!(EXTRA ");
        for (index, value) in values[next..].iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            if value.is_nil() {
                out.extend_from_slice(b"<nil>");
            } else {
                out.extend_from_slice(value.type_name().as_bytes());
                out.push(b'=');
                print(value, &mut out);
            }
        }
        out.push(b')');
    }
    out
}

fn argument_number(format: &[u8], next: usize, i: usize, count: usize, reordered: bool) -> (usize, usize, bool) {
    if format.get(i) != Some(&b'[') {
        return (next, i, reordered);
    }
    let Some(end) = format[i..].iter().position(|b| *b == b']') else {
        return (next, i + 1, true);
    };
    let index = std::str::from_utf8(&format[i + 1..i + end])
        .ok()
        .and_then(|text| text.parse::<usize>().ok());
    match index {
        Some(index) if index >= 1 && index <= count => (index - 1, i + end + 1, true),
        _ => (count, i + end + 1, true),
    }
}

fn number(format: &[u8], i: &mut usize) -> Option<usize> {
    let start = *i;
    while format.get(*i).is_some_and(u8::is_ascii_digit) {
        *i += 1;
    }
    let size: usize = std::str::from_utf8(&format[start..*i]).ok()?.parse().ok()?;
    Some(size.min(WIDTH_LIMIT))
}

fn pad(text: &[u8], flags: &Flags, zero: bool, out: &mut Vec<u8>) {
    let length = String::from_utf8_lossy(text).chars().count();
    let missing = flags.width.unwrap_or(0).saturating_sub(length);
    if flags.minus {
        out.extend_from_slice(text);
        out.extend(std::iter::repeat_n(b' ', missing));
    } else if zero && flags.zero {
        let sign = usize::from(text.first().is_some_and(|b| matches!(b, b'-' | b'+' | b' ')));
        out.extend_from_slice(&text[..sign]);
        out.extend(std::iter::repeat_n(b'0', missing));
        out.extend_from_slice(&text[sign..]);
    } else {
        out.extend(std::iter::repeat_n(b' ', missing));
        out.extend_from_slice(text);
    }
}

fn bad_verb(value: &Value, verb: char, out: &mut Vec<u8>) {
    if value.is_nil() {
        out.extend_from_slice(format!("%!{verb}(<nil>)").as_bytes());
        return;
    }
    out.extend_from_slice(format!("%!{verb}({}=", value.type_name()).as_bytes());
    print(value, out);
    out.push(b')');
}

fn print_verb(value: &Value, verb: char, flags: &Flags, out: &mut Vec<u8>) {
    match verb {
        'T' => return pad(value.type_name().as_bytes(), flags, false, out),
        'v' if flags.sharp => return pad(go_syntax(value).as_bytes(), flags, false, out),
        _ => {}
    }
    match value {
        Value::Invalid | Value::Nil => {
            if verb == 'v' {
                pad(b"<nil>", flags, false, out);
            } else {
                bad_verb(value, verb, out);
            }
        }
        Value::Bool(flag) => match verb {
            't' | 'v' => pad(flag.to_string().as_bytes(), flags, false, out),
            _ => bad_verb(value, verb, out),
        },
        Value::Int(kind, number) => {
            let stringer = matches!(kind, super::IntKind::Duration | super::IntKind::Month);
            if stringer && matches!(verb, 'v' | 's' | 'q') {
                return print_verb(&Value::Str(string_value(value)), verb, flags, out);
            }
            match integer(*number, verb, flags) {
                Some(text) => pad(text.as_bytes(), flags, flags.precision.is_none(), out),
                None => bad_verb(value, verb, out),
            }
        }
        Value::Float(number) => match float(*number, verb, flags) {
            Some(text) => pad(text.as_bytes(), flags, number.is_finite(), out),
            None => bad_verb(value, verb, out),
        },
        Value::Str(text) => print_bytes(value, text, verb, flags, out),
        Value::Bytes(bytes) if matches!(verb, 's' | 'q' | 'x' | 'X') => print_bytes(value, bytes, verb, flags, out),
        Value::Bytes(_) => {
            let mut text = Vec::new();
            print(value, &mut text);
            pad(&text, flags, false, out);
        }
        Value::List(list) => {
            out.push(b'[');
            for (index, item) in list.items.iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                print_inner(item, verb, flags, out);
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.extend_from_slice(b"map[");
            for (index, (key, item)) in map.entries().iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                print_verb(&Value::Str(key.clone()), verb, flags, out);
                out.push(b':');
                print_inner(item, verb, flags, out);
            }
            out.push(b']');
        }
        Value::Time(_) | Value::Object(_) => {
            let text = string_value(value);
            match verb {
                'v' | 's' | 'q' => print_verb(&Value::Str(text), if verb == 'v' { 's' } else { verb }, flags, out),
                _ => bad_verb(value, verb, out),
            }
        }
    }
}

/// Prints an element: nil in a collection suits every verb.
fn print_inner(value: &Value, verb: char, flags: &Flags, out: &mut Vec<u8>) {
    if value.is_nil() {
        out.extend_from_slice(b"<nil>")
    } else {
        print_verb(value, verb, flags, out)
    }
}

fn print_bytes(value: &Value, bytes: &[u8], verb: char, flags: &Flags, out: &mut Vec<u8>) {
    let cut = |bytes: &[u8]| -> Vec<u8> {
        match flags.precision {
            Some(size) => String::from_utf8_lossy(bytes)
                .chars()
                .take(size)
                .collect::<String>()
                .into_bytes(),
            None => bytes.to_vec(),
        }
    };
    match verb {
        'v' | 's' => pad(&cut(bytes), flags, true, out),
        'q' if flags.sharp && !bytes.contains(&b'`') && std::str::from_utf8(bytes).is_ok_and(raw_quotable) => {
            pad(&[b"`", bytes, b"`"].concat(), flags, true, out);
        }
        'q' => pad(go_quote(&cut(bytes)).as_bytes(), flags, true, out),
        'x' => pad(hex::encode(bytes).as_bytes(), flags, true, out),
        'X' => pad(hex::encode_upper(bytes).as_bytes(), flags, true, out),
        _ => bad_verb(value, verb, out),
    }
}

fn raw_quotable(text: &str) -> bool {
    text.chars().all(|c| c == '\t' || (!c.is_control() && c != '\u{feff}'))
}

fn integer(number: i64, verb: char, flags: &Flags) -> Option<String> {
    let size = number.unsigned_abs();
    let mut digits = match verb {
        'd' | 'v' => size.to_string(),
        'b' => format!("{size:b}"),
        'o' | 'O' => format!("{size:o}"),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        'c' => return Some(char_of(number).to_string()),
        'q' => {
            let mut out = String::from("'");
            quote_char(char_of(number), '\'', &mut out);
            out.push('\'');
            return Some(out);
        }
        'U' => return Some(format!("U+{size:04X}")),
        _ => return None,
    };
    if let Some(precision) = flags.precision {
        digits = format!("{}{digits}", "0".repeat(precision.saturating_sub(digits.len())));
    }
    let prefix = match verb {
        'O' => "0o",
        'o' if flags.sharp => "0",
        'x' if flags.sharp => "0x",
        'X' if flags.sharp => "0X",
        'b' if flags.sharp => "0b",
        _ => "",
    };
    let sign = match number {
        n if n < 0 => "-",
        _ if flags.plus => "+",
        _ if flags.space => " ",
        _ => "",
    };
    Some(format!("{sign}{prefix}{digits}"))
}

fn char_of(number: i64) -> char {
    u32::try_from(number)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or('\u{fffd}')
}

fn float(number: f64, verb: char, flags: &Flags) -> Option<String> {
    if !number.is_finite() {
        return matches!(verb, 'v' | 'g' | 'G' | 'f' | 'F' | 'e' | 'E').then(|| float_general(number));
    }
    let text = match verb {
        'v' | 'g' | 'G' => match flags.precision {
            None => float_general(number),
            Some(precision) => general_with_precision(number, precision.max(1)),
        },
        'f' | 'F' => {
            let (precision, zeros) = digits_and_zeros(flags.precision.unwrap_or(6));
            format!("{number:.precision$}{zeros}")
        }
        'e' | 'E' => {
            let (precision, zeros) = digits_and_zeros(flags.precision.unwrap_or(6));
            let text = format!("{number:.precision$e}");
            let (digits, exponent) = text.split_once('e')?;
            let exponent: i32 = exponent.parse().ok()?;
            format!(
                "{digits}{zeros}e{}{:02}",
                if exponent < 0 { '-' } else { '+' },
                exponent.abs()
            )
        }
        _ => return None,
    };
    let text = if verb.is_ascii_uppercase() {
        text.to_ascii_uppercase()
    } else {
        text
    };
    Some(match () {
        () if text.starts_with('-') => text,
        () if flags.plus => format!("+{text}"),
        () if flags.space => format!(" {text}"),
        () => text,
    })
}

/// How many digits after the point a float can have; those that follow are zeros. Rust refuses to write more than 65535.
const DIGITS: usize = 1100;

fn digits_and_zeros(precision: usize) -> (usize, String) {
    (precision.min(DIGITS), "0".repeat(precision.saturating_sub(DIGITS)))
}

fn general_with_precision(number: f64, precision: usize) -> String {
    let precision = precision.min(DIGITS);
    let text = format!("{number:.*e}", precision - 1);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| -> String {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if exponent < -4 || exponent >= precision as i32 {
        return format!(
            "{}e{}{:02}",
            trim(digits),
            if exponent < 0 { '-' } else { '+' },
            exponent.abs()
        );
    }
    trim(&format!(
        "{number:.*}",
        (precision as i32 - 1 - exponent).max(0) as usize
    ))
}

/// Writes the value as `%#v` does.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Invalid | Value::Nil => "<nil>".to_owned(),
        Value::Str(text) => go_quote(text),
        Value::List(list) => {
            let items: Vec<String> = list
                .items
                .iter()
                .map(|item| {
                    if item.is_nil() {
                        "interface {}(nil)".to_owned()
                    } else {
                        go_syntax(item)
                    }
                })
                .collect();
            format!("{}{{{}}}", value.type_name(), items.join(", "))
        }
        Value::Map(map) => {
            let items: Vec<String> = map
                .entries()
                .iter()
                .map(|(key, item)| {
                    let item = if item.is_nil() {
                        "interface {}(nil)".to_owned()
                    } else {
                        go_syntax(item)
                    };
                    format!("{}:{item}", go_quote(key))
                })
                .collect();
            format!("{}{{{}}}", value.type_name(), items.join(", "))
        }
        other => string_value(other).text().into_owned(),
    }
}
