//! Elements to text with marks, and the text to documents.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde_json::Value as Json;

use super::call::{shown, text};
use super::output::{Mark, Output};
use super::parse::parse;
use super::place::Placing;
use super::scope::{Data, Frame, Scopes};
use super::tree::{At, Block, Element, Partial};
use super::{Document, Error, is_partial};
use crate::functions::Random;
use crate::gotemplate::exec::{Exec, Function, Host, Limits, Set};
use crate::value::{DateTime, Str, Value};
use crate::yaml;

/// How deep partials may include one another.
const DEPTH_LIMIT: usize = 64;
/// How deep interpolated values may nest.
const VALUE_DEPTH_LIMIT: usize = 100;
/// What the templates of a job may cost.
const LIMITS: Limits = Limits {
    depth: DEPTH_LIMIT,
    steps: 3_000_000,
    output: 64 << 20,
};

/// Templates, ready to be rendered.
#[derive(Default)]
pub struct Templates {
    files: BTreeMap<String, File>,
    /// The partials by the folder that they belong to and their names.
    partials: HashMap<(String, String), String>,
}

struct File {
    path: Rc<str>,
    base: String,
    elements: Vec<Element>,
}

impl Templates {
    /// Adds a file; `base` names the chart whose partials it sees, with those of the charts above.
    ///
    /// # Errors
    /// What does not parse.
    pub fn add(&mut self, base: &str, path: &str, source: &str) -> Result<(), Error> {
        let name: Rc<str> = Rc::from(path);
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let elements = parse(source).map_err(|(at, words)| error(&name, at, words))?;
        if is_partial(path) {
            let inner = path.rsplit_once("templates/").map_or(path, |(_, inner)| inner);
            let (folder, file) = inner
                .rsplit_once('/')
                .map_or(("", inner), |(folder, file)| (folder, file));
            let stem = file.trim_start_matches('_').split('.').next().unwrap_or_default();
            let partial = if folder.is_empty() {
                stem.to_owned()
            } else {
                format!("{folder}/{stem}")
            };
            let key = (base.to_owned(), partial);
            if let Some(first) = self.partials.get(&key).filter(|first| *first != path) {
                let words = format!("the partial {} is there already: {first}", key.1);
                return Err(error(&name, At { line: 1, column: 1 }, words));
            }
            self.partials.insert(key, path.to_owned());
        }
        let file = File {
            path: name,
            base: base.to_owned(),
            elements,
        };
        self.files.insert(path.to_owned(), file);
        Ok(())
    }

    /// Finds a partial: of the chart itself, else of those above.
    fn partial(&self, base: &str, name: &str) -> Option<&File> {
        let mut base = base;
        loop {
            if let Some(path) = self.partials.get(&(base.to_owned(), name.to_owned())) {
                return self.files.get(path);
            }
            // `c/charts/s/templates` lies below `c/templates`.
            let above = base.strip_suffix("/templates")?.rsplit_once("/charts/")?.0;
            let above = self
                .partials
                .keys()
                .map(|(base, _)| base)
                .find(|base| base.strip_suffix("/templates") == Some(above));
            base = above?;
        }
    }
}

/// Renders templates; what they cost is counted together.
pub struct Renderer<'t> {
    templates: &'t Templates,
    pub(super) exec: Exec<'t>,
    depth: usize,
    /// What only marks have in them.
    secret: Rc<str>,
}

impl<'t> Renderer<'t> {
    /// Begins, with what random functions draw from and the time that `now` gives.
    pub fn new(templates: &'t Templates, seed: [u8; 32], now: i64) -> Self {
        let host = Host {
            now: DateTime::utc(now, 0),
            // Go templates draw from the seed itself.
            random: Random::new(seed.map(|byte| byte ^ 0x5a)),
            lookup: None,
        };
        let mut secret = Random::new(seed.map(|byte| byte ^ 0xa5));
        let secret: [u8; 8] = std::array::from_fn(|_| secret.byte());
        Self {
            templates,
            // A letter ends it: the number of a mark follows.
            secret: Rc::from(hex::encode(secret) + "m"),
            exec: Exec::new(Rc::new(Set::default()), host, LIMITS),
            depth: 0,
        }
    }

    /// Renders a file of objects.
    ///
    /// # Errors
    /// What is wrong with the template, or with the YAML that it makes, with its place in the source.
    pub fn objects(&mut self, path: &str, scope: &Value) -> Result<Vec<Document>, Error> {
        let output = self.run(path, scope)?;
        let text = output.yaml();
        let locate = |line, column, message: String| match output.source(line, column) {
            Some((file, at)) => error(&file, at, message),
            None => error(path, At { line: 1, column: 1 }, message),
        };
        let nodes = yaml::node::parse(&text).map_err(|fault| locate(fault.line, fault.column, fault.message))?;
        let mut placing = Placing::new(&output);
        let mut documents = Vec::new();
        for node in nodes {
            let line_of = |line, column| output.source(line, column);
            let (file, at) =
                line_of(node.line, node.column).unwrap_or_else(|| (Rc::from(path), At { line: 1, column: 1 }));
            documents.push(Document {
                value: placing.build(&node, 0)?,
                items: crate::job::item_lines(&node)
                    .into_iter()
                    .map(|line| output.source(line, 1).map_or(at.line, |(_, at)| at.line))
                    .collect(),
                file: file.to_string(),
                line: at.line,
            });
        }
        Ok(documents)
    }

