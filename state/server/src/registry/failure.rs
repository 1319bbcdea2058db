//! What clients are told when the store did not do as it was asked.

use setpoint_api::Status;
use setpoint_store::StoreError;

use crate::cache::NotVisible;

/// Words a failure of the store; conflicts are dealt with before, where they are expected.
pub(crate) fn from_store(error: &StoreError) -> Status {
    match error {
        StoreError::Conflict { key, .. } => Status::new(
            409,
            "Conflict",
            format!(
                "the object at {key} has been modified; please apply your changes to the latest version and try again"
            ),
        ),
        StoreError::Compacted { .. } | StoreError::WatchLagged { .. } => Status::expired(
            "The resourceVersion for the provided list or watch is too old: it was compacted away. Please list again.",
        ),
        StoreError::Future { requested, newest } => Status::too_large_resource_version(*requested, *newest),
        StoreError::Closed => {
            Status::unavailable("the server is shutting down: the store is closed").with_retry_after(1)
        }
        StoreError::TooLarge { limit, .. } => Status::too_large(*limit),
        StoreError::Engine { .. }
        | StoreError::Full { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Keys { .. }
        | StoreError::Damaged { .. }
        | StoreError::TooNew { .. } => {
            tracing::error!(error = %chain(error), "the store failed");
            Status::internal(format!("{}: the write was not made", chain(error)))
        }
    }
}

/// A read that failed in the engine says so without speaking of a write.
pub(crate) fn from_read(error: &StoreError) -> Status {
    match error {
        StoreError::Engine { .. } | StoreError::Keys { .. } | StoreError::Damaged { .. } => {
            tracing::error!(error = %chain(error), "the store failed");
            Status::internal(chain(error))
        }
        _ => from_store(error),
    }
}

pub(crate) fn not_visible(error: NotVisible) -> Status {
    Status::timeout(format!(
        "the write is durable, but the server does not show it yet: {error}"
    ))
    .with_retry_after(1)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
