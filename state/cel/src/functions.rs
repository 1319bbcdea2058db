//! The functions that expressions can call: a table, with a row for each name.
//!
//! A row says what the function takes and gives, for the type check, and how it runs. What runs looks at the values alone:
//! it may be called with anything, since `dyn` postpones the check. The families are those of CEL, of cel-go's extensions and
//! of Kubernetes' libraries, in the versions that Kubernetes 1.37 offers to CustomResourceDefinitions (`cel.bind`, `math`,
//! `base64` and `string.reverse` are not among them).

mod address;
mod convert;
mod format;
mod lists;
mod named;
mod operators;
mod optional;
mod pattern;
mod quantities;
mod sets;
mod strings;
mod time;
mod url;
mod version;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use regex::Regex;

pub(crate) use format::{Piece, pieces, refusal};
pub(crate) use named::LONGEST_PATTERN;
pub use named::NamedFormat;
pub(crate) use operators::{entries, insert_all, missing, whole};
pub use pattern::{compile as compile_pattern, fault as pattern_fault};
pub use url::Url;
pub use version::Semver;

use crate::types::Signature;
use crate::value::Value;

/// Why a function has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// What went wrong, as cel-go words it.
    Error(String),
    /// It would cost too much.
    Budget,
}

/// What a function gives.
pub(crate) type Outcome = Result<Value, Failure>;

impl From<String> for Failure {
    fn from(problem: String) -> Failure {
        Failure::Error(problem)
    }
}

impl From<&str> for Failure {
    fn from(problem: &str) -> Failure {
        Failure::Error(problem.to_owned())
    }
}

/// The failure of a call with arguments that the function does not take.
pub(crate) fn no_overload<T>() -> Result<T, Failure> {
    Err(Failure::Error("no such overload".to_owned()))
}

/// How much may be copied and compared in one evaluation, in items, entries and bytes.
///
/// The cost as Kubernetes counts it knows neither how long a comparison of nested lists takes nor how large a sum of lists
/// gets; this does.
const WORK: u64 = 16 * 1024 * 1024;
/// How many patterns that are no literals are kept compiled in one evaluation.
const PATTERNS: usize = 16;
/// The work of compiling a pattern: for itself, as repetitions make much of little, and for each of its bytes.
const PATTERN: (usize, usize) = (16 * 1024, 64);

/// Compiled patterns by their sources. They are shared: a copy of a `Regex` would begin with empty caches.
pub(crate) type Patterns = HashMap<Arc<str>, Arc<Regex>>;

/// What an evaluation has used up.
#[derive(Debug)]
pub(crate) struct Meter {
    /// What it cost so far.
    pub cost: u64,
    /// What it may cost.
    pub limit: u64,
    work: u64,
    /// The program's literals, which are compiled with it.
    literals: Arc<Patterns>,
    patterns: HashMap<Arc<str>, Result<Arc<Regex>, String>>,
}

impl Meter {
    pub fn new(limit: u64, literals: Arc<Patterns>) -> Meter {
        Meter {
            cost: 0,
            limit,
            work: 0,
            literals,
            patterns: HashMap::new(),
        }
    }

