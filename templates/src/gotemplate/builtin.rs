//! The functions of `text/template` itself, and the methods of values.

use std::cmp::Ordering;

use super::exec::{Exec, Failure, Function};
use crate::value::{IntKind, Str, Value, printf, sprint, sprintln, string_value};

type Outcome = Result<Value, Failure>;

/// The rows of the table of functions; `and` and `or` are the language's own.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "and",
        params: "a*a",
        call: |_, _| Err("and is not called".into()),
    },
    Function {
        name: "or",
        params: "a*a",
        call: |_, _| Err("or is not called".into()),
    },
    Function {
        name: "call",
        params: "a*a",
        call: |_, args| call(args),
    },
    Function {
        name: "html",
        params: "*a",
        call: |_, args| Ok(Value::from(html(&joined(args)))),
    },
    Function {
        name: "index",
        params: "a*a",
        call: |_, args| index(args),
    },
    Function {
        name: "js",
        params: "*a",
        call: |_, args| Ok(Value::from(js(&joined(args)))),
    },
    Function {
        name: "len",
        params: "a",
        call: |_, args| length(&args[0]),
    },
    Function {
        name: "not",
        params: "a",
        call: |_, args| Ok(Value::Bool(!args[0].truth())),
    },
    Function {
        name: "print",
        params: "*a",
        call: |_, args| Ok(Value::from(sprint(args))),
    },
    Function {
        name: "printf",
        params: "s*a",
        call: |exec, args| format(exec, args),
    },
    Function {
        name: "println",
        params: "*a",
        call: |_, args| Ok(Value::from(sprintln(args))),
    },
    Function {
        name: "urlquery",
        params: "*a",
        call: |_, args| Ok(Value::from(url_query(&joined(args)))),
    },
    Function {
        name: "eq",
        params: "a*a",
        call: |_, args| equal(args).map(Value::Bool),
    },
    Function {
        name: "ne",
        params: "aa",
        call: |_, args| equal(args).map(|same| Value::Bool(!same)),
    },
    Function {
        name: "lt",
        params: "aa",
        call: |_, args| order(args).map(|o| Value::Bool(o == Some(Ordering::Less))),
    },
    Function {
        name: "le",
        params: "aa",
        call: |_, args| order(args).map(|o| Value::Bool(matches!(o, Some(Ordering::Less | Ordering::Equal)))),
    },
    Function {
        name: "gt",
        params: "aa",
        // Go asks whether it is not less or equal, which holds for NaN.
        call: |_, args| order(args).map(|o| Value::Bool(!matches!(o, Some(Ordering::Less | Ordering::Equal)))),
    },
    Function {
        name: "ge",
        params: "aa",
        call: |_, args| order(args).map(|o| Value::Bool(o != Some(Ordering::Less))),
    },
];

fn call(args: &[Value]) -> Outcome {
    if args[0].is_nil() {
        return Err("call of nil".into());
    }
    Err(format!("non-function of type {}", args[0].type_name()).into())
}

fn format(exec: &mut Exec<'_>, args: &[Value]) -> Outcome {
    let Value::Str(format) = &args[0] else {
        return Err("printf without a format".into());
    };
    exec.spend(padding(format, &args[1..]))?;
    let text = printf(format, &args[1..]);
    Ok(Value::from(text))
}

/// Bounds from above what a format adds by its widths, and by printing arguments more than once.
fn padding(format: &[u8], args: &[Value]) -> usize {
    let mut sum = 0usize;
    for directive in format.split(|b| *b == b'%').skip(1) {
        let head = directive.iter().take_while(|b| !b.is_ascii_alphabetic());
        let mut number = 0usize;
        for byte in head {
            match byte {
                b'0'..=b'9' => number = number.saturating_mul(10).saturating_add(usize::from(byte - b'0')),
                b'*' => {
                    let widths = args.iter().map(|value| match value {
                        Value::Int(_, width) => usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX),
                        _ => 0,
                    });
                    sum = sum.saturating_add(widths.max().unwrap_or(0).min(1_000_000));
                }
                b'[' => sum = sum.saturating_add(args.iter().map(text_size).fold(0, usize::saturating_add)),
                _ => {
                    sum = sum.saturating_add(number.min(1_000_000));
                    number = 0;
                }
            }
        }
        sum = sum.saturating_add(number.min(1_000_000));
    }
    sum
}

/// Estimates what a value takes as text; the call has made sure that it can be gone through.
fn text_size(value: &Value) -> usize {
    match value {
        Value::Str(text) | Value::Bytes(text) => text.len(),
        Value::List(list) => list.items.iter().map(text_size).fold(2, usize::saturating_add),
        Value::Map(map) if map.len() < 10_000 => map.len() * 256,
        Value::Map(map) => map.len().saturating_mul(4096),
        _ => 16,
    }
}

