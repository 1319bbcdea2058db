//! Changing an object by a patch of one of the four kinds.

use axum::body::Body;
use serde_json::Value;
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, apply, meta, patch as patches};

use super::answer::Answer;
use super::call::Call;
use super::create;
use super::update::{self, Candidate, change};
use super::versions::ServedVersions;
use crate::body;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch as it came.
pub(super) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

/// Reads the body by its content type.
pub(super) async fn read(call: &mut Call<'_>, body: Body) -> Result<Patch, Status> {
    let kind = body::content_type(call.headers);
    let strategic = !call.row.custom;
    let known = matches!(kind.as_str(), JSON | MERGE | APPLY) || (kind == STRATEGIC && strategic);
    if !known {
        let mut accepted = vec![JSON, MERGE, APPLY];
        if strategic {
            accepted.insert(2, STRATEGIC);
        }
        return Err(Status::unsupported_media_type(&accepted.join(", ")));
    }
    let bytes = body::read(body).await?;
    if kind == APPLY {
        return Ok(Patch::Apply(body::yaml(&bytes)?));
    }
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    Ok(match kind.as_str() {
        JSON => Patch::Json(value),
        MERGE => Patch::Merge(value),
        _ => Patch::Strategic(value),
    })
}

/// Applies a patch (not an apply) to a document.
pub(super) fn patched(call: &Call<'_>, patch: &Patch, document: &Value) -> Result<Value, Status> {
    let result = match patch {
        Patch::Json(patch) => patches::json::apply(document, patch).map_err(Status::from)?,
        Patch::Merge(patch) | Patch::Apply(patch) => {
            if !patch.is_object() {
                return Err(Status::bad_request("a merge patch must be an object"));
            }
            patches::merge::apply(document, patch).map_err(Status::from)?
        }
        Patch::Strategic(patch) => match body::structure(&call.row) {
            Some(schema) => patches::strategic::apply(&schema, document, patch).map_err(Status::from)?,
            None => return Err(Status::unsupported_media_type(&[JSON, MERGE, APPLY].join(", "))),
        },
    };
    if result.is_object() {
        Ok(result)
    } else {
        Err(Status::bad_request("the patch leaves no object"))
    }
}

pub(super) async fn patch(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let patch = read(call, body).await?;
    if let Patch::Apply(applied) = patch {
        return apply(call, applied).await;
    }
    if call.info.query.get("force").is_some() {
        let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let target = update::target(call);
    let written = change(call, target, &mut |call, old| {
        let mut new = patched(call, &patch, old)?;
        body::identify(&mut new, &call.row)?;
        body::check_fields(
            &mut new,
            &call.row.clone(),
            call.validation,
            Vec::new(),
            &mut call.warnings,
        )?;
        Ok(Candidate::new(new))
    })
    .await?;
    Ok(Answer::Written(written))
}

/// Server-side apply: what the manager says it wants, merged with what others own.
async fn apply(call: &mut Call<'_>, mut applied: Value) -> Result<Answer, Status> {
    let query = &call.info.query;
    let Some(manager) = query.non_empty("fieldManager").map(str::to_owned) else {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
    };
    let force = query.flag("force");
    body::identify(&mut applied, &call.row)?;
    let row = call.row.clone();
    body::check_fields(&mut applied, &row, call.validation, Vec::new(), &mut call.warnings)?;
    if meta::metadata(&applied).is_some_and(|metadata| metadata.contains_key("managedFields")) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let name = meta::name(&applied);
    if !name.is_empty() && name != call.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    let name = call.name.clone();
    meta::set(&mut applied, "name", name);
    if row.namespaced && meta::namespace(&applied).is_empty() {
        let namespace = call.namespace.clone();
        meta::set(&mut applied, "namespace", namespace);
    }
    let Some(schema) = body::structure(&row) else {
        return Err(Status::unsupported_media_type(&[JSON, MERGE].join(", ")));
    };
    let version = row.api_version();
    let subresource = update::target(call).subresource();
    let now = call.now();
    let writer = apply::Writer {
        manager: &manager,
        api_version: &version,
        subresource,
        now,
        status_apart: row.has_status,
    };
    let versions = ServedVersions::of(call.inner(), &row);
    for _ in 0..4 {
        if call.stored().is_ok() {
            let target = update::target(call);
            let written = change(call, target, &mut |_, old| {
                let merged = apply::server_side_among(&schema, Some(old), &applied, force, &writer, &versions)
                    .map_err(|error| error.status())?;
                Ok(Candidate {
                    object: merged,
                    owned: true,
                })
            })
            .await;
            match written {
                // Deleted in between: then it is created.
                Err(status) if status.reason == "NotFound" && subresource.is_empty() => continue,
                written => return written.map(Answer::Written),
            }
        }
        if !subresource.is_empty() {
            return Err(call.not_found());
        }
        if !meta::uid(&applied).is_empty() || !matches!(meta::resource_version(&applied), "" | "0") {
            return Err(
                call.conflict("the object to be applied does not exist, but its uid or resourceVersion is given")
            );
        }
        let merged = apply::server_side_among(&schema, None, &applied, force, &writer, &versions)
            .map_err(|error| error.status())?;
        let managed = meta::metadata(&merged)
            .and_then(|metadata| metadata.get("managedFields"))
            .cloned();
        let owners = move |_: &Value| managed.clone().unwrap_or(Value::Null);
        match create::insert(call, merged, Some(&owners)).await {
            Err(status) if status.reason == "AlreadyExists" => {}
            written => return written.map(Answer::Written),
        }
    }
    Err(call.modified())
}
