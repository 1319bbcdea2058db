//! What names mean.

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
    pub data: Vec<(&'static str, Value)>,
    /// The names after `as`, and those that a partial is given.
    pub locals: Vec<(String, Value)>,
}

/// The contexts at work, the innermost last; there is always one.
pub(super) struct Scopes {
    root: Value,
    frames: Vec<Frame>,
}

impl Scopes {
    /// Begins with a context.
    pub fn new(root: Value, context: Value, locals: Vec<(String, Value)>) -> Self {
        let frame = Frame {
            context,
            data: Vec::new(),
            locals,
        };
        Self {
            root,
            frames: vec![frame],
        }
    }

    pub fn root(&self) -> &Value {
        &self.root
    }

    pub fn context(&self) -> Value {
        self.frames.last().map_or(Value::Nil, |frame| frame.context.clone())
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
    /// Words for what is not there.
    pub fn resolve(&self, path: &Path) -> Result<Value, String> {
        if path.is_data {
            return self.data(path);
        }
        let Some(at) = self.frames.len().checked_sub(path.up + 1) else {
            return Err("../ leads out of the template".to_owned());
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
        let top = || field(&self.root, first).filter(|_| is_free && TOP.contains(&first.as_str()));
        let value = match local().or_else(|| field(context, first)).or_else(top) {
            Some(value) => value,
            None => return Err(unknown(context, "", first)),
        };
        walk(value, &path.names, 1)
    }

    fn data(&self, path: &Path) -> Result<Value, String> {
        let Some(first) = path.names.first() else {
            return Err("@ needs a name".to_owned());
        };
        if first == "root" {
            return walk(self.root.clone(), &path.names, 1);
        }
        let upto = self.frames.len().saturating_sub(path.up);
        let data = self.frames[..upto].iter().rev().flat_map(|frame| frame.data.iter());
        match data.into_iter().find(|(name, _)| name == first) {
            Some((_, value)) => walk(value.clone(), &path.names, 1),
            None => Err(format!("there is no @{first} here")),
        }
    }
}

/// Follows names from the one at `from` on.
fn walk(mut value: Value, names: &[String], from: usize) -> Result<Value, String> {
    for (index, name) in names.iter().enumerate().skip(from) {
        value = field(&value, name).ok_or_else(|| unknown(&value, &names[..index].join("."), name))?;
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
