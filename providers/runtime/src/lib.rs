//! Containers on this Linux host.
pub mod spec;
