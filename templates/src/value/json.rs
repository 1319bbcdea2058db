//! JSON as `encoding/json` writes and reads it.

use super::{Entries, Map, Str, Value, float_json};

/// Makes a value of JSON: numbers that are integers in `json` become `int64`, others `float64`.
pub fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(value) if !number.is_f64() => Value::int64(value),
            _ => Value::Float(number.as_f64().unwrap_or(0.0)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::list(items.iter().map(from_json).collect()),
        serde_json::Value::Object(entries) => Value::Map(Map::new(
            entries
                .iter()
                .map(|(key, value)| (Str::from(key.as_str()), from_json(value)))
                .collect::<Entries>(),
        )),
    }
}

#[derive(Clone, Copy)]
struct Style {
    indent: bool,
    escape_html: bool,
}

/// Writes compact JSON with `<`, `>` and `&` escaped.
///
/// # Errors
/// What JSON cannot hold: NaN and the infinities.
pub fn to_json(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    write(
        value,
        Style {
            indent: false,
            escape_html: true,
        },
        0,
        &mut out,
    )?;
    Ok(out)
}

/// Writes JSON indented by two spaces.
///
/// # Errors
/// What JSON cannot hold: NaN and the infinities.
pub fn to_json_pretty(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    write(
        value,
        Style {
            indent: true,
            escape_html: true,
        },
        0,
        &mut out,
    )?;
    Ok(out)
}

/// Writes compact JSON without escaping for HTML.
///
/// # Errors
/// What JSON cannot hold: NaN and the infinities.
pub fn to_json_raw(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    write(
        value,
        Style {
            indent: false,
            escape_html: false,
        },
        0,
        &mut out,
    )?;
    Ok(out)
}

const DEPTH_LIMIT: usize = 1000;

fn line(style: Style, depth: usize, out: &mut String) {
    if style.indent {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
}

fn write(value: &Value, style: Style, depth: usize, out: &mut String) -> Result<(), String> {
    if depth > DEPTH_LIMIT {
        return Err("json: unsupported value: encountered a cycle".to_owned());
    }
    match value {
        Value::Invalid | Value::Nil => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(_, value) => out.push_str(&value.to_string()),
        Value::Float(value) if !value.is_finite() => {
            return Err(format!("json: unsupported value: {}", super::float_general(*value)));
        }
        Value::Float(value) => out.push_str(&float_json(*value)),
        Value::Str(text) => write_json_string(&text.text(), style.escape_html, out),
        Value::Bytes(bytes) => {
            use base64::Engine as _;
            out.push('"');
            out.push_str(&base64::engine::general_purpose::STANDARD.encode(&**bytes));
            out.push('"');
        }
        Value::List(list) if list.nil => out.push_str("null"),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(style, depth + 1, out);
                write(item, style, depth + 1, out)?;
            }
            if !list.items.is_empty() {
                line(style, depth, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            let entries = map.entries();
            let entries = entries.iter().map(|(key, value)| (key.text(), value));
            write_object(entries, style, depth, out)?;
        }
        Value::Time(time) => write_json_string(&time.rfc3339(), style.escape_html, out),
        Value::Object(object) => {
            let entries = object
                .fields
                .iter()
                .filter(|(_, json, _)| !json.is_empty())
                .map(|(_, json, value)| (std::borrow::Cow::Borrowed(*json), value));
            write_object(entries, style, depth, out)?;
        }
    }
    Ok(())
}

fn write_object<'a>(
    entries: impl Iterator<Item = (std::borrow::Cow<'a, str>, &'a Value)>,
    style: Style,
    depth: usize,
    out: &mut String,
) -> Result<(), String> {
    out.push('{');
    let mut any = false;
    for (key, value) in entries {
        if any {
            out.push(',');
        }
        any = true;
        line(style, depth + 1, out);
        write_json_string(&key, style.escape_html, out);
        out.push_str(if style.indent { ": " } else { ":" });
        write(value, style, depth + 1, out)?;
    }
    if any {
        line(style, depth, out);
    }
    out.push('}');
    Ok(())
}

/// Writes a JSON string with Go's choice of escapes.
pub fn write_json_string(text: &str, escape_html: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if escape_html => out.push_str(&format!("\\u{:04x}", c as u32)),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}
