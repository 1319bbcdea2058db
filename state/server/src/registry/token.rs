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
    let bound = meta::at(&request, &["spec", "boundObjectRef"]).filter(|bound| !bound.is_null());
    let token = signer.sign(&call.namespace, &call.name, &account.uid, &audiences, expires, bound)?;
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
