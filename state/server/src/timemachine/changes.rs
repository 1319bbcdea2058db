//! What changed between two moments, object by object, for those who may list it.
//!
//! An answer is bounded: by the changes in it, by their bytes, and by how far it looks for them. Where a bound ends it, `next` says where to
//! go on, also when nothing was found so far.

use std::collections::HashMap;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use setpoint_api::Status;
use setpoint_store::{Change, KeyValue, Log, Revision};

use super::{failed, moment, revision, time};
use crate::authz::{Attributes, Authorizer};
use crate::cache::split_key;
use crate::registry::Registry;
use crate::request::{RequestInfo, UserInfo};
use crate::respond;

/// How many changes an answer has when nobody says how many.
const USUAL: usize = 500;
/// How many it has at most.
const MOST: usize = 1000;
/// An answer has no more bytes of objects than this and one change.
const BYTES: usize = 8 << 20;
/// How many changes are read from the log at once.
const BATCH: usize = 32;
/// How often is read for one answer, whatever is found.
const ROUNDS: usize = 600;

#[derive(Serialize)]
struct Answer {
    changes: Vec<Entry>,
    next: Option<Revision>,
    upto: Revision,
}

#[derive(Serialize)]
struct Entry {
    revision: Revision,
    time: Option<String>,
    resource: String,
    kind: String,
    namespace: String,
    name: String,
    r#type: &'static str,
    before: Option<Box<RawValue>>,
    after: Option<Box<RawValue>>,
}

pub(super) async fn serve(
    registry: &Registry,
    authorizer: &Authorizer,
    info: &RequestInfo,
    user: &UserInfo,
) -> Result<Response<Body>, Status> {
    let log = &*registry.inner.log;
    let wanted = Wanted::read(info)?;
    let (after, upto) = range(registry, info).await?;
    let mut visible = Visible {
        authorizer,
        user,
        name: wanted.name.as_deref().unwrap_or_default(),
        known: HashMap::new(),
    };
    let answer = collect(log, &wanted, &mut visible, after, upto).await?;
    // Texts, numbers and JSON that was parsed: it serializes.
    let body = serde_json::to_vec(&answer).map_err(Status::internal)?;
    Ok(respond::bytes(
        StatusCode::OK,
        HeaderValue::from_static("application/json"),
        body,
    ))
}

/// The revisions between which is looked: after the first, up to the second.
async fn range(registry: &Registry, info: &RequestInfo) -> Result<(Revision, Revision), Status> {
    let log = &*registry.inner.log;
    let now = registry.inner.now();
    let (since, until) = (time(info, "since")?, time(info, "until")?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(Status::bad_request(format!("until: {until} is before since, {since}")));
    }
    // The end of what is to come is the newest revision.
    let upto = match until.filter(|until| *until <= now) {
        Some(until) => moment(log, "until", until, now).await?.revision,
        None => log.revision(),
    };
    let after = match (revision(info, "after")?, since) {
        (Some(after), _) => after,
        (None, Some(since)) if since > now => {
            return Err(Status::bad_request(format!(
                "since: {since} is in the future: it is {now}"
            )));
        }
        (None, Some(since)) => match log.moment(since).await.map_err(|error| failed(&error))? {
            Some(moment) => moment.revision,
            // From before anything that is kept: from the first that is.
            None => log.window().await.map_err(|error| failed(&error))?.oldest,
        },
        (None, None) => log.window().await.map_err(|error| failed(&error))?.oldest,
    };
    Ok((after, upto))
}

/// Which objects are asked for.
struct Wanted {
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    limit: usize,
}

impl Wanted {
    fn read(info: &RequestInfo) -> Result<Wanted, Status> {
        let text = |key: &str| info.query.non_empty(key).map(str::to_owned);
        let resource = match text("resource") {
            Some(resource) => Some(key_of_kind(&resource)?),
            None => None,
        };
        let limit = match info.query.non_empty("limit") {
            None => 0,
            Some(text) => text
                .parse()
                .map_err(|_| Status::bad_request(format!("limit: {text:?} is not a number of changes")))?,
        };
        for key in ["namespace", "name"] {
            if info.query.get(key).is_some_and(|value| value.contains('/')) {
                return Err(Status::bad_request(format!("{key}: no {key} has a slash in it")));
            }
        }
        Ok(Wanted {
            resource,
            namespace: text("namespace"),
            name: text("name"),
            limit: match limit {
                0 => USUAL,
                limit => MOST.min(limit),
            },
        })
    }

    /// The start of the log's keys of everything that is wanted, and perhaps of more.
    fn prefix(&self) -> String {
        match (&self.resource, &self.namespace, &self.name) {
            (None, ..) => String::new(),
            (Some(resource), None, _) => format!("{resource}/"),
            (Some(resource), Some(namespace), None) => format!("{resource}/{namespace}/"),
            (Some(resource), Some(namespace), Some(name)) => format!("{resource}/{namespace}/{name}"),
        }
    }

