//! Documents to objects: what every way of rendering ends in.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{Failure, Hook, Job, Object, Output};
use crate::chart::{EVENTS, rank};
use crate::yaml::node::{Duplicate, Kind, Node, YamlError, parse};

/// How many objects a job may give.
const OBJECT_LIMIT: usize = 10_000;
/// How many bytes the objects of a job may have, counted roughly.
const SIZE_LIMIT: usize = 16 << 20;
/// How many warnings are worth reading.
const WARNING_LIMIT: usize = 100;

/// One document of a file.
pub(super) struct Document {
    /// What is in it.
    pub value: Value,
    /// The file.
    pub file: String,
    /// The line that it begins on, where that is known.
    pub line: Option<u32>,
    /// Where it is a list: the lines of its items.
    pub items: Vec<u32>,
}

/// Gathers the objects of a job.
pub(super) struct Collector<'a> {
    job: &'a Job,
    hooks_count: bool,
    seen: HashMap<[String; 4], String>,
    size: usize,
    definitions: Vec<Object>,
    output: Output,
}

impl<'a> Collector<'a> {
    /// Begins; in charts, objects that say so are hooks.
    pub fn new(job: &'a Job, hooks_count: bool) -> Self {
        Self {
            job,
            hooks_count,
            seen: HashMap::new(),
            size: 0,
            definitions: Vec::new(),
            output: Output::default(),
        }
    }

    /// Notes something odd.
    pub fn warn(&mut self, words: String) {
        if self.output.warnings.len() < WARNING_LIMIT {
            self.output.warnings.push(words);
        }
    }

    /// Notes the keys that stand twice.
    pub fn warn_of(&mut self, file: &str, duplicates: &[Duplicate], lines_are_known: bool) {
        for duplicate in duplicates {
            let place = if lines_are_known {
                format!("{file}:{}", duplicate.line)
            } else {
                file.to_owned()
            };
            self.warn(format!("{place}: {} is set twice, the last one counts", duplicate.key));
        }
    }

    /// Takes the documents of a file that is YAML as it is.
    pub fn add_text(&mut self, file: &str, text: &str, is_definition: bool) -> Result<(), Failure> {
        let nodes = parse(text).map_err(|error| at(file, error))?;
        for (index, node) in nodes.iter().enumerate() {
            let mut duplicates = Vec::new();
            let value = node.json(&mut duplicates).map_err(|error| at(file, error))?;
            self.warn_of(file, &duplicates, true);
            let document = Document {
                value,
                file: file.to_owned(),
                line: Some(node.line),
                items: item_lines(node),
            };
            self.add(document, index + 1, is_definition)?;
        }
        Ok(())
    }

