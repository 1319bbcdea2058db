//! Answers: JSON documents, Status objects, plain text.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;
use setpoint_api::Status;

/// Answers with a JSON document.
pub(crate) fn json(code: StatusCode, document: &Value) -> Response<Body> {
    bytes(code, HeaderValue::from_static("application/json"), document.to_string())
}

/// The Status that an answer says; an extension of refusals, for whoever keeps a record of them.
#[derive(Clone, Debug)]
pub(crate) struct Told(pub(crate) Status);

/// Answers with a Status object, under its code.
pub(crate) fn status(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = bytes(code, HeaderValue::from_static("application/json"), status.to_text());
    let retry = status.details.as_ref().and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(Told(status.clone()));
    response
}

/// Answers with text for people and scrapers.
pub(crate) fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    bytes(code, HeaderValue::from_static("text/plain; charset=utf-8"), text.into())
}

/// Answers with bytes of a media type; nobody may keep them.
pub(crate) fn bytes(code: StatusCode, media_type: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
