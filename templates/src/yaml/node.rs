//! Reading with places: documents as trees whose nodes know where they stand.
//!
//! What it gives differs from `read` in two ways: integers stay integers, and errors carry line and
//! column. Depth and size are bounded, aliases count as often as they are used.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Number, Value};

use super::scalar::{Scalar, resolve};

/// How deep nodes may nest; less than what serde_json reads back.
const DEPTH_LIMIT: usize = 100;
/// How many nodes a text may have once its aliases are followed; 64 bytes of a scalar count as one more.
const COST_LIMIT: usize = 1_000_000;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for YamlError {}

/// A node and where it begins.
#[derive(Clone, Debug)]
pub struct Node {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a node is. Aliases stand for the node itself.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Text, yet to be resolved where it is plain and has no tag.
    Scalar {
        /// The text, with escapes and folding undone.
        text: String,
        /// How it is written.
        style: Style,
        /// Its tag without what comes before the last `:` or `!`.
        tag: Option<String>,
    },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A map, in the order of the text.
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// In quotes of either kind.
    Quoted,
    /// After `|` or `>`.
    Block,
}

/// A key that stands twice in a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The line of the second, from 1.
    pub line: u32,
    /// The key.
    pub key: String,
}

/// Reads all documents of a text.
///
/// # Errors
/// What does not parse, nests too deep or is too large.
pub fn parse(text: &str) -> Result<Vec<Rc<Node>>, YamlError> {
    super::parse_leniently(text, parse_strictly, |error| {
        (error.message == super::TOO_FAR_LEFT).then_some(error.line as usize)
    })
}

