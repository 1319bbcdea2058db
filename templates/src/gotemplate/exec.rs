//! Trees to output: what a template means.
//!
//! A `Frame` is one execution of one template, with its variables and the node at work, which errors name. Nothing
//! here panics or runs without end: depth, steps and output are bounded.

mod call;
mod failure;
mod field;

pub use call::{Function, Param};
pub use failure::{At, Failure};

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::node::{Branch, Command, Expr, Node, Operand, Pipe, Template};
use crate::value::{IntKind, Str, Value, go_quote, print};

/// What an execution may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How deep templates may call one another.
    pub depth: usize,
    /// How many nodes may be executed.
    pub steps: u64,
    /// How many bytes may be written, those of inner templates included.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 4000,
            steps: 100_000_000,
            output: 1 << 30,
        }
    }
}

/// How deep functions walk into values; below that they stop by themselves.
const WALK_DEPTH: usize = 1000;
/// How many values functions may walk through in all; 16 bytes of text count as one more.
const WALK_LIMIT: u64 = 20_000_000;

/// Named templates; those of `tpl` lie over the ones that called it.
#[derive(Default)]
pub struct Set {
    parent: Option<Rc<Set>>,
    templates: HashMap<String, Rc<Template>>,
}

impl Set {
    /// Makes an empty layer over another.
    pub fn over(parent: Rc<Self>) -> Self {
        Self {
            parent: Some(parent),
            templates: HashMap::new(),
        }
    }

    /// Finds a template.
    pub fn get(&self, name: &str) -> Option<&Rc<Template>> {
        self.templates.get(name).or_else(|| self.parent.as_ref()?.get(name))
    }

    /// Adds templates; an empty one does not replace another.
    pub fn add(&mut self, templates: BTreeMap<String, Template>) {
        for (name, template) in templates {
            if template.is_empty() && self.get(&name).is_some() {
                continue;
            }
            self.templates.insert(name, Rc::new(template));
        }
    }

    /// Adds templates, and the empty ones too: a text of `tpl` is what it is.
    pub fn add_all(&mut self, templates: BTreeMap<String, Template>) {
        for (name, template) in templates {
            if template.is_empty() && name != "gotpl" && self.get(&name).is_some() {
                continue;
            }
            self.templates.insert(name, Rc::new(template));
        }
    }
}

/// Reads an object of the cluster: version, kind, namespace, name.
pub type Lookup<'a> = &'a (dyn Fn(&str, &str, &str, &str) -> Result<serde_json::Value, String> + Sync);

/// What functions may ask of the world outside.
pub struct Host<'a> {
    /// The time that `now` gives.
    pub now: crate::value::DateTime,
    /// Where random functions draw from.
    pub random: crate::functions::Random,
    /// Reads objects of the cluster: version, kind, namespace, name.
    pub lookup: Option<Lookup<'a>>,
}

/// One rendering.
pub struct Exec<'a> {
    /// The templates that can be called now.
    pub set: Rc<Set>,
    /// The world outside.
    pub host: Host<'a>,
    /// How often each name is being included now.
    pub including: HashMap<Str, usize>,
    /// The regular expressions that are compiled already.
    pub(crate) patterns: crate::functions::Patterns,
    limits: Limits,
    depth: usize,
    steps: u64,
    written: usize,
    walked: u64,
}

/// One execution of one template.
pub(crate) struct Frame<'t> {
    template: &'t Template,
    variables: Vec<(&'t str, Value)>,
    at: At<'t>,
}

enum Flow {
    Next,
    Break,
    Continue,
}

type Done<T> = Result<T, Failure>;

impl<'a> Exec<'a> {
    /// Begins a rendering.
    pub fn new(set: Rc<Set>, host: Host<'a>, limits: Limits) -> Self {
        Self {
            set,
            host,
            including: HashMap::new(),
            patterns: crate::functions::Patterns::default(),
            limits,
            depth: 0,
            steps: 0,
            written: 0,
            walked: 0,
        }
    }

    /// Executes a template by its name.
    ///
    /// # Errors
    /// What the template does wrong, or that there is none of the name.
    pub fn execute(&mut self, name: &str, dot: Value) -> Done<Vec<u8>> {
        let Some(template) = self.set.get(name).cloned() else {
            return Err(Failure::new(format!(
                "template: no template {} associated with template \"gotpl\"",
                go_quote(name.as_bytes())
            )));
        };
        let mut out = Vec::new();
        self.run(&template, dot, &mut out)?;
        Ok(out)
    }

