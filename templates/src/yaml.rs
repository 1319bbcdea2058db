//! YAML as `sigs.k8s.io/yaml` reads and writes it: by way of JSON, with the rules of YAML 1.1 as Go's yaml.v2 has them.

mod emit;
pub mod node;
mod read;
mod scalar;

pub use emit::{write, write_pretty};
pub use read::{documents, read, read_map};

#[cfg(test)]
mod tests;

/// What the parser tells: data alone. Another crate of the same build may switch on that it tells of comments as well.
fn events() -> granit_parser::Options {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options
}