    /// Renders a file of text.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn text(&mut self, path: &str, scope: &Value) -> Result<String, Error> {
        let output = self.run(path, scope)?;
        Placing::new(&output).text(&output.text)
    }

    fn run(&mut self, path: &str, scope: &Value) -> Result<Output, Error> {
        let mut output = Output::new(Rc::clone(&self.secret));
        let Some(file) = self.templates.files.get(path) else {
            return Err(error(path, At { line: 1, column: 1 }, "there is no such template"));
        };
        let mut scopes = Scopes::new(scope.clone());
        self.elements(file, &file.elements, &mut scopes, &mut output)?;
        Ok(output)
    }

    fn elements(
        &mut self,
        file: &File,
        elements: &[Element],
        scopes: &mut Scopes,
        output: &mut Output,
    ) -> Result<(), Error> {
        for element in elements {
            match element {
                Element::Text(text, at) => {
                    self.tick(&file.path, *at)?;
                    self.spend(&file.path, *at, output.cost(text))?;
                    output.text(text, &file.path, *at);
                }
                Element::Value { value: expr, raw } => {
                    self.tick(&file.path, expr.at)?;
                    let value = self.evaluate(&file.path, scopes, expr)?;
                    let fault = |words: String| error(&file.path, expr.at, words);
                    if *raw {
                        let text = match &value {
                            Value::Nil | Value::Invalid => String::new(),
                            value => text(value).map_err(|_| {
                                fault(format!("{} is {}: write {{{{{{toYaml …}}}}}}", expr.text, shown(value)))
                            })?,
                        };
                        self.spend(&file.path, expr.at, output.cost(&text))?;
                        output.raw(&text, &file.path, expr.at);
                        continue;
                    }
                    let mut size = 0;
                    let value = json(&value, 0, &mut size).map_err(&fault)?;
                    self.spend(&file.path, expr.at, size + output.mark_cost())?;
                    output.mark(Mark {
                        value,
                        text: Rc::clone(&expr.text),
                        file: Rc::clone(&file.path),
                        at: expr.at,
                    });
                }
                Element::Block(block) => self.block(file, block, scopes, output)?,
                Element::Partial(partial) => self.partial(file, partial, scopes, output)?,
            }
        }
        Ok(())
    }

    fn spend(&mut self, file: &Rc<str>, at: At, bytes: usize) -> Result<(), Error> {
        self.exec.spend(bytes).map_err(|words| error(file, at, words))
    }

    fn block(&mut self, file: &File, block: &Block, scopes: &mut Scopes, output: &mut Output) -> Result<(), Error> {
        let call = &block.call;
        self.tick(&file.path, call.at)?;
        if !matches!(call.name.as_str(), "if" | "unless" | "each" | "with") {
            let words = format!("there is no block {}; there are if, unless, each and with", call.name);
            return Err(error(&file.path, call.at, words));
        }
        let [param] = call.params.as_slice() else {
            let words = format!(
                "{} takes one argument; put parentheses around a helper's call",
                call.name
            );
            return Err(error(&file.path, call.at, words));
        };
        let names = match call.name.as_str() {
            "each" => 2,
            "with" => 1,
            _ => 0,
        };
        if block.names.len() > names {
            let words = format!("{} gives {names} names, and `as` asks for more", call.name);
            return Err(error(&file.path, call.at, words));
        }
        let value = self.evaluate(&file.path, scopes, param)?;
        match call.name.as_str() {
            "each" => return self.each(file, block, value, scopes, output),
            // Zero is something to be with.
            "with" if value.truth() || matches!(value, Value::Int(..) | Value::Float(_)) => {
                let locals = block
                    .names
                    .iter()
                    .take(1)
                    .map(|name| (name.clone(), value.clone()))
                    .collect();
                scopes.push(Frame {
                    context: value,
                    data: scopes.data(),
                    locals,
                });
                let done = self.elements(file, &block.body, scopes, output);
                scopes.pop();
                return done;
            }
            _ => {}
        }
        let is_taken = value.truth() != (call.name == "unless");
        let taken = if is_taken { &block.body } else { &block.otherwise };
        self.elements(file, taken, scopes, output)
    }

    fn each(
        &mut self,
        file: &File,
        block: &Block,
        value: Value,
        scopes: &mut Scopes,
        output: &mut Output,
    ) -> Result<(), Error> {
        let items: Vec<(Value, Value)> = match &value {
            Value::List(list) => (0i64..).map(Value::int).zip(list.items.iter().cloned()).collect(),
            Value::Map(map) => map
                .entries()
                .into_iter()
                .map(|(key, value)| (Value::Str(key), value))
                .collect(),
            Value::Nil | Value::Invalid => Vec::new(),
            other => {
                let words = format!("each goes over lists and maps; this is {}", shown(other));
                return Err(error(&file.path, block.call.at, words));
            }
        };
        if items.is_empty() {
            return self.elements(file, &block.otherwise, scopes, output);
        }
        let count = items.len();
        let around = scopes.data();
        for (index, (key, item)) in items.into_iter().enumerate() {
            self.tick(&file.path, block.call.at)?;
            let number = Value::int(index as i64);
            let locals = block.names.iter().zip([item.clone(), key.clone()]);
            scopes.push(Frame {
                context: item.clone(),
                data: Some(Rc::new(Data {
                    entries: [
                        ("index", number),
                        ("key", key.clone()),
                        ("first", Value::Bool(index == 0)),
                        ("last", Value::Bool(index + 1 == count)),
                    ],
                    around: around.clone(),
                })),
                locals: locals.map(|(name, value)| (name.clone(), value)).collect(),
            });
            let done = self.elements(file, &block.body, scopes, output);
            scopes.pop();
            done?;
        }
        Ok(())
    }

    fn partial(&mut self, file: &File, call: &Partial, scopes: &mut Scopes, output: &mut Output) -> Result<(), Error> {
        self.tick(&file.path, call.at)?;
        let fault = |words: String| error(&file.path, call.at, words);
        let name = self.evaluate(&file.path, scopes, &call.name)?;
        let name = text(&name).map_err(&fault)?;
        let templates = self.templates;
        let Some(partial) = templates.partial(&file.base, &name) else {
            return Err(fault(format!("there is no partial {name}: no file _{name}.hbs")));
        };
        if self.depth >= DEPTH_LIMIT {
            return Err(fault(format!(
                "partials include one another deeper than {DEPTH_LIMIT} levels"
            )));
        }
        let context = match &call.context {
            Some(context) => self.evaluate(&file.path, scopes, context)?,
            None => scopes.context(),
        };
        let mut named = Vec::new();
        for (key, expr) in &call.hash {
            named.push((key.clone(), self.evaluate(&file.path, scopes, expr)?));
        }
        let mut inner = scopes.partial(context, named);
        let length = output.indent.len();
        output.indent.push_str(&call.indent);
        self.depth += 1;
        let done = self.elements(partial, &partial.elements, &mut inner, output);
        self.depth -= 1;
        output.indent.truncate(length);
        done.map_err(|mut fault| {
            fault.chain.push(format!(
                "{}:{}:{} {{{{> {name}}}}}",
                file.path, call.at.line, call.at.column
            ));
            fault
        })
    }

    /// Calls a function of the table.
    pub(super) fn function(&mut self, function: &Function, values: &[Value]) -> Result<Value, String> {
        self.exec.invoke(function, values).map_err(|failure| {
            let words = failure.to_string();
            words.replace("HELM_ERR_START", "").replace("HELM_ERR_END", "")
        })
    }
}