    fn run(&mut self, template: &Template, dot: Value, out: &mut Vec<u8>) -> Done<()> {
        let dot = dot.elem();
        let mut frame = Frame {
            template,
            variables: vec![("$", dot.clone())],
            at: At::Nowhere,
        };
        if self.depth >= self.limits.depth {
            return Err(frame.fail(&format!("exceeded maximum template depth ({})", self.limits.depth)));
        }
        self.depth += 1;
        let result = self.walk_list(&mut frame, &template.root, &dot, out);
        self.depth -= 1;
        result.map(|_| ())
    }

    /// Makes sure that what is still to be made fits.
    ///
    /// # Errors
    /// That the limit is reached.
    pub fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.written = self.written.saturating_add(bytes);
        if self.written > self.limits.output {
            return Err(format!("output grows over {} bytes", self.limits.output));
        }
        Ok(())
    }

    /// Counts one step.
    ///
    /// # Errors
    /// That the limit is reached.
    pub(crate) fn tick(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > self.limits.steps {
            return Err("too many steps".to_owned());
        }
        Ok(())
    }

    fn step(&mut self, frame: &Frame<'_>) -> Done<()> {
        self.tick().map_err(|words| frame.fail(&words))
    }

    /// Makes sure that values can be walked through: what is shared counts as often as it is met.
    ///
    /// # Errors
    /// That they are too large.
    pub(crate) fn weigh(&mut self, values: &[Value]) -> Result<(), String> {
        for value in values {
            self.weigh_at(value, 0)?;
        }
        Ok(())
    }

    /// Counts values that are gone through.
    ///
    /// # Errors
    /// That the limit is reached.
    pub(crate) fn charge(&mut self, values: u64) -> Result<(), String> {
        self.walked = self.walked.saturating_add(values);
        if self.walked > WALK_LIMIT {
            return Err("values are too large to be gone through so often".to_owned());
        }
        Ok(())
    }

    fn weigh_at(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        let weight = match value {
            Value::Str(text) | Value::Bytes(text) => text.len() as u64 / 16,
            Value::List(list) => list.items.len() as u64,
            Value::Map(map) => map.len() as u64,
            _ => return Ok(()),
        };
        self.charge(1 + weight)?;
        match value {
            _ if depth > WALK_DEPTH => Ok(()),
            Value::List(list) => list.items.iter().try_for_each(|value| self.weigh_at(value, depth + 1)),
            Value::Map(map) => map
                .entries()
                .values()
                .try_for_each(|value| self.weigh_at(value, depth + 1)),
            _ => Ok(()),
        }
    }

    fn walk_list<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        nodes: &'t [Node],
        dot: &Value,
        out: &mut Vec<u8>,
    ) -> Done<Flow> {
        for node in nodes {
            match self.walk(frame, node, dot, out)? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn walk<'t>(&mut self, frame: &mut Frame<'t>, node: &'t Node, dot: &Value, out: &mut Vec<u8>) -> Done<Flow> {
        self.step(frame)?;
        match node {
            Node::Text(text) => {
                self.spend(text.len()).map_err(|words| frame.fail(&words))?;
                out.extend_from_slice(text);
            }
            Node::Action(_, pipe) => {
                frame.at = At::Node(node);
                let value = self.pipeline(frame, dot, pipe)?;
                if pipe.decl.is_empty() {
                    let before = out.len();
                    self.weigh(std::slice::from_ref(&value))
                        .map_err(|words| frame.fail(&words))?;
                    match &value {
                        Value::Invalid | Value::Nil => out.extend_from_slice(b"<no value>"),
                        value => print(value, out),
                    }
                    self.spend(out.len() - before).map_err(|words| frame.fail(&words))?;
                }
            }
            Node::If(branch) => return self.conditional(frame, branch, dot, None, out),
            Node::With(branch) => return self.conditional(frame, branch, dot, Some(()), out),
            Node::Range(branch) => return self.range(frame, branch, dot, out),
            Node::Template(_, name, pipe) => {
                frame.at = At::Node(node);
                let Some(template) = self.set.get(name).cloned() else {
                    return Err(frame.fail(&format!("template {} not defined", go_quote(name.as_bytes()))));
                };
                let inner = match pipe {
                    Some(pipe) => self.pipeline(frame, dot, pipe)?,
                    None => Value::Invalid,
                };
                self.run(&template, inner, out)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn conditional<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        branch: &'t Branch,
        dot: &Value,
        with: Option<()>,
        out: &mut Vec<u8>,
    ) -> Done<Flow> {
        let known = frame.variables.len();
        let value = self.pipeline(frame, dot, &branch.pipe)?;
        let flow = if value.truth() {
            let inner = if with.is_some() { &value } else { dot };
            self.walk_list(frame, &branch.list, inner, out)
        } else if let Some(otherwise) = &branch.otherwise {
            self.walk_list(frame, otherwise, dot, out)
        } else {
            Ok(Flow::Next)
        };
        frame.variables.truncate(known);
        flow
    }

    fn range<'t>(&mut self, frame: &mut Frame<'t>, branch: &'t Branch, dot: &Value, out: &mut Vec<u8>) -> Done<Flow> {
        let known = frame.variables.len();
        let value = self.pipeline(frame, dot, &branch.pipe)?;
        let mark = frame.variables.len();
        let items: Box<dyn Iterator<Item = (Value, Value)>> = match &value {
            Value::List(list) => {
                let list = Rc::clone(&list.items);
                Box::new((0..list.len()).map(move |index| (Value::int(index as i64), list[index].clone())))
            }
            Value::Bytes(bytes) => {
                let bytes = bytes.clone();
                Box::new((0..bytes.len()).map(move |index| {
                    (
                        Value::int(index as i64),
                        Value::Int(IntKind::Uint8, i64::from(bytes[index])),
                    )
                }))
            }
            Value::Map(map) => {
                // Its entries are copied, however soon the loop is left.
                self.charge(map.len() as u64).map_err(|words| frame.fail(&words))?;
                Box::new(map.entries().into_iter().map(|(key, value)| (Value::Str(key), value)))
            }
            Value::Int(kind, count) => {
                if branch.pipe.decl.len() > 1 {
                    return Err(frame.fail(&format!(
                        "can't use {} to iterate over more than one variable",
                        shown(&value)
                    )));
                }
                let kind = *kind;
                Box::new((0..*count).map(move |index| (Value::Int(kind, index), Value::Int(kind, index))))
            }
            Value::Invalid | Value::Nil => Box::new(std::iter::empty()),
            other => return Err(frame.fail(&format!("range can't iterate over {}", shown(other)))),
        };
        let mut any = false;
        for (index, item) in items {
            any = true;
            // An empty body counts too.
            self.step(frame)?;
            let decl = &branch.pipe.decl;
            if branch.pipe.is_assign {
                match decl.as_slice() {
                    [one] => frame.assign(one, item.clone()),
                    [first, second] => {
                        frame.assign(first, index);
                        frame.assign(second, item.clone());
                    }
                    _ => {}
                }
            } else {
                // The declarations of the pipeline stand at the top of the stack.
                match decl.len() {
                    1 => frame.variables[mark - 1].1 = item.clone(),
                    2 => {
                        frame.variables[mark - 1].1 = item.clone();
                        frame.variables[mark - 2].1 = index;
                    }
                    _ => {}
                }
            }
            let flow = self.walk_list(frame, &branch.list, &item, out)?;
            frame.variables.truncate(mark);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        let flow = match &branch.otherwise {
            Some(otherwise) if !any => self.walk_list(frame, otherwise, dot, out),
            _ => Ok(Flow::Next),
        };
        frame.variables.truncate(known);
        flow
    }

    fn pipeline<'t>(&mut self, frame: &mut Frame<'t>, dot: &Value, pipe: &'t Pipe) -> Done<Value> {
        frame.at = At::Pipe(pipe);
        let mut value = None;
        for command in &pipe.cmds {
            value = Some(self.command(frame, dot, command, value)?.elem());
        }
        let value = value.unwrap_or(Value::Invalid);
        for name in &pipe.decl {
            if pipe.is_assign {
                frame.assign(name, value.clone());
            } else {
                frame.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn command<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        command: &'t Command,
        last: Option<Value>,
    ) -> Done<Value> {
        let first = &command.args[0];
        let refuse_arguments = |frame: &Frame<'t>| {
            if command.args.len() > 1 || last.is_some() {
                return Err(frame.fail(&format!("can't give argument to non-function {first}")));
            }
            Ok(())
        };
        match &first.expr {
            Expr::Field(_) | Expr::Chain(..) | Expr::Variable(..) => {
                self.operand(frame, dot, first, &command.args[1..], last)
            }
            Expr::Identifier(name) => {
                frame.at = At::Operand(first);
                self.function(frame, dot, name, At::Command(command), &command.args[1..], last)
            }
            Expr::Pipe(pipe) => {
                refuse_arguments(frame)?;
                self.pipeline(frame, dot, pipe)
            }
            Expr::Nil => {
                frame.at = At::Operand(first);
                refuse_arguments(frame)?;
                Err(frame.fail("nil is not a command"))
            }
            Expr::Dot => {
                frame.at = At::Operand(first);
                refuse_arguments(frame)?;
                Ok(dot.clone())
            }
            Expr::Bool(_) | Expr::Number(_) | Expr::Text(..) => {
                frame.at = At::Operand(first);
                refuse_arguments(frame)?;
                constant(frame, first)
            }
        }
    }

    /// Evaluates what may have fields.
    fn operand<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Value,
        operand: &'t Operand,
        args: &'t [Operand],
        last: Option<Value>,
    ) -> Done<Value> {
        frame.at = At::Operand(operand);
        match &operand.expr {
            Expr::Field(fields) => self.fields(frame, dot, dot.clone(), operand, fields, args, last),
            Expr::Variable(name, fields) => {
                let value = frame.variable(name)?;
                if fields.is_empty() {
                    if !args.is_empty() || last.is_some() {
                        return Err(frame.fail(&format!("can't give argument to non-function {operand}")));
                    }
                    return Ok(value);
                }
                self.fields(frame, dot, value, operand, fields, args, last)
            }
            Expr::Chain(inner, fields) => {
                if matches!(inner.expr, Expr::Nil) {
                    return Err(frame.fail(&format!("indirection through explicit nil in {operand}")));
                }
                let value = self.argument(frame, dot, None, inner)?;
                self.fields(frame, dot, value, operand, fields, args, last)
            }
            _ => constant(frame, operand),
        }
    }
}

impl<'t> Frame<'t> {
    fn assign(&mut self, name: &str, value: Value) {
        if let Some(slot) = self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            slot.1 = value;
        }
    }

    fn variable(&self, name: &str) -> Done<Value> {
        match self.variables.iter().rev().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(self.fail(&format!("undefined variable: {name}"))),
        }
    }

    /// Words an error at the node at work.
    pub(crate) fn fail(&self, words: &str) -> Failure {
        Failure::new(format!("{}{words}", failure::place(self.template, &self.at)))
    }
}

