//! `/openapi/v3` and `/openapi/v2`: documents made on demand from the scheme and not kept, since clients cache them.

mod gnostic;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION,
    VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jiff::SignedDuration;
use parking_lot::Mutex;
use serde_json::Value;
use setpoint_api::{Resource, Status, openapi};

use crate::registry::Registry;
use crate::request::RequestInfo;
use crate::respond;

/// The digests of the documents of groups and versions, so that the index need not make all of them each time.
#[derive(Default)]
pub(crate) struct Digests {
    /// By group and version.
    kept: Mutex<HashMap<(String, String), Kept>>,
}

/// A digest, and how long it is right.
struct Kept {
    /// The generation of the scheme that it is of, where custom kinds are described; without any it is always right.
    generation: Option<u64>,
    digest: String,
}

impl Digests {
    /// The digest of the document of a group and version; what is kept is of the rows as they are at `generation`, or as they always are.
    fn of(&self, made: &Documents<'_>, group: &str, version: &str) -> String {
        let mine = |row: &&Arc<Resource>| row.group == group && row.version == version;
        let custom = made.rows.iter().filter(mine).any(|row| row.custom);
        let generation = custom.then_some(made.generation);
        let key = (group.to_owned(), version.to_owned());
        if let Some(kept) = self.kept.lock().get(&key).filter(|kept| kept.generation == generation) {
            return kept.digest.clone();
        }
        let digest = respond::digest(&made.v3(group, version).unwrap_or_default());
        let mut kept = self.kept.lock();
        // Groups come and go with their definitions.
        kept.retain(|(group, version), _| {
            made.rows
                .iter()
                .any(|row| row.group == *group && row.version == *version)
        });
        kept.insert(
            key,
            Kept {
                generation,
                digest: digest.clone(),
            },
        );
        digest
    }
}

/// What documents are made from: the rows at one moment.
struct Documents<'r> {
    registry: &'r Registry,
    rows: Vec<Arc<Resource>>,
    /// The scheme's, read before the rows: they are as new at least.
    generation: u64,
}

impl<'r> Documents<'r> {
    fn new(registry: &'r Registry) -> Documents<'r> {
        let generation = registry.scheme().generation();
        Documents {
            registry,
            rows: registry.scheme().resources(),
            generation,
        }
    }

    fn v3(&self, group: &str, version: &str) -> Option<Vec<u8>> {
        openapi::v3_document(group, version, &self.rows, &|row| custom_schema(self.registry, row))
    }
}

/// Answers a request below `/openapi`.
pub(crate) fn serve(registry: &Registry, info: &RequestInfo, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let documents = Documents::new(registry);
    let path = info.path.trim_end_matches('/');
    if path == "/openapi/v3" {
        let digests = &registry.inner.openapi;
        let index = openapi::v3_index(&documents.rows, |group, version| digests.of(&documents, group, version));
        return document(headers, index);
    }
    if path == "/openapi/v2" {
        if accepts(headers, &[gnostic::MEDIA_TYPE]) {
            return Ok(respond::bytes(
                StatusCode::OK,
                HeaderValue::from_static(gnostic::CONTENT_TYPE),
                gnostic::document(&documents.rows),
            ));
        }
        if !accepts(headers, &["application/json", "application/*", "*/*"]) {
            return Err(Status::not_acceptable("application/json"));
        }
        let custom = |row: &Resource| custom_schema(registry, row);
        return document(headers, openapi::v2_document(&documents.rows, &custom));
    }
    let segments: Option<Vec<&str>> = path.strip_prefix("/openapi/v3/").map(|rest| rest.split('/').collect());
    let (group, version) = match segments.as_deref() {
        Some(["api", version]) => ("", *version),
        Some(["apis", group, version]) => (*group, *version),
        _ => return Err(Status::no_such_resource()),
    };
    let bytes = documents.v3(group, version).ok_or_else(Status::no_such_resource)?;
    let Some(wanted) = info.query.non_empty("hash") else {
        return document(headers, bytes);
    };
    let digest = respond::digest(&bytes);
    if wanted != digest {
        // The client has an old index: this is where the document of now is, and may be kept.
        let url = openapi::v3_url(group, version, &digest);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let location = HeaderValue::from_str(&url).map_err(Status::internal)?;
        response.headers_mut().insert(LOCATION, location);
        return Ok(response);
    }
    let mut response = document(headers, bytes)?;
    // Another document has another digest: this one may be kept for ever, which is a year.
    let out = response.headers_mut();
    out.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    let year = registry.inner.now().checked_add(SignedDuration::from_hours(365 * 24));
    let until = year.map_err(Status::internal)?.strftime("%a, %d %b %Y %H:%M:%S GMT");
    out.insert(
        EXPIRES,
        HeaderValue::from_str(&until.to_string()).map_err(Status::internal)?,
    );
    Ok(response)
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

fn document(headers: &HeaderMap, bytes: Vec<u8>) -> Result<Response<Body>, Status> {
    let etag = respond::etag(&respond::digest(&bytes))?;
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
    out.insert(CACHE_CONTROL, HeaderValue::from_static(respond::UNCACHED));
    Ok(response)
}
