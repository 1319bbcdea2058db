//! The functions of templates: Go's, sprig's and Helm's. One row each; a new one is a row in the module of its subject.

/// Makes a row of the table.
macro_rules! row {
    ($name:literal, $params:literal, $call:expr) => {
        crate::gotemplate::exec::Function {
            name: $name,
            params: $params,
            call: $call,
        }
    };
}

mod arguments;
mod certificates;
mod crypto;
mod dates;
mod dicts;
mod encoding;
mod helm;
mod lists;
mod logic;
mod math;
pub(crate) mod methods;
mod paths;
mod random;
mod regexes;
mod semver;
mod strings;
mod toml;

pub(crate) use helm::floats;
pub(crate) use paths::clean as clean_path;
pub use random::Random;
pub(crate) use regexes::Patterns;
pub use semver::{Constraint, Version};

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::gotemplate::builtin;
use crate::gotemplate::exec::Function;

static TABLE: LazyLock<HashMap<&'static str, &'static Function>> = LazyLock::new(|| {
    // Later rows win: sprig's `slice` hides Go's, Helm's `toJson` hides sprig's.
    [
        builtin::FUNCTIONS,
        strings::FUNCTIONS,
        logic::FUNCTIONS,
        lists::FUNCTIONS,
        dicts::FUNCTIONS,
        math::FUNCTIONS,
        encoding::FUNCTIONS,
        regexes::FUNCTIONS,
        semver::FUNCTIONS,
        dates::FUNCTIONS,
        paths::FUNCTIONS,
        certificates::FUNCTIONS,
        crypto::FUNCTIONS,
        random::FUNCTIONS,
        helm::FUNCTIONS,
        toml::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
    .map(|function| (function.name, function))
    .collect()
});

/// Finds a function by its name.
pub fn find(name: &str) -> Option<&'static Function> {
    TABLE.get(name).copied()
}
