//! `/openapi/v3` and `/openapi/v2`: documents made on demand from the scheme and not kept, since clients cache them.

mod gnostic;

use std::io::Write;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::Value;
use setpoint_api::{Resource, Status, openapi};
use sha2::{Digest, Sha256};

use crate::registry::Registry;
use crate::request::RequestInfo;
use crate::respond;

/// Answers a request below `/openapi`.
pub(crate) fn serve(registry: &Registry, info: &RequestInfo, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let scheme = registry.scheme();
    let custom = |row: &Resource| custom_schema(registry, row);
    let path = info.path.trim_end_matches('/');
    let bytes = if path == "/openapi/v3" {
        openapi::v3_index(&scheme.resources(), scheme.generation())
    } else if path == "/openapi/v2" {
        if accepts(headers, &[gnostic::MEDIA_TYPE]) {
            return Ok(respond::bytes(
                StatusCode::OK,
                HeaderValue::from_static(gnostic::CONTENT_TYPE),
                gnostic::document(&scheme.resources()),
            ));
        }
        if !accepts(headers, &["application/json", "application/*", "*/*"]) {
            return Err(Status::not_acceptable("application/json"));
        }
        openapi::v2_document(&scheme.resources(), &custom)
    } else {
        let (group, version) = match path
            .strip_prefix("/openapi/v3/")
            .map(|rest| rest.split('/').collect::<Vec<_>>())
            .as_deref()
        {
            Some(["api", version]) => (String::new(), (*version).to_owned()),
            Some(["apis", group, version]) => ((*group).to_owned(), (*version).to_owned()),
            _ => return Err(Status::no_such_resource()),
        };
        openapi::v3_document(&group, &version, &scheme.resources(), &custom).ok_or_else(Status::no_such_resource)?
    };
    document(info, headers, bytes)
}

/// The schema in the CustomResourceDefinition that a row was made from.
fn custom_schema(registry: &Registry, row: &Resource) -> Option<Value> {
    let name = format!("{}.{}", row.plural, row.group);
    let definition = registry
        .cache()
        .get("apiextensions.k8s.io/customresourcedefinitions", "", &name)?
        .value();
    definition["spec"]["versions"]
        .as_array()?
        .iter()
        .find(|version| version["name"] == row.version.as_str())
        .map(|version| version["schema"]["openAPIV3Schema"].clone())
}

fn accepts(headers: &HeaderMap, media_types: &[&str]) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("*/*");
    accept.split(',').any(|range| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        media_types.contains(&media_type)
    })
}

fn document(info: &RequestInfo, headers: &HeaderMap, bytes: Vec<u8>) -> Result<Response<Body>, Status> {
    let etag = format!("\"{}\"", hex_upper(&Sha256::digest(&bytes)));
    let etag = HeaderValue::from_str(&etag).map_err(Status::internal)?;
    let known = headers.get(IF_NONE_MATCH).is_some_and(|value| value == etag);
    let gzip = headers
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|coding| coding.trim() == "gzip"));
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else if gzip {
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
        encoder.write_all(&bytes).map_err(Status::internal)?;
        let mut response = Response::new(Body::from(encoder.finish().map_err(Status::internal)?));
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        Response::new(Body::from(bytes))
    };
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(ETAG, etag);
    out.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    // A client that names the hash of what it wants may keep it for ever: another document has another hash.
    let cache = if info.query.non_empty("hash").is_some() {
        "public, immutable"
    } else {
        "no-cache, private"
    };
    out.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    Ok(response)
}

fn hex_upper(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02X}").unwrap_or_default();
        text
    })
}
