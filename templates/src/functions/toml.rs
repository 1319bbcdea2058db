//! TOML, written as Helm's library does: plain keys before tables, two spaces for each level.

use super::arguments::{Outcome, string, text};
use crate::gotemplate::exec::Function;
use crate::value::{Entries, Str, Value, float_general, from_json};

/// How deep values may nest.
const DEPTH_LIMIT: usize = 200;

pub(super) const FUNCTIONS: &[Function] = &[
    row!("toToml", "a", |exec, a| {
        let written = write(&a[0]).unwrap_or_else(|words| words);
        exec.spend(written.len())?;
        string(written)
    }),
    row!("mustToToml", "a", |exec, a| {
        let written = write(&a[0])?;
        exec.spend(written.len())?;
        string(written)
    }),
    row!("fromToml", "s", |exec, a| {
        let value = from(&text(a, 0))?;
        exec.weigh(std::slice::from_ref(&value))?;
        Ok(value)
    }),
];

fn from(text: &str) -> Outcome {
    // The parser goes as deep as the text does, up to a limit of its own.
    let read: Result<serde_json::Map<String, serde_json::Value>, _> = ::toml::from_str(text);
    Ok(match read {
        Ok(map) => from_json(&serde_json::Value::Object(map)),
        Err(error) => Value::map(Entries::from([(Str::from("Error"), Value::from(error.message()))])),
    })
}

fn write(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    match value {
        Value::Map(map) => table(map.entries(), &mut Vec::new(), &mut out)?,
        _ => return Err("toml: top-level values must be Go maps or structs".to_owned()),
    }
    Ok(out)
}

fn table(entries: Entries, path: &mut Vec<String>, out: &mut String) -> Result<(), String> {
    if path.len() > DEPTH_LIMIT {
        return Err("toml: encountered a cycle".to_owned());
    }
    let (tables, plain): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .filter(|(_, value)| !value.is_nil())
        .partition(|(_, value)| matches!(value, Value::Map(_)) || is_tables(value));
    for (name, value) in plain {
        out.push_str(&format!("{}{} = ", "  ".repeat(path.len()), key(&name.text())));
        element(&value, path.len(), out)?;
        out.push('\n');
    }
    for (name, value) in tables {
        path.push(key(&name.text()));
        let indent = "  ".repeat(path.len() - 1);
        let header = path.join(".");
        match &value {
            Value::List(list) => {
                for item in list.items.iter() {
                    if let Value::Map(map) = item {
                        newline(out);
                        out.push_str(&format!("{indent}[[{header}]]\n"));
                        table(map.entries(), path, out)?;
                    }
                }
            }
            Value::Map(map) => {
                if path.len() == 1 {
                    newline(out);
                }
                out.push_str(&format!("{indent}[{header}]\n"));
                table(map.entries(), path, out)?;
            }
            _ => {}
        }
        path.pop();
    }
    Ok(())
}

fn newline(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

/// Says whether a list is written as tables.
fn is_tables(value: &Value) -> bool {
    matches!(value, Value::List(list) if !list.items.is_empty() && list.items.iter().all(|item| matches!(item, Value::Map(_))))
}

fn element(value: &Value, depth: usize, out: &mut String) -> Result<(), String> {
    if depth > DEPTH_LIMIT {
        return Err("toml: encountered a cycle".to_owned());
    }
    match value {
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(_, number) => out.push_str(&number.to_string()),
        Value::Float(number) if number.is_nan() => out.push_str("nan"),
        Value::Float(number) if number.is_infinite() => out.push_str(if *number > 0.0 { "inf" } else { "-inf" }),
        Value::Float(number) => {
            let written = float_general(*number);
            out.push_str(&written);
            if !written.contains(['.', 'e']) {
                out.push_str(".0");
            }
        }
        Value::Str(text) | Value::Bytes(text) => quote(&text.text(), out),
        Value::Time(time) => out.push_str(&time.rfc3339()),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                element(item, depth + 1, out)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (index, (name, item)) in map.entries().iter().filter(|(_, item)| !item.is_nil()).enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                out.push_str(&format!("{} = ", key(&name.text())));
                element(item, depth + 1, out)?;
            }
            out.push('}');
        }
        Value::Nil | Value::Invalid => return Err("toml: cannot encode array with nil element".to_owned()),
        Value::Object(_) => return Err(format!("toml: cannot encode {}", value.type_name())),
    }
    Ok(())
}

fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) {
        return name.to_owned();
    }
    let mut out = String::new();
    quote(name, &mut out);
    out
}

fn quote(text: &str, out: &mut String) {
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
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}
