//! `--set`, `--set-string` and `--set-json`.

use serde_json::{Map, Value};

const INDEX_LIMIT: usize = 65536;
const DEPTH_LIMIT: usize = 30;

/// Lays `a.b=1,c[0]=x` over values; values that look like numbers, truths or null are those.
///
/// # Errors
/// What does not parse.
pub fn set_values(values: &mut Map<String, Value>, text: &str) -> Result<(), String> {
    set(values, text, &typed)
}

/// Like [`set_values`], with every value text.
///
/// # Errors
/// What does not parse.
pub fn set_string(values: &mut Map<String, Value>, text: &str) -> Result<(), String> {
    set(values, text, &|text| Value::String(text.to_owned()))
}

/// Lays `a.b=JSON` over values, or a JSON object.
///
/// # Errors
/// What does not parse.
pub fn set_json(values: &mut Map<String, Value>, text: &str) -> Result<(), String> {
    let trimmed = text.trim();
    let read =
        |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("failed parsing JSON: {error}"));
    if trimmed.starts_with('{') {
        if let Value::Object(map) = read(trimmed)? {
            *values = super::merge_maps(std::mem::take(values), map);
        }
        return Ok(());
    }
    let (path, json) = trimmed
        .split_once('=')
        .ok_or_else(|| format!("key {trimmed:?} has no value"))?;
    place(values, &keys(path)?, read(json)?)
}

fn typed(text: &str) -> Value {
    match text {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        "null" => return Value::Null,
        _ => {}
    }
    match text.parse::<i64>() {
        Ok(number) if text == "0" || !text.starts_with(['0', '+']) => Value::from(number),
        _ => Value::String(text.to_owned()),
    }
}

/// Lays one value over values; the path is written as in `--set`.
///
/// # Errors
/// A path that does not parse.
pub(crate) fn set_path(values: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), String> {
    place(values, &keys(path)?, value)
}

enum Step {
    Key(String),
    Index(usize),
}

/// Splits at the separator where it is not escaped or within braces.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0usize;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = parts.len() - 1;
        match c {
            '\\' => {
                parts[last].push(c);
                parts[last].extend(chars.next());
            }
            '{' | '}' => {
                depth = if c == '{' { depth + 1 } else { depth.saturating_sub(1) };
                parts[last].push(c);
            }
            c if c == separator && depth == 0 => parts.push(String::new()),
            c => parts[last].push(c),
        }
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            out.extend(chars.next());
        } else {
            out.push(c);
        }
    }
    out
}

fn keys(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for part in split(path, '.') {
        let (name, mut rest) = match part.find('[') {
            Some(at) => part.split_at(at),
            None => (part.as_str(), ""),
        };
        if !name.is_empty() {
            steps.push(Step::Key(unescape(name)));
        }
        while let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']').ok_or("error parsing index: missing ]")?;
            let index: usize = index
                .trim()
                .parse()
                .map_err(|_| format!("error parsing index: {index:?} is no index"))?;
            if index > INDEX_LIMIT {
                return Err(format!(
                    "index of {index} is greater than maximum supported index of {INDEX_LIMIT}"
                ));
            }
            steps.push(Step::Index(index));
            rest = after;
        }
    }
    if steps.len() > DEPTH_LIMIT {
        return Err(format!(
            "value name nested level is greater than maximum supported nested level of {DEPTH_LIMIT}"
        ));
    }
    if !matches!(steps.first(), Some(Step::Key(_))) {
        return Err(format!("key {path:?} has no name"));
    }
    Ok(steps)
}

fn set(values: &mut Map<String, Value>, text: &str, read: &dyn Fn(&str) -> Value) -> Result<(), String> {
    for part in split(text, ',').iter().filter(|part| !part.is_empty()) {
        let pieces = split(part, '=');
        let path = &pieces[0];
        if pieces.len() < 2 {
            return Err(format!("key {path:?} has no value"));
        }
        let value = part[path.len() + 1..].to_owned();
        let value = match value.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
            Some("") => Value::Array(Vec::new()),
            Some(inner) => Value::Array(
                split(inner, ',')
                    .iter()
                    .map(|item| read(&unescape(item.trim_start())))
                    .collect(),
            ),
            None => read(&unescape(&value)),
        };
        place(values, &keys(path)?, value)?;
    }
    Ok(())
}

fn place(values: &mut Map<String, Value>, steps: &[Step], value: Value) -> Result<(), String> {
    let [Step::Key(key), rest @ ..] = steps else {
        return Err("a value has no name".to_owned());
    };
    let slot = values.entry(key.clone()).or_insert(Value::Null);
    place_in(slot, rest, value)
}

fn place_in(slot: &mut Value, steps: &[Step], value: Value) -> Result<(), String> {
    match steps {
        [] => *slot = value,
        [Step::Key(_), ..] => {
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            if let Value::Object(map) = slot {
                place(map, steps, value)?;
            }
        }
        [Step::Index(index), rest @ ..] => {
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            if let Value::Array(items) = slot {
                if items.len() <= *index {
                    items.resize(index + 1, Value::Null);
                }
                place_in(&mut items[*index], rest, value)?;
            }
        }
    }
    Ok(())
}
