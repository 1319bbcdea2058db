//! Errors of execution, as Go nests and Helm words them.

use std::fmt;

use crate::gotemplate::node::{Command, Node, Operand, Pipe, Template};
use crate::value::go_quote;

/// How long what one level adds may be, in bytes.
const PREFIX_LIMIT: usize = 64 << 10;
/// How long the whole may get, in bytes.
const WHOLE_LIMIT: usize = 1 << 20;

/// A chain of errors: each piece is what one level adds before the text of the next.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The pieces, innermost first.
    pieces: Vec<String>,
}

impl Failure {
    /// An error without a cause.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            pieces: vec![text.into()],
        }
    }

    /// Wraps it: `prefix` comes before its text. Where the whole gets too long to be of use, prefixes are cut, then left
    /// out: a text of `tpl` is in the words of each of its levels.
    #[must_use]
    pub fn within(mut self, mut prefix: String) -> Self {
        if self.pieces.iter().map(String::len).sum::<usize>() > WHOLE_LIMIT {
            return self;
        }
        if prefix.len() > PREFIX_LIMIT {
            prefix.truncate(prefix.floor_char_boundary(PREFIX_LIMIT));
            prefix.push_str("…: ");
        }
        self.pieces.push(prefix);
        self
    }

    /// The texts of the chain, outermost first.
    pub fn chain(&self) -> impl Iterator<Item = String> + '_ {
        (1..=self.pieces.len())
            .rev()
            .map(|count| self.pieces[..count].iter().rev().map(String::as_str).collect())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.pieces.iter().rev() {
            f.write_str(piece)?;
        }
        Ok(())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// The node at work.
#[derive(Clone, Copy)]
pub enum At<'t> {
    /// None yet.
    Nowhere,
    /// A node of the template.
    Node(&'t Node),
    /// A pipeline.
    Pipe(&'t Pipe),
    /// A command.
    Command(&'t Command),
    /// An operand.
    Operand(&'t Operand),
}

/// Words where an error happened, up to its own words.
pub(super) fn place(template: &Template, at: &At<'_>) -> String {
    let (pos, context) = match at {
        At::Nowhere => return format!("template: {}: ", template.name),
        At::Pipe(pipe) => (pipe.pos, pipe.to_string()),
        At::Command(command) => (command.pos, command.to_string()),
        At::Operand(operand) => (operand.pos, operand.to_string()),
        At::Node(Node::Action(pos, pipe)) => (*pos, format!("{{{{{pipe}}}}}")),
        At::Node(Node::Template(pos, name, pipe)) => {
            let name = go_quote(name.as_bytes());
            let pipe = pipe.as_ref().map(|pipe| format!(" {pipe}")).unwrap_or_default();
            (*pos, format!("{{{{template {name}{pipe}}}}}"))
        }
        At::Node(_) => (0, String::new()),
    };
    let before = &template.text.as_bytes()[..pos.min(template.text.len())];
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = match before.iter().rposition(|b| *b == b'\n') {
        None => pos,
        Some(newline) => pos - newline - 1,
    };
    format!(
        "template: {}:{line}:{column}: executing {} at <{context}>: ",
        template.parse_name,
        go_quote(template.name.as_bytes())
    )
}