fn parse_strictly(text: &str) -> Result<Vec<Rc<Node>>, YamlError> {
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, super::events()),
        anchors: HashMap::new(),
        cost: 0,
        at: (1, 1),
    };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(documents),
            event => documents.push(reader.node(event, 0)?),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Rc<Node>, usize)>,
    cost: usize,
    at: (u32, u32),
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, YamlError> {
        match self.parser.next() {
            Some(Ok((event, span))) => {
                self.at = place(span.start.line(), span.start.col());
                Ok(event)
            }
            Some(Err(error)) => {
                self.at = place(error.marker().line(), error.marker().col());
                Err(self.error(error.info()))
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn error(&self, message: impl Into<String>) -> YamlError {
        YamlError {
            line: self.at.0,
            column: self.at.1,
            message: message.into(),
        }
    }

    fn spend(&mut self, cost: usize) -> Result<(), YamlError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > COST_LIMIT {
            return Err(self.error("this is too large once its aliases are followed"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Rc<Node>, YamlError> {
        if depth > DEPTH_LIMIT {
            return Err(self.error(format!("this nests deeper than {DEPTH_LIMIT} levels")));
        }
        let (line, column) = self.at;
        let before = self.cost;
        self.spend(1)?;
        let (anchor, kind) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(text.len() / 64)?;
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    _ => Style::Quoted,
                };
                let tag = tag.map(|tag| {
                    let name = tag.to_string();
                    name.rsplit([':', '!']).next().unwrap_or(&name).to_owned()
                });
                let text = text.into_owned();
                (anchor, Kind::Scalar { text, style, tag })
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                (anchor, Kind::List(items))
            }
            Event::MappingStart(_, anchor, _) => {
                let mut entries = Vec::new();
                loop {
                    let event = match self.next()? {
                        Event::MappingEnd => break,
                        event => event,
                    };
                    let key = self.node(event, depth + 1)?;
                    let event = self.next()?;
                    entries.push((key, self.node(event, depth + 1)?));
                }
                (anchor, Kind::Map(entries))
            }
            Event::Alias(id) => {
                let Some((node, cost)) = self.anchors.get(&id).cloned() else {
                    return Err(self.error("an anchor contains itself"));
                };
                self.spend(cost)?;
                return Ok(node);
            }
            _ => return Err(self.error("this ends too early")),
        };
        let node = Rc::new(Node { line, column, kind });
        if anchor != 0 {
            self.anchors.insert(anchor, (Rc::clone(&node), self.cost - before));
        }
        Ok(node)
    }
}

fn place(line: usize, column: usize) -> (u32, u32) {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (bounded(line.max(1)), bounded(column.saturating_add(1)))
}

impl Node {
    /// Words an error at this node.
    pub fn error(&self, message: impl Into<String>) -> YamlError {
        YamlError {
            line: self.line,
            column: self.column,
            message: message.into(),
        }
    }

    /// Says whether it is nothing: an empty document is such a node.
    pub fn is_null(&self) -> bool {
        matches!(self.scalar(), Ok(Some(Value::Null)))
    }

    /// Resolves a scalar; `None` for a list or a map.
    ///
    /// # Errors
    /// Numbers that JSON cannot hold and tags that do not fit.
    pub fn scalar(&self) -> Result<Option<Value>, YamlError> {
        let Kind::Scalar { text, style, tag } = &self.kind else {
            return Ok(None);
        };
        let as_text = || Value::String(text.clone());
        let value = match tag.as_deref() {
            Some("binary") => {
                use base64::Engine as _;
                let compact: String = text.split_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(compact)
                    .map_err(|_| self.error("this is tagged !!binary and is no base64"))?;
                Value::String(String::from_utf8_lossy(&bytes).into_owned())
            }
            Some("int" | "float" | "bool" | "null" | "timestamp") => self.resolved(text)?,
            Some(_) => as_text(),
            None if *style != Style::Plain => as_text(),
            None => self.resolved(text)?,
        };
        Ok(Some(value))
    }

    fn resolved(&self, text: &str) -> Result<Value, YamlError> {
        Ok(match resolve(text) {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Int(value) => Value::from(value),
            Scalar::Uint(value) => Value::from(value),
            Scalar::Float(value) => number(value).ok_or_else(|| self.error(format!("{text} is no number in JSON")))?,
            Scalar::Timestamp | Scalar::Text => Value::String(text.to_owned()),
        })
    }

    /// Gives the text of a key; numbers and truths become text.
    ///
    /// # Errors
    /// Keys that are nothing, a list or a map.
    pub fn key(&self) -> Result<String, YamlError> {
        match self.scalar()? {
            Some(Value::String(text)) => Ok(text),
            Some(Value::Bool(value)) => Ok(value.to_string()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(self.error("a key must be text")),
        }
    }

    /// Says whether this key takes over the entries of another map.
    pub fn merges(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, style: Style::Plain, tag: None } if text == "<<")
    }

    /// Makes JSON of it; where a key stands twice, the last one counts and is noted.
    ///
    /// # Errors
    /// What JSON cannot hold.
    pub fn json(&self, duplicates: &mut Vec<Duplicate>) -> Result<Value, YamlError> {
        match &self.kind {
            Kind::Scalar { .. } => Ok(self.scalar()?.unwrap_or_default()),
            Kind::List(items) => items
                .iter()
                .map(|item| item.json(duplicates))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Kind::Map(entries) => {
                let mut map = Map::new();
                let mut merged = Map::new();
                for (key, value) in entries {
                    if key.merges() {
                        merge(&mut merged, value.json(duplicates)?).map_err(|message| value.error(message))?;
                        continue;
                    }
                    let (line, key) = (key.line, key.key()?);
                    if map.insert(key.clone(), value.json(duplicates)?).is_some() {
                        duplicates.push(Duplicate { line, key });
                    }
                }
                for (key, value) in merged {
                    map.entry(key).or_insert(value);
                }
                Ok(Value::Object(map))
            }
        }
    }
}

/// Takes over what `<<` names; earlier maps win over later ones.
///
/// # Errors
/// That it is no map.
pub(crate) fn merge(into: &mut Map<String, Value>, from: Value) -> Result<(), &'static str> {
    match from {
        Value::Object(from) => {
            for (key, value) in from {
                into.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            items.into_iter().try_for_each(|item| merge(into, item))
        }
        _ => Err("<< needs a map or a list of maps"),
    }
}

/// Makes a number, whole where it is; `None` for what JSON cannot hold.
pub(crate) fn number(value: f64) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}
