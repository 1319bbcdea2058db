//! Namespaces: what each new one gets, and how one goes with everything in it.

pub mod content;
pub mod defaults;
