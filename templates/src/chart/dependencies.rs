//! Which dependencies take part, under which names, and what they export.

use serde_json::{Map, Value};

use super::coalesce::{coalesce_values, merge_values, tables};
use super::load::Chart;
use crate::functions::{Constraint, Version};

type Table = Map<String, Value>;

/// Processes a chart's dependencies for the values given.
pub(super) fn process(chart: &mut Chart, values: &Table) -> Result<(), String> {
    enabled(chart, values, "")?;
    import_values(chart)
}

/// Says whether a version satisfies a constraint.
pub(super) fn compatible(constraint: &str, version: &str) -> bool {
    match (Constraint::parse(constraint), Version::parse(version)) {
        (Ok(constraint), Ok(version)) => constraint.check(&version),
        _ => false,
    }
}

/// Finds a table by a path with dots.
fn table<'a>(values: &'a Table, path: &str) -> Option<&'a Table> {
    path.split('.')
        .try_fold(values, |table, key| table.get(key)?.as_object())
}

fn path_value<'a>(values: &'a Table, path: &str) -> Option<&'a Value> {
    let found = match path.rsplit_once('.') {
        None => values.get(path),
        Some((head, key)) => table(values, head)?.get(key),
    };
    found.filter(|value| !value.is_object())
}

fn enabled(chart: &mut Chart, values: &Table, path: &str) -> Result<(), String> {
    if !chart.metadata.lists_dependencies {
        return Ok(());
    }
    let fits =
        |chart: &Chart, name: &str, version: &str| chart.name() == name && compatible(version, &chart.metadata.version);
    let mut taken: Vec<Chart> = chart
        .dependencies
        .iter()
        .filter(|carried| {
            !chart
                .metadata
                .dependencies
                .iter()
                .any(|wanted| fits(carried, &wanted.name, &wanted.version))
        })
        .cloned()
        .collect();
    for wanted in &mut chart.metadata.dependencies {
        if let Some(found) = chart
            .dependencies
            .iter()
            .find(|carried| fits(carried, &wanted.name, &wanted.version))
        {
            let mut found = found.clone();
            if !wanted.alias.is_empty() {
                found.metadata.name.clone_from(&wanted.alias);
            }
            taken.push(found);
        }
        if !wanted.alias.is_empty() {
            wanted.name.clone_from(&wanted.alias);
        }
        wanted.enabled = true;
    }
    chart.dependencies = taken;
    let values = coalesce_values(chart, values)?;
    let tags = table(&values, "tags");
    for wanted in &mut chart.metadata.dependencies {
        if let Some(tags) = tags {
            let found: Vec<bool> = wanted
                .tags
                .iter()
                .filter_map(|tag| tags.get(tag).and_then(Value::as_bool))
                .collect();
            wanted.enabled = found.contains(&true) || !found.contains(&false);
        }
        for condition in wanted
            .condition
            .trim()
            .split(',')
            .filter(|condition| !condition.is_empty())
        {
            if let Some(Value::Bool(value)) = path_value(&values, &format!("{path}{condition}")) {
                wanted.enabled = *value;
                break;
            }
        }
    }
    let off: Vec<String> = chart
        .metadata
        .dependencies
        .iter()
        .filter(|wanted| !wanted.enabled)
        .map(|wanted| wanted.name.clone())
        .collect();
    chart
        .dependencies
        .retain(|carried| !off.iter().any(|name| name == carried.name()));
    chart.metadata.dependencies.retain(|wanted| !off.contains(&wanted.name));
    for carried in &mut chart.dependencies {
        let inner = format!("{path}{}.", carried.name());
        enabled(carried, &values, &inner)?;
    }
    Ok(())
}

fn import_values(chart: &mut Chart) -> Result<(), String> {
    for carried in &mut chart.dependencies {
        import_values(carried)?;
    }
    if !chart.metadata.lists_dependencies {
        return Ok(());
    }
    let mut values = merge_values(chart, &Table::new())?;
    let mut imported = Table::new();
    for wanted in &chart.metadata.dependencies {
        for import in &wanted.import_values {
            let (child, parent) = match import {
                Value::Object(import) => {
                    let part = |key: &str| match import.get(key) {
                        Some(Value::String(text)) => text.clone(),
                        _ => "<nil>".to_owned(),
                    };
                    (part("child"), part("parent"))
                }
                Value::String(name) => (format!("exports.{name}"), ".".to_owned()),
                _ => continue,
            };
            let Some(found) = table(&values, &format!("{}.{child}", wanted.name)) else {
                continue;
            };
            let mut laid = found.clone();
            if parent != "." {
                for key in parent.split('.').rev() {
                    laid = Table::from_iter([(key.to_owned(), Value::Object(laid))]);
                }
            }
            tables(&mut imported, &mut laid, true);
        }
    }
    tables(&mut values, &mut imported, true);
    chart.values = values;
    Ok(())
}
