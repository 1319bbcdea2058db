//! From the spanned TOML tree to apps.

use serde_json::Map;
use setpoint_plan::Ignore;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{App, Fault, Located, MAX_APPS, Sync, duration, paths, set};

const APP_KEYS: &str = "name, path, namespace, values, set, after, ignore, sync";
const SYNC_KEYS: &str = "prune, heal, rollback, deadline";
const MAX_ITEMS: usize = 1_000;
const MIN_DEADLINE: u64 = 1;
const MAX_DEADLINE: u64 = 24 * 3_600;

pub(super) fn document(table: &DeTable<'_>) -> Result<Vec<Located>, Fault> {
    let mut apps = Vec::new();
    for (key, value) in table.iter() {
        if key.get_ref() != "app" {
            return Fault::new(
                key.span().start,
                format!("unknown key `{}`; a file has `[[app]]` only", shown(key.get_ref())),
            );
        }
        let DeValue::Array(items) = value.get_ref() else {
            return Fault::new(
                key.span().start,
                "write `[[app]]` with two brackets: there may be several apps",
            );
        };
        if items.len() > MAX_APPS {
            return Fault::new(
                key.span().start,
                format!(
                    "the file has {} apps, more than {MAX_APPS}; split it into several repositories",
                    items.len()
                ),
            );
        }
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else {
                return Fault::new(
                    item.span().start,
                    "an app is a table: write `[[app]]` and its keys below",
                );
            };
            apps.push(app(table, item.span().start)?);
        }
    }
    Ok(apps)
}

fn app(table: &DeTable<'_>, start: usize) -> Result<Located, Fault> {
    let (mut name, mut path) = (None, None);
    let mut namespace = "default".to_owned();
    let (mut values, mut ignore) = (Vec::new(), Vec::new());
    let (mut after, mut places) = (Vec::new(), Vec::new());
    let (mut set, mut sync) = (Map::new(), Sync::default());
    for (key, value) in table.iter() {
        let offset = value.span().start;
        let key_name: &str = key.get_ref();
        match key_name {
            "name" => name = Some((label(text(value, key_name)?, "name", 53, offset)?, offset)),
            "path" => path = Some(relative(text(value, key_name)?, offset)?),
            "namespace" => namespace = label(text(value, key_name)?, "namespace", 63, offset)?,
            "values" => {
                for (text, offset) in texts(value, key_name)? {
                    let path = relative(text, offset)?;
                    if path.is_empty() {
                        return Fault::new(offset, "`values` names files, and this is the repository's root");
                    }
                    values.push(path);
                }
            }
            "set" => match value.get_ref() {
                DeValue::Table(table) => set = set::read(table)?,
                other => return Fault::new(offset, wrong(key_name, "a table", other)),
            },
            "after" => {
                for (text, offset) in texts(value, key_name)? {
                    if !after.iter().any(|known| known == text) {
                        after.push(text.to_owned());
                        places.push(offset);
                    }
                }
            }
            "ignore" => {
                for (text, offset) in texts(value, key_name)? {
                    Ignore::parse(text).map_err(|error| Fault {
                        offset,
                        message: format!("`ignore` has `{}`, which names no field: {error}", shown(text)),
                    })?;
                    ignore.push(text.to_owned());
                }
            }
            "sync" => match value.get_ref() {
                DeValue::Table(table) => sync = read_sync(table)?,
                other => return Fault::new(offset, wrong(key_name, "a table", other)),
            },
            unknown => {
                return Fault::new(
                    key.span().start,
                    format!("unknown key `{}`; an app has {APP_KEYS}", shown(unknown)),
                );
            }
        }
    }
    let Some((name, place)) = name else {
        return Fault::new(start, "the app has no `name`; add one, as in `name = \"web\"`");
    };
    let Some(path) = path else {
        return Fault::new(
            start,
            format!("the app {name} has no `path`; add its folder, as in `path = \"charts/{name}\"`"),
        );
    };
    Ok(Located {
        app: App {
            name,
            path,
            namespace,
            values,
            set,
            after,
            ignore,
            sync,
        },
        name: place,
        after: places,
    })
}

fn read_sync(table: &DeTable<'_>) -> Result<Sync, Fault> {
    let mut sync = Sync::default();
    for (key, value) in table.iter() {
        let key_name: &str = key.get_ref();
        match key_name {
            "prune" => sync.prune = boolean(value, key_name)?,
            "heal" => sync.heal = boolean(value, key_name)?,
            "rollback" => sync.rollback = boolean(value, key_name)?,
            "deadline" => {
                let offset = value.span().start;
                let text = text(value, "deadline")?;
                let Some(deadline) = duration::parse(text) else {
                    return Fault::new(
                        offset,
                        format!(
                            "`{}` is no duration; write one as \"90s\", \"2m\" or \"1h30m\"",
                            shown(text)
                        ),
                    );
                };
                if !(MIN_DEADLINE..=MAX_DEADLINE).contains(&deadline.as_secs()) {
                    return Fault::new(offset, format!("the deadline {text} is not between 1s and 24h"));
                }
                sync.deadline = deadline;
            }
            unknown => {
                return Fault::new(
                    key.span().start,
                    format!("unknown key `{}`; `[app.sync]` has {SYNC_KEYS}", shown(unknown)),
                );
            }
        }
    }
    Ok(sync)
}

fn text<'a>(value: &'a Spanned<DeValue<'_>>, key: &str) -> Result<&'a str, Fault> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        other => Fault::new(value.span().start, wrong(key, "text in quotes", other)),
    }
}

fn boolean(value: &Spanned<DeValue<'_>>, key: &str) -> Result<bool, Fault> {
    match value.get_ref() {
        DeValue::Boolean(value) => Ok(*value),
        other => Fault::new(value.span().start, wrong(key, "true or false", other)),
    }
}

fn texts<'a>(value: &'a Spanned<DeValue<'_>>, key: &str) -> Result<Vec<(&'a str, usize)>, Fault> {
    let DeValue::Array(items) = value.get_ref() else {
        return Fault::new(
            value.span().start,
            wrong(key, "a list, as in [\"a\", \"b\"]", value.get_ref()),
        );
    };
    if items.len() > MAX_ITEMS {
        return Fault::new(value.span().start, format!("`{key}` has more than {MAX_ITEMS} items"));
    }
    items
        .iter()
        .map(|item| Ok((text(item, key)?, item.span().start)))
        .collect()
}

fn relative(path: &str, offset: usize) -> Result<String, Fault> {
    paths::normalize(path).map_err(|message| Fault { offset, message })
}

fn label(text: &str, key: &str, longest: usize, offset: usize) -> Result<String, Fault> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = text.len() <= longest
        && text.bytes().all(|byte| inner(byte) || byte == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner);
    if good {
        return Ok(text.to_owned());
    }
    Fault::new(
        offset,
        format!(
            "the {key} `{}` is no DNS label; use at most {longest} of a-z, 0-9 and `-`, with a letter or digit at both ends",
            shown(text)
        ),
    )
}

fn wrong(key: &str, wanted: &str, found: &DeValue<'_>) -> String {
    format!("`{key}` must be {wanted}, and this is of type {}", found.type_str())
}

/// What others wrote, short enough for a message and without control characters.
fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
