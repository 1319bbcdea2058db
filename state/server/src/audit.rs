//! The audit log: who asked for what, when, and what they were answered.

mod annotations;

pub use annotations::Annotations;
