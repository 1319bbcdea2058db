//! `scale`: the number of replicas of a kind as an `autoscaling/v1 Scale`.

use axum::body::Body;
use http::StatusCode;
use serde_json::Value;
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Resource, Status, meta, strategy, table};

use super::answer::{Answer, value_of};
use super::bookkeeping::Target;
use super::call::Call;
use super::patch::{self, Patch};
use super::update::{Candidate, change};
use crate::body::{self, Form};

pub(super) fn get(call: &Call<'_>) -> Result<Answer, Status> {
    let stored = call.stored()?;
    let scale = scale_of(&call.row, &value_of(&call.row, &stored))?;
    let answer = match call.accept.form {
        Form::Table => table::scale(&scale, call.accept.include, call.now()),
        Form::Metadata => table::partial(&scale),
        Form::Object => scale,
    };
    Ok(Answer::Other(StatusCode::OK, answer))
}

pub(super) async fn put(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let scale = body::parse(&body::read(body).await?, media)?;
    check_kind(&scale)?;
    write(call, &|_, _| Ok(scale.clone())).await
}

pub(super) async fn patch(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let patch = match patch::read(call, body).await? {
        // A Scale has no lists, so that both kinds of merge are the same.
        Patch::Strategic(patch) => Patch::Merge(patch),
        other => other,
    };
    write(call, &|call, current| patch::patched(call, &patch, current)).await
}

fn check_kind(scale: &Value) -> Result<(), Status> {
    match (meta::api_version(scale), meta::kind(scale)) {
        ("autoscaling/v1" | "", "Scale" | "") => Ok(()),
        (version, kind) => Err(Status::bad_request(format!(
            "expected autoscaling/v1, Kind=Scale, got {version}, Kind={kind}"
        ))),
    }
}

type Rescale<'r> = &'r (dyn Fn(&Call<'_>, &Value) -> Result<Value, Status> + Send + Sync);

/// Changes the Scale of an object as it stands, and writes what that means for the object.
async fn write(call: &mut Call<'_>, rescale: Rescale<'_>) -> Result<Answer, Status> {
    let written = change(call, Target::Main, &mut |call, old| {
        let current = scale_of(&call.row, old)?;
        let wanted = rescale(call, &current)?;
        let version = meta::resource_version(&wanted);
        if !version.is_empty() && version != meta::resource_version(old) {
            return Err(call.modified());
        }
        let uid = meta::uid(&wanted);
        if !uid.is_empty() && uid != meta::uid(old) {
            return Err(call.conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(old)
            )));
        }
        let replicas = match meta::at(&wanted, &["spec", "replicas"]) {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_i64().ok_or_else(|| {
                Status::bad_request(
                    "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be an integer",
                )
            })?,
        };
        if replicas < 0 {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", "Scale", &call.name, &[error]));
        }
        let mut new = old.clone();
        strategy::set_replicas(&call.row, &mut new, replicas);
        Ok(Candidate::new(new))
    })
    .await?;
    Ok(Answer::Other(
        StatusCode::OK,
        scale_of(&call.row, &written.into_value())?,
    ))
}

fn scale_of(row: &Resource, object: &Value) -> Result<Value, Status> {
    strategy::scale_of(row, object).ok_or_else(Status::no_such_resource)
}
