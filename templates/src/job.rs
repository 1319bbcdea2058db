//! From a folder to objects: the one entry point for whoever only wants what stands in the end.
//!
//! A [`Job`] carries everything that its [`Output`] depends on, and both go over a wire, so that a job can be run in a
//! worker process without privileges. The same job gives the same output, byte for byte.

mod chart;
mod folder;
mod objects;
mod values;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chart::Capabilities;
pub(crate) use objects::item_lines;

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

/// How many bytes the files of a job may have.
const FILES_LIMIT: usize = 64 << 20;

/// Runs a job.
///
/// A folder with a `Chart.yaml` is a chart. Any other is a plain folder: every `*.yaml`, `*.yml` and `*.json` below it
/// holds objects, and `*.hbs` are rendered first; hidden files and `values.yaml`, which gives defaults to the templates,
/// are not objects.
///
/// # Errors
/// What is wrong with the files, with a place in them wherever there is one.
pub fn run(job: &Job) -> Result<Output, Failure> {
    let plainly = |message: &str| Failure {
        message: message.to_owned(),
        ..Failure::default()
    };
    if job.files.is_empty() {
        return Err(plainly("the app's folder is empty"));
    }
    if job.files.values().map(Vec::len).sum::<usize>() > FILES_LIMIT {
        return Err(plainly("the app's folder is larger than 64 MiB"));
    }
    let kustomization = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    if let Some(file) = kustomization.into_iter().find(|file| job.files.contains_key(*file)) {
        return Err(Failure {
            message:
                "this is a kustomization, which is not supported: commit what `kustomize build` prints, or use a chart"
                    .to_owned(),
            file: Some(file.to_owned()),
            ..Failure::default()
        });
    }
    let run = || {
        let values = values::read(job)?;
        if job.files.contains_key("Chart.yaml") {
            chart::render(job, values)
        } else {
            folder::render(job, values)
        }
    };
    crate::stack::run(run).unwrap_or_else(|words| Err(plainly(&words)))
}

impl From<crate::handlebars::Error> for Failure {
    fn from(error: crate::handlebars::Error) -> Self {
        Self {
            message: error.message,
            file: Some(error.file),
            line: Some(error.line),
            column: Some(error.column),
            chain: error.chain,
        }
    }
}
