//! Whether what a client sent is about the object that the path names.

use serde_json::Value;
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, meta};

use super::call::Call;

/// Refuses an object of another name or namespace than the path's, or of no name.
pub(super) fn check_name(call: &Call<'_>, object: &Value) -> Result<(), Status> {
    check_namespace(call, object)?;
    let name = meta::name(object);
    if name.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name
        )));
    }
    if name != call.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    Ok(())
}

/// Refuses an object of another namespace than the path's; one of none is of the path's.
pub(super) fn check_namespace(call: &Call<'_>, object: &Value) -> Result<(), Status> {
    let own = meta::namespace(object);
    if call.row.namespaced && !own.is_empty() && own != call.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Refuses a uid that is not the stored object's; none fits all.
pub(super) fn check_uid(call: &Call<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let (wanted, found) = (meta::uid(object), old.map(meta::uid).unwrap_or_default());
    if wanted.is_empty() || wanted == found {
        return Ok(());
    }
    Err(call.conflict(&format!(
        "Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    )))
}

/// Refuses a resourceVersion that is not the stored object's. None (`0` is none) fits all, for kinds where it may be left out.
pub(super) fn check_revision(call: &Call<'_>, object: &Value, old: &Value) -> Result<(), Status> {
    let row = &call.row;
    match meta::resource_version(object) {
        "" | "0" if row.writing.unconditional_update => Ok(()),
        "" | "0" => {
            let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            // Kubernetes names the resource here, not the kind.
            Err(Status::invalid(&row.group, &row.plural, &call.name, &[error]))
        }
        wanted if wanted == meta::resource_version(old) => Ok(()),
        _ => Err(call.modified()),
    }
}
