//! `serviceaccounts/token`: a TokenRequest.

use axum::body::Body;
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, meta};

use super::answer::Answer;
use super::call::Call;
use crate::body;

const DEFAULT_SECONDS: i64 = 3600;
const SHORTEST_SECONDS: i64 = 600;
const LONGEST_SECONDS: i64 = 1 << 32;

pub(super) async fn create(call: &mut Call<'_>, body: Body) -> Result<Answer, Status> {
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let mut request = if bytes.is_empty() {
        json!({})
    } else {
        body::parse(&bytes, media)?
    };
    let account = call.stored()?;
    let Some(signer) = call.inner().tokens.clone() else {
        return Err(Status::not_implemented(
            "this server has no key to sign service account tokens with",
        ));
    };
    let seconds = meta::int_at(&request, &["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    let wrong = match seconds {
        ..SHORTEST_SECONDS => Some("may not specify a duration less than 10 minutes"),
        SHORTEST_SECONDS..=LONGEST_SECONDS => None,
        _ => Some("may not specify a duration larger than 2^32 seconds"),
    };
    if let Some(detail) = wrong {
        let error = FieldError::invalid("spec.expirationSeconds", seconds, detail);
        return Err(Status::invalid(
            "authentication.k8s.io",
            "TokenRequest",
            &call.name,
            &[error],
        ));
    }
    let audiences: Vec<String> = meta::list_at(&request, &["spec", "audiences"])
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let expires = call
        .now()
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(jiff::Timestamp::MAX);
    let bound = match meta::at(&request, &["spec", "boundObjectRef"]).filter(|bound| !bound.is_null()) {
        Some(reference) => Some(bind(call, reference)?),
        None => None,
    };
    let token = signer.sign(
        &call.namespace,
        &call.name,
        &account.uid,
        &audiences,
        expires,
        bound.as_ref(),
    )?;
    let answer = meta::map_of(&mut request);
    answer.insert("kind".into(), "TokenRequest".into());
    answer.insert("apiVersion".into(), "authentication.k8s.io/v1".into());
    answer.insert(
        "metadata".into(),
        json!({"name": call.name, "namespace": call.namespace, "creationTimestamp": meta::format_time(call.now())}),
    );
    meta::map_mut(answer, "spec").insert("expirationSeconds".into(), seconds.into());
    answer.insert(
        "status".into(),
        json!({"token": token, "expirationTimestamp": meta::format_time(expires)}),
    );
    Ok(Answer::Other(
        StatusCode::CREATED,
        Value::Object(std::mem::take(answer)),
    ))
}

/// Finds the object that a token shall not outlive, and completes the reference with its uid.
fn bind(call: &Call<'_>, reference: &Value) -> Result<Value, Status> {
    let (version, kind) = (meta::api_version(reference), meta::kind(reference));
    let name = meta::str_at(reference, &["name"]);
    if !matches!(version, "v1" | "") || kind != "Pod" {
        return Err(Status::bad_request(format!(
            "cannot bind token to object of type {version}, Kind={kind}"
        )));
    }
    let pod = call
        .inner()
        .cache
        .get("core/pods", &call.namespace, name)
        .ok_or_else(|| Status::not_found("", "pods", name))?;
    if meta::str_at(&pod.value(), &["spec", "serviceAccountName"]) != call.name {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            call.name
        )));
    }
    let wanted = meta::str_at(reference, &["uid"]);
    if !wanted.is_empty() && *wanted != *pod.uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", "pods", name, &why));
    }
    Ok(json!({"kind": kind, "apiVersion": "v1", "name": name, "uid": &*pod.uid}))
}
