//! Marks to nodes: the values go to their places in the parsed document.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::Error;
use super::output::{CLOSE, CLOSE_LIST, CLOSE_MAP, Mark, OPEN, Output};
use super::render::error;
use crate::value::from_json;
use crate::yaml::node::{Kind, Node, Style, YamlError, merge};

/// How deep an object may nest, values included.
const DEPTH_LIMIT: usize = 100;
/// How many bytes a file's objects may have, counted roughly: aliases repeat what is in marks.
const SIZE_LIMIT: usize = 32 << 20;

/// Puts values into the nodes of one file.
pub(super) struct Placing<'o> {
    output: &'o Output,
    size: usize,
}

/// A scalar that has marks in it.
enum Part<'t> {
    Text(&'t str),
    Mark(usize, char),
}

impl<'o> Placing<'o> {
    pub fn new(output: &'o Output) -> Self {
        Self { output, size: 0 }
    }

    fn locate(&self, fault: YamlError) -> Error {
        match self.output.source(fault.line, fault.column) {
            Some((file, at)) => error(&file, at, fault.message),
            None => error(
                "",
                super::tree::At {
                    line: fault.line,
                    column: fault.column,
                },
                fault.message,
            ),
        }
    }

    /// Makes JSON of a node.
    pub fn build(&mut self, node: &Node, depth: usize) -> Result<Value, Error> {
        if depth > DEPTH_LIMIT {
            return Err(self.locate(node.error(format!("this nests deeper than {DEPTH_LIMIT} levels"))));
        }
        match &node.kind {
            Kind::Scalar { text, style, tag } => {
                let parts = self.parts(text);
                if !has_marks(&parts) {
                    self.spend(node, text.len())?;
                    return node
                        .scalar()
                        .map(Option::unwrap_or_default)
                        .map_err(|fault| self.locate(fault));
                }
                if let Some(tag) = tag {
                    return Err(self.locate(node.error(format!("a value cannot have a tag (!{tag})"))));
                }
                match parts.as_slice() {
                    [Part::Mark(number, _)] if *style == Style::Plain => {
                        let mark = self.mark(*number, node)?;
                        self.spend(node, size(&mark.value))?;
                        self.nests(node, depth, &mark.value)?;
                        Ok(mark.value.clone())
                    }
                    parts => self.joined(parts, *style == Style::Block, node).map(Value::String),
                }
            }
            Kind::List(items) => self.list(items, depth),
            Kind::Map(entries) => self.map(entries, depth),
        }
    }

    /// Makes sure that a value is not too deep for its place.
    fn nests(&self, node: &Node, depth: usize, value: &Value) -> Result<(), Error> {
        if depth + nesting(value) > DEPTH_LIMIT {
            return Err(self.locate(node.error(format!("this nests deeper than {DEPTH_LIMIT} levels"))));
        }
        Ok(())
    }

    fn list(&mut self, items: &[Rc<Node>], depth: usize) -> Result<Value, Error> {
        let mut list = Vec::new();
        for item in items {
            match self.spliced(item, CLOSE_LIST)? {
                Some(Mark {
                    value: whole @ Value::Array(values),
                    ..
                }) => {
                    self.nests(item, depth, whole)?;
                    self.spend(item, values.iter().map(size).sum())?;
                    list.extend(values.iter().cloned());
                }
                _ => list.push(self.build(item, depth + 1)?),
            }
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self, entries: &[(Rc<Node>, Rc<Node>)], depth: usize) -> Result<Value, Error> {
        let mut map = Map::new();
        let mut merged = Map::new();
        for (key, value) in entries {
            if let Some(Mark {
                value: whole @ Value::Object(values),
                text,
                ..
            }) = self.spliced(key, CLOSE_MAP)?
            {
                self.nests(key, depth, whole)?;
                if !matches!(&value.kind, Kind::Scalar { text, .. } if text == "~") {
                    let words = format!("{text} is a map that stands alone; nothing can go on from it");
                    return Err(self.locate(value.error(words)));
                }
                self.spend(key, values.iter().map(|(key, value)| key.len() + size(value)).sum())?;
                for (name, value) in values {
                    if map.insert(name.clone(), value.clone()).is_some() {
                        let words = format!("{name} is there already: {text} sets it again");
                        return Err(self.locate(key.error(words)));
                    }
                }
                continue;
            }
            if key.merges() {
                let built = self.build(value, depth)?;
                merge(&mut merged, built).map_err(|words| self.locate(value.error(words)))?;
                continue;
            }
            let name = self.key(key)?;
            let built = self.build(value, depth + 1)?;
            if map.insert(name.clone(), built).is_some() {
                return Err(self.locate(key.error(format!("{name} is there already"))));
            }
        }
        for (key, value) in merged {
            map.entry(key).or_insert(value);
        }
        Ok(Value::Object(map))
    }

    fn key(&mut self, key: &Node) -> Result<String, Error> {
        match &key.kind {
            Kind::Scalar { text, .. } if text.contains(OPEN) => self.joined(&self.parts(text), false, key),
            _ => key.key().map_err(|fault| self.locate(fault)),
        }
    }

    /// Finds the mark that a node is, where it adds to what is around it.
    fn spliced(&self, node: &Node, close: char) -> Result<Option<&'o Mark>, Error> {
        let Kind::Scalar {
            text,
            style: Style::Plain,
            tag: None,
        } = &node.kind
        else {
            return Ok(None);
        };
        match self.parts(text).as_slice() {
            [Part::Mark(number, found)] if *found == close => self.mark(*number, node).map(Some),
            _ => Ok(None),
        }
    }

