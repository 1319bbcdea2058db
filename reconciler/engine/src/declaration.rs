//! `setpoint.toml`: what a repository declares.
//!
//! Pure: text in, [`Declaration`] or a [`DeclarationError`] with line, column and advice out. What parses here is complete and
//! consistent: names are unique and valid, paths stay in the repository, `after` names apps of the same file without a cycle.
//!
//! Every key is read by hand from the spanned TOML tree, so that each complaint points at the place that a person has to change;
//! nothing that is unknown is passed over.

pub mod duration;
mod order;
mod paths;
mod read;
mod set;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::de::DeTable;

pub use paths::normalize as normalize_path;

/// The file's name at the root of a commit.
pub const FILE: &str = "setpoint.toml";

/// A longer file is refused, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A file with more apps is refused.
pub const MAX_APPS: usize = 1_000;

/// What a repository declares: the apps of one commit's `setpoint.toml`, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Declaration {
    /// The apps; names are unique.
    pub apps: Vec<App>,
}

/// One `[[app]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// A DNS label, at most 53 characters.
    pub name: String,
    /// The chart or folder, relative to the repository's root, normalized; empty for the root itself.
    pub path: String,
    /// Where objects without a namespace go.
    pub namespace: String,
    /// Values files relative to the repository's root, normalized; later ones win.
    #[serde(default)]
    pub values: Vec<String>,
    /// Values over those of the files, nested.
    #[serde(default)]
    pub set: Map<String, Value>,
    /// Apps of the same file that must be healthy first.
    #[serde(default)]
    pub after: Vec<String>,
    /// Fields left to others, each `[KIND[/NAME]:]PATH`.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// How the app is kept.
    #[serde(default)]
    pub sync: Sync,
}

/// `[app.sync]`: how an app is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sync {
    /// Delete what the repository no longer has.
    pub prune: bool,
    /// Put back what was changed by others.
    pub heal: bool,
    /// Go back to the last healthy revision after a failure.
    pub rollback: bool,
    /// How long a sync may take to become healthy: 1 s to 24 h; written as `2m`.
    #[serde(with = "duration")]
    pub deadline: Duration,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            prune: true,
            heal: true,
            rollback: true,
            deadline: Duration::from_secs(120),
        }
    }
}

/// Why a `setpoint.toml` does not count, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{FILE}:{line}:{column}: {message}")]
pub struct DeclarationError {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong and what to do.
    pub message: String,
}

/// Parses a `setpoint.toml`. A file without apps is valid.
pub fn parse(text: &str) -> Result<Declaration, DeclarationError> {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the file has {} bytes, more than {MAX_BYTES}; move long values into values files",
            text.len()
        );
        return Err(locate(text, Fault { offset: 0, message }));
    }
    let document = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message().replace('\n', ", ");
        locate(text, Fault { offset, message })
    })?;
    let located = read::document(document.get_ref()).map_err(|fault| locate(text, fault))?;
    order::check(&located, |offset| position(text, offset).0).map_err(|fault| locate(text, fault))?;
    Ok(Declaration {
        apps: located.into_iter().map(|located| located.app).collect(),
    })
}

/// A complaint about the byte of the file where its subject begins.
#[derive(Debug)]
struct Fault {
    offset: usize,
    message: String,
}

impl Fault {
    fn new<T>(offset: usize, message: impl Into<String>) -> Result<T, Fault> {
        Err(Fault {
            offset,
            message: message.into(),
        })
    }
}

/// An app and where the file names things that are checked across apps.
struct Located {
    app: App,
    name: usize,
    after: Vec<usize>,
}

fn locate(text: &str, fault: Fault) -> DeclarationError {
    let (line, column) = position(text, fault.offset);
    DeclarationError {
        line,
        column,
        message: fault.message,
    }
}

fn position(text: &str, offset: usize) -> (u32, u32) {
    let (mut line, mut column) = (1, 1);
    for (_, character) in text.char_indices().take_while(|(at, _)| *at < offset) {
        if character == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    (line, column)
}
