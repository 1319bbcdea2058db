//! What goes wrong with a source.

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may pass by itself: back off and try again.
    Transient,
    /// Nothing changes until somebody changes something: say so and wait for the input.
    Terminal,
}

/// Why a source could not be read, watched, fetched or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Placeholder.
    #[error("not yet")]
    NotYet,
}

impl SourceError {
    /// Whether trying again can help.
    pub fn class(&self) -> Class {
        Class::Terminal
    }
}
