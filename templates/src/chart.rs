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
mod schema;
mod set;

pub use coalesce::{coalesce_values, merge_maps};
pub use files::{FileSource, Folder, MemoryFiles};
pub(crate) use glob::glob_regex;
pub(crate) use load::exact_values;
pub use load::{Chart, ChartError};
pub(crate) use manifests::{EVENTS, rank, split};
pub use manifests::{Hook, Manifest};
pub use metadata::{Dependency, Maintainer, Metadata};
pub use render::{Capabilities, Place, RenderError, RenderOptions, Rendered, render};
pub(crate) use render::{Source, capabilities, execute, prepare, release, sources};
pub(crate) use set::set_path;
pub use set::{set_json, set_string, set_values};

#[cfg(test)]
mod tests;
