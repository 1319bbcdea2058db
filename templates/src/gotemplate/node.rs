//! The tree of a template, and how Go writes its nodes in errors.

use std::fmt;
use std::rc::Rc;

use crate::value::Str;

/// An offset in bytes in the source.
pub type Pos = usize;

/// A number as written, with each of the types it can have.
#[derive(Debug, Clone)]
pub struct Number {
    /// The source text.
    pub text: String,
    /// Its value where it is an integer.
    pub int: Option<i64>,
    /// Its value where it is an integer without a sign.
    pub uint: Option<u64>,
    /// Its value as a float.
    pub float: Option<f64>,
    /// Whether it was written as a character.
    pub is_char: bool,
}

/// What an operand is.
#[derive(Debug, Clone)]
pub enum Expr {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// A number or a character.
    Number(Number),
    /// A string: source and value.
    Text(String, Str),
    /// `.a.b`
    Field(Vec<Str>),
    /// `$x.a.b`: the name with its `$`, then the fields.
    Variable(String, Vec<Str>),
    /// The name of a function.
    Identifier(String),
    /// Fields of another operand.
    Chain(Box<Operand>, Vec<Str>),
    /// A pipeline in parentheses.
    Pipe(Pipe),
}

/// An operand and its place.
#[derive(Debug, Clone)]
pub struct Operand {
    /// Where it begins, as Go counts.
    pub pos: Pos,
    /// What it is.
    pub expr: Expr,
}

/// A command: an operand, or a function with arguments.
#[derive(Debug, Clone)]
pub struct Command {
    /// Where it begins.
    pub pos: Pos,
    /// The operands; never empty.
    pub args: Vec<Operand>,
}

/// Commands joined by `|`, and the variables that take the result.
#[derive(Debug, Clone)]
pub struct Pipe {
    /// Where it begins.
    pub pos: Pos,
    /// Whether the variables exist already.
    pub is_assign: bool,
    /// The variables' names with their `$`.
    pub decl: Vec<String>,
    /// The commands; never empty.
    pub cmds: Vec<Command>,
}

/// The parts of `if`, `with` and `range`.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Where its pipeline begins.
    pub pos: Pos,
    /// The condition.
    pub pipe: Pipe,
    /// What runs where it holds.
    pub list: Vec<Node>,
    /// What runs otherwise.
    pub otherwise: Option<Vec<Node>>,
}

/// A node of a template.
#[derive(Debug, Clone)]
pub enum Node {
    /// Plain text.
    Text(Str),
    /// `{{pipeline}}`
    Action(Pos, Pipe),
    /// `{{if}}`
    If(Branch),
    /// `{{with}}`
    With(Branch),
    /// `{{range}}`
    Range(Branch),
    /// `{{template "name" pipeline}}`
    Template(Pos, String, Option<Pipe>),
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
}

/// One parsed template.
#[derive(Debug)]
pub struct Template {
    /// The name by which it is called.
    pub name: String,
    /// The name of the text that it stands in.
    pub parse_name: Rc<str>,
    /// The whole text that it stands in.
    pub text: Rc<str>,
    /// Its nodes.
    pub root: Vec<Node>,
}

impl Template {
    /// Says whether there is nothing in it but blanks.
    pub fn is_empty(&self) -> bool {
        self.root
            .iter()
            .all(|node| matches!(node, Node::Text(text) if text.text().trim().is_empty()))
    }
}

fn join_fields(f: &mut fmt::Formatter<'_>, fields: &[Str]) -> fmt::Result {
    for field in fields {
        write!(f, ".{}", field.text())?;
    }
    Ok(())
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expr {
            Expr::Dot => f.write_str("."),
            Expr::Nil => f.write_str("nil"),
            Expr::Bool(value) => write!(f, "{value}"),
            Expr::Number(number) => f.write_str(&number.text),
            Expr::Text(source, _) => f.write_str(source),
            Expr::Field(fields) => join_fields(f, fields),
            Expr::Variable(name, fields) => {
                f.write_str(name)?;
                join_fields(f, fields)
            }
            Expr::Identifier(name) => f.write_str(name),
            Expr::Chain(operand, fields) => {
                if let Expr::Pipe(pipe) = &operand.expr {
                    write!(f, "({pipe})")?;
                } else {
                    write!(f, "{operand}")?;
                }
                join_fields(f, fields)
            }
            Expr::Pipe(pipe) => write!(f, "{pipe}"),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, arg) in self.args.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            if let Expr::Pipe(pipe) = &arg.expr {
                write!(f, "({pipe})")?;
            } else {
                write!(f, "{arg}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.decl.is_empty() {
            write!(
                f,
                "{} {} ",
                self.decl.join(", "),
                if self.is_assign { "=" } else { ":=" }
            )?;
        }
        for (index, command) in self.cmds.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}
