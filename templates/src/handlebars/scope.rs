//! What names mean.

use std::rc::Rc;

use super::tree::Path;
use crate::value::Value;

/// How many names an error lists.
const SHOWN: usize = 12;
/// The names that are seen from everywhere.
const TOP: [&str; 7] = [
    "Values",
    "Release",
    "Chart",
    "Capabilities",
    "Files",
    "Template",
    "Subcharts",
];

/// One level of contexts.
pub(super) struct Frame {
    /// What `this` is.
    pub context: Value,
    /// What begins with `@`.
    pub data: Option<Rc<Data>>,
    /// The names after `as`.
    pub locals: Vec<(String, Value)>,
}

/// What a turn of a loop gives under names that begin with `@`.
pub(super) struct Data {
    pub entries: [(&'static str, Value); 4],
    /// What the loop around it gives: `@../index`.
    pub around: Option<Rc<Self>>,
}

/// The contexts at work, the innermost last; there is always one.
pub(super) struct Scopes {
    root: Value,
    frames: Vec<Frame>,
    /// What a partial is given by name: it belongs to the outermost context here.
    named: Vec<(String, Value)>,
}

/// Why a path leads nowhere. The words are made when they are wanted: they name what is there.
pub(super) enum Missing {
    /// These words.
    Words(String),
    /// A name that the value at a path does not have.
    Name { value: Value, path: String, name: String },
}

impl Missing {
    pub fn words(&self) -> String {
        match self {
            Self::Words(words) => words.clone(),
            Self::Name { value, path, name } => unknown(value, path, name),
        }
    }
}

impl Scopes {
    /// Begins with the context of a file.
    pub fn new(context: Value) -> Self {
        Self {
            root: context.clone(),
            frames: vec![Frame {
                context,
                data: None,
                locals: Vec::new(),
            }],
            named: Vec::new(),
        }
    }

    /// Begins with the context of a partial that is called from here, and what it is given by name.
    pub fn partial(&self, context: Value, named: Vec<(String, Value)>) -> Self {
        Self {
            root: self.root.clone(),
            frames: vec![Frame {
                context,
                data: self.data(),
                locals: Vec::new(),
            }],
            named,
        }
    }

    pub fn context(&self) -> Value {
        self.frames.last().map_or(Value::Nil, |frame| frame.context.clone())
    }

    /// What begins with `@` here.
    pub fn data(&self) -> Option<Rc<Data>> {
        self.frames.last().and_then(|frame| frame.data.clone())
    }

    pub fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
    }

    pub fn pop(&mut self) {
        if self.frames.len() > 1 {
            self.frames.pop();
        }
    }

    /// Finds what a path leads to.
    ///
    /// # Errors
    /// What is not there.
    pub fn resolve(&self, path: &Path) -> Result<Value, Missing> {
        if path.is_data {
            return self.resolve_data(path);
        }
        let Some(at) = self.frames.len().checked_sub(path.up + 1) else {
            return Err(Missing::Words("../ leads out of the template".to_owned()));
        };
        let context = &self.frames[at].context;
        let Some(first) = path.names.first() else {
            return Ok(context.clone());
        };
        let is_free = path.up == 0 && !path.is_this;
        let local = || {
            let locals = self.frames.iter().rev().flat_map(|frame| frame.locals.iter().rev());
            locals
                .filter(|_| is_free)
                .find(|(name, _)| name == first)
                .map(|(_, value)| value.clone())
        };
        let named = |holds: bool| {
            let found = self
                .named
                .iter()
                .rev()
                .filter(|_| holds)
                .find(|(name, _)| name == first);
            found.map(|(_, value)| value.clone())
        };
        let top = || field(&self.root, first).filter(|_| is_free && TOP.contains(&first.as_str()));
        // What a partial is given wins over its context, and what is within a block wins over both.
        let value = local()
            .or_else(|| named(at == 0))
            .or_else(|| field(context, first))
            .or_else(|| named(is_free))
            .or_else(top);
        match value {
            Some(value) => walk(value, &path.names, 1),
            None => Err(Missing::Name {
                value: context.clone(),
                path: String::new(),
                name: first.clone(),
            }),
        }
    }

    fn resolve_data(&self, path: &Path) -> Result<Value, Missing> {
        let Some(first) = path.names.first() else {
            return Err(Missing::Words("@ needs a name".to_owned()));
        };
        if first == "root" {
            return walk(self.root.clone(), &path.names, 1);
        }
        let mut data = self.data();
        for _ in 0..path.up {
            data = data.and_then(|data| data.around.clone());
        }
        let found = data
            .as_ref()
            .and_then(|data| data.entries.iter().find(|(name, _)| name == first));
        match found {
            Some((_, value)) => walk(value.clone(), &path.names, 1),
            None => Err(Missing::Words(format!("there is no @{first} here"))),
        }
    }
}

/// Follows names from the one at `from` on.
fn walk(mut value: Value, names: &[String], from: usize) -> Result<Value, Missing> {
    for (index, name) in names.iter().enumerate().skip(from) {
        value = match field(&value, name) {
            Some(found) => found,
            None => {
                return Err(Missing::Name {
                    value,
                    path: names[..index].join("."),
                    name: name.clone(),
                });
            }
        };
    }
    Ok(value)
}

/// Reads a field of a map or an item of a list.
pub(super) fn field(value: &Value, name: &str) -> Option<Value> {
    match value {
        Value::Map(map) => map.get(name.as_bytes()),
        Value::Object(object) => object.member(name),
        Value::List(list) if name == "length" => Some(Value::int(list.items.len() as i64)),
        Value::List(list) => list.items.get(name.parse::<usize>().ok()?).cloned(),
        _ => None,
    }
}

/// Words that a field is not there.
pub(super) fn unknown(value: &Value, path: &str, name: &str) -> String {
    let place = if path.is_empty() {
        "here".to_owned()
    } else {
        format!("in {path}")
    };
    let names: Vec<String> = match value {
        Value::Map(map) => map.entries().keys().map(|key| key.text().into_owned()).collect(),
        Value::Object(object) => object.fields.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        Value::List(list) => return format!("there is no {name} {place}: it is a list of {} items", list.items.len()),
        Value::Nil | Value::Invalid => return format!("there is no {name} {place}: that is null"),
        other => return format!("there is no {name} {place}: that is a {}", other.kind()),
    };
    if names.is_empty() {
        return format!("there is no {name} {place}: it is empty");
    }
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let shown = names[..names.len().min(SHOWN)].join(", ");
    format!("there is no {name} {place}, which has {shown}{more}")
}
