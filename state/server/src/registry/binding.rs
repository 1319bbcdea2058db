//! `pods/binding` and `bindings`: give a pod its node, once.

use axum::body::Body;
use serde_json::{Value, json};
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, meta};

use super::answer::Answer;
use super::bookkeeping::Target;
use super::call::Call;
use super::identity;
use super::update::{Candidate, change};
use crate::body;

/// `pods/NAME/binding`.
pub(super) async fn create(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let sub = call.sub()?;
    let binding = body::subresource(&bytes, media, &sub, call.validation, &mut call.warnings)?;
    identity::check_namespace(call, &binding)?;
    if meta::name(&binding) != call.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    bind(call, &binding).await
}

/// `bindings`: the binding says which pod it is about.
pub(super) async fn create_by_name(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let binding = body::object(&bytes, media, &call.row, call.validation, &mut call.warnings)?;
    let name = meta::name(&binding);
    if name.is_empty() {
        return Err(Status::bad_request("name is required"));
    }
    identity::check_namespace(call, &binding)?;
    let pods = call
        .inner()
        .scheme
        .get("", "v1", "pods")
        .ok_or_else(Status::no_such_resource)?;
    name.clone_into(&mut call.name);
    call.resource = pods.storage_prefix();
    call.row = pods;
    bind(call, &binding).await
}

async fn bind(call: &mut Call<'_>, binding: &Value) -> Result<Answer, Status> {
    let node = meta::str_at(binding, &["target", "name"]).to_owned();
    let kind = meta::str_at(binding, &["target", "kind"]);
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node"]));
    }
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "Binding", &call.name, &errors));
    }
    let annotations = meta::annotations(binding).cloned().unwrap_or_default();
    let now = meta::format_time(call.now());
    change(call, Target::Whole("binding"), &mut |call, old| {
        let refuse = |why: String| Status::conflict("", "pods/binding", &call.name, &why);
        identity::check_uid(call, binding, Some(old))?;
        identity::check_revision(call, binding, old)?;
        if meta::is_being_deleted(old) {
            return Err(refuse(format!(
                "pod {} is being deleted, cannot be assigned to a host",
                call.name
            )));
        }
        let bound = meta::str_at(old, &["spec", "nodeName"]);
        if !bound.is_empty() {
            return Err(refuse(format!(
                "pod {} is already assigned to node {bound:?}",
                call.name
            )));
        }
        let mut new = old.clone();
        for (key, value) in &annotations {
            meta::set_annotation(&mut new, key, value.as_str().unwrap_or_default());
        }
        meta::map_mut(meta::map_of(&mut new), "spec").insert("nodeName".into(), node.as_str().into());
        scheduled(&mut new, &now);
        Ok(Candidate::owned(new))
    })
    .await?;
    Ok(Answer::Status(Status::success()))
}

/// Notes in the status that the pod has a node.
fn scheduled(pod: &mut Value, now: &str) {
    let status = meta::map_mut(meta::map_of(pod), "status");
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    match status.get_mut("conditions").and_then(Value::as_array_mut) {
        Some(conditions) => {
            conditions.retain(|condition| condition.get("type").and_then(Value::as_str) != Some("PodScheduled"));
            conditions.push(condition);
        }
        None => {
            status.insert("conditions".into(), json!([condition]));
        }
    }
}
