//! Answers: JSON documents, Status objects, plain text.

use std::fmt::Write;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::Value;
use setpoint_api::Status;
use sha2::{Digest, Sha512};

/// The `Cache-Control` of what may change at any time.
pub(crate) const UNCACHED: &str = "no-cache, private";

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
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(UNCACHED));
    response
}

/// Answers with a document that clients keep and ask for by its digest: 304 to those who have it.
pub(crate) fn tagged(headers: &HeaderMap, media_type: HeaderValue, body: String) -> Result<Response<Body>, Status> {
    let etag = etag(&digest(body.as_bytes()))?;
    let mut response = if headers.get(IF_NONE_MATCH).is_some_and(|known| *known == etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        bytes(StatusCode::OK, media_type, body)
    };
    let out = response.headers_mut();
    out.insert(ETAG, etag);
    out.insert(VARY, HeaderValue::from_static("Accept"));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    Ok(response)
}

/// The digest of a document as Kubernetes writes it in URLs and ETags: SHA-512 in upper case.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha512::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02X}").unwrap_or_default();
        text
    })
}

/// An `ETag` of a digest.
pub(crate) fn etag(digest: &str) -> Result<HeaderValue, Status> {
    HeaderValue::from_str(&format!("\"{digest}\"")).map_err(Status::internal)
}
