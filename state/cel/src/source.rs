//! The text of an expression, and what is wrong with it.

use std::fmt;

/// How many faults are told.
const FAULTS: usize = 100;
/// How long a line is shown, in bytes.
const SNIPPET: usize = 16_384;

/// One fault: where it is, in characters from the start, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub offset: usize,
    pub message: String,
}

/// Everything that is wrong with an expression, shown with its lines as cel-go shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    text: String,
    faults: Vec<Fault>,
}

impl Issues {
    pub(crate) fn new(text: &str, mut faults: Vec<Fault>) -> Issues {
        faults.sort_by_key(|fault| fault.offset);
        Issues {
            text: text.to_owned(),
            faults,
        }
    }

    /// Returns the messages without the places.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.faults.iter().map(|fault| fault.message.as_str())
    }
}

impl std::error::Error for Issues {}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().take(FAULTS).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            show(&self.text, fault, f)?;
        }
        match self.faults.len().saturating_sub(FAULTS) {
            0 => Ok(()),
            more => write!(f, "\n{more} more errors were truncated"),
        }
    }
}

fn show(text: &str, fault: &Fault, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let before: Vec<char> = text.chars().take(fault.offset).collect();
    let line = before.iter().filter(|c| **c == '\n').count();
    let column = before.iter().rev().take_while(|c| **c != '\n').count();
    write!(f, "ERROR: <input>:{}:{}: {}", line + 1, column + 1, fault.message)?;
    let Some(snippet) = text.split('\n').nth(line).filter(|line| line.len() <= SNIPPET) else {
        return Ok(());
    };
    write!(f, "\n | {}\n | ", snippet.replace('\t', " "))?;
    let mut rest = snippet.chars();
    for c in rest.by_ref().take(column) {
        f.write_str(if c.len_utf8() > 1 { "\u{ff0e}" } else { "." })?;
    }
    f.write_str(match rest.next() {
        Some(c) if c.len_utf8() > 1 => "\u{ff3e}",
        _ => "^",
    })
}