    /// Charges what Kubernetes charges.
    pub fn charge(&mut self, cost: u64) -> Result<(), Failure> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            Err(Failure::Budget)
        } else {
            Ok(())
        }
    }

    /// Charges what is copied or compared, before it is.
    pub fn work(&mut self, amount: usize) -> Result<(), Failure> {
        self.work = self.work.saturating_add(amount as u64);
        if self.work > WORK { Err(Failure::Budget) } else { Ok(()) }
    }

    /// Charges for counting the characters of a text, which is much faster than copying it.
    pub fn count(&mut self, text: &str) -> Result<(), Failure> {
        self.work(text.len() / 64 + 1)
    }

    /// Charges for looking at the whole of a value.
    pub fn traverse(&mut self, value: &Value) -> Result<(), Failure> {
        match value {
            Value::List(list) => {
                self.work(1 + list.items.len())?;
                list.items.iter().try_for_each(|item| self.traverse_inner(item))
            }
            Value::Map(map) => {
                self.work(1 + map.size())?;
                map.entries.values().try_for_each(|value| self.traverse_inner(value))
            }
            Value::String(text) => self.work(text.len()),
            Value::Bytes(bytes) => self.work(bytes.len()),
            Value::Optional(Some(inner)) => self.traverse(inner),
            _ => self.work(1),
        }
    }

    fn traverse_inner(&mut self, value: &Value) -> Result<(), Failure> {
        match value {
            Value::List(_) | Value::Map(_) | Value::Optional(_) => self.traverse(value),
            Value::String(text) => self.work(text.len()),
            _ => Ok(()),
        }
    }

    /// Compares two values and charges for it.
    pub fn equal(&mut self, left: &Value, right: &Value) -> Result<bool, Failure> {
        if left.type_name() != right.type_name() {
            return Ok(left == right);
        }
        if matches!(left, Value::List(_) | Value::Map(_) | Value::Optional(_)) {
            self.traverse(if left.size() <= right.size() { left } else { right })?;
        }
        Ok(left == right)
    }

    /// Returns a compiled pattern, or what is wrong with it; compiling one that is no literal is charged.
    pub fn pattern(&mut self, source: &Arc<str>) -> Result<Result<Arc<Regex>, String>, Failure> {
        if let Some(literal) = self.literals.get(source) {
            return Ok(Ok(literal.clone()));
        }
        if let Some(known) = self.patterns.get(source) {
            return Ok(known.clone());
        }
        self.work(PATTERN.0.saturating_add(PATTERN.1.saturating_mul(source.len())))?;
        let compiled = compile_pattern(source).map(Arc::new);
        if self.patterns.len() >= PATTERNS {
            self.patterns.clear();
        }
        self.patterns.insert(source.clone(), compiled.clone());
        Ok(compiled)
    }
}

/// How a function runs.
pub(crate) type Run = fn(&[Value], &mut Meter) -> Outcome;

/// A row of the table as it is written.
pub(crate) struct Row {
    name: &'static str,
    signatures: &'static [&'static str],
    run: Run,
}

/// A row of the table.
pub(crate) struct Function {
    pub name: &'static str,
    pub signatures: Vec<Signature>,
    pub run: Run,
}

/// Which function it is: a place in the table.
pub(crate) type FunctionId = usize;

struct Table {
    rows: Vec<Function>,
    by_name: HashMap<&'static str, FunctionId>,
}

const FAMILIES: &[&[Row]] = &[
    operators::ROWS,
    convert::ROWS,
    strings::ROWS,
    format::ROWS,
    lists::ROWS,
    sets::ROWS,
    time::ROWS,
    optional::ROWS,
    address::ROWS,
    url::ROWS,
    quantities::ROWS,
    version::ROWS,
    named::ROWS,
];

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Table {
            rows: Vec::new(),
            by_name: HashMap::new(),
        };
        for row in FAMILIES.iter().copied().flatten() {
            // A test holds that every row can be read.
            let signatures = row
                .signatures
                .iter()
                .filter_map(|text| Signature::parse(text))
                .collect();
            table.by_name.insert(row.name, table.rows.len());
            table.rows.push(Function {
                name: row.name,
                signatures,
                run: row.run,
            });
        }
        table
    })
}

/// Returns the function of a name.
pub(crate) fn find(name: &str) -> Option<FunctionId> {
    table().by_name.get(name).copied()
}

/// Returns a function.
pub(crate) fn function(id: FunctionId) -> &'static Function {
    &table().rows[id]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_read_and_no_name_has_two() {
        let mut names = std::collections::HashSet::new();
        for row in FAMILIES.iter().copied().flatten() {
            assert!(names.insert(row.name), "{} has two rows", row.name);
            assert!(!row.signatures.is_empty(), "{}", row.name);
            for text in row.signatures {
                assert!(Signature::parse(text).is_some(), "{}: {text}", row.name);
            }
        }
    }
}
