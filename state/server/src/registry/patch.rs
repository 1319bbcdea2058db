//! Changing an object by a patch of one of the four kinds.

use axum::body::Body;
use serde_json::Value;
use setpoint_api::schema::{self, Schema};
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, apply, meta, patch as patches, strategy};

use super::answer::Answer;
use super::call::Call;
use super::create;
use super::update::{self, Candidate, change};
use super::versions::ServedVersions;
use crate::body::{self, DecodeFault, FieldValidation, Media};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// What sort of patch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// A patch as it came.
pub(super) struct Patch {
    pub(super) form: Form,
    pub(super) value: Value,
    /// What a strict request is refused for: keys that stand twice, and members that no operation has.
    pub(super) faults: Vec<String>,
}

/// Reads the body by its content type.
pub(super) async fn read(call: &mut Call<'_>, body: Body) -> Result<Patch, Status> {
    let kind = body::content_type(call.headers);
    let form = match kind.as_str() {
        JSON => Form::Json,
        MERGE => Form::Merge,
        STRATEGIC if !call.row.custom => Form::Strategic,
        APPLY => Form::Apply,
        _ => {
            let mut accepted = vec![JSON, MERGE, APPLY];
            if !call.row.custom {
                accepted.insert(2, STRATEGIC);
            }
            return Err(Status::unsupported_media_type(&accepted.join(", ")));
        }
    };
    let bytes = body::read(body).await?;
    let undecodable = |error: String| Status::bad_request(format!("error decoding patch: {error}"));
    if form == Form::Apply {
        return Ok(Patch {
            form,
            value: body::read_yaml(&bytes).map_err(undecodable)?,
            faults: body::duplicates(&bytes, Media::Yaml, call.validation),
        });
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))?;
    let mut faults = body::duplicates(&bytes, Media::Json, call.validation);
    if form == Form::Json && call.validation != FieldValidation::Ignore {
        faults.extend(patches::json::unknown_members(&value));
        faults.iter_mut().for_each(|fault| fault.insert_str(0, "json patch "));
    }
    Ok(Patch { form, value, faults })
}

/// Applies a patch (not an apply) to a document of a structure.
pub(super) fn patched(schema: Option<&Schema>, patch: &Patch, document: &Value) -> Result<Value, Status> {
    let result = match (patch.form, schema) {
        (Form::Json, _) => patches::json::apply(document, &patch.value)?,
        (Form::Strategic, Some(schema)) => patches::strategic::apply(schema, document, &patch.value)?,
        (Form::Merge | Form::Apply, _) => patches::merge::apply(document, &patch.value)?,
        (Form::Strategic, None) => return Err(Status::unsupported_media_type(&[JSON, MERGE, APPLY].join(", "))),
    };
    Ok(result)
}

impl Patch {
    /// Words that what came of the patch is no object of its kind.
    pub(super) fn refused(&self, result: &Value, fault: DecodeFault) -> Status {
        let why = match fault {
            DecodeFault::Type(why) => why,
            DecodeFault::Strict(faults) => schema::strict_text(&faults),
        };
        self.invalid(result, &why)
    }

    fn invalid(&self, result: &Value, why: &str) -> Status {
        // Of a strategic patch the patch is shown, as Go prints it, else what came of it.
        let shown = match self.form {
            Form::Strategic => apply::go_value(&self.value),
            _ => result.to_string(),
        };
        Status::invalid("", "", "", &[FieldError::invalid("patch", shown, why)])
    }
}

pub(super) async fn patch(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let patch = read(call, body).await?;
    if patch.form == Form::Apply {
        return apply(call, patch).await;
    }
    refuse_force(call)?;
    let target = update::target(call);
    let row = call.row.clone();
    let structure = body::structure(&row);
    let written = change(call, target, &mut |call, old| {
        let mut new = patched(structure.as_deref(), &patch, old)?;
        body::identify(&mut new, &row).map_err(|status| patch.invalid(&new, &status.message))?;
        let decoded = body::decode(
            &mut new,
            &row,
            call.validation,
            patch.faults.clone(),
            &mut call.warnings,
        );
        decoded.map_err(|fault| patch.refused(&new, fault))?;
        Ok(Candidate::new(new))
    })
    .await?;
    Ok(Answer::Written(written))
}

/// Only an apply can be forced.
pub(super) fn refuse_force(call: &Call<'_>) -> Result<(), Status> {
    if call.info.query.get("force").is_none() {
        return Ok(());
    }
    let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
    Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]))
}

