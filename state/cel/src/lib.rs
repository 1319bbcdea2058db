//! The Common Expression Language as Kubernetes has it, as pure functions.
//!
//! An expression goes through `lexer` → `parser` (macros are written out as loops, see `ast`) → `check` (types, and what names
//! refer to) → [`Program::run`] (`eval`, under a budget). `functions` is the table of everything that can be called; what an
//! expression can cost at most is `estimate`'s.
//!
//! * What it is computed with: [`Value`]; what is known of data before: [`Declaration`].
//! * No input makes this panic or run for long: texts, trees, types, patterns, costs and copies are bounded.
//! * [`quantity`] and [`names`] are here because expressions and the API both need them.

mod ast;
mod check;
pub mod declare;
mod estimate;
mod eval;
mod functions;
mod lexer;
mod literal;
pub mod names;
mod parser;
mod program;
pub mod quantity;
mod source;
mod types;
mod value;
mod words;

#[cfg(test)]
mod tests;

pub use declare::{Declaration, Field, Record, Shape, escape, unescape};
pub use functions::{NamedFormat, Semver, Url, compile_pattern, pattern_fault};
pub use program::{Environment, Evaluation, EvaluationError, Program};
pub use source::Issues;
pub use types::Type;
pub use value::{Key, List, Map, Merge, Moment, Value};
pub use words::is_word;

/// The most that one evaluation may cost.
pub const CALL_LIMIT: u64 = 1_000_000;
/// The most that all evaluations for one object may cost.
pub const OBJECT_LIMIT: u64 = 10_000_000;
