//! `set`: values over those of the files, from TOML to JSON.
//!
//! A key directly in `set` names a path: `"image.tag"` is `tag` in `image`, and `\.` stands for a dot in a name. Keys of nested
//! tables are names as they are, so that `nodeSelector = { "kubernetes.io/os" = "linux" }` needs no escape.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;

/// Deeper values are refused: whatever walks them later may recurse.
const MAX_DEPTH: usize = 64;

pub(super) fn read(table: &DeTable<'_>) -> Result<Map<String, Value>, Fault> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut set = Map::new();
    for (key, value) in entries {
        let offset = key.span().start;
        let path = split(key.get_ref(), offset)?;
        let value = json(value, path.len())?;
        insert(&mut set, &path, value).map_err(|taken| Fault {
            offset,
            message: format!("`{taken}` is set twice; keep one of the two"),
        })?;
    }
    Ok(set)
}

fn split(key: &str, offset: usize) -> Result<Vec<String>, Fault> {
    let mut parts = vec![String::new()];
    let mut characters = key.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, parts.last_mut()) {
            ('.', _) => parts.push(String::new()),
            ('\\', Some(part)) => match characters.next() {
                Some(escaped @ ('.' | '\\')) => part.push(escaped),
                _ => {
                    return Fault::new(
                        offset,
                        format!("`{key}`: a `\\` stands before a dot that belongs to a name, or before another `\\`"),
                    );
                }
            },
            (character, Some(part)) => part.push(character),
            (_, None) => {}
        }
    }
    if parts.iter().any(String::is_empty) {
        return Fault::new(
            offset,
            format!("`{key}` has an empty part; write names with one dot between them"),
        );
    }
    if parts.len() > MAX_DEPTH {
        return Fault::new(offset, format!("the key has more than {MAX_DEPTH} parts"));
    }
    if parts.iter().any(|part| is_index(part)) {
        return Fault::new(
            offset,
            format!("`{key}` names an item of a list; set the whole list instead, as in `name = [\"a\", \"b\"]`"),
        );
    }
    Ok(parts)
}

fn is_index(part: &str) -> bool {
    part.strip_suffix(']')
        .and_then(|part| part.rsplit_once('['))
        .is_some_and(|(_, index)| !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Puts a value at a path, joining tables; an error names what was there already.
fn insert(map: &mut Map<String, Value>, path: &[String], value: Value) -> Result<(), String> {
    let Some((name, rest)) = path.split_first() else {
        return Ok(());
    };
    let value = match rest {
        [] => value,
        rest => {
            let mut inner = Map::new();
            insert(&mut inner, rest, value)?;
            Value::Object(inner)
        }
    };
    join(map, name, value).map_err(|mut names| {
        names.reverse();
        names.join(".")
    })
}

fn join(map: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), Vec<String>> {
    match (map.get_mut(name), value) {
        (None, value) => {
            map.insert(name.to_owned(), value);
            Ok(())
        }
        (Some(Value::Object(there)), Value::Object(new)) => {
            for (inner, value) in new {
                join(there, &inner, value).map_err(|mut names| {
                    names.push(name.to_owned());
                    names
                })?;
            }
            Ok(())
        }
        (Some(_), _) => Err(vec![name.to_owned()]),
    }
}

fn json(value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Value, Fault> {
    let offset = value.span().start;
    if depth > MAX_DEPTH {
        return Fault::new(offset, format!("the value is nested deeper than {MAX_DEPTH} levels"));
    }
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Number(number.into()),
            Err(_) => return Fault::new(offset, "the number does not fit 64 bits; write it as text in quotes"),
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => {
                return Fault::new(
                    offset,
                    "values have neither infinity nor NaN; write it as text in quotes",
                );
            }
        },
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| json(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => {
            let mut map = Map::new();
            for (key, value) in table.iter() {
                map.insert(key.get_ref().to_string(), json(value, depth + 1)?);
            }
            Value::Object(map)
        }
    })
}
