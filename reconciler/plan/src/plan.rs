//! What a sync does, as data: the same plan is shown and carried out.
//!
//! Planning is deterministic, and planning again after a sync finds nothing to do.

mod show;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use setpoint_api::meta;

use crate::diff::{FieldChange, changes};
use crate::ignore::body;
use crate::immutable;
use crate::mask;
use crate::object::{Desired, IdentityError, ObjectKey, ObjectRef, Origin};
use crate::order::{self, OrderError, Place};
use crate::policy::Policy;

/// The annotation that says which app an object belongs to: `<namespace>/<app>`.
pub const OWNER_ANNOTATION: &str = "setpoint.dev/owner";
/// The annotation that keeps an object from being pruned where it says `false`.
pub const PRUNE_ANNOTATION: &str = "setpoint.dev/prune";
/// Helm's annotation for the same; it says `keep`.
const HELM_POLICY_ANNOTATION: &str = "helm.sh/resource-policy";

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
    /// The wave in which it is its turn. Never falls from one applied step to the next, nor rises from one deleted to the next.
    pub wave: i64,
    /// What is done with it.
    #[serde(flatten)]
    pub change: Change,
    /// Where it was written; nothing for what is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What is sent; nothing for what is deleted or unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// What a sync does, in order: first what is applied or stays, then what is deleted.
///
/// Displayed for people, with the values of Secrets hidden: a line per object that changes, its fields below, and a summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The objects, in the order of [`crate::order`].
    pub steps: Vec<Step>,
}

/// How many objects a plan does what with.
///
/// Displayed as `2 to create, 1 to change, 1 to delete, 12 unchanged`.
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
    #[error("{object} is written twice, in {first} and in {second}; remove one of them or rename it")]
    Duplicate {
        /// The object.
        object: Box<ObjectRef>,
        /// Where it was written first.
        first: Origin,
        /// Where it was written again.
        second: Origin,
    },
    /// An object that another app keeps.
    #[error("{origin}: {object} belongs to the app {theirs}, so {ours} cannot have it too; remove it from one of them")]
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
        let mut counts = Counts::default();
        for step in &self.steps {
            *match step.change {
                Change::Create => &mut counts.create,
                Change::Update { .. } => &mut counts.update,
                Change::Replace { .. } => &mut counts.replace,
                Change::Delete => &mut counts.delete,
                Change::Unchanged => &mut counts.unchanged,
            } += 1;
        }
        counts
    }

    /// Returns the plan as people may see it: with the values of Secrets hidden, and so not to be carried out.
    #[must_use]
    pub fn masked(&self) -> Plan {
        let steps = self.steps.iter().map(|step| Step {
            change: match &step.change {
                Change::Update { changes } => Change::Update {
                    changes: mask::changes(&step.object, changes),
                },
                Change::Replace { because, changes } => Change::Replace {
                    because: because.clone(),
                    changes: mask::changes(&step.object, changes),
                },
                other => other.clone(),
            },
            body: step.body.as_ref().map(mask::object),
            ..step.clone()
        });
        Plan { steps: steps.collect() }
    }
}