/// Makes an error.
pub(super) fn error(file: &str, at: At, message: impl Into<String>) -> Error {
    Error {
        message: message.into(),
        file: file.to_owned(),
        line: at.line,
        column: at.column,
        chain: Vec::new(),
    }
}

/// Makes JSON of a value; whole numbers are integers.
fn json(value: &Value, depth: usize, size: &mut usize) -> Result<Json, String> {
    if depth > VALUE_DEPTH_LIMIT {
        return Err(format!("this value nests deeper than {VALUE_DEPTH_LIMIT} levels"));
    }
    *size += 16;
    if *size > LIMITS.output {
        return Err("this value is too large".to_owned());
    }
    let text = |text: &Str, size: &mut usize| {
        *size += text.len();
        text.text().into_owned()
    };
    Ok(match value {
        Value::Invalid | Value::Nil => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(_, number) => Json::from(*number),
        Value::Float(number) => {
            yaml::node::number(*number).ok_or_else(|| format!("{number} is no number that JSON has"))?
        }
        Value::Str(found) | Value::Bytes(found) => Json::String(text(found, size)),
        Value::Time(time) => Json::String(time.rfc3339()),
        Value::List(list) => {
            let items = list.items.iter().map(|item| json(item, depth + 1, size));
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Map(map) => {
            let mut entries = serde_json::Map::new();
            for (key, value) in map.entries() {
                entries.insert(text(&key, size), json(&value, depth + 1, size)?);
            }
            Json::Object(entries)
        }
        Value::Object(object) => {
            let mut entries = serde_json::Map::new();
            for (_, name, value) in object.fields.iter().filter(|(_, name, _)| !name.is_empty()) {
                entries.insert((*name).to_owned(), json(value, depth + 1, size)?);
            }
            Json::Object(entries)
        }
    })
}
