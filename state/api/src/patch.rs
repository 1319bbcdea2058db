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
use crate::status::Cause;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is no patch; the client gets a 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object; the client gets a 422.
    #[error("{0}")]
    DoesNotApply(String),
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
            PatchError::DoesNotApply(message) => {
                let text = format!("the server rejected our request due to an error in our request: {message}");
                let cause = Cause {
                    reason: "UnexpectedServerResponse".into(),
                    message: message.clone(),
                    field: String::new(),
                };
                Status::new(422, "Invalid", text).with_causes(vec![cause])
            }
        }
    }
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Status {
        error.status()
    }
}