    fn mark(&self, number: usize, node: &Node) -> Result<&'o Mark, Error> {
        let mark = self.output.marks.get(number);
        mark.ok_or_else(|| self.locate(node.error("this value is cut apart")))
    }

    fn parts<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        parts(text, &self.output.secret)
    }

    fn spend(&mut self, node: &Node, bytes: usize) -> Result<(), Error> {
        self.size = self.size.saturating_add(bytes + 8);
        if self.size > SIZE_LIMIT {
            return Err(self.locate(node.error("the objects of this file are too large")));
        }
        Ok(())
    }

    /// Joins text and values to text.
    fn joined(&mut self, parts: &[Part<'_>], is_block: bool, node: &Node) -> Result<String, Error> {
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Mark(number, close) => {
                    let mark = self.mark(*number, node)?;
                    self.write(mark, *close, is_block, &mut out)?;
                }
            }
            self.spend(node, 0)?;
            if out.len() > SIZE_LIMIT {
                self.spend(node, out.len())?;
            }
        }
        self.spend(node, out.len())?;
        Ok(out)
    }

    fn write(&self, mark: &Mark, close: char, is_block: bool, out: &mut String) -> Result<(), Error> {
        let fault = |words: String| error(&mark.file, mark.at, words);
        match &mark.value {
            Value::String(text) => out.push_str(text),
            Value::Bool(value) => out.push_str(&value.to_string()),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::Null => return Err(fault(format!("{} is null and stands within text", mark.text))),
            value if is_block && close != CLOSE => {
                let line = out.rsplit('\n').next().unwrap_or_default();
                let indent = " ".repeat(line.len());
                let yaml = crate::yaml::write(&from_json(value)).map_err(fault)?;
                let lines: Vec<&str> = yaml.trim_end_matches('\n').split('\n').collect();
                out.push_str(&lines.join(&format!("\n{indent}")));
            }
            value if is_block => out.push_str(&value.to_string()),
            value => {
                let what = if value.is_object() { "a map" } else { "a list" };
                return Err(fault(format!("{} is {what} and stands within text", mark.text)));
            }
        }
        Ok(())
    }

    /// Writes a whole text that is no YAML.
    pub fn text(&mut self, text: &str) -> Result<String, Error> {
        let node = Node {
            line: 1,
            column: 1,
            kind: Kind::List(Vec::new()),
        };
        self.joined(&self.parts(text), true, &node)
    }
}

/// Takes text apart into what stands between marks, and marks.
fn parts<'t>(text: &'t str, secret: &str) -> Vec<Part<'t>> {
    let mut parts = Vec::new();
    // What comes before the next mark begins here.
    let mut begin = 0;
    let mut from = 0;
    while let Some(found) = text[from..].find(OPEN) {
        let open = from + found;
        from = open + OPEN.len_utf8();
        let Some(after) = text[from..].strip_prefix(secret) else {
            continue;
        };
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let close = after[digits..].chars().next();
        let (Ok(number), Some(close @ (CLOSE | CLOSE_MAP | CLOSE_LIST))) = (after[..digits].parse(), close) else {
            continue;
        };
        let before = &text[begin..open];
        let before = if close == CLOSE_LIST {
            before.strip_suffix("- ").unwrap_or(before)
        } else {
            before
        };
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        parts.push(Part::Mark(number, close));
        from += secret.len() + digits + close.len_utf8();
        if close == CLOSE_MAP && text[from..].starts_with(": ~") {
            from += 3;
        }
        begin = from;
    }
    if begin < text.len() {
        parts.push(Part::Text(&text[begin..]));
    }
    parts
}

fn has_marks(parts: &[Part<'_>]) -> bool {
    parts.iter().any(|part| matches!(part, Part::Mark(..)))
}

/// Says how deep a value nests: a scalar not at all.
fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Value::Object(entries) => 1 + entries.values().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 8,
        Value::Array(items) => 8 + items.iter().map(size).sum::<usize>(),
        Value::Object(entries) => {
            8 + entries
                .iter()
                .map(|(key, value)| key.len() + 8 + size(value))
                .sum::<usize>()
        }
        _ => 8,
    }
}
