//! Handlebars whose values cannot break YAML.
//!
//! A value that a template interpolates never becomes text that is parsed again. It is kept aside, the text gets a mark in
//! its place, the text is parsed as YAML, and then:
//! * a plain scalar that is exactly a mark becomes the value with its type: `replicas: {{Values.replicas}}`,
//!   `resources: {{Values.resources}}`;
//! * a mark within a longer scalar, or in quotes, becomes text in it: `image: {{Values.image}}:{{Values.tag}}`,
//!   `value: "{{Values.port}}"`; there a map, a list or null is an error;
//! * a map alone on its line adds its entries to the map around it, a list alone on its line its items to the list; a key
//!   that is there already is an error;
//! * within a block (`|` or `>`) a map or a list is written as YAML at its column when it is alone on its line, else as
//!   JSON; text goes in as it is.
//!
//! So nothing needs quoting or indenting, and every object and every error has a place in the source. `{{{value}}}` is
//! the way around: it writes text that is parsed with the rest.
//!
//! The language is that of handlebarsjs.com: paths (`Values.a.b`, `this`, `../x`, `@index`, `@key`, `@first`, `@last`,
//! `@root`, `[odd key]`), `{{#if}}`, `{{#unless}}`, `{{#each}}`, `{{#with}}` with `{{else}}`, `{{else if}}` and
//! `as |name|`, subexpressions, partials (`_name.hbs` is `{{> name}}`), comments, `~`, and `\{{`. Differences:
//! * A name that is not there is an error, everywhere but in the arguments of `exists`, `default` and `coalesce`.
//! * The names of the top (`Values`, `Release`, `Chart`, `Capabilities`) are seen within `{{#each}}` and `{{#with}}` too,
//!   unless the item has a field of that name.
//! * Every function of Go templates is a helper with the same order of arguments: `{{default "x" Values.y}}`,
//!   `{{join "," Values.hosts}}`, `{{#if (and (eq Values.kind "a") (gt Values.replicas 1))}}`. `include`, `tpl` and the
//!   cluster's `lookup` are not: partials take their place, and `lookup` reads a field by a computed name.
//! * What a partial is given by name is seen within its blocks too, unless the item has a field of that name.
//! * Empty maps are false in `{{#if}}`, as in Go templates. Decorators, inline partials and blocks of partials are not
//!   there.
//!
//! Start at `tree` for what a template is, at `parse` for the grammar, at `render` for what it means, at `place` for how
//! marks become nodes.

mod call;
mod output;
mod parse;
mod place;
mod render;
mod scope;
mod tree;

pub use render::{Renderer, Templates};

#[cfg(test)]
mod tests;

use std::fmt;

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub message: String,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The partials on the way there, innermost first.
    pub chain: Vec<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for Error {}

/// One document of a rendered file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What is in it.
    pub value: serde_json::Value,
    /// The file that it begins in: the template, or a partial.
    pub file: String,
    /// The line that it begins on, from 1.
    pub line: u32,
    /// Where it is a list of objects: the lines of its items.
    pub items: Vec<u32>,
}

/// Says whether a file is there to be included only.
pub fn is_partial(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with('_'))
}
