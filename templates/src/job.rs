//! From a folder to objects: the one entry point for whoever only wants what stands in the end.
//!
//! A [`Job`] carries everything that its [`Output`] depends on, and both go over a wire, so that a job can be run in a
//! worker process without privileges. The same job gives the same output, byte for byte.

mod wire;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chart::Capabilities;

/// What is to be rendered: a folder's files and everything that rendering depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The folder's files by their paths, relative to it and separated by `/`.
    #[serde(with = "wire::files")]
    pub files: BTreeMap<String, Vec<u8>>,
    /// The app's name: what templates see as the release's.
    pub name: String,
    /// The namespace that the app goes to.
    pub namespace: String,
    /// The release's number, from 1.
    pub revision: i64,
    /// Whether this is the first installation.
    pub is_install: bool,
    /// Files of values in YAML; later ones win.
    pub values: Vec<ValuesFile>,
    /// Values that win over those of the files: nested maps, or keys with dots (`image.tag`).
    pub set: Map<String, Value>,
    /// What the cluster can do.
    pub capabilities: Capabilities,
    /// What random functions draw from.
    #[serde(with = "wire::seed")]
    pub seed: [u8; 32],
    /// The time that `now` gives, in seconds since 1970.
    pub now: i64,
}

/// A file of values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValuesFile {
    /// What errors call it.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What a job gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The objects, in the order of installation.
    pub objects: Vec<Object>,
    /// The objects that are run at events and are not part of what stands.
    pub hooks: Vec<Hook>,
    /// What the chart tells whoever installs it.
    pub notes: String,
    /// What is odd but does not stop the rendering.
    pub warnings: Vec<String>,
}

/// An object and where it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// The object; it has an `apiVersion`, a `kind` and a `metadata.name`.
    pub object: Value,
    /// The file that it comes from, relative to the folder.
    pub file: String,
    /// The line that it begins on in that file, from 1, where that is known: a Go template's output has lines of its own.
    pub line: Option<u32>,
}

/// An object that is run at events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// The object and where it is written.
    #[serde(flatten)]
    pub object: Object,
    /// When it runs, in Helm's words: `pre-install`, `post-upgrade`, `test`, ….
    pub events: Vec<String>,
    /// Its order among the hooks of an event.
    pub weight: i64,
    /// When it is deleted, in Helm's words: `before-hook-creation`, `hook-succeeded`, `hook-failed`.
    pub delete_policies: Vec<String>,
}

/// Why a job gives nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong; it may have several lines, of which the first says it all.
    pub message: String,
    /// The file to look at, relative to the folder, or the name of a file of values.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
    /// The places that led there, the innermost first: `templates/_x.tpl:3:4 (x)`.
    pub chain: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            for number in [self.line, self.column].into_iter().flatten() {
                write!(f, "{number}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)?;
        self.chain.iter().try_for_each(|place| write!(f, "\n  from {place}"))
    }
}

impl std::error::Error for Failure {}

/// Runs a job.
///
/// # Errors
/// What is wrong with the files, with a place in them wherever there is one.
pub fn run(job: &Job) -> Result<Output, Failure> {
    let Some(file) = job.files.keys().next() else {
        return Err(Failure {
            message: "there are no files in the app's folder".to_owned(),
            ..Failure::default()
        });
    };
    Err(Failure {
        message: "nothing renders this yet".to_owned(),
        file: Some(file.clone()),
        ..Failure::default()
    })
}
