//! The current objects in memory, ready to send, and their recent changes.
//!
//! Fed by one watch of the whole log and nothing else: a writer never touches the cache, it writes to the log and waits
//! until the change came back ([`Cache::wait_for`]), so that what a client was answered is what everybody sees.
//!
//! Invariants:
//! * All kinds are behind one lock and move together: what is read under it is the state at exactly [`Cache::revision`].
//! * An object's bytes are the log's own allocation; nothing here copies them.
//! * A watcher holds a position, not a queue: it reads changes from its kind's ring, and one that falls behind what the
//!   ring keeps is told so ([`Missed`]). Nothing is buffered for anybody.

mod feed;
mod ring;
mod stored;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use setpoint_api::Scheme;
use setpoint_store::{Log, Revision, StoreError};
use tokio::sync::{oneshot, watch};

pub use ring::{EventType, ObjectEvent};
pub(crate) use ring::{event_line, partial_line};
pub use stored::Stored;

use ring::Ring;

/// How long a write waits for its own change to come back.
const CATCH_UP: Duration = Duration::from_secs(10);

/// The changes asked for are not in memory any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The oldest revision from which changes can still be had from memory.
    pub oldest: Revision,
}

/// The cache did not reach a revision: the log's feed is broken or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {wanted} has not become visible in time; the newest visible is {reached}")]
pub struct NotVisible {
    /// What was waited for.
    pub wanted: Revision,
    /// What is there.
    pub reached: Revision,
}

/// A list as it was at one revision.
pub struct Snapshot {
    /// The revision of the whole cache at that moment.
    pub revision: Revision,
    /// The revision of the kind's newest change: the list is the same at every revision from there on.
    pub changed: Revision,
    /// The objects in key order.
    pub items: Vec<Arc<Stored>>,
}

/// Every object of one kind.
struct Kind {
    objects: BTreeMap<Box<str>, Arc<Stored>>,
    ring: Ring,
    changed: Revision,
    notify: watch::Sender<Revision>,
}

impl Kind {
    fn new(since: Revision) -> Kind {
        Kind {
            objects: BTreeMap::new(),
            ring: Ring::new(since),
            changed: since,
            notify: watch::channel(since).0,
        }
    }
}

struct State {
    revision: Revision,
    /// The revision that was loaded at start: what came before is not in any ring.
    since: Revision,
    kinds: HashMap<Box<str>, Kind>,
}

/// The current objects and their recent changes.
pub struct Cache {
    state: RwLock<State>,
    waiters: Mutex<BTreeMap<Revision, Vec<oneshot::Sender<()>>>>,
    revisions: watch::Sender<Revision>,
    scheme: Scheme,
    closed: AtomicBool,
}

impl Cache {
    /// Loads everything from the log, registers the stored CustomResourceDefinitions in `scheme`, and starts to follow.
    ///
    /// The task that follows ends when the returned cache is dropped or the log closes.
    pub async fn start(log: Arc<dyn Log>, scheme: Scheme) -> Result<Arc<Cache>, StoreError> {
        let cache = Arc::new(Cache {
            state: RwLock::new(State {
                revision: 0,
                since: 0,
                kinds: HashMap::new(),
            }),
            waiters: Mutex::new(BTreeMap::new()),
            revisions: watch::channel(0).0,
            scheme,
            closed: AtomicBool::new(false),
        });
        let revision = feed::load(&cache, &*log).await?;
        let stream = log.watch("", revision).await?;
        tokio::spawn(feed::follow(Arc::downgrade(&cache), log, stream));
        Ok(cache)
    }

    /// The newest revision that is visible.
    pub fn revision(&self) -> Revision {
        self.state.read().revision
    }

    /// Whether changes still arrive.
    pub fn is_live(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Tells of every new revision.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.subscribe()
    }