/// Evaluates a constant to the type that it has by itself.
fn constant(frame: &Frame<'_>, operand: &Operand) -> Done<Value> {
    match &operand.expr {
        Expr::Bool(value) => Ok(Value::Bool(*value)),
        Expr::Text(_, value) => Ok(Value::Str(value.clone())),
        Expr::Number(number) => {
            let is_hex = number.text.to_ascii_lowercase().contains("0x");
            let written_as_float = !is_hex && !number.is_char && number.text.contains(['.', 'e', 'E', 'p', 'P']);
            match (number.int, number.float) {
                (_, Some(value)) if written_as_float => Ok(Value::Float(value)),
                (Some(value), _) => Ok(if number.is_char {
                    Value::Int(IntKind::Int32, value)
                } else {
                    Value::int(value)
                }),
                (None, _) if number.uint.is_some() => {
                    Err(frame.fail(&format!("integer overflow: {operand} overflows int")))
                }
                (None, Some(value)) => Ok(Value::Float(value)),
                (None, None) => Err(frame.fail(&format!("can't evaluate command {operand}"))),
            }
        }
        _ => Err(frame.fail(&format!("can't evaluate command {operand}"))),
    }
}

fn shown(value: &Value) -> String {
    crate::value::string_value(value).text().into_owned()
}
