//! The task that brings the log's changes into the cache.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use setpoint_api::{Resource, Scheme};
use setpoint_store::{Change, KeyValue, Log, Revision, StoreError, WatchEvent, WatchStream};

use super::{Cache, Kind, ObjectEvent, Stored, split_key};
use crate::crd;

/// At most so many changes are applied under one lock.
const BATCH: usize = 256;

/// Replaces what the cache holds by what the log holds; returns the revision of that. No events are made: the rings
/// begin anew, so that watchers of before list again.
pub(super) async fn load(cache: &Cache, log: &dyn Log) -> Result<Revision, StoreError> {
    let page = log.list("", None, 0, None).await?;
    let definitions = format!("{}/", crd::RESOURCE);
    for kv in page.items.iter().filter(|kv| kv.key.starts_with(&definitions)) {
        crd::register(&cache.scheme, &kv.key, &kv.value);
    }
    let mut state = cache.state.write();
    for kind in state.kinds.values_mut() {
        let notify = kind.notify.clone();
        *kind = Kind {
            notify,
            ..Kind::new(page.revision)
        };
    }
    state.since = page.revision;
    state.revision = page.revision;
    for kv in page.items {
        let Some((resource, key)) = split_key(&kv.key) else {
            continue;
        };
        let row = row_of(&cache.scheme, resource);
        let stored = Stored::new(key, kv.modified, kv.value.clone(), row.as_deref());
        report_damage(resource, &stored);
        let kind = state
            .kinds
            .entry(resource.into())
            .or_insert_with(|| Kind::new(page.revision));
        kind.objects.insert(stored.key.clone(), Arc::new(stored));
    }
    for kind in state.kinds.values() {
        kind.notify.send_replace(page.revision);
    }
    drop(state);
    cache.wake(page.revision);
    Ok(page.revision)
}

/// Applies changes until the log closes or nobody holds the cache any more.
pub(super) async fn follow(cache: Weak<Cache>, log: Arc<dyn Log>, first: WatchStream) {
    let mut stream = first.ready_chunks(BATCH);
    loop {
        let chunk = stream.next().await;
        let Some(cache) = cache.upgrade() else { return };
        let failure = match chunk {
            Some(chunk) => apply(&cache, chunk),
            None => Some(StoreError::Closed),
        };
        let Some(failure) = failure else { continue };
        if matches!(failure, StoreError::Closed) {
            close(&cache);
            return;
        }
        tracing::warn!(error = %failure, "the watch of the log broke; resuming it");
        match resume(&cache, &*log, &failure).await {
            Some(next) => stream = next.ready_chunks(BATCH),
            None => {
                close(&cache);
                return;
            }
        }
    }
}

/// Tells everybody who waits that nothing comes any more.
fn close(cache: &Cache) {
    cache.closed.store(true, Ordering::Release);
    cache.waiters.lock().clear();
    let state = cache.state.read();
    for kind in state.kinds.values() {
        kind.notify.send_replace(state.revision);
    }
}

/// Watches again from where the cache is, or loads everything anew when that is gone. `None` when the log has closed.
async fn resume(cache: &Cache, log: &dyn Log, failure: &StoreError) -> Option<WatchStream> {
    let mut reload = matches!(failure, StoreError::Compacted { .. });
    loop {
        let outcome = if reload {
            load(cache, log).await
        } else {
            Ok(cache.revision())
        };
        let outcome = match outcome {
            Ok(revision) => log.watch("", revision).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(stream) => return Some(stream),
            Err(StoreError::Closed) => return None,
            Err(StoreError::Compacted { .. }) => reload = true,
            Err(error) => tracing::error!(error = %error, "cannot follow the log; trying again"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Applies a batch; returns the failure that ended the stream, if one did.
fn apply(cache: &Cache, chunk: Vec<Result<WatchEvent, StoreError>>) -> Option<StoreError> {
    let mut failure = None;
    let mut changes = Vec::with_capacity(chunk.len());
    for item in chunk {
        match item {
            Ok(WatchEvent::Change(change)) => changes.push(change),
            // The cache follows every key: its changes tell it how far it is.
            Ok(WatchEvent::Progress(_)) => {}
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    // Parsed outside the lock: readers wait for the pointers to move, not for the parsing.
    let prepared: Vec<_> = changes.into_iter().map(|change| prepare(cache, change)).collect();
    let Some(newest) = prepared.last().map(|change| change.revision) else {
        return failure;
    };
    {
        let mut state = cache.state.write();
        let since = state.since;
        let mut touched = HashSet::new();
        for change in prepared {
            state.revision = change.revision;
            let Some((resource, key)) = split_key(&change.key) else {
                continue;
            };
            let kind = match state.kinds.get_mut(resource) {
                Some(kind) => kind,
                None => state.kinds.entry(resource.into()).or_insert_with(|| Kind::new(since)),
            };
            let previous = match &change.current {
                Some(stored) => kind.objects.insert(stored.key.clone(), stored.clone()),
                None => kind.objects.remove(key),
            };
            kind.changed = change.revision;
            kind.ring
                .push(Arc::new(ObjectEvent::new(change.revision, change.current, previous)));
            if !touched.contains(resource) {
                touched.insert(resource.to_owned());
            }
        }
        for resource in touched {
            if let Some(kind) = state.kinds.get(resource.as_str()) {
                kind.notify.send_replace(newest);
            }
        }
    }
    cache.wake(newest);
    failure
}

struct Prepared {
    revision: Revision,
    key: String,
    current: Option<Arc<Stored>>,
}

/// Reads a change; CustomResourceDefinitions change the scheme before anybody can see them stored.
fn prepare(cache: &Cache, change: Change) -> Prepared {
    let Some((resource, rest)) = split_key(change.key()) else {
        // Not a key of ours; only its revision counts.
        return Prepared {
            revision: change.revision(),
            key: String::new(),
            current: None,
        };
    };
    let definition = resource == crd::RESOURCE;
    match &change {
        Change::Put {
            current: KeyValue {
                key, value, modified, ..
            },
            ..
        } => {
            if definition {
                crd::register(&cache.scheme, key, value);
            }
            let row = row_of(&cache.scheme, resource);
            let stored = Stored::new(rest, *modified, value.clone(), row.as_deref());
            report_damage(resource, &stored);
            Prepared {
                revision: *modified,
                key: key.clone(),
                current: Some(Arc::new(stored)),
            }
        }
        Change::Delete { previous, revision } => {
            if definition {
                crd::unregister(&cache.scheme, &previous.key);
            }
            Prepared {
                revision: *revision,
                key: previous.key.clone(),
                current: None,
            }
        }
    }
}

/// Says that an object is damaged, once for each time that it comes out of the log.
fn report_damage(resource: &str, stored: &Stored) {
    if let Some(damage) = &stored.damage {
        tracing::error!(
            kind = resource,
            key = &*stored.key,
            revision = stored.revision,
            error = &**damage,
            "a stored object is no JSON object; it is left out of lists and watches until it is deleted by its name and made anew, or replaced"
        );
    }
}

/// A row of a kind by its place in the log, whatever the version.
fn row_of(scheme: &Scheme, resource: &str) -> Option<Arc<Resource>> {
    let (group, plural) = resource.split_once('/')?;
    scheme.any_version(if group == "core" { "" } else { group }, plural)
}
