//! Values laid over values, as Helm does it.
//!
//! Values given win over a chart's, a parent's over its child's; null deletes a default. The order of Helm's steps shows
//! in corner cases, so it is followed to the letter.

use serde_json::{Map, Value};

use super::load::Chart;

type Table = Map<String, Value>;

/// Lays `over` over `under`; maps are merged.
pub fn merge_maps(mut under: Table, over: Table) -> Table {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => *below = merge_maps(std::mem::take(below), above),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
    under
}

/// Coalesces the values of a chart and of those that it carries under the ones given.
///
/// # Errors
/// A value that stands where a dependency's table must.
pub fn coalesce_values(chart: &Chart, values: &Table) -> Result<Table, String> {
    let mut values = values.clone();
    coalesce(chart, &mut values, false)?;
    Ok(values)
}

/// Like [`coalesce_values`], but keeps nulls.
pub(super) fn merge_values(chart: &Chart, values: &Table) -> Result<Table, String> {
    let mut values = values.clone();
    coalesce(chart, &mut values, true)?;
    Ok(values)
}

fn coalesce(chart: &Chart, values: &mut Table, merge: bool) -> Result<(), String> {
    coalesce_own(chart, values, merge);
    for dependency in &chart.dependencies {
        let name = dependency.name();
        let mut inner = match values.get(name) {
            None => Table::new(),
            Some(Value::Object(table)) => table.clone(),
            Some(other) => {
                let shown = match other {
                    Value::Bool(value) => value.to_string(),
                    Value::Null => "%!t(<nil>)".to_owned(),
                    other => {
                        let value = crate::value::from_json(other);
                        String::from_utf8_lossy(&crate::value::printf(b"%t", &[value])).into_owned()
                    }
                };
                return Err(format!("type mismatch on {name}: {shown}"));
            }
        };
        coalesce_globals(&mut inner, values);
        coalesce(dependency, &mut inner, merge)?;
        values.insert(name.to_owned(), Value::Object(inner));
    }
    Ok(())
}

fn coalesce_globals(inner: &mut Table, outer: &Table) {
    let mut target = match inner.get("global") {
        None => Table::new(),
        Some(Value::Object(table)) => table.clone(),
        Some(_) => return,
    };
    let source = match outer.get("global") {
        None => Table::new(),
        Some(Value::Object(table)) => table.clone(),
        Some(_) => return,
    };
    for (key, value) in source {
        match (value, target.get(&key)) {
            (Value::Object(mut from), Some(Value::Object(below))) => {
                let mut below = below.clone();
                // The parent's win, so the order is turned around here.
                tables(&mut from, &mut below, true);
                target.insert(key, Value::Object(from));
            }
            (Value::Object(_), Some(_)) | (_, Some(Value::Object(_))) => {}
            (value, _) => {
                target.insert(key, value);
            }
        }
    }
    inner.insert("global".to_owned(), Value::Object(target));
}

fn coalesce_own(chart: &Chart, values: &mut Table, merge: bool) {
    for (key, default) in &chart.values {
        match values.get_mut(key) {
            Some(Value::Null) if !merge => {
                values.remove(key);
            }
            Some(Value::Object(given)) => {
                if let Value::Object(default) = default {
                    let mut default = default.clone();
                    let merge = merge || chart.dependencies.iter().any(|dependency| dependency.name() == key);
                    if !merge {
                        clean_nulls(&mut default);
                    }
                    tables(given, &mut default, merge);
                }
            }
            Some(_) => {}
            None => {
                let mut default = default.clone();
                if !merge {
                    if default.is_null() {
                        continue;
                    }
                    if let Value::Object(table) = &mut default {
                        clean_nulls(table);
                    }
                }
                values.insert(key.clone(), default);
            }
        }
    }
}

fn clean_nulls(table: &mut Table) {
    table.retain(|_, value| {
        if let Value::Object(inner) = value {
            clean_nulls(inner);
        }
        !value.is_null()
    });
}

/// Lays `target` over `source`, into `target`.
pub(super) fn tables(target: &mut Table, source: &mut Table, merge: bool) {
    let given: Vec<String> = source
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, _)| key.clone())
        .collect();
    for (key, value) in target.iter() {
        if value.is_null() {
            source.insert(key.clone(), Value::Null);
        }
    }
    for (key, value) in source.iter_mut() {
        match target.get_mut(key) {
            Some(Value::Null) if !merge && given.contains(key) => {
                target.remove(key);
            }
            None => {
                target.insert(key.clone(), value.take());
            }
            Some(Value::Object(inner)) => {
                if let Value::Object(from) = value {
                    tables(inner, from, merge);
                }
            }
            Some(_) => {}
        }
    }
}