    /// Waits until `revision` is visible.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), NotVisible> {
        self.wait_within(revision, CATCH_UP).await
    }

    /// Waits until `revision` is visible, for at most `limit`.
    pub async fn wait_within(&self, revision: Revision, limit: Duration) -> Result<(), NotVisible> {
        let waiter = {
            // Registered before the revision is looked at, and the feed bumps it before it wakes: none is missed.
            let mut waiters = self.waiters.lock();
            if self.revision() >= revision {
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            waiters.entry(revision).or_default().push(sender);
            receiver
        };
        match tokio::time::timeout(limit, waiter).await {
            Ok(Ok(())) => Ok(()),
            _ => {
                self.forget_waiters(revision);
                Err(NotVisible {
                    wanted: revision,
                    reached: self.revision(),
                })
            }
        }
    }

    /// Lets go of who waited for a revision and does not any more: it may never come.
    fn forget_waiters(&self, revision: Revision) {
        let mut waiters = self.waiters.lock();
        if let Some(waiting) = waiters.get_mut(&revision) {
            waiting.retain(|waiter| !waiter.is_closed());
            if waiting.is_empty() {
                waiters.remove(&revision);
            }
        }
    }

    /// One object, also a damaged one; `resource` is `core/pods` or `apps/deployments`, `namespace` empty for what has none.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        let key = object_key(namespace, name);
        self.state
            .read()
            .kinds
            .get(resource)?
            .objects
            .get(key.as_str())
            .cloned()
    }

    /// All objects of a kind but damaged ones, in key order, perhaps of one namespace only.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Stored>> {
        self.snapshot(resource, namespace, None).items
    }

    /// The objects of a kind after a key but damaged ones, with the revision at which this is the truth.
    pub fn snapshot(&self, resource: &str, namespace: Option<&str>, after: Option<&str>) -> Snapshot {
        let state = self.state.read();
        let prefix = namespace.map(|namespace| format!("{namespace}/"));
        let whole = |stored: &&Arc<Stored>| stored.damage.is_none();
        let items = state
            .kinds
            .get(resource)
            .map_or_else(Vec::new, |kind| match (&prefix, after) {
                (None, None) => kind.objects.values().filter(whole).cloned().collect(),
                _ => {
                    let from = match (&prefix, after) {
                        (_, Some(after)) => Bound::Excluded(after),
                        (Some(prefix), None) => Bound::Included(prefix.as_str()),
                        (None, None) => Bound::Unbounded,
                    };
                    kind.objects
                        .range::<str, _>((from, Bound::Unbounded))
                        .take_while(|(key, _)| prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix)))
                        .map(|(_, stored)| stored)
                        .filter(whole)
                        .cloned()
                        .collect()
                }
            });
        let changed = state.kinds.get(resource).map_or(state.since, |kind| kind.changed);
        Snapshot {
            revision: state.revision,
            changed,
            items,
        }
    }

    /// The first `limit` objects of a kind but damaged ones, after a key if one is given, and how many more there are. Nothing is kept of those.
    pub fn first(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> (Snapshot, usize) {
        let state = self.state.read();
        let prefix = namespace.map(|namespace| format!("{namespace}/"));
        let from = match (after, &prefix) {
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(prefix)) => Bound::Included(prefix.as_str()),
            (None, None) => Bound::Unbounded,
        };
        let kind = state.kinds.get(resource);
        let mut items = Vec::new();
        let mut rest = 0;
        if let Some(kind) = kind {
            let mut found = kind
                .objects
                .range::<str, _>((from, Bound::Unbounded))
                .take_while(|(key, _)| prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix)))
                .map(|(_, stored)| stored)
                .filter(|stored| stored.damage.is_none());
            items.extend(found.by_ref().take(limit).cloned());
            rest = found.count();
        }
        let snapshot = Snapshot {
            revision: state.revision,
            changed: kind.map_or(state.since, |kind| kind.changed),
            items,
        };
        (snapshot, rest)
    }

    /// One object of a kind as a list, if it is there and not damaged.
    pub fn single(&self, resource: &str, namespace: &str, name: &str) -> Snapshot {
        let state = self.state.read();
        let kind = state.kinds.get(resource);
        let found = kind.and_then(|kind| kind.objects.get(object_key(namespace, name).as_str()));
        Snapshot {
            revision: state.revision,
            changed: kind.map_or(state.since, |kind| kind.changed),
            items: found
                .filter(|stored| stored.damage.is_none())
                .cloned()
                .into_iter()
                .collect(),
        }
    }

    /// The revision of the newest change of a kind; what was derived from the kind's objects then is still right.
    pub fn kind_revision(&self, resource: &str) -> Revision {
        let state = self.state.read();
        state.kinds.get(resource).map_or(state.since, |kind| kind.changed)
    }

    /// How many objects of a kind there are.
    pub fn count(&self, resource: &str) -> usize {
        self.state
            .read()
            .kinds
            .get(resource)
            .map_or(0, |kind| kind.objects.len())
    }

    /// Tells of each change of a kind, by the revision of the newest.
    pub fn subscribe(&self, resource: &str) -> watch::Receiver<Revision> {
        if let Some(kind) = self.state.read().kinds.get(resource) {
            return kind.notify.subscribe();
        }
        let mut state = self.state.write();
        let since = state.since;
        let kind = state.kinds.entry(resource.into()).or_insert_with(|| Kind::new(since));
        kind.notify.subscribe()
    }

    /// Up to `limit` changes of a kind after a revision, oldest first, and the revision up to which this is everything.
    pub fn changes(
        &self,
        resource: &str,
        after: Revision,
        limit: usize,
    ) -> Result<(Vec<Arc<ObjectEvent>>, Revision), Missed> {
        let state = self.state.read();
        let Some(kind) = state.kinds.get(resource) else {
            return if after >= state.since {
                Ok((Vec::new(), state.revision.max(after)))
            } else {
                Err(Missed { oldest: state.since })
            };
        };
        let (events, all) = kind.ring.after(after, limit)?;
        let through = if all {
            state.revision
        } else {
            events.last().map_or(after, |event| event.revision)
        };
        Ok((events, through.max(after)))
    }

    /// Wakes those whose revision has come.
    fn wake(&self, revision: Revision) {
        let ready = {
            let mut waiters = self.waiters.lock();
            let later = waiters.split_off(&(revision + 1));
            std::mem::replace(&mut *waiters, later)
        };
        for waiter in ready.into_values().flatten() {
            // A waiter that gave up has dropped its end; nobody is left to tell.
            waiter.send(()).unwrap_or_default();
        }
        self.revisions.send_replace(revision);
    }
}

/// The key of an object within its kind, as the log has it after the resource.
pub(crate) fn object_key(namespace: &str, name: &str) -> String {
    let namespace = if namespace.is_empty() { "-" } else { namespace };
    let mut key = String::with_capacity(namespace.len() + name.len() + 1);
    key.push_str(namespace);
    key.push('/');
    key.push_str(name);
    key
}

/// The first two segments of a log key (`apps/deployments`) and the rest (`default/web`).
pub(crate) fn split_key(key: &str) -> Option<(&str, &str)> {
    let group = key.find('/')?;
    let plural = key[group + 1..].find('/')? + group + 1;
    Some((&key[..plural], &key[plural + 1..]))
}