    /// Takes a document, the `number`-th of its file; nothing in it is no fault.
    pub fn add(&mut self, document: Document, number: usize, is_definition: bool) -> Result<(), Failure> {
        let Document {
            value,
            file,
            line,
            items: lines,
        } = document;
        let map = match value {
            Value::Null => return Ok(()),
            Value::Object(map) => map,
            _ => {
                return Err(fault(
                    &file,
                    line,
                    format!("document {number} is no object but a list or a scalar"),
                ));
            }
        };
        let is_list = map
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("List"));
        match map.get("items") {
            Some(Value::Array(items)) if is_list => {
                for (index, item) in items.iter().enumerate() {
                    let line = lines.get(index).copied().or(line);
                    let words = format!("item {} of document {number}", index + 1);
                    let Value::Object(item) = item else {
                        return Err(fault(&file, line, format!("{words} is no object")));
                    };
                    self.add_object(of_list(item.clone(), &map), &file, line, &words, is_definition)?;
                }
                Ok(())
            }
            Some(Value::Null) | None if is_list && !map.contains_key("metadata") => Ok(()),
            _ => self.add_object(map, &file, line, &format!("document {number}"), is_definition),
        }
    }

    fn add_object(
        &mut self,
        map: Map<String, Value>,
        file: &str,
        line: Option<u32>,
        words: &str,
        is_definition: bool,
    ) -> Result<(), Failure> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let metadata = map.get("metadata");
        let field = |name: &str| metadata.and_then(|metadata| metadata.get(name));
        let (api_version, kind, name) = (text(map.get("apiVersion")), text(map.get("kind")), text(field("name")));
        let required = [
            ("apiVersion", &api_version, map.get("apiVersion")),
            ("kind", &kind, map.get("kind")),
            ("metadata.name", &name, field("name")),
        ];
        for (path, found, value) in required {
            if !found.is_empty() {
                continue;
            }
            let what = if kind.is_empty() {
                String::new()
            } else {
                format!(" ({kind})")
            };
            return Err(match value {
                // YAML takes `y`, `no`, `1e3` for something else than text.
                Some(value @ (Value::Bool(_) | Value::Number(_))) => {
                    let message = format!("{words}{what}: {path} is {value} and must be text: put it in quotes");
                    fault(file, line, message)
                }
                _ => fault(file, line, format!("{words}{what} has no {path}")),
            });
        }
        let namespace = match field("namespace") {
            None | Some(Value::Null) => self.job.namespace.clone(),
            Some(Value::String(namespace)) if namespace.is_empty() => self.job.namespace.clone(),
            Some(Value::String(namespace)) => namespace.clone(),
            Some(_) => {
                return Err(fault(
                    file,
                    line,
                    format!("{kind} {name}: metadata.namespace is no text"),
                ));
            }
        };
        let value = Value::Object(map);
        self.size = self.size.saturating_add(size(&value));
        if self.size > SIZE_LIMIT {
            return Err(fault(
                file,
                line,
                format!("the objects are larger than {} MiB", SIZE_LIMIT >> 20),
            ));
        }
        if self.seen.len() >= OBJECT_LIMIT {
            return Err(fault(file, line, format!("there are more than {OBJECT_LIMIT} objects")));
        }
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        let place = match line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        };
        let key = [group, kind.clone(), namespace, name.clone()];
        if let Some(first) = self.seen.insert(key, place) {
            return Err(fault(
                file,
                line,
                format!("{kind} {name} is there already, from {first}"),
            ));
        }
        let object = Object {
            object: value,
            file: file.to_owned(),
            line,
        };
        if is_definition {
            self.definitions.push(object);
        } else if self.hooks_count && object.object["metadata"]["annotations"]["helm.sh/hook"].is_string() {
            self.add_hook(object, &kind, &name);
        } else {
            self.output.objects.push(object);
        }
        Ok(())
    }

    fn add_hook(&mut self, object: Object, kind: &str, name: &str) {
        let annotation = |key: &str| object.object["metadata"]["annotations"][key].as_str();
        let list = |text: &str| -> Vec<String> { text.split(',').map(|part| part.trim().to_lowercase()).collect() };
        let events = annotation("helm.sh/hook").map(list).unwrap_or_default();
        if let Some(unknown) = events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
            let words = format!(
                "{}: {kind} {name} is left out: there is no hook {unknown:?}",
                object.file
            );
            return self.warn(words);
        }
        self.output.hooks.push(Hook {
            events,
            weight: annotation("helm.sh/hook-weight")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            delete_policies: annotation("helm.sh/hook-delete-policy").map(list).unwrap_or_default(),
            object,
        });
    }

    /// Says whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Ends: the objects in the order of installation, definitions first.
    pub fn finish(self, notes: String) -> Output {
        let mut output = self.output;
        output.objects.sort_by(|a, b| rank(kind(a)).cmp(&rank(kind(b))));
        output.objects.splice(0..0, self.definitions);
        output.hooks.sort_by_key(|hook| hook.weight);
        output.notes = notes;
        output
    }
}

fn kind(object: &Object) -> &str {
    object.object["kind"].as_str().unwrap_or_default()
}

/// Gives an item of a list of one kind what only the list says.
fn of_list(mut item: Map<String, Value>, list: &Map<String, Value>) -> Map<String, Value> {
    let kind = list.get("kind").and_then(Value::as_str).unwrap_or_default();
    let kind = kind.strip_suffix("List").unwrap_or(kind);
    if !kind.is_empty() && !item.contains_key("kind") {
        item.insert("kind".to_owned(), Value::from(kind));
        if let Some(version) = list.get("apiVersion") {
            item.entry("apiVersion").or_insert_with(|| version.clone());
        }
    }
    item
}

/// Gives the lines of a list's items.
pub(crate) fn item_lines(node: &Node) -> Vec<u32> {
    let Kind::Map(entries) = &node.kind else {
        return Vec::new();
    };
    let items = entries
        .iter()
        .find(|(key, _)| key.key().is_ok_and(|key| key == "items"));
    match items.map(|(_, items)| &items.kind) {
        Some(Kind::List(items)) => items.iter().map(|item| item.line).collect(),
        _ => Vec::new(),
    }
}

/// Estimates the bytes that a value takes as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + items.len() + 2,
        Value::Object(entries) => {
            entries
                .iter()
                .map(|(key, value)| key.len() + 4 + size(value))
                .sum::<usize>()
                + 2
        }
        _ => 8,
    }
}

/// Words a fault of a file.
pub(super) fn fault(file: &str, line: Option<u32>, message: impl Into<String>) -> Failure {
    Failure {
        message: message.into(),
        file: Some(file.to_owned()),
        line,
        ..Failure::default()
    }
}

/// Places an error of a text in its file.
pub(super) fn at(file: &str, error: YamlError) -> Failure {
    Failure {
        message: error.message,
        file: Some(file.to_owned()),
        line: Some(error.line),
        column: Some(error.column),
        chain: Vec::new(),
    }
}
