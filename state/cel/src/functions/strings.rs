//! Text: CEL's own functions, cel-go's `strings` extension (version 2) and Kubernetes' `find` and `findAll`.

use super::{Failure, Meter, Outcome, Row, no_overload};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "contains",
        signatures: &["string.(string) -> bool"],
        run: |args, _| both(args, |a, b| a.contains(b)),
    },
    Row {
        name: "startsWith",
        signatures: &["string.(string) -> bool"],
        run: |args, _| both(args, |a, b| a.starts_with(b)),
    },
    Row {
        name: "endsWith",
        signatures: &["string.(string) -> bool"],
        run: |args, _| both(args, |a, b| a.ends_with(b)),
    },
    Row {
        name: "matches",
        signatures: &["(string, string) -> bool", "string.(string) -> bool"],
        run: matches,
    },
    Row {
        name: "find",
        signatures: &["string.(string) -> string"],
        run: find,
    },
    Row {
        name: "findAll",
        signatures: &[
            "string.(string) -> list(string)",
            "string.(string, int) -> list(string)",
        ],
        run: find_all,
    },
    Row {
        name: "charAt",
        signatures: &["string.(int) -> string"],
        run: char_at,
    },
    Row {
        name: "lowerAscii",
        signatures: &["string.() -> string"],
        run: |args, meter| map(args, meter, str::to_ascii_lowercase),
    },
    Row {
        name: "upperAscii",
        signatures: &["string.() -> string"],
        run: |args, meter| map(args, meter, str::to_ascii_uppercase),
    },
    Row {
        name: "trim",
        signatures: &["string.() -> string"],
        run: |args, meter| map(args, meter, |text| text.trim().to_owned()),
    },
    Row {
        name: "strings.quote",
        signatures: &["(string) -> string"],
        run: |args, meter| map(args, meter, quote),
    },
    Row {
        name: "replace",
        signatures: &[
            "string.(string, string) -> string",
            "string.(string, string, int) -> string",
        ],
        run: replace,
    },
    Row {
        name: "split",
        signatures: &[
            "string.(string) -> list(string)",
            "string.(string, int) -> list(string)",
        ],
        run: split,
    },
    Row {
        name: "substring",
        signatures: &["string.(int) -> string", "string.(int, int) -> string"],
        run: substring,
    },
    Row {
        name: "join",
        signatures: &["list(string).() -> string", "list(string).(string) -> string"],
        run: join,
    },
];

fn both(args: &[Value], holds: fn(&str, &str) -> bool) -> Outcome {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(holds(text, part))),
        _ => no_overload(),
    }
}

fn map(args: &[Value], meter: &mut Meter, change: fn(&str) -> String) -> Outcome {
    match args {
        [Value::String(text)] => {
            meter.work(text.len())?;
            Ok(Value::from(change(text)))
        }
        _ => no_overload(),
    }
}

fn matches(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [Value::String(text), Value::String(pattern)] => {
            meter.work(text.len())?;
            Ok(Value::Bool(meter.pattern(pattern)??.is_match(text)))
        }
        _ => no_overload(),
    }
}

fn illegal(problem: String) -> Failure {
    Failure::Error(format!("Illegal regex: {problem}"))
}

fn find(args: &[Value], meter: &mut Meter) -> Outcome {
    match args {
        [Value::String(text), Value::String(pattern)] => {
            meter.work(text.len())?;
            let pattern = meter.pattern(pattern)?.map_err(illegal)?;
            Ok(Value::from(pattern.find(text).map_or("", |found| found.as_str())))
        }
        _ => no_overload(),
    }
}

fn find_all(args: &[Value], meter: &mut Meter) -> Outcome {
    let (text, pattern, limit) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, -1),
        [Value::String(text), Value::String(pattern), Value::Int(limit)] => (text, pattern, *limit),
        _ => return no_overload(),
    };
    meter.work(text.len().saturating_mul(2))?;
    let pattern = meter.pattern(pattern)?.map_err(illegal)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = pattern
        .find_iter(text)
        .take(limit)
        .map(|found| Value::from(found.as_str()));
    Ok(Value::list(found.collect()))
}

fn out_of_range(index: i64) -> Failure {
    format!("index out of range: {index}").into()
}

fn char_at(args: &[Value], meter: &mut Meter) -> Outcome {
    let [Value::String(text), Value::Int(index)] = args else {
        return no_overload();
    };
    meter.count(text)?;
    let length = text.chars().count();
    match usize::try_from(*index) {
        Ok(at) if at == length => Ok(Value::from("")),
        Ok(at) if at < length => Ok(Value::from(text.chars().skip(at).take(1).collect::<String>())),
        _ => Err(out_of_range(*index)),
    }
}

