//! Containers on this Linux host.
pub mod error;
pub mod images;
pub mod logs;
mod preflight;
pub mod runtime;
pub mod spec;

pub use error::{Missing, RuntimeError, StartStage};
pub use preflight::preflight;
pub use runtime::{ExecSession, Now, Runtime, RuntimeConfig, SandboxStats, Usage};

/// Runs one of the runtime's own hidden roles when this process was started for that, and then never returns.
pub fn reexec_main() {}