/// Plans how `live` becomes `desired`.
///
/// `live` has at least the live objects of what is desired and what is in the inventory; `inventory` is what the app applied before.
/// An object of the inventory that is no longer desired is deleted where it is live and still the app's, the policy prunes, and the live
/// object is not annotated to be kept; else it is no part of the plan.
///
/// Errors: an object without a name, with a wave that is no number, written twice, or that is live and another app's. The
/// first in the order of `desired`.
pub fn plan(
    desired: &[Desired],
    live: &BTreeMap<ObjectKey, Value>,
    inventory: &[ObjectRef],
    policy: &Policy,
) -> Result<Plan, PlanError> {
    let mut wanted: BTreeMap<ObjectKey, &Origin> = BTreeMap::new();
    let mut applied: Vec<(Place, Step)> = Vec::with_capacity(desired.len());
    for each in desired {
        let object = each.reference()?;
        let wave = order::wave(&each.object, &each.origin)?;
        let key = object.key();
        let found = live.get(&key);
        match wanted.entry(key) {
            Entry::Vacant(entry) => entry.insert(&each.origin),
            Entry::Occupied(entry) => {
                return Err(PlanError::Duplicate {
                    object: Box::new(object),
                    first: (*entry.get()).clone(),
                    second: each.origin.clone(),
                });
            }
        };
        if let Some(theirs) = found.and_then(owner).filter(|theirs| *theirs != policy.owner) {
            return Err(PlanError::Owned {
                origin: each.origin.clone(),
                object: Box::new(object),
                theirs: theirs.to_owned(),
                ours: policy.owner.clone(),
            });
        }
        let place = Place::of(&object, wave);
        applied.push((place, step(each, object, wave, found, policy)));
    }
    let mut deleted = if policy.prune {
        deletions(inventory, &wanted, live, policy)
    } else {
        Vec::new()
    };
    applied.sort_by(|a, b| a.0.cmp(&b.0));
    deleted.sort_by(|a, b| b.0.cmp(&a.0));
    for steps in [&mut applied, &mut deleted] {
        found_first(steps);
    }
    let steps = applied.into_iter().chain(deleted).map(|(_, step)| step).collect();
    Ok(Plan { steps })
}

fn owner(live: &Value) -> Option<&str> {
    meta::annotation(live, OWNER_ANNOTATION).filter(|owner| !owner.is_empty())
}

fn step(each: &Desired, object: ObjectRef, wave: i64, live: Option<&Value>, policy: &Policy) -> Step {
    let change = match live {
        None => Change::Create,
        Some(live) => {
            let changes = changes(&each.object, live, policy);
            match immutable::reason(&object, live, &changes) {
                _ if changes.is_empty() => Change::Unchanged,
                Some(because) => Change::Replace { because, changes },
                None => Change::Update { changes },
            }
        }
    };
    let body = match change {
        Change::Unchanged => None,
        // What was there is gone by then, and with it what others had of it.
        Change::Replace { .. } | Change::Create => Some(body(&each.object, None, policy)),
        Change::Update { .. } | Change::Delete => Some(body(&each.object, live, policy)),
    };
    Step {
        object,
        wave,
        change,
        origin: Some(each.origin.clone()),
        body,
    }
}

fn deletions(
    inventory: &[ObjectRef],
    wanted: &BTreeMap<ObjectKey, &Origin>,
    live: &BTreeMap<ObjectKey, Value>,
    policy: &Policy,
) -> Vec<(Place, Step)> {
    let mut seen: BTreeSet<ObjectKey> = BTreeSet::new();
    let mut out = Vec::new();
    for object in inventory {
        let key = object.key();
        let Some(found) = live.get(&key).filter(|_| !wanted.contains_key(&key)) else {
            continue;
        };
        if owner(found).is_some_and(|owner| owner != policy.owner) || is_kept(found) || !seen.insert(key) {
            continue;
        }
        // It was in order when it was applied; whoever edited the annotation since does not keep it from going.
        let wave = order::wave(found, &Origin::default()).unwrap_or_default();
        let step = Step {
            object: object.clone(),
            wave,
            change: Change::Delete,
            origin: None,
            body: None,
        };
        out.push((Place::of(object, wave), step));
    }
    out
}

/// Returns whether an object says that it stays when its app no longer has it.
pub fn is_kept(live: &Value) -> bool {
    meta::annotation(live, PRUNE_ANNOTATION) == Some("false")
        || meta::annotation(live, HELM_POLICY_ANNOTATION).is_some_and(|policy| policy.trim() == "keep")
}

/// Gives the foundation a wave of its own below all others.
fn found_first(steps: &mut [(Place, Step)]) {
    let lowest = steps
        .iter()
        .filter(|(place, _)| !place.is_foundation())
        .map(|(_, step)| step.wave)
        .min();
    let wave = lowest.unwrap_or(0).saturating_sub(1);
    for (_, step) in steps.iter_mut().filter(|(place, _)| place.is_foundation()) {
        step.wave = wave;
    }
}

#[cfg(test)]
mod tests;
