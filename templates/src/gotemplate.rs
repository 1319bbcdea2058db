//! Go's `text/template`: text → items → tree → output.
//!
//! Start at [`parse`] for the grammar and at [`exec`] for what it means. The words of errors are Go's, since users and
//! charts' tests know them.

pub mod builtin;
pub mod exec;
pub mod lex;
pub mod node;
pub mod parse;

#[cfg(test)]
mod tests;
