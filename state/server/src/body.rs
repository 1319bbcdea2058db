//! Bodies of requests: read within limits, decoded from JSON, YAML or protobuf, checked against the kind's structure.

mod accept;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use setpoint_api::schema::{self, Schema};
use setpoint_api::scheme::Subresource;
use setpoint_api::{Resource, Status, meta, protobuf};
use std::sync::Arc;

pub(crate) use accept::{Accept, Form};

/// The largest body that is read, in bytes.
pub(crate) const LIMIT: usize = 3 << 20;
/// How long a client may take to send its body.
const SEND_WITHIN: Duration = Duration::from_secs(60);

/// What the media types of objects are called in messages.
const MEDIA_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
}

/// What happens to fields that a kind does not have (`fieldValidation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Reads the whole body of an object.
pub(crate) async fn read(body: Body) -> Result<Bytes, Status> {
    read_up_to(body, LIMIT).await
}

/// Reads a whole body of at most `limit` bytes; one that says that it is larger is not begun.
pub(crate) async fn read_up_to(body: Body, limit: usize) -> Result<Bytes, Status> {
    if usize::try_from(body.size_hint().lower()).map_or(true, |size| size > limit) {
        return Err(Status::too_large(limit));
    }
    let collected = tokio::time::timeout(SEND_WITHIN, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(Status::too_large(limit)),
        Ok(Err(error)) => Err(Status::bad_request(format!(
            "unable to read the body of the request: {error}"
        ))),
        Err(_) => Err(Status::timeout("the body of the request did not arrive in time")),
    }
}

/// The media type of a body without its parameters, in lower case.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The encoding of an object's body.
pub(crate) fn media(headers: &HeaderMap) -> Result<Media, Status> {
    match content_type(headers).as_str() {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        _ => Err(Status::unsupported_media_type(MEDIA_TYPES)),
    }
}

/// Decodes a body without looking at what it says.
pub(crate) fn parse(bytes: &[u8], media: Media) -> Result<Value, Status> {
    match media {
        Media::Json => serde_json::from_slice(bytes)
            .map_err(|error| Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))),
        Media::Yaml => yaml(bytes),
        Media::Protobuf => protobuf::decode(bytes)
            .map_err(|error| Status::bad_request(format!("cannot decode the protobuf body: {error}"))),
    }
}

/// Decodes YAML; JSON is YAML too. Of a key that stands twice the last value counts.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    read_yaml(bytes).map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))
}

/// Decodes YAML as Kubernetes' parser does: repeated keys are handed on, and a leading zero makes a number octal.
pub(crate) fn read_yaml<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

/// The keys that stand twice in a body, as `duplicate field "spec.replicas"`.
pub(crate) fn duplicates(bytes: &[u8], media: Media, validation: FieldValidation) -> Vec<String> {
    match media {
        _ if validation == FieldValidation::Ignore => Vec::new(),
        Media::Json => schema::duplicates(bytes),
        // What cannot be read is said where it is parsed.
        Media::Yaml => read_yaml(bytes).map_or_else(|_| Vec::new(), |schema::Duplicates(found)| found),
        Media::Protobuf => Vec::new(),
    }
}

/// The structure of a row's kind.
pub(crate) fn structure(row: &Resource) -> Option<Arc<Schema>> {
    row.schema
        .clone()
        .or_else(|| schema::builtin(&row.group, &row.version, &row.kind))
}

/// Decodes an object of a row's kind: kind and version agree or are filled in, types are right, unknown fields are
/// refused, warned of or dropped.
pub(crate) fn object(
    bytes: &[u8],
    media: Media,
    row: &Resource,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let mut object = parse(bytes, media)?;
    let duplicates = duplicates(bytes, media, validation);
    identify(&mut object, row)?;
    check_fields(&mut object, row, validation, duplicates, warnings)?;
    Ok(object)
}

