//! Lists: of now from memory, of a past revision from the log, in pages that are consistent at the first page's revision.

use std::sync::Arc;

use setpoint_api::{Resource, Status};
use setpoint_store::StoreError;

use super::answer::{Answer, List};
use super::call::Call;
use super::continuation::Continue;
use super::failure::from_read;
use super::get::not_before;
use super::list_options::{ListOptions, Match, invalid_revision, parse_revision};
use super::select::Selection;
use crate::cache::{Snapshot, Stored, split_key};

/// How many entries are read from the log at once when a selector may leave some out.
const BATCH: usize = 500;

/// What a list is told whose revision is forgotten.
const EXPIRED: &str = "The resourceVersion for the provided list is too old.";
/// What a page is told whose revision is forgotten; with it goes a token by which the list goes on as things are now.
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Where a page begins.
struct Place<'p> {
    /// The key after which it begins; `None` is the start.
    after: Option<&'p str>,
    /// How many objects come after that key, if the page before knew.
    left: Option<u64>,
}

pub(super) async fn list(call: &Call<'_>) -> Result<Answer, Status> {
    items(call).await.map(Answer::List)
}

/// The objects that a query asks for, also that of a deletion.
pub(super) async fn items(call: &Call<'_>) -> Result<List, Status> {
    let options = ListOptions::read(&call.info.query, false)?;
    let selection = Selection::of(call)?;
    let limit = options.limit;
    if let Some(token) = options.token {
        let token =
            Continue::decode(token).map_err(|why| Status::bad_request(format!("invalid continue token: {why}")))?;
        if options.revision.is_some_and(|revision| revision != "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let place = Place {
            after: Some(&token.start),
            left: token.left,
        };
        return match u64::try_from(token.rv) {
            Ok(revision) => page(call, &selection, revision, &place, limit).await,
            // The client was told that its list will not be of one revision.
            Err(_) => {
                let snapshot = call.inner().cache.snapshot(&call.resource, call.scope(), place.after);
                let revision = snapshot.revision;
                Ok(current(snapshot, revision, &selection, limit, 0))
            }
        };
    }
    let revision = parse_revision(options.revision.unwrap_or_default()).map_err(|error| invalid_revision(&error))?;
    let exact = match options.matching {
        Some(Match::Exact) => true,
        Some(Match::NotOlderThan) => false,
        // Older clients page through a revision so.
        None => limit > 0 && revision > 0,
    };
    if exact {
        let start = Place {
            after: None,
            left: None,
        };
        return page(call, &selection, revision, &start, limit).await;
    }
    not_before(call, "resourceVersion").await?;
    let (snapshot, rest) = if selection.is_everything() && limit > 0 {
        call.inner().cache.first(&call.resource, call.scope(), None, limit)
    } else {
        (selected(call, &selection), 0)
    };
    let revision = snapshot.revision;
    Ok(current(snapshot, revision, &selection, limit, rest))
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
    // Kubernetes does not count what a selector leaves out.
    let remaining = selection.is_everything().then_some(remaining as u64);
    let next = items
        .last()
        .map(|last| Continue::encode(revision, &last.key, remaining));
    List {
        items,
        revision,
        next,
        remaining,
    }
}

/// A page as it was at a revision.
async fn page(
    call: &Call<'_>,
    selection: &Selection,
    revision: u64,
    place: &Place<'_>,
    limit: usize,
) -> Result<List, Status> {
    let after = place.after;
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
            .map_err(|error| expired(&error, place))?;
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
    let from_here = match place {
        _ if !selection.is_everything() => None,
        Place { after: None, .. } => {
            let counted = inner.log.count(&prefix, Some(revision)).await;
            Some(counted.map_err(|error| expired(&error, place))?)
        }
        Place { left, .. } => *left,
    };
    let remaining = from_here.map(|count| count.saturating_sub(limit as u64));
    let next = items
        .last()
        .map(|last| Continue::encode(revision, &last.key, remaining));
    Ok(List {
        items,
        revision,
        next,
        remaining,
    })
}

fn parsed(row: &Resource, kv: setpoint_store::KeyValue) -> Option<Arc<Stored>> {
    let (_, key) = split_key(&kv.key)?;
    Some(Arc::new(Stored::new(key, kv.modified, kv.value.clone(), Some(row))))
}

fn expired(error: &StoreError, place: &Place<'_>) -> Status {
    match (error, place.after) {
        (StoreError::Compacted { .. }, None) => Status::expired(EXPIRED),
        (StoreError::Compacted { .. }, Some(start)) => {
            Status::expired(INCONSISTENT).with_continue(Continue::from_now(start))
        }
        (error, _) => from_read(error),
    }
}
