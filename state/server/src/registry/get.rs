//! Reading one object.

use std::time::Duration;

use setpoint_api::Status;

use super::answer::Answer;
use super::call::Call;
use super::list_options::{invalid_revision, parse_revision};

/// How long a read at a revision that is still to come waits for it.
pub(super) const WAIT: Duration = Duration::from_secs(3);

pub(super) async fn get(call: &Call<'_>) -> Result<Answer, Status> {
    not_before(call, "resourceVersion").await?;
    call.stored().map(Answer::Stored)
}

/// Waits until the cache is at the revision that a query asks for at least; `None` when it asks for none.
pub(super) async fn not_before(call: &Call<'_>, key: &str) -> Result<Option<u64>, Status> {
    let Some(text) = call.info.query.non_empty(key) else {
        return Ok(None);
    };
    let revision = parse_revision(text).map_err(|error| invalid_revision(&error))?;
    let cache = &call.inner().cache;
    match cache.wait_within(revision, WAIT).await {
        Ok(()) => Ok(Some(revision)),
        Err(behind) => Err(Status::too_large_resource_version(revision, behind.reached)),
    }
}
