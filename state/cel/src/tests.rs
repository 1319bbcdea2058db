//! Tables of expressions and what comes of them, and laws that hold for any text.

mod cost;
mod data;
mod errors;
mod language;
mod laws;
mod libraries;

use crate::{CALL_LIMIT, Environment, EvaluationError, Program, Value};

/// Compiles and runs an expression without variables.
fn run(text: &str) -> Result<Value, String> {
    let program = Program::compile(text, &Environment::default()).map_err(|issues| {
        let messages: Vec<&str> = issues.messages().collect();
        format!("does not compile: {}", messages.join("; "))
    })?;
    program.run(&[], CALL_LIMIT).value.map_err(|error| match error {
        EvaluationError::Error(problem) => problem,
        limit => limit.to_string(),
    })
}

/// Runs a table with an expression a line; each has to be true.
fn all_true(table: &str) {
    let wrong: Vec<String> = table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .filter_map(|line| match run(line) {
            Ok(Value::Bool(true)) => None,
            other => Some(format!("{line}: {other:?}")),
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a table with `expression => error` a line.
fn all_fail(table: &str) {
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (text, wanted) = line.split_once(" => ").expect("an expression and its error");
        match run(text) {
            Err(problem) => assert_eq!(problem, wanted.trim(), "{text}"),
            Ok(value) => panic!("{text} is {value:?}"),
        }
    }
}
