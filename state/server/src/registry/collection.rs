//! Deleting everything that a list of the same query shows.

use axum::body::Body;
use futures::stream::{self, StreamExt};
use setpoint_api::Status;

use super::answer::Answer;
use super::call::Call;
use super::delete::{DeleteOptions, run};
use super::list;

/// How many deletions share commits of the log.
const AT_ONCE: usize = 64;

pub(super) async fn delete(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let options = DeleteOptions::read(call, body).await?;
    let list = list::items(call).await?;
    let (registry, info, user, headers) = (call.registry, call.info, call.user, call.headers);
    let mut deletions = stream::iter(list.items.clone())
        .map(|stored| {
            let options = &options;
            async move {
                let mut one = Call::new(registry, info, user, headers)?;
                one.namespace = stored.namespace.to_string();
                one.name = stored.name.to_string();
                match run(&mut one, options).await {
                    // Somebody else was faster.
                    Err(status) if status.reason == "NotFound" => Ok(one.warnings),
                    outcome => outcome.map(|_| one.warnings),
                }
            }
        })
        .buffer_unordered(AT_ONCE);
    let mut warnings = Vec::new();
    while let Some(outcome) = deletions.next().await {
        warnings.extend(outcome?);
    }
    drop(deletions);
    call.warnings.extend(warnings);
    Ok(Answer::List(list))
}
