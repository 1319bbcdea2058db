//! Reading: events of the parser become JSON, in which every number is a `float64`.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use super::scalar::{Scalar, resolve};

/// How deep nodes may nest.
const DEPTH_LIMIT: usize = 1000;
/// How many nodes a document may have once its aliases are followed; 64 bytes of a scalar count as one more.
const NODE_LIMIT: usize = 5_000_000;

/// Splits a stream at the lines that begin with `---`, as Kubernetes' reader of documents does.
pub fn documents(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = String::new();
    for line in text.split_inclusive('\n') {
        if line
            .strip_prefix("---")
            .is_some_and(|rest| rest.chars().all(char::is_whitespace))
        {
            if !current.is_empty() {
                found.push(std::mem::take(&mut current));
            }
        } else {
            current.push_str(line);
        }
    }
    if !current.is_empty() {
        found.push(current);
    }
    found
}

/// Reads the first document.
///
/// # Errors
/// Go's words for what does not parse.
pub fn read(text: &str) -> Result<Value, String> {
    let parse = |text: &str| {
        let mut reader = Reader {
            parser: Parser::new_from_str_with_options(text, super::events()),
            anchors: HashMap::new(),
            nodes: 0,
            too_far_left: None,
        };
        reader.document().map_err(|words| (words, reader.too_far_left))
    };
    super::parse_leniently(text, parse, |(_, line)| *line)
        .map_err(|(words, _)| format!("error converting YAML to JSON: {words}"))
}

/// Reads the first document, which must be a map or nothing.
///
/// # Errors
/// Go's words for what does not parse or is something else.
pub fn read_map(text: &str) -> Result<Map<String, Value>, String> {
    let kind = match read(text)? {
        Value::Object(entries) => return Ok(entries),
        Value::Null => return Ok(Map::new()),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
    };
    Err(format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    ))
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
    /// The line within quotes that the parser refuses for its indentation.
    too_far_left: Option<usize>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => {
                let info = error.info();
                if info == super::TOO_FAR_LEFT {
                    self.too_far_left = Some(error.marker().line());
                }
                let words = words(&info).to_owned();
                // libyaml notices a missing colon one line later.
                let line = error.marker().line() + usize::from(words.ends_with("':'"));
                Err(format!("yaml: line {line}: {words}"))
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn document(&mut self) -> Result<Value, String> {
        loop {
            match self.next()? {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd => return Ok(Value::Null),
                event => {
                    let value = self.node(event, 0)?;
                    // What follows the node must be the document's end: an error there is the document's.
                    self.next()?;
                    return Ok(value);
                }
            }
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes += nodes;
        if self.nodes > NODE_LIMIT {
            return Err("yaml: document contains excessive aliasing".to_owned());
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_LIMIT {
            return Err(format!("yaml: exceeded max depth of {DEPTH_LIMIT}"));
        }
        self.count(1)?;
        let before = self.nodes;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(text.len() / 64)?;
                (anchor, scalar(&text, style, tag.as_deref())?)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                (anchor, Value::Array(items))
            }
            Event::MappingStart(_, anchor, _) => (anchor, Value::Object(self.mapping(depth)?)),
            Event::Alias(id) => {
                let (value, size) = self.anchors.get(&id).cloned().ok_or("yaml: anchor contains itself")?;
                self.count(size)?;
                return Ok(value);
            }
            _ => return Ok(Value::Null),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), self.nodes - before + 1));
        }
        Ok(value)
    }

    fn mapping(&mut self, depth: usize) -> Result<Map<String, Value>, String> {
        let mut entries = Map::new();
        loop {
            let event = match self.next()? {
                Event::MappingEnd => return Ok(entries),
                event => event,
            };
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            if merge {
                let event = self.next()?;
                match self.node(event, depth + 1)? {
                    Value::Object(merged) => entries.extend(merged),
                    Value::Array(items) => {
                        // Earlier maps win over later ones.
                        for item in items.into_iter().rev() {
                            let Value::Object(merged) = item else {
                                return Err("yaml: map merge requires map or sequence of maps as the value".to_owned());
                            };
                            entries.extend(merged);
                        }
                    }
                    _ => return Err("yaml: map merge requires map or sequence of maps as the value".to_owned()),
                }
                continue;
            }
            let key = match &event {
                Event::Scalar(text, style, _, tag) => key(text, *style, tag.as_deref()),
                _ => None,
            };
            let key = match key {
                Some(key) => {
                    // Keeps the anchor that a key may define.
                    self.node(event, depth + 1)?;
                    key
                }
                None => match self.node(event, depth + 1)? {
                    Value::String(text) => text,
                    Value::Number(number) => crate::value::float_json(number.as_f64().unwrap_or(0.0)),
                    Value::Bool(value) => value.to_string(),
                    Value::Null => {
                        return Err("unsupported map key of type: %!s(<nil>), key: <nil>".to_owned());
                    }
                    _ => return Err("yaml: invalid map key".to_owned()),
                },
            };
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            entries.insert(key, value);
        }
    }
}

/// Gives the text of a key; integers keep all of their digits.
fn key(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<String> {
    if style != ScalarStyle::Plain || tag.is_some() {
        return None;
    }
    match resolve(text) {
        Scalar::Int(value) => Some(value.to_string()),
        Scalar::Uint(value) => Some(value.to_string()),
        Scalar::Float(value) => Some(crate::value::float_general(value)),
        _ => None,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let name = tag.map(|tag| tag.to_string());
    let core = name
        .as_deref()
        .map(|name| name.rsplit([':', '!']).next().unwrap_or(name));
    match core {
        Some("str") => return Ok(Value::String(text.to_owned())),
        Some("binary") => {
            use base64::Engine as _;
            let compact: String = text.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(compact)
                .map_err(|_| "yaml: !!binary value contains invalid base64 data".to_owned())?;
            return Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        }
        Some("int" | "float" | "bool" | "null" | "timestamp") => {}
        Some(_) => return Ok(Value::String(text.to_owned())),
        None if style != ScalarStyle::Plain => return Ok(Value::String(text.to_owned())),
        None => {}
    }
    let number = |value: f64| {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| format!("json: unsupported value: {}", crate::value::float_general(value)))
    };
    match resolve(text) {
        Scalar::Null => Ok(Value::Null),
        Scalar::Bool(value) => Ok(Value::Bool(value)),
        Scalar::Int(value) => number(value as f64),
        Scalar::Uint(value) => number(value as f64),
        Scalar::Float(value) => number(value),
        Scalar::Timestamp | Scalar::Text => Ok(Value::String(text.to_owned())),
    }
}

/// Words an error as Go does, where there is a counterpart.
fn words(text: &str) -> &str {
    match text {
        text if text.contains("mapping values are not allowed") => "mapping values are not allowed in this context",
        text if text.contains("did not find expected key") => "did not find expected key",
        text if text.contains("while parsing a block mapping") => "did not find expected key",
        text if text.contains("could not find expected ':'") || text.contains("simple key expect") => {
            "could not find expected ':'"
        }
        text if text.contains("while parsing a block collection") => "did not find expected '-' indicator",
        text if text.contains("found character that cannot start") => "found character that cannot start any token",
        text if text.contains("tab") => "found a tab character that violates indentation",
        text => text,
    }
}
