//! Answers: an object, a list, a Status or a stream, in the form that the client accepts.

use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use setpoint_api::{Resource, Status, meta, table};

use super::call::Call;
use super::warning::warn;
use super::write::Written;
use crate::body::{Accept, Form};
use crate::cache::Stored;
use crate::respond::Told;

/// Answers shorter than this are not compressed.
const COMPRESS_FROM: usize = 128 << 10;
/// `meta.k8s.io/v1`, the group of what stands for objects.
const META_V1: &str = "meta.k8s.io/v1";

/// What an operation gives.
pub(crate) enum Answer {
    /// One object that is stored.
    Stored(Arc<Stored>),
    /// One object that was just written (or would have been).
    Written(Written),
    /// One object that was asked to go and is still there, for a client that asked in the old way.
    Accepted(Written),
    /// A list.
    List(List),
    /// A deletion or the like that leaves nothing to show.
    Status(Status),
    /// An object that is not of the row's kind, such as a Scale, with the code to answer.
    Other(StatusCode, Value),
    /// A watch.
    Stream(Body),
}

/// A list or a part of one.
pub(crate) struct List {
    pub(crate) items: Vec<Arc<Stored>>,
    pub(crate) revision: u64,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<u64>,
}

/// Writes an answer.
pub(crate) async fn respond(call: &Call<'_>, answer: Result<Answer, Status>) -> Response<Body> {
    let accept = call.accept;
    let answer = answer.and_then(|answer| undamaged(call, answer));
    let told = answer.as_ref().err().cloned().map(Told);
    let retry = answer.as_ref().err().and_then(retry_after);
    let (code, body) = match answer {
        Err(status) => (status_code(&status), Bytes::from(status.to_text())),
        Ok(Answer::Stream(body)) => return stream(body, &call.warnings),
        Ok(Answer::Status(mut status)) => {
            if call.info.verb == "create" {
                status.code = StatusCode::CREATED.as_u16();
            }
            (status_code(&status), Bytes::from(status.to_text()))
        }
        Ok(Answer::Other(code, value)) => (code, Bytes::from(value.to_string())),
        Ok(Answer::Stored(stored)) => (StatusCode::OK, one(call, &stored)),
        Ok(Answer::Written(written)) => {
            let code = if written.created {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            (code, just_written(call, written))
        }
        Ok(Answer::Accepted(written)) => (StatusCode::ACCEPTED, just_written(call, written)),
        Ok(Answer::List(list)) => (StatusCode::OK, many(call, &list)),
    };
    let (body, kind) = dress(body, accept);
    let reads = matches!(call.info.verb.as_str(), "get" | "list");
    let mut response = if accept.gzip && reads && body.len() >= COMPRESS_FROM {
        compressed(body).await
    } else {
        Response::new(Body::from(body))
    };
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(told) = told {
        response.extensions_mut().insert(told);
    }
    warn(&mut response, &call.warnings);
    response
}

/// Lets nothing through of which the bytes are no object: asked for by name it is an error that says what to do, in a list it is left out.
///
/// Lists from memory come without such objects; those of a past revision do not.
fn undamaged(call: &Call<'_>, answer: Answer) -> Result<Answer, Status> {
    match answer {
        Answer::Stored(stored) => match &stored.damage {
            None => Ok(Answer::Stored(stored)),
            Some(damage) => Err(Status::internal(format!(
                "{} \"{}\" is damaged in the store ({damage}): delete it and make it anew, or replace it",
                call.row.qualified(),
                stored.name
            ))),
        },
        Answer::List(mut list) => {
            list.items.retain(|stored| stored.damage.is_none());
            Ok(Answer::List(list))
        }
        other => Ok(other),
    }
}

fn retry_after(status: &Status) -> Option<u32> {
    status.details.as_ref().and_then(|details| details.retry_after_seconds)
}

fn status_code(status: &Status) -> StatusCode {
    StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn stream(body: Body, warnings: &[String]) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    warn(&mut response, warnings);
    response
}

/// JSON as it is, pretty, or YAML, with its media type.
fn dress(body: Bytes, accept: Accept) -> (Bytes, &'static str) {
    if !accept.yaml && !accept.pretty {
        return (body, "application/json");
    }
    let Ok(value) = serde_json::from_slice::<Value>(&body) else {
        return (body, "application/json");
    };
    if accept.yaml
        && let Ok(text) = serde_saphyr::to_string(&value)
    {
        return (text.into(), "application/yaml");
    }
    match serde_json::to_string_pretty(&value) {
        Ok(text) => ((text + "\n").into(), "application/json"),
        Err(_) => (body, "application/json"),
    }
}

async fn compressed(body: Bytes) -> Response<Body> {
    let plain = body.clone();
    let done = tokio::task::spawn_blocking(move || {
        let mut encoder =
            flate2::write::GzEncoder::new(Vec::with_capacity(plain.len() / 4), flate2::Compression::fast());
        encoder.write_all(&plain)?;
        encoder.finish()
    })
    .await;
    let Ok(Ok(packed)) = done else {
        return Response::new(Body::from(body));
    };
    let mut response = Response::new(Body::from(packed));
    response
        .headers_mut()
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// A stored object in the row's form.
pub(crate) fn value_of(row: &Resource, stored: &Stored) -> Value {
    let mut value = stored.value();
    row.from_stored(&mut value);
    value
}

fn just_written(call: &Call<'_>, written: Written) -> Bytes {
    match call.accept.form {
        Form::Object => written.wire(),
        _ => reshape(call, &[written.into_value()], None).to_string().into(),
    }
}

fn one(call: &Call<'_>, stored: &Stored) -> Bytes {
    match call.accept.form {
        Form::Object if stored.is_version(&call.row.api_version()) => stored.wire(),
        Form::Object => value_of(&call.row, stored).to_string().into(),
        Form::Metadata if call.accept.is_current() && stored.is_version(&call.row.api_version()) => {
            let mut out = BytesMut::with_capacity(512);
            stored.write_partial(stored.revision, &mut out);
            out.freeze()
        }
        Form::Table | Form::Metadata => reshape(call, &[value_of(&call.row, stored)], None).to_string().into(),
    }
}

fn many(call: &Call<'_>, list: &List) -> Bytes {
    if call.accept.form == Form::Metadata && call.accept.is_current() {
        return many_partial(call, list);
    }
    if call.accept.form != Form::Object {
        let values: Vec<Value> = list.items.iter().map(|stored| value_of(&call.row, stored)).collect();
        return reshape(call, &values, Some(list)).to_string().into();
    }
    let version = call.row.api_version();
    let size = list.items.iter().map(|stored| stored.wire_len() + 1).sum::<usize>() + 256;
    let mut out = BytesMut::with_capacity(size);
    let head = json!({"kind": call.row.list_kind, "apiVersion": version, "metadata": list_meta(list)}).to_string();
    out.put_slice(&head.as_bytes()[..head.len() - 1]);
    out.put_slice(b",\"items\":[");
    for (at, stored) in list.items.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        if stored.is_version(&version) {
            stored.write(stored.revision, &mut out);
        } else {
            out.put_slice(value_of(&call.row, stored).to_string().as_bytes());
        }
    }
    out.put_slice(b"]}");
    out.freeze()
}

/// A list of the objects' metadata, cut out of their bytes.
fn many_partial(call: &Call<'_>, list: &List) -> Bytes {
    let version = call.row.api_version();
    let mut out = BytesMut::with_capacity(list.items.len() * 512 + 256);
    let head =
        json!({"kind": "PartialObjectMetadataList", "apiVersion": META_V1, "metadata": list_meta(list)}).to_string();
    out.put_slice(&head.as_bytes()[..head.len() - 1]);
    out.put_slice(b",\"items\":[");
    for (at, stored) in list.items.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        if stored.is_version(&version) {
            stored.write_partial(stored.revision, &mut out);
        } else {
            let partial = table::partial(&value_of(&call.row, stored));
            out.put_slice(partial.to_string().as_bytes());
        }
    }
    out.put_slice(b"]}");
    out.freeze()
}

fn list_meta(list: &List) -> Value {
    // What is not stored has no version.
    let mut metadata = match list.revision {
        0 => json!({}),
        revision => json!({"resourceVersion": revision.to_string()}),
    };
    if let Some(next) = &list.next {
        metadata["continue"] = next.as_str().into();
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// A Table or metadata of objects: of a list, or of one.
fn reshape(call: &Call<'_>, values: &[Value], list: Option<&List>) -> Value {
    call.accept.versioned(shape(call, values, list))
}

fn shape(call: &Call<'_>, values: &[Value], list: Option<&List>) -> Value {
    match (call.accept.form, list) {
        (Form::Table, list) => {
            let metadata = match (list, values) {
                (Some(list), _) => list_meta(list),
                (None, [value, ..]) => json!({"resourceVersion": meta::resource_version(value)}),
                (None, []) => json!({}),
            };
            table::table(&call.row, values, metadata, call.accept.include, true, call.now())
        }
        (_, Some(list)) => {
            let items: Vec<Value> = values.iter().map(table::partial).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": META_V1, "metadata": list_meta(list), "items": items})
        }
        (_, None) => values.first().map_or(Value::Null, table::partial),
    }
}
