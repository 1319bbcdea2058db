//! Label selectors and field selectors: what a list, a watch or a controller asks for.

mod field;
mod label;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};

/// A selector cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl From<SelectorError> for crate::Status {
    fn from(error: SelectorError) -> crate::Status {
        crate::Status::bad_request(error.0)
    }
}
