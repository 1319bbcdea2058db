//! `pods/eviction`: a deletion that asks first. There are no disruption budgets yet, so that nothing objects.

use axum::body::Body;
use setpoint_api::{Status, meta};

use super::answer::Answer;
use super::call::Call;
use super::delete::{DeleteOptions, run};
use crate::body;

pub(super) async fn create(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let eviction = body::parse(&body::read(body).await?, media)?;
    if !matches!(meta::kind(&eviction), "Eviction" | "") {
        return Err(Status::bad_request(format!(
            "expected policy/v1, Kind=Eviction, got Kind={}",
            meta::kind(&eviction)
        )));
    }
    let name = meta::name(&eviction);
    if !name.is_empty() && name != call.name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut options = match eviction.get("deleteOptions") {
        Some(options) if !options.is_null() => DeleteOptions::parse(options)?,
        _ => DeleteOptions::default(),
    };
    options.dry_run |= call.dry_run;
    run(call, &options).await?;
    Ok(Answer::Status(Status::success()))
}
