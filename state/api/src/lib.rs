//! Kubernetes' API machinery as pure functions over JSON objects.
//!
//! Objects are `serde_json::Value`s. Nothing here reads a clock, does I/O or knows HTTP: `now`, names and randomness
//! are handed in.
//!
//! * What kinds there are: [`scheme`] (one [`Resource`] row per kind, built in or from a CustomResourceDefinition).
//! * What happens to an object on its way in: [`protobuf`] → [`default`](mod@default) → [`strategy`] → [`validate`] → [`encode`](mod@encode).
//! * How it looks in other versions: [`convert`].
//! * How it changes: [`patch`] and [`apply`] over the structure in [`schema`], which [`openapi`] publishes.
//! * Which pods a namespace takes: [`pod_security`].
//! * What clients ask with: [`selector`], [`quantity`], [`names`], [`meta`], [`cron`], [`certificate`].
//! * What they are answered with: [`table`], [`status`].

pub mod apply;
pub mod certificate;
pub mod convert;
pub mod cron;
pub mod default;
pub mod encode;
pub mod meta;
pub mod metrics;
pub mod openapi;
pub mod patch;
pub mod pod_security;
pub mod protobuf;
pub mod schema;
pub mod scheme;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod table;
pub mod validate;

pub use encode::{encode, splice};
pub use quantity::Quantity;
pub use scheme::{Resource, Scheme, Subresource};
pub use selector::{FieldSelector, LabelSelector};
pub use setpoint_cel::{names, quantity};
pub use status::Status;
pub use validate::field::{FieldError, FieldErrorKind};
