//! The order of a sync.
use crate::object::{Desired, IdentityError, ObjectRef, Origin};
use serde_json::Value;

/// An object cannot be put in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A wave that is no whole number.
    #[error("{origin}: {object}: the annotation {annotation} is `{value}`, not a whole number")]
    Wave {
        /// Where it was written.
        origin: Origin,
        /// The object.
        object: String,
        /// The annotation.
        annotation: &'static str,
        /// What it says.
        value: String,
    },
    /// An object that does not say who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Returns the wave that an object asks for; 0 where it asks for none.
pub fn wave(object: &Value, origin: &Origin) -> Result<i64, OrderError> {
    let _ = (object, origin);
    Ok(0)
}

/// Sorts desired objects into the order in which a sync applies them.
pub fn sort(desired: &mut [Desired]) -> Result<(), OrderError> {
    let _ = desired;
    Ok(())
}

/// The place of an object in a sync; see the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    foundation: u8,
    wave: i64,
    rank: u16,
    group: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    version: String,
}

impl Place {
    /// Returns the place of an object in a wave.
    pub fn of(object: &ObjectRef, wave: i64) -> Place {
        Place {
            foundation: 0,
            wave,
            rank: 0,
            group: object.group.clone(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            version: object.version.clone(),
        }
    }
}
