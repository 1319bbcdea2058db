//! Text to objects: charts as Helm knows them, handlebars, plain folders.
//!
//! Everything here is pure: the files, the values, the time and the seed of random functions are handed in, and rendering
//! twice gives the same bytes. Nothing panics or runs without end on what others wrote: depth, steps, output and size are
//! bounded everywhere.
//!
//! * [`job`]: the one entry point for whoever wants objects: a [`Job`] in, an [`Output`] or a [`Failure`] out, all of
//!   which go over a wire.
//! * [`chart`]: charts, their values and dependencies, [`render`] to text as Helm prints it.
//! * [`handlebars`]: templates whose values cannot break YAML.
//! * [`gotemplate`]: the language of Helm's templates.
//! * [`functions`]: what templates of both languages can call.
//! * [`value`]: what they compute with.
//! * [`yaml`]: YAML as Go reads and writes it, and with places ([`yaml::node`]).
//!
//! Not there: keys other than Ed25519, password hashes, derived passwords and AES (a template that asks for one fails by
//! name), and `lookup` in a [`Job`], which finds nothing. A `values.schema.json` that refers to another
//! address is not used, since nothing is fetched; the output says so. Kustomizations are refused by name.

pub mod chart;
pub mod functions;
pub mod gotemplate;
pub mod handlebars;
pub mod job;
mod stack;
pub mod value;
pub mod yaml;

pub use job::{Failure, Job, Object, Output, ValuesFile};

pub use chart::{
    Capabilities, Chart, ChartError, FileSource, Folder, Hook, Manifest, MemoryFiles, RenderError, RenderOptions,
    Rendered, render,
};
