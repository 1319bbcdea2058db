//! Charts: loading, values, dependencies, rendering.

mod coalesce;
mod dependencies;
mod files;
mod glob;
mod ignore;
mod load;
mod manifests;
mod metadata;
mod render;
mod set;

pub use coalesce::{coalesce_values, merge_maps};
pub use files::{FileSource, Folder, MemoryFiles};
pub(crate) use glob::glob_regex;
pub use load::{Chart, ChartError};
pub use manifests::{Hook, Manifest};
pub use metadata::{Dependency, Maintainer, Metadata};
pub use render::{Capabilities, RenderError, RenderOptions, Rendered, render};
pub use set::{set_json, set_string, set_values};

#[cfg(test)]
mod tests;
