//! What a template is made of.

use std::rc::Rc;

use crate::value::Value;

/// Where something stands in its file: line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub line: u32,
    pub column: u32,
}

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Element {
    /// Text as it is.
    Text(String, At),
    /// `{{value}}`, or `{{{value}}}` which is written as it is.
    Value { value: Expr, raw: bool },
    /// `{{#name …}}…{{else}}…{{/name}}`
    Block(Block),
    /// `{{> name …}}`
    Partial(Partial),
}

/// A block.
#[derive(Debug)]
pub(super) struct Block {
    pub call: Call,
    /// The names after `as`.
    pub names: Vec<String>,
    pub body: Vec<Element>,
    pub otherwise: Vec<Element>,
}

/// A partial.
#[derive(Debug)]
pub(super) struct Partial {
    pub at: At,
    pub name: Expr,
    pub context: Option<Expr>,
    pub hash: Vec<(String, Expr)>,
    /// What stands before it where it is alone on its line: its lines get that too.
    pub indent: String,
}

/// What has a value.
#[derive(Debug)]
pub(super) struct Expr {
    pub at: At,
    /// How it is written, cut where that is long.
    pub text: Rc<str>,
    pub kind: ExprKind,
}

/// The kinds of expressions.
#[derive(Debug)]
pub(super) enum ExprKind {
    Literal(Value),
    Path(Path),
    Call(Call),
}

/// A helper with its arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub at: At,
    pub name: String,
    pub params: Vec<Expr>,
}

/// A way to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    /// How many `../` it begins with.
    pub up: usize,
    /// Whether it begins with `@`.
    pub is_data: bool,
    /// Whether it begins with `this` or `./`, so that only the context counts.
    pub is_this: bool,
    /// The names.
    pub names: Vec<String>,
}
