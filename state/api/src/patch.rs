//! The three patches that change an object without knowing all of it.
//!
//! * [`json`]: a list of operations (RFC 6902), `application/json-patch+json`.
//! * [`merge`]: a partial object (RFC 7386), `application/merge-patch+json`.
//! * [`strategic`]: a partial object whose lists are merged as the kind's schema says,
//!   `application/strategic-merge-patch+json`; built-in kinds only.
//!
//! The fourth, server-side apply, is in [`crate::apply`].

pub mod json;
pub mod merge;
pub mod strategic;

use crate::Status;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is no patch; the client gets a 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object; the client gets a 422 that does not say why, as Kubernetes has it.
    #[error("{0}")]
    DoesNotApply(String),
    /// The patch has too many operations; the client gets a 413.
    #[error("{0}")]
    TooLarge(String),
    /// The patch asks for what strategic merging does not know; Kubernetes takes that for a fault of its own, a 500.
    #[error("{0}")]
    Unmergeable(String),
}

impl PatchError {
    fn malformed(message: impl Into<String>) -> PatchError {
        PatchError::Malformed(message.into())
    }

    fn does_not_apply(message: impl Into<String>) -> PatchError {
        PatchError::DoesNotApply(message.into())
    }

    /// Returns the answer for the client.
    pub fn status(&self) -> Status {
        match self {
            PatchError::Malformed(message) => Status::bad_request(message.clone()),
            PatchError::DoesNotApply(_) => {
                let text = "the server rejected our request due to an error in our request";
                Status::new(422, "Invalid", text).with_causes(Vec::new())
            }
            PatchError::TooLarge(message) => Status::new(
                413,
                "RequestEntityTooLarge",
                format!("Request entity too large: {message}"),
            ),
            PatchError::Unmergeable(message) => Status::new(500, "", message.clone()),
        }
    }
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Status {
        error.status()
    }
}