    fn includes(&self, place: &Place<'_>) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.resource, place.resource) && is(&self.namespace, place.namespace) && is(&self.name, place.name)
    }
}

/// Reads `apps/deployments`, `core/pods`, or `pods`, as the log's keys begin.
fn key_of_kind(text: &str) -> Result<String, Status> {
    let (group, plural) = text.split_once('/').unwrap_or(("", text));
    if plural.is_empty() || plural.contains('/') {
        return Err(Status::bad_request(format!(
            "resource: {text:?} is no kind: write it as in apps/deployments, or core/pods"
        )));
    }
    Ok(format!("{}/{plural}", if group.is_empty() { "core" } else { group }))
}

/// What a key of the log names.
struct Place<'a> {
    /// `apps/deployments`, `core/pods`.
    resource: &'a str,
    /// Empty for what has none.
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Place<'a> {
    fn of(key: &'a str) -> Option<Place<'a>> {
        let (resource, rest) = split_key(key)?;
        let (namespace, name) = rest.split_once('/')?;
        Some(Place {
            resource,
            namespace: if namespace == "-" { "" } else { namespace },
            name,
        })
    }
}

/// What the user may list, asked once per kind and namespace.
struct Visible<'a> {
    authorizer: &'a Authorizer,
    user: &'a UserInfo,
    /// The name that alone is asked for.
    name: &'a str,
    known: HashMap<(String, String), bool>,
}

impl Visible<'_> {
    fn allows(&mut self, place: &Place<'_>) -> bool {
        let key = (place.resource.to_owned(), place.namespace.to_owned());
        *self.known.entry(key).or_insert_with(|| {
            let (group, resource) = place.resource.split_once('/').unwrap_or_default();
            let attributes = Attributes {
                verb: "list",
                group: if group == "core" { "" } else { group },
                resource,
                namespace: place.namespace,
                name: self.name,
                ..Attributes::default()
            };
            self.authorizer.allows(self.user, &attributes)
        })
    }
}

async fn collect(
    log: &dyn Log,
    wanted: &Wanted,
    visible: &mut Visible<'_>,
    after: Revision,
    upto: Revision,
) -> Result<Answer, Status> {
    let prefix = wanted.prefix();
    let mut changes = Vec::new();
    let (mut position, mut bytes) = (after, 0);
    'rounds: for _ in 0..ROUNDS {
        if position >= upto {
            break;
        }
        let read = log
            .changes(&prefix, position, upto, BATCH)
            .await
            .map_err(|error| failed(&error))?;
        for (at, change) in read.changes {
            if changes.len() >= wanted.limit || bytes >= BYTES {
                break 'rounds;
            }
            position = change.revision();
            let Some(place) = Place::of(change.key()) else { continue };
            if wanted.includes(&place) && visible.allows(&place) {
                bytes += size(&change);
                changes.push(entry(&place, at.map(|at| at.to_string()), &change));
            }
        }
        if read.upto < position {
            return Err(Status::internal("the log does not say up to where it was read"));
        }
        position = read.upto;
    }
    Ok(Answer {
        changes,
        next: (position < upto).then_some(position),
        upto: position,
    })
}

fn size(change: &Change) -> usize {
    match change {
        Change::Put { current, previous } => current.value.len() + previous.as_ref().map_or(0, |kv| kv.value.len()),
        Change::Delete { previous, .. } => previous.value.len(),
    }
}

fn entry(place: &Place<'_>, time: Option<String>, change: &Change) -> Entry {
    let (r#type, before, after) = match change {
        Change::Put { current, .. } if current.created == current.modified => ("created", None, Some(current)),
        Change::Put { current, previous } => ("changed", previous.as_ref(), Some(current)),
        Change::Delete { previous, .. } => ("deleted", Some(previous), None),
    };
    let kind = after
        .and_then(|kv| kind(&kv.value))
        .or_else(|| before.and_then(|kv| kind(&kv.value)));
    Entry {
        revision: change.revision(),
        time,
        resource: place.resource.to_owned(),
        kind: kind.unwrap_or_default(),
        namespace: place.namespace.to_owned(),
        name: place.name.to_owned(),
        r#type,
        before: before.and_then(object),
        after: after.and_then(object),
    }
}

/// The kind that a stored object says it is; `None` when it is no object.
fn kind(value: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    struct Typed {
        kind: String,
    }
    serde_json::from_slice::<Typed>(value).ok().map(|typed| typed.kind)
}

/// An object with its resourceVersion; `None` where what is stored is damaged.
fn object(kv: &KeyValue) -> Option<Box<RawValue>> {
    let mut bytes = Vec::with_capacity(kv.value.len() + 44);
    setpoint_api::splice(&kv.value, kv.modified, &mut bytes);
    RawValue::from_string(String::from_utf8(bytes).ok()?).ok()
}
