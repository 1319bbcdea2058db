//! Text to objects: Helm charts rendered as Helm renders them.
//!
//! Everything here is pure: a chart is read through a [`FileSource`], the time, the seed of random functions and the
//! reader of live objects are handed in, and rendering twice gives the same bytes. Nothing panics or runs without end on
//! what others wrote.
//!
//! * [`chart`]: charts, their values and dependencies, [`render`].
//! * [`gotemplate`]: the language.
//! * [`functions`]: what templates can call.
//! * [`value`]: what they compute with.
//! * [`yaml`]: YAML as Go reads and writes it.
//!
//! Not there: handlebars, and functions that make keys, certificates or password hashes or that read and write TOML (a
//! template that calls one fails by name). A chart's `values.schema.json` is carried and not checked.

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