/// Decodes what a subresource takes, as [`object`] does for a kind: a Scale, a Binding.
pub(crate) fn subresource(
    bytes: &[u8],
    media: Media,
    sub: &Subresource,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let mut object = parse(bytes, media)?;
    let duplicates = duplicates(bytes, media, validation);
    identify_as(&mut object, &sub.group, &sub.version, &sub.kind)?;
    let schema = schema::builtin(&sub.group, &sub.version, &sub.kind)
        .ok_or_else(|| Status::internal(format!("the structure of {} is not known", sub.kind)))?;
    let decoded = decode_as(&schema, &mut object, validation, duplicates, warnings);
    decoded.map_err(|fault| fault.status(&object))?;
    Ok(object)
}

/// Fills in kind and apiVersion where they are absent, refuses others.
pub(crate) fn identify(object: &mut Value, row: &Resource) -> Result<(), Status> {
    identify_as(object, &row.group, &row.version, &row.kind)
}

fn identify_as(object: &mut Value, group: &str, version: &str, kind: &str) -> Result<(), Status> {
    let Some(map) = object.as_object_mut() else {
        return Err(Status::bad_request(
            "couldn't get version/kind; json parse error: the body is not an object",
        ));
    };
    let expected = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    match map.get("apiVersion").and_then(Value::as_str).unwrap_or_default() {
        "" => {
            map.insert("apiVersion".into(), expected.into());
        }
        found if found == expected => {}
        found => {
            return Err(Status::bad_request(format!(
                "the API version in the data ({found}) does not match the expected API version ({expected})"
            )));
        }
    }
    match map.get("kind").and_then(Value::as_str).unwrap_or_default() {
        "" => {
            map.insert("kind".into(), kind.into());
        }
        found if found == kind => {}
        found => {
            return Err(Status::bad_request(format!(
                "{found} in version \"{version}\" cannot be handled as a {kind}: no kind \"{found}\" is served at this path"
            )));
        }
    }
    Ok(())
}

/// Checks types and unknown fields, then drops what the kind does not have and writes what is left in its one form.
pub(crate) fn check_fields(
    object: &mut Value,
    row: &Resource,
    validation: FieldValidation,
    strict: Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    decode(object, row, validation, strict, warnings).map_err(|fault| fault.status(object))
}

/// Why an object cannot be taken for one of its kind.
pub(crate) enum DecodeFault {
    /// A value has another type.
    Type(String),
    /// A strict request says something that the kind does not have, or says it twice.
    Strict(Vec<String>),
}

impl DecodeFault {
    /// The refusal of an object with this fault.
    fn status(self, object: &Value) -> Status {
        Status::bad_request(match self {
            DecodeFault::Type(why) => why,
            DecodeFault::Strict(faults) => schema::strict_message(object, &faults),
        })
    }
}

/// Does what decoding into the kind's type does; `strict` are faults that were found before. After a fault the object is as it was.
pub(crate) fn decode(
    object: &mut Value,
    row: &Resource,
    validation: FieldValidation,
    strict: Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<(), DecodeFault> {
    let Some(schema) = structure(row) else { return Ok(()) };
    if !schema.is_builtin()
        && meta::metadata(object).is_none()
        && object.get("metadata").is_some_and(|metadata| !metadata.is_null())
    {
        return Err(DecodeFault::Type(format!(
            "{kind} in version \"{}\" cannot be handled as a {kind}: metadata must be an object",
            row.version,
            kind = row.kind
        )));
    }
    decode_as(&schema, object, validation, strict, warnings)
}

/// The same for an object of a structure that has no row, such as a Scale.
pub(crate) fn decode_as(
    schema: &Schema,
    object: &mut Value,
    validation: FieldValidation,
    mut strict: Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<(), DecodeFault> {
    schema.check_types(object).map_err(DecodeFault::Type)?;
    if validation != FieldValidation::Ignore {
        strict.extend(schema.unknown_fields(object));
        match validation {
            FieldValidation::Strict if !strict.is_empty() => return Err(DecodeFault::Strict(strict)),
            _ => warnings.extend(strict),
        }
    }
    schema.prune(object);
    schema.normalize(object);
    Ok(())
}
