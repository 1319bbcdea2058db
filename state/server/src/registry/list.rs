//! Lists: of now from memory, of a past revision from the log, in pages that are consistent at the first page's revision.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Resource, Status};
use setpoint_store::StoreError;

use super::answer::{Answer, List};
use super::call::Call;
use super::failure::from_read;
use super::get::{not_before, parse_revision};
use super::select::Selection;
use crate::cache::{Snapshot, Stored, split_key};

/// How many entries are read from the log at once when a selector may leave some out.
const BATCH: usize = 500;

/// Where the next page begins.
#[derive(Serialize, Deserialize)]
struct Continue {
    v: String,
    rv: u64,
    start: String,
}

pub(super) async fn list(call: &Call<'_>) -> Result<Answer, Status> {
    let query = &call.info.query;
    let selection = Selection::of(call)?;
    let limit = match query.non_empty("limit") {
        None => 0,
        Some(text) => text
            .parse::<i64>()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?
            .max(0) as usize,
    };
    let matching = query.non_empty("resourceVersionMatch");
    let revision = query.non_empty("resourceVersion");
    let list = if let Some(token) = query.non_empty("continue") {
        if matching.is_some() || revision.is_some_and(|revision| revision != "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let token = decode(token)?;
        page(call, &selection, token.rv, Some(&token.start), limit).await?
    } else {
        match (matching, revision) {
            (Some("Exact"), Some(revision)) if revision != "0" => {
                page(call, &selection, parse_revision(revision)?, None, limit).await?
            }
            (None | Some("NotOlderThan"), _) if matching.is_none() || revision.is_some() => {
                not_before(call, "resourceVersion").await?;
                let cache = &call.inner().cache;
                let (snapshot, rest) = if selection.is_everything() && limit > 0 {
                    cache.first(&call.resource, call.scope(), None, limit)
                } else {
                    (selected(call, &selection), 0)
                };
                let revision = snapshot.revision;
                current(snapshot, revision, &selection, limit, rest)
            }
            _ => return Err(bad_match(call, matching.unwrap_or_default(), revision)),
        }
    };
    Ok(Answer::List(list))
}

fn bad_match(call: &Call<'_>, matching: &str, revision: Option<&str>) -> Status {
    let error = match (matching, revision) {
        ("Exact" | "NotOlderThan", None) => FieldError::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        ("Exact", _) => FieldError::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        _ => FieldError::not_supported("resourceVersionMatch", matching, &["Exact", "NotOlderThan"]),
    };
    Status::invalid("meta.k8s.io", call.options_kind(), "", &[error])
}

/// What a selection can be in: one object where it names one, else all of the scope.
pub(crate) fn selected(call: &Call<'_>, selection: &Selection) -> Snapshot {
    let cache = &call.inner().cache;
    match (selection.name(), call.home()) {
        (Some(name), Some(namespace)) => cache.single(&call.resource, namespace, name),
        _ => cache.snapshot(&call.resource, call.scope(), None),
    }
}

/// A list from memory, which is the state at `revision`; the snapshot leaves `rest` objects out that come later.
fn current(snapshot: Snapshot, revision: u64, selection: &Selection, limit: usize, rest: usize) -> List {
    // `?fieldSelector=metadata.name=x` comes as a name too, but on the collection: the selection finds it.
    let mut items: Vec<Arc<Stored>> = if selection.is_everything() {
        snapshot.items
    } else {
        snapshot
            .items
            .into_iter()
            .filter(|stored| selection.matches(stored))
            .collect()
    };
    if limit == 0 || (items.len() <= limit && rest == 0) {
        return List {
            items,
            revision,
            next: None,
            remaining: None,
        };
    }
    let remaining = items.len() + rest - limit;
    items.truncate(limit);
    let next = items.last().map(|last| encode(revision, &last.key));
    // Kubernetes does not count what a selector leaves out.
    List {
        items,
        revision,
        next,
        remaining: selection.is_everything().then_some(remaining),
    }
}

/// A page as it was at a revision.
async fn page(
    call: &Call<'_>,
    selection: &Selection,
    revision: u64,
    after: Option<&str>,
    limit: usize,
) -> Result<List, Status> {
    let inner = call.inner();
    let now = inner.cache.revision();
    if revision > now {
        return Err(Status::too_large_resource_version(revision, now));
    }
    let (snapshot, rest) = if selection.is_everything() && limit > 0 {
        inner.cache.first(&call.resource, call.scope(), after, limit)
    } else {
        (inner.cache.snapshot(&call.resource, call.scope(), after), 0)
    };
    if snapshot.changed <= revision {
        return Ok(current(snapshot, revision, selection, limit, rest));
    }
    let prefix = match call.scope() {
        Some(namespace) => format!("{}/{namespace}/", call.resource),
        None => format!("{}/", call.resource),
    };
    let mut after = after.map(|key| format!("{}/{key}", call.resource));
    let mut items: Vec<Arc<Stored>> = Vec::new();
    // One more than asked for tells whether there is a next page.
    let wanted = if limit == 0 { usize::MAX } else { limit + 1 };
    loop {
        let batch = if limit == 0 { 0 } else { BATCH.max(limit + 1) };
        let page = inner
            .log
            .list(&prefix, after.as_deref(), batch, Some(revision))
            .await
            .map_err(|error| expired(&error))?;
        after = page.items.last().map(|kv| kv.key.clone());
        items.extend(
            page.items
                .into_iter()
                .filter_map(|kv| parsed(&call.row, kv))
                .filter(|stored| selection.matches(stored)),
        );
        if items.len() >= wanted || !page.more || after.is_none() {
            break;
        }
    }
    if limit == 0 || items.len() <= limit {
        return Ok(List {
            items,
            revision,
            next: None,
            remaining: None,
        });
    }
    items.truncate(limit);
    let next = items.last().map(|last| encode(revision, &last.key));
    Ok(List {
        items,
        revision,
        next,
        remaining: None,
    })
}

fn parsed(row: &Resource, kv: setpoint_store::KeyValue) -> Option<Arc<Stored>> {
    let (_, key) = split_key(&kv.key)?;
    Some(Arc::new(Stored::new(key, kv.modified, kv.value.clone(), Some(row))))
}

fn expired(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
        ),
        error => from_read(error),
    }
}

fn encode(revision: u64, key: &str) -> String {
    let token = Continue {
        v: "meta.k8s.io/v1".to_owned(),
        rv: revision,
        start: key.to_owned(),
    };
    // A struct of two texts and a number always serializes.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn decode(token: &str) -> Result<Continue, Status> {
    let wrong = || Status::bad_request("continue key is not valid: it must be one that this server gave");
    let bytes = URL_SAFE_NO_PAD
        .decode(token.trim_end_matches('='))
        .map_err(|_| wrong())?;
    let token: Continue = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    if token.v == "meta.k8s.io/v1" && token.rv > 0 {
        Ok(token)
    } else {
        Err(wrong())
    }
}