fn joined(args: &[Value]) -> Str {
    match args {
        [Value::Str(text)] => text.clone(),
        args => Str::from(sprint(args)),
    }
}

fn html(text: &Str) -> String {
    let mut out = String::new();
    for c in text.text().chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &Str) -> String {
    let mut out = String::new();
    for c in text.text().chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Escapes for the query of an address, as `url.QueryEscape` does.
pub(crate) fn url_query(text: &[u8]) -> String {
    let mut out = String::new();
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(*byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn index(args: &[Value]) -> Outcome {
    let mut item = args[0].clone();
    if item.is_nil() {
        return Err("index of untyped nil".into());
    }
    for key in &args[1..] {
        item = match &item {
            Value::Nil | Value::Invalid => return Err("index of nil pointer".into()),
            Value::List(list) => list.items[position(key, list.items.len())?].clone(),
            Value::Str(text) | Value::Bytes(text) => {
                Value::Int(IntKind::Uint8, i64::from(text[position(key, text.len())?]))
            }
            Value::Map(map) => match key {
                Value::Str(key) => map.get(key).unwrap_or_else(|| map.zero()),
                Value::Nil | Value::Invalid => return Err("value is nil; should be of type string".into()),
                other => {
                    return Err(format!("value has type {}; should be string", other.type_name()).into());
                }
            },
            other => return Err(format!("can't index item of type {}", other.type_name()).into()),
        };
    }
    Ok(item)
}

fn position(key: &Value, length: usize) -> Result<usize, Failure> {
    match key {
        Value::Int(_, index) => match usize::try_from(*index) {
            Ok(position) if position < length => Ok(position),
            _ => Err(format!("index out of range: {index}").into()),
        },
        Value::Nil | Value::Invalid => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name()).into()),
    }
}

fn length(value: &Value) -> Outcome {
    let length = match value {
        Value::Nil | Value::Invalid => return Err("len of nil pointer".into()),
        Value::Str(text) | Value::Bytes(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.len(),
        other => return Err(format!("len of type {}", other.type_name()).into()),
    };
    Ok(Value::int(length as i64))
}

#[derive(PartialEq, Clone, Copy)]
enum Basic {
    Bool,
    Int,
    Float,
    Str,
    None,
}

fn basic(value: &Value) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Int(..) => Basic::Int,
        Value::Float(_) => Basic::Float,
        Value::Str(_) => Basic::Str,
        _ => Basic::None,
    }
}

fn equal(args: &[Value]) -> Result<bool, Failure> {
    let first = &args[0];
    if args.len() == 1 {
        return Err("missing argument for comparison".into());
    }
    for other in &args[1..] {
        let same = if basic(first) != basic(other) {
            if !first.is_nil() && !other.is_nil() {
                return Err("incompatible types for comparison".into());
            }
            false
        } else {
            match (first, other) {
                (Value::Bool(a), Value::Bool(b)) => a == b,
                (Value::Int(_, a), Value::Int(_, b)) => a == b,
                (Value::Float(a), Value::Float(b)) => a == b,
                (Value::Str(a), Value::Str(b)) => a == b,
                (a, b) if a.is_nil() || b.is_nil() => a.is_nil() && b.is_nil(),
                (a, Value::Map(_) | Value::List(_) | Value::Bytes(_)) => {
                    let text = string_value(other);
                    let kind = other.type_name();
                    if a.type_name() == kind {
                        return Err(format!("non-comparable type {}: {kind}", text.text()).into());
                    }
                    return Err(format!(
                        "non-comparable types {}: {}, {kind}: {}",
                        string_value(a).text(),
                        a.type_name(),
                        text.text()
                    )
                    .into());
                }
                (a, b) => a.deep_equal(b),
            }
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn order(args: &[Value]) -> Result<Option<Ordering>, Failure> {
    let (a, b) = (&args[0], &args[1]);
    if basic(a) == Basic::None || basic(b) == Basic::None {
        return Err("invalid type for comparison".into());
    }
    match (a, b) {
        (Value::Int(_, a), Value::Int(_, b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Str(a), Value::Str(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".into()),
        _ => Err("incompatible types for comparison".into()),
    }
}

/// A method: its parameters, as in the table of functions, and what it does.
pub(crate) type Method = (&'static str, fn(&mut Exec<'_>, &Value, &[Value]) -> Outcome);

/// Finds the method of a value.
pub(crate) fn method(receiver: &Value, name: &str) -> Option<Method> {
    crate::functions::methods::find(receiver, name)
}
