//! Objects that are not stored, on the way that stored ones take: selected, and in the form that the client accepts.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;
use setpoint_api::{Resource, Status, meta};

use super::answer::{self, Answer, List};
use super::{Call, Registry, Selection};
use crate::body;
use crate::cache::{Stored, object_key};
use crate::computed::Computed;
use crate::request::{RequestInfo, UserInfo};
use crate::respond;

/// The revision of what is not stored; the log issues none like it.
const NONE: u64 = 0;

impl Registry {
    /// Answers one authorized request for objects that are made for it.
    pub(crate) async fn serve_computed(
        &self,
        source: &dyn Computed,
        info: &RequestInfo,
        user: &UserInfo,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let call = match Call::new(self, info, user, headers) {
            Ok(call) => call,
            Err(status) => return respond::status(&status),
        };
        let answer = find(&call, source).await;
        answer::respond(&call, answer).await
    }

    /// Answers what is asked by making an object that is never stored: `answer` is given it, and its kind, and returns its status.
    pub(crate) async fn serve_question(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
        request: Request<Body>,
        answer: impl FnOnce(&Value, &str) -> Result<Value, Status>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut call = match Call::new(self, info, user, &parts.headers) {
            Ok(call) => call,
            Err(status) => return respond::status(&status),
        };
        let answer = asked(&mut call, body, answer).await;
        answer::respond(&call, answer).await
    }
}

async fn asked(
    call: &mut Call<'_>,
    body: Body,
    answer: impl FnOnce(&Value, &str) -> Result<Value, Status>,
) -> Result<Answer, Status> {
    if call.info.verb != "create" || call.info.name.is_some() {
        return Err(Status::method_not_allowed());
    }
    let media = body::media(call.headers)?;
    let bytes = body::read(body).await?;
    let mut question = body::object(&bytes, media, &call.row, call.validation, &mut call.warnings)?;
    let status = answer(&question, &call.row.kind)?;
    let object = meta::map_of(&mut question);
    object.insert("status".into(), status);
    meta::map_mut(object, "metadata");
    Ok(Answer::Other(StatusCode::CREATED, question))
}

async fn find(call: &Call<'_>, source: &dyn Computed) -> Result<Answer, Status> {
    if !call.info.subresource.is_empty() {
        return Err(Status::no_such_resource());
    }
    if !call.row.allows(&call.info.verb) {
        return Err(call.not_supported());
    }
    if call.info.verb == "get" {
        let object = source.get(&call.namespace, &call.name).await?;
        return Ok(Answer::Stored(Arc::new(stored(&call.row, &object))));
    }
    let selection = Selection::read(&call.info.query, &call.row)?;
    let objects = source.list(call.scope()).await?;
    let items = objects
        .iter()
        .map(|object| Arc::new(stored(&call.row, object)))
        .filter(|stored| selection.matches(stored))
        .collect();
    Ok(Answer::List(List {
        items,
        revision: NONE,
        next: None,
        remaining: None,
    }))
}

fn stored(row: &Resource, object: &Value) -> Stored {
    let key = object_key(meta::namespace(object), meta::name(object));
    Stored::new(&key, NONE, object.to_string().into(), Some(row))
}
