//! `scale`: the number of replicas of a kind as an `autoscaling/v1 Scale`.
//!
//! A Scale is a view of its object, the owners of the replicas included: who writes one owns the object's replicas.

use std::sync::Arc;

use axum::body::Body;
use http::StatusCode;
use serde_json::Value;
use setpoint_api::apply::{self, Scope};
use setpoint_api::schema::{self, Schema};
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Resource, Status, meta, strategy, table};

use super::answer::{Answer, value_of};
use super::bookkeeping::Target;
use super::call::Call;
use super::identity;
use super::patch::{self, Form as PatchForm};
use super::update::{Candidate, change};
use crate::body::{self, Form};

const API_VERSION: &str = "autoscaling/v1";
const KIND: &str = "Scale";

pub(super) fn get(call: &Call<'_>) -> Result<Answer, Status> {
    let stored = call.stored()?;
    let scale = scale_of(&call.row, &value_of(&call.row, &stored))?;
    let answer = match call.accept.form {
        Form::Table => table::scale(&scale, call.accept.include, call.now()),
        Form::Metadata => table::partial(&scale),
        Form::Object => scale,
    };
    Ok(Answer::Other(StatusCode::OK, call.accept.versioned(answer)))
}

pub(super) async fn put(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let sub = call.sub()?;
    let scale = body::subresource(&bytes, media, &sub, call.validation, &mut call.warnings)?;
    identity::check_name(call, &scale)?;
    let schema = structure()?;
    write(call, &mut |call, current| {
        let mut wanted = scale.clone();
        track(call, &schema, current, &mut wanted);
        Ok(wanted)
    })
    .await
}

pub(super) async fn patch(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let patch = patch::read(call, body).await?;
    let schema = structure()?;
    if patch.form == PatchForm::Apply {
        let manager = patch::manager(call)?;
        patch::check_applied(call, &patch.value, API_VERSION, KIND)?;
        let force = call.info.query.flag("force");
        return write(call, &mut |call, current| {
            let writer = writer(call, &manager);
            let wanted = apply::server_side(&schema, Some(current), &patch.value, force, &writer)?;
            patch::check_twice(call, &patch)?;
            Ok(wanted)
        })
        .await;
    }
    patch::refuse_force(call)?;
    write(call, &mut |call, current| {
        let mut wanted = patch::patched(Some(&schema), &patch, current)?;
        identify(&mut wanted);
        let decoded = body::decode_as(
            &schema,
            &mut wanted,
            call.validation,
            patch.faults.clone(),
            &mut call.warnings,
        );
        decoded.map_err(|fault| patch.refused(&wanted, fault))?;
        identity::check_name(call, &wanted)?;
        track(call, &schema, current, &mut wanted);
        Ok(wanted)
    })
    .await
}

fn structure() -> Result<Arc<Schema>, Status> {
    schema::builtin("autoscaling", "v1", KIND).ok_or_else(|| Status::internal("the structure of a Scale is not known"))
}

fn identify(scale: &mut Value) {
    let map = meta::map_of(scale);
    map.insert("kind".into(), KIND.into());
    map.insert("apiVersion".into(), API_VERSION.into());
}

fn writer<'a>(call: &Call<'_>, manager: &'a str) -> apply::Writer<'a> {
    apply::Writer {
        manager,
        api_version: API_VERSION,
        subresource: "scale",
        now: call.now(),
        scope: Scope::Without(&[&["status"]]),
    }
}

/// Notes who changed the replicas.
fn track(call: &Call<'_>, schema: &Schema, current: &Value, wanted: &mut Value) {
    let manager = call.manager();
    apply::track_update(schema, Some(current), wanted, &writer(call, &manager));
}

type Rescale<'r> = &'r mut (dyn FnMut(&mut Call<'_>, &Value) -> Result<Value, Status> + Send);

/// Changes the Scale of an object as it stands, and writes what that means for the object.
async fn write(call: &mut Call<'_>, rescale: Rescale<'_>) -> Result<Answer, Status> {
    let written = change(call, Target::Main, &mut |call, old| {
        let current = scale_of(&call.row, old)?;
        let wanted = rescale(call, &current)?;
        identity::check_uid(call, &wanted, Some(old))?;
        // A Scale that does not say what it replaces replaces it, whatever the kind.
        if !matches!(meta::resource_version(&wanted), "" | "0") {
            identity::check_revision(call, &wanted, old)?;
        }
        // Its type was checked; one that is absent is zero, as Go has it.
        let replicas = meta::int_at(&wanted, &["spec", "replicas"]).unwrap_or(0);
        if replicas < 0 {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", KIND, &call.name, &[error]));
        }
        let mut new = old.clone();
        strategy::set_replicas(&call.row, &mut new, replicas);
        let owners = apply::owners_in_object(old, &wanted, replicas_of(&call.row)?, &call.row.api_version());
        meta::set(&mut new, "managedFields", owners);
        Ok(Candidate::owned(new))
    })
    .await?;
    Ok(Answer::Other(
        StatusCode::OK,
        scale_of(&call.row, &written.into_value())?,
    ))
}

fn replicas_of(row: &Resource) -> Result<&[String], Status> {
    let paths = row.scale().ok_or_else(Status::no_such_resource)?;
    Ok(&paths.spec_replicas)
}

fn scale_of(row: &Resource, object: &Value) -> Result<Value, Status> {
    let mut scale = strategy::scale_of(row, object).ok_or_else(Status::no_such_resource)?;
    meta::set(
        &mut scale,
        "managedFields",
        apply::owners_in_scale(object, replicas_of(row)?),
    );
    Ok(scale)
}
