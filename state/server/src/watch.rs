//! Watches: what happens to the objects of a selection, from a revision on, without gap or duplicate.
//!
//! A watcher is a position in its kind's ring; where the ring does not reach back far enough, it first reads the log
//! until it does. It holds nothing that grows: what it cannot hand on it does not take. One that falls behind the ring is
//! ended and comes back with its last revision, as clients do.

mod render;
mod source;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use rand::Rng;
use setpoint_api::{Resource, Status};
use tokio::time::{Instant, sleep_until};

use crate::cache::{EventType, ObjectEvent, Stored};
use crate::registry::{Answer, Call, ListOptions, Selection, parse_revision, selected};

use render::Renderer;
use source::{Next, Source};

/// How often a watcher that asked for them is told how far it has come, with nothing else to say.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch without a time of its own lasts, at least; at most twice that.
const LASTS: u64 = 30 * 60;
/// How long a watch waits for a revision that is still to come.
const WAIT: Duration = Duration::from_secs(3);

/// How a watch begins.
enum Start {
    /// With what there is, then what happens; `true`: with a bookmark between the two.
    Initial { mark: bool },
    /// With what happened after a revision.
    After(u64),
    /// With what happens from now on.
    Now,
}

pub(crate) async fn watch(call: &Call<'_>) -> Result<Answer, Status> {
    if call.accept.yaml {
        // There is no stream of YAML documents.
        return Err(Status::not_acceptable(
            "application/json, application/json;stream=watch",
        ));
    }
    let query = &call.info.query;
    let selection = Selection::of(call)?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let options = ListOptions::read(query, true)?;
    let revision = parse_revision(options.revision.unwrap_or_default())
        .map_err(|error| Status::invalid(&call.row.group, &call.row.plural, "", &[error]))?;
    let revision = Some(revision).filter(|revision| *revision > 0);
    let start = match options.initial_events {
        Some(true) => Start::Initial { mark: bookmarks },
        Some(false) => revision.map_or(Start::Now, Start::After),
        None => revision.map_or(Start::Initial { mark: false }, Start::After),
    };
    let lasts = match options.timeout {
        Some(seconds) => Duration::from_secs(seconds.min(7 * 24 * 3600)),
        None => Duration::from_secs(rand::rng().random_range(LASTS..2 * LASTS)),
    };
    let inner = call.inner();
    let mut ready = VecDeque::new();
    let mut failed = None;
    if let Some(revision) = revision
        && let Err(behind) = inner.cache.wait_within(revision, WAIT).await
    {
        // 410 makes every client list again, which is what helps when the log was replaced by an older one.
        let text = format!("too large resource version: {revision}, current: {}", behind.reached);
        failed = Some(Status::expired(text));
    }
    let renderer = Renderer::new(call);
    // Subscribed before anything is read: a change between reading and waiting wakes at once.
    let changed = inner.cache.subscribe(&call.resource);
    let mut mark = None;
    let cursor = match start {
        Start::After(revision) => revision,
        Start::Now => inner.cache.revision(),
        Start::Initial { mark: wanted } => {
            let snapshot = selected(call, &selection);
            let objects = snapshot.items.into_iter().filter(|stored| selection.matches(stored));
            ready.extend(objects.map(Line::Initial));
            if wanted {
                mark = Some(snapshot.revision);
            }
            snapshot.revision
        }
    };
    if let Some(revision) = mark {
        ready.push_back(Line::InitialEnd(revision));
    }
    let source = Source::new(
        inner.log.clone(),
        inner.cache.clone(),
        (call.resource.clone(), call.scope()),
        call.row.clone(),
        cursor,
        changed,
    );
    let watcher = Watcher {
        renderer,
        selection,
        namespace: call.scope().map(str::to_owned),
        source,
        ready,
        failed,
        ended: false,
        bookmarks,
        told: cursor,
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        until: Instant::now() + lasts,
    };
    let lines = futures::stream::unfold(watcher, |mut watcher| async move {
        let line = watcher.next().await?;
        Some((Ok::<Bytes, Infallible>(line), watcher))
    });
    Ok(Answer::Stream(Body::from_stream(lines)))
}

/// Something to be written.
enum Line {
    Initial(Arc<Stored>),
    InitialEnd(u64),
    Event(EventType, Arc<ObjectEvent>),
}

struct Watcher {
    renderer: Renderer,
    selection: Selection,
    namespace: Option<String>,
    source: Source,
    /// What was read and has yet to be written: the initial objects, or one batch of changes.
    ready: VecDeque<Line>,
    failed: Option<Status>,
    ended: bool,
    bookmarks: bool,
    /// The revision that the client knows of.
    told: u64,
    next_bookmark: Instant,
    until: Instant,
}

impl Watcher {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(match line {
                    Line::Initial(stored) => self.renderer.object(EventType::Added, &stored, stored.revision),
                    Line::InitialEnd(revision) => {
                        self.told = revision;
                        self.renderer.bookmark(revision, true)
                    }
                    Line::Event(kind, event) => {
                        self.told = event.revision;
                        self.renderer.event(kind, &event)
                    }
                });
            }
            if self.ended {
                return None;
            }
            if let Some(status) = self.failed.take() {
                self.ended = true;
                return Some(self.renderer.error(&status));
            }
            tokio::select! {
                biased;
                next = self.source.next() => match next {
                    Next::Events(events) => {
                        for event in events {
                            if let Some(kind) = self.seen_as(&event) {
                                self.ready.push_back(Line::Event(kind, event));
                            }
                        }
                    }
                    Next::Failed(status) => self.failed = Some(status),
                    Next::End => self.ended = true,
                },
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    if let Some(line) = self.bookmark() {
                        return Some(line);
                    }
                }
                () = sleep_until(self.until) => {
                    self.ended = true;
                    if self.bookmarks
                        && let Some(line) = self.bookmark()
                    {
                        return Some(line);
                    }
                }
            }
        }
    }

    /// A bookmark, if there is something new in it.
    fn bookmark(&mut self) -> Option<Bytes> {
        let revision = self.source.position();
        if revision <= self.told {
            return None;
        }
        self.told = revision;
        Some(self.renderer.bookmark(revision, false))
    }

    /// What an event is to this watcher: an object that begins to match is added, one that ceases is deleted.
    fn seen_as(&self, event: &ObjectEvent) -> Option<EventType> {
        let mine = |stored: &Arc<Stored>| {
            self.namespace
                .as_deref()
                .is_none_or(|namespace| *stored.namespace == *namespace)
                && self.selection.matches(stored)
        };
        let before = event.previous.as_ref().is_some_and(mine);
        match (before, event.current.as_ref().is_some_and(mine)) {
            (false, false) => None,
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
        }
    }
}

/// The event of a row's object in another version than it is stored in shows that version.
fn in_version(row: &Resource, stored: &Stored) -> bool {
    stored.is_version(&row.api_version())
}
