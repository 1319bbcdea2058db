//! Changing a part of an object as the server itself.

use serde_json::Value;
use setpoint_api::{Status, meta};

use super::Registry;
use super::bookkeeping::Target;
use super::call::Call;
use super::system::{headers, info, row_of};
use super::update::{Candidate, change};
use crate::request::UserInfo;

/// Changes an object that is there, as it is by then; one of its name that is another by then, or none, is left alone.
pub(crate) async fn amend(
    registry: &Registry,
    object: &Value,
    with: impl Fn(&mut Value) + Send + Sync,
) -> Result<(), Status> {
    let row = row_of(registry, object)?;
    let namespace = if row.namespaced { meta::namespace(object) } else { "" };
    let (info, user, headers) = (
        info(&row, "update", namespace, meta::name(object)),
        UserInfo::system("apiserver"),
        headers(),
    );
    let mut call = Call::new(registry, &info, &user, &headers)?;
    let outcome = change(&mut call, Target::Main, &mut |call, old| {
        if meta::uid(old) != meta::uid(object) {
            return Err(call.not_found());
        }
        let mut new = old.clone();
        with(&mut new);
        Ok(Candidate::new(new))
    })
    .await;
    match outcome {
        Err(status) if status.reason == "NotFound" => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}
