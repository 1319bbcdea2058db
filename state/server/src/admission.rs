//! What may still change or refuse an object after it was decoded and defaulted, and before it is written.

mod pod_security;

use std::sync::Arc;

use serde_json::Value;
use setpoint_api::{Resource, Status};

pub(crate) use pod_security::PodSecurity;

use crate::audit::Annotations;
use crate::cache::Cache;
use crate::request::UserInfo;

/// The kind of write that is being admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An object is to be made.
    Create,
    /// An object is to be replaced, patched or applied.
    Update,
    /// An object is to be deleted.
    Delete,
}

/// What an [`Admission`] may look at beside the object itself.
pub struct AdmissionRequest<'a> {
    /// The kind of write.
    pub operation: Operation,
    /// The row of the object's kind.
    pub resource: &'a Arc<Resource>,
    /// The subresource written through (`status`, `scale`, …); `None` for the object itself.
    pub subresource: Option<&'a str>,
    /// Who asks.
    pub user: &'a UserInfo,
    /// The object as it is stored; `None` on create.
    pub old: Option<&'a Value>,
    /// Whether nothing will be written.
    pub dry_run: bool,
    /// All other objects, as they are now.
    pub cache: &'a Arc<Cache>,
    /// What the audit log is to say of the decision.
    pub annotations: &'a Annotations,
}

/// One step of the admission chain.
///
/// Steps run in the order they were configured: [`Admission::admit`] after defaulting and before validation, each seeing what the
/// earlier made of the object, and [`Admission::validate`] once the object is known to be valid in itself. Warnings reach the client
/// as `Warning: 299` headers. On delete the object is the stored one and what a step changes in it is ignored.
pub trait Admission: Send + Sync + 'static {
    /// Accepts the write, perhaps changing the object, or refuses it with the Status that the client gets.
    fn admit(&self, _: &AdmissionRequest<'_>, _: &mut Value, _warnings: &mut Vec<String>) -> Result<(), Status> {
        Ok(())
    }

    /// Accepts the object as it will be, or refuses it with the Status that the client gets.
    fn validate(&self, _: &AdmissionRequest<'_>, _: &Value, _warnings: &mut Vec<String>) -> Result<(), Status> {
        Ok(())
    }
}

/// Runs `chain` over `object`, stopping at the first refusal.
pub(crate) fn run(
    chain: &[Arc<dyn Admission>],
    request: &AdmissionRequest<'_>,
    object: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    chain.iter().try_for_each(|step| step.admit(request, object, warnings))
}

/// Holds a valid `object` against `chain`, stopping at the first refusal.
pub(crate) fn validate(
    chain: &[Arc<dyn Admission>],
    request: &AdmissionRequest<'_>,
    object: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    chain
        .iter()
        .try_for_each(|step| step.validate(request, object, warnings))
}
