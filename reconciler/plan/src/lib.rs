//! Pure: what git says against what runs, as a plan; and the health of what runs.
//!
//! Values go in, values come out: no clock, no I/O, nothing async, and the same input gives the same output whatever order it
//! came in. What others wrote cannot make anything here panic.
//!
//! * Who an object is and where it was written: [`object`].
//! * What an apply would change in one object: [`diff`], with what is left to others taken out by [`ignore`].
//! * What a sync does, and in which order: [`mod@plan`], [`order`], [`immutable`]; shown with secrets hidden by [`mask`].
//! * What a write of the past changed, and who made it: [`past`].
//! * How what runs is doing: [`health`] of one object, [`pods`] of a roll-out that cannot get well.

pub mod diff;
mod equal;
pub mod health;
pub mod ignore;
pub mod immutable;
pub mod mask;
pub mod object;
pub mod order;
mod ownership;
pub mod past;
mod path;
pub mod plan;
pub mod pods;
mod policy;
mod secret;
mod structure;
mod text;

pub use diff::{FieldChange, changes};
pub use health::{Health, HealthStatus};
pub use ignore::{Ignore, IgnoreError, body};
pub use object::{Desired, IdentityError, ObjectKey, ObjectRef, Origin};
pub use order::{OrderError, wave};
pub use plan::{Change, Counts, PRUNE_ANNOTATION, Plan, PlanError, Step, plan};
pub use pods::{Baseline, ContainerFacts, Failure, PodFacts, verdict};
pub use policy::Policy;
