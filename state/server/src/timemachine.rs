//! The past of the cluster, outside of resources: what of it can be read, which revision a time was, and what changed.
//!
//! Two paths, read only: `/setpoint/v1/log` and `/setpoint/v1/changes`. Whoever may `get` the path may ask; of the changes everybody
//! is given those of kinds and namespaces that they may list. How an object was is read by an ordinary list at a revision.

mod changes;
#[cfg(test)]
mod tests;

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use setpoint_api::Status;
use setpoint_store::{Log, Moment, Revision, StoreError, Window};

use crate::authz::Authorizer;
use crate::registry::{Registry, from_store};
use crate::request::{RequestInfo, UserInfo};
use crate::respond;

/// The paths that are answered here, as `/` lists them.
pub(crate) const PATHS: [&str; 2] = ["/setpoint/v1/changes", "/setpoint/v1/log"];

/// Answers a path of the past; `None` when it is none.
pub(crate) async fn serve(
    registry: &Registry,
    authorizer: &Authorizer,
    info: &RequestInfo,
    user: &UserInfo,
) -> Option<Result<Response<Body>, Status>> {
    match info.path.trim_end_matches('/') {
        "/setpoint/v1/log" => Some(log(registry, info).await),
        "/setpoint/v1/changes" => Some(changes::serve(registry, authorizer, info, user).await),
        _ => None,
    }
}

async fn log(registry: &Registry, info: &RequestInfo) -> Result<Response<Body>, Status> {
    let log = &*registry.inner.log;
    let at = match time(info, "at")? {
        Some(at) => Some(moment(log, "at", at, registry.inner.now()).await?),
        None => None,
    };
    let window = log.window().await.map_err(|error| failed(&error))?;
    let mut answer = window_document(&window);
    if let Some(at) = at {
        answer["at"] = json!({"revision": at.revision, "time": at.at.to_string()});
    }
    Ok(respond::json(StatusCode::OK, &answer))
}

fn window_document(window: &Window) -> Value {
    json!({
        "newest": window.newest,
        "oldest": window.oldest,
        "since": window.since.map(|since| since.to_string()),
        "bytes": window.bytes,
        "keepBytes": window.keep_bytes,
        "keepAgeSeconds": window.keep_age.as_secs(),
    })
}

/// Reads a time of the query.
fn time(info: &RequestInfo, key: &str) -> Result<Option<Timestamp>, Status> {
    let Some(text) = info.query.non_empty(key) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!(
            "{key}: {text:?} is no time: write it as in 2026-01-31T14:30:00Z (RFC 3339)"
        ))
    })
}

/// Reads a revision of the query.
fn revision(info: &RequestInfo, key: &str) -> Result<Option<Revision>, Status> {
    let Some(text) = info.query.non_empty(key) else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|_| Status::bad_request(format!("{key}: {text:?} is no revision: it must be a number")))
}

/// The newest revision at a time that is past and can still be read.
async fn moment(log: &dyn Log, key: &str, time: Timestamp, now: Timestamp) -> Result<Moment, Status> {
    if time > now {
        return Err(Status::bad_request(format!(
            "{key}: {time} is in the future: it is {now}"
        )));
    }
    match log.moment(time).await.map_err(|error| failed(&error))? {
        Some(moment) => Ok(moment),
        None => Err(forgotten(log, time).await?),
    }
}

/// Says that nothing of a time can be read, and how far back one can.
async fn forgotten(log: &dyn Log, time: Timestamp) -> Result<Status, Status> {
    let window = log.window().await.map_err(|error| failed(&error))?;
    let reach = match window.since {
        Some(since) => format!("history reaches back to {since} (revision {})", window.oldest),
        None => format!(
            "history reaches back to revision {}, of which no time was noted",
            window.oldest
        ),
    };
    Ok(Status::expired(format!("nothing of {time} can be read: {reach}")))
}

/// Words a failure to read the past.
fn failed(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { requested, oldest } => Status::expired(format!(
            "revision {requested} can no longer be read: history reaches back to revision {oldest}"
        )),
        error => from_store(error),
    }
}