/// The field manager of an apply, which has to say one.
pub(super) fn manager(call: &Call<'_>) -> Result<String, Status> {
    let manager = call.info.query.non_empty("fieldManager").map(str::to_owned);
    manager.ok_or_else(|| {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        Status::invalid("meta.k8s.io", "PatchOptions", "", &[error])
    })
}

/// Checks that an apply is about an object of this kind, and of this name if it says one.
pub(super) fn check_applied(call: &Call<'_>, applied: &Value, api_version: &str, kind: &str) -> Result<(), Status> {
    if !applied.is_object() {
        return Err(Status::bad_request(
            "error decoding patch: the configuration that is applied must be an object",
        ));
    }
    if (meta::api_version(applied), meta::kind(applied)) != (api_version, kind) {
        let (group, version) = meta::group_version(meta::api_version(applied));
        return Err(Status::bad_request(format!(
            "invalid object type: {group}/{version}, Kind={}",
            meta::kind(applied)
        )));
    }
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let name = meta::name(applied);
    if !name.is_empty() && name != call.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    Ok(())
}

/// Refuses or warns of what a configuration says twice; only after the apply itself has nothing against it.
pub(super) fn check_twice(call: &mut Call<'_>, patch: &Patch) -> Result<(), Status> {
    if patch.faults.is_empty() {
        return Ok(());
    }
    if call.validation == FieldValidation::Strict {
        return Err(Status::bad_request(format!(
            "error strict decoding patch: {}",
            patch.faults.join(", ")
        )));
    }
    call.warnings.extend(patch.faults.clone());
    Ok(())
}

/// Server-side apply: what the manager says it wants, merged with what others own.
async fn apply(call: &mut Call<'_>, patch: Patch) -> Result<Answer, Status> {
    let manager = manager(call)?;
    let force = call.info.query.flag("force");
    let row = call.row.clone();
    let version = row.api_version();
    check_applied(call, &patch.value, &version, &row.kind)?;
    let mut applied = patch.value.clone();
    let name = call.name.clone();
    meta::set(&mut applied, "name", name);
    if row.namespaced && meta::namespace(&applied).is_empty() {
        let namespace = call.namespace.clone();
        meta::set(&mut applied, "namespace", namespace);
    }
    let Some(schema) = body::structure(&row) else {
        return Err(Status::unsupported_media_type(&[JSON, MERGE].join(", ")));
    };
    let target = update::target(call);
    let subresource = target.subresource();
    let writer = apply::Writer {
        manager: &manager,
        api_version: &version,
        subresource,
        now: call.now(),
        scope: strategy::scope(&row, subresource),
    };
    for _ in 0..4 {
        if call.stored().is_ok() {
            let written = change(call, target, &mut |call, old| {
                let merged = merge(call, &schema, Some(old), &applied, force, &writer)?;
                check_twice(call, &patch)?;
                Ok(Candidate::owned(merged))
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
        let uid = meta::uid(&applied);
        if !uid.is_empty() {
            return Err(call.conflict(&format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            )));
        }
        let mut merged = merge(call, &schema, None, &applied, force, &writer)?;
        meta::set(&mut merged, "resourceVersion", Value::Null);
        let warned = call.warnings.len();
        check_twice(call, &patch)?;
        match create::insert_absent(call, merged, true).await {
            Err(status) if status.reason == "AlreadyExists" => call.warnings.truncate(warned),
            written => return written.map(Answer::Written),
        }
    }
    Err(call.modified())
}

/// Merges, and takes what came of it for an object of the kind: only now do nulls and empty values go.
fn merge(
    call: &Call<'_>,
    schema: &Schema,
    old: Option<&Value>,
    applied: &Value,
    force: bool,
    writer: &apply::Writer<'_>,
) -> Result<Value, Status> {
    let versions = ServedVersions::of(call.inner(), &call.row);
    let mut merged = apply::server_side_among(schema, old, applied, force, writer, &versions)?;
    let decoded = body::decode(
        &mut merged,
        &call.row,
        FieldValidation::Ignore,
        Vec::new(),
        &mut Vec::new(),
    );
    match decoded {
        Ok(()) => Ok(merged),
        Err(DecodeFault::Type(why)) => Err(Status::new(
            500,
            "",
            format!(
                "failed to convert new object ({}) to proper version: {why}",
                apply::described(&merged)
            ),
        )),
        Err(DecodeFault::Strict(faults)) => Err(Status::bad_request(schema::strict_text(&faults))),
    }
}