/// Finds a part in a text from an offset on; places count characters.
pub(super) fn index_of(text: &str, part: &str, offset: i64) -> Outcome {
    let length = count(text.chars().count());
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    if part.is_empty() {
        return Ok(Value::Int(offset.min(length)));
    }
    let start = text.char_indices().nth(usize::try_from(offset).unwrap_or(usize::MAX));
    // What is searched behind the end is not found.
    let Some((start, _)) = start else {
        return Ok(Value::Int(-1));
    };
    let found = text[start..]
        .find(part)
        .map(|at| count(text[..start + at].chars().count()));
    Ok(Value::Int(found.unwrap_or(-1)))
}

/// Finds the last place of a part in a text that is not behind an offset.
pub(super) fn last_index_of(text: &str, part: &str, offset: Option<i64>) -> Outcome {
    let length = count(text.chars().count());
    let Some(offset) = offset
        .or(part.is_empty().then_some(length))
        .or((length > 0).then_some(length - 1))
    else {
        return Ok(Value::Int(-1));
    };
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    if part.is_empty() {
        return Ok(Value::Int(offset.min(length)));
    }
    let start = text.char_indices().nth(usize::try_from(offset).unwrap_or(usize::MAX));
    let Some((start, _)) = start else {
        return Ok(Value::Int(-1));
    };
    // A part that starts at the offset reaches behind it.
    let mut reach = start.saturating_add(part.len()).min(text.len());
    while !text.is_char_boundary(reach) {
        reach -= 1;
    }
    let found = text[..reach].rfind(part).map(|at| count(text[..at].chars().count()));
    Ok(Value::Int(found.unwrap_or(-1)))
}

/// Counts in CEL's integers: nothing in memory has more.
pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Writes a text so that CEL reads it as a literal.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn replace(args: &[Value], meter: &mut Meter) -> Outcome {
    let (text, old, new, limit) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [
            Value::String(text),
            Value::String(old),
            Value::String(new),
            Value::Int(limit),
        ] => (text, old, new, *limit),
        _ => return no_overload(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let places = if old.is_empty() {
        text.chars().count() + 1
    } else {
        text.matches(&**old).count()
    };
    // Before it is built: a few long replacements make a very long text.
    meter.work(text.len().saturating_add(places.min(limit).saturating_mul(new.len())))?;
    Ok(Value::from(text.replacen(&**old, new, limit)))
}

fn split(args: &[Value], meter: &mut Meter) -> Outcome {
    let (text, separator, limit) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return no_overload(),
    };
    meter.work(text.len().saturating_mul(2))?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<Value> = if limit == 0 {
        Vec::new()
    } else if separator.is_empty() {
        let mut parts: Vec<Value> = Vec::new();
        let mut rest = &**text;
        while let Some(c) = rest.chars().next() {
            if parts.len() + 1 == limit {
                parts.push(Value::from(rest));
                break;
            }
            parts.push(Value::from(&rest[..c.len_utf8()]));
            rest = &rest[c.len_utf8()..];
        }
        parts
    } else {
        text.splitn(limit, &**separator).map(Value::from).collect()
    };
    Ok(Value::list(parts))
}

fn substring(args: &[Value], meter: &mut Meter) -> Outcome {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return no_overload(),
    };
    meter.work(text.len())?;
    let length = count(text.chars().count());
    let last = end.unwrap_or(length);
    if end.is_some() && start > last {
        return Err(format!("invalid substring range. start: {start}, end: {last}").into());
    }
    if start < 0 || start > length {
        return Err(out_of_range(start));
    }
    if last < 0 || last > length {
        return Err(out_of_range(last));
    }
    let (skip, take) = (
        usize::try_from(start).unwrap_or(0),
        usize::try_from(last - start).unwrap_or(0),
    );
    Ok(Value::from(text.chars().skip(skip).take(take).collect::<String>()))
}

fn join(args: &[Value], meter: &mut Meter) -> Outcome {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return no_overload(),
    };
    let mut out = String::new();
    for (index, item) in list.items.iter().enumerate() {
        let Value::String(text) = item else {
            return Err(format!("join: invalid input: {}", item.shown()).into());
        };
        meter.work(text.len() + separator.len() + 1)?;
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(text);
    }
    Ok(Value::from(out))
}
