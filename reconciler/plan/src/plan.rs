//! What a sync does.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diff::FieldChange;
use crate::object::{Desired, IdentityError, ObjectKey, ObjectRef, Origin};
use crate::order::OrderError;
use crate::policy::Policy;

/// What is done with one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "action")]
pub enum Change {
    /// It is made.
    Create,
    /// It is changed in place.
    Update {
        /// The fields that change.
        changes: Vec<FieldChange>,
    },
    /// It is deleted and made anew, since a field changes that cannot be changed in place.
    Replace {
        /// Why, in words.
        because: String,
        /// The fields that change.
        changes: Vec<FieldChange>,
    },
    /// It is deleted.
    Delete,
    /// It is as it should be.
    Unchanged,
}

/// One object of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The object.
    pub object: ObjectRef,
    /// The wave in which it is its turn.
    pub wave: i64,
    /// What is done with it.
    pub change: Change,
    /// Where it was written; nothing for what is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What is sent; nothing for what is deleted or unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// What a sync does, in order: first what is applied, then what is deleted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The objects, in the order of [`crate::order`].
    pub steps: Vec<Step>,
}

/// How many objects a plan does what with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Objects to create.
    pub create: usize,
    /// Objects to change in place.
    pub update: usize,
    /// Objects to replace.
    pub replace: usize,
    /// Objects to delete.
    pub delete: usize,
    /// Objects that are as they should be.
    pub unchanged: usize,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// An object that does not say who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An object that cannot be put in order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// Two objects of one name.
    #[error("{object} is written twice: in {first} and in {second}; remove one or rename it")]
    Duplicate {
        /// The object.
        object: Box<ObjectRef>,
        /// Where it was written first.
        first: Origin,
        /// Where it was written again.
        second: Origin,
    },
    /// An object that another app keeps.
    #[error("{origin}: {object} belongs to the app {theirs}, so {ours} cannot have it; remove it from one of the two")]
    Owned {
        /// Where it was written.
        origin: Origin,
        /// The object.
        object: Box<ObjectRef>,
        /// The app that has it.
        theirs: String,
        /// The app that wants it.
        ours: String,
    },
}

impl Plan {
    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.change == Change::Unchanged)
    }

    /// Counts the objects by what is done with them.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}

/// Plans how `live` becomes `desired`.
pub fn plan(
    desired: &[Desired],
    live: &BTreeMap<ObjectKey, Value>,
    inventory: &[ObjectRef],
    policy: &Policy,
) -> Result<Plan, PlanError> {
    let _ = (desired, live, inventory, policy);
    Ok(Plan::default())
}
