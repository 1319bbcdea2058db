//! Who refers to what: for each node the objects that its pods refer to.
//!
//! Brought up to date from the cache's changes whenever it is asked, and by a task as changes come, so that it is exactly as new as the
//! cache and an answer costs one look into a map. Only when the changes since the last time are not in memory any more it is
//! made anew from all pods.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::references::{self, Kind};
use crate::cache::{Cache, ObjectEvent, Stored};

const PODS: &str = "core/pods";
/// How many changes are taken at once.
const STEP: usize = 512;

/// By node, kind and object: how many pods refer to it.
#[derive(Default)]
struct State {
    /// The revision of the cache that this is the truth of; `None` before the first look.
    revision: Option<u64>,
    counts: HashMap<String, u32>,
}

/// The references of all pods that are bound to a node.
#[derive(Default)]
pub(crate) struct Graph {
    state: Mutex<State>,
}

impl Graph {
    /// Starts a task that keeps a graph up with a cache until either is gone.
    pub(crate) fn follow(graph: &Arc<Graph>, cache: &Arc<Cache>) {
        let mut changes = cache.subscribe(PODS);
        let (graph, cache): (Weak<Graph>, Weak<Cache>) = (Arc::downgrade(graph), Arc::downgrade(cache));
        tokio::spawn(async move {
            loop {
                let (Some(graph), Some(cache)) = (graph.upgrade(), cache.upgrade()) else {
                    return;
                };
                changes.mark_unchanged();
                graph.state.lock().catch_up(&cache);
                drop((graph, cache));
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Whether a pod that is bound to the node refers to the object now.
    pub(in crate::authz) fn refers(&self, cache: &Cache, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let mut state = self.state.lock();
        state.catch_up(cache);
        state.counts.contains_key(&key(node, kind, namespace, name))
    }
}

impl State {
    fn catch_up(&mut self, cache: &Cache) {
        loop {
            let taken = self
                .revision
                .and_then(|revision| cache.changes(PODS, revision, STEP).ok());
            match taken {
                Some((events, through)) => {
                    for event in &events {
                        self.take(event);
                    }
                    self.revision = Some(through);
                    if events.len() < STEP {
                        return;
                    }
                }
                None => {
                    let snapshot = cache.snapshot(PODS, None, None);
                    self.counts.clear();
                    for pod in &snapshot.items {
                        self.count(pod, true);
                    }
                    self.revision = Some(snapshot.revision);
                    return;
                }
            }
        }
    }

    fn take(&mut self, event: &ObjectEvent) {
        let (current, previous) = (event.current.as_ref(), event.previous.as_ref());
        if let (Some(current), Some(previous)) = (current, previous) {
            // What a bound pod refers to stays as it is, but for the containers that are added to look into it.
            let same = current.uid == previous.uid && node_of(current) == node_of(previous);
            if same && !may_grow(current) && !may_grow(previous) {
                return;
            }
        }
        // First what comes, then what goes: what stays is never taken away in between.
        if let Some(current) = current {
            self.count(current, true);
        }
        if let Some(previous) = previous {
            self.count(previous, false);
        }
    }

    fn count(&mut self, pod: &Stored, comes: bool) {
        let node = node_of(pod);
        if node.is_empty() {
            return;
        }
        for (kind, name) in references::of_pod(&pod.value()) {
            let key = key(node, kind, &pod.namespace, &name);
            if comes {
                *self.counts.entry(key).or_default() += 1;
            } else if let Some(count) = self.counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&key);
                }
            }
        }
    }
}

fn node_of(pod: &Stored) -> &str {
    pod.field("spec.nodeName")
}

fn may_grow(pod: &Stored) -> bool {
    const FIELD: &[u8] = b"\"ephemeralContainers\"";
    pod.bytes.windows(FIELD.len()).any(|window| window == FIELD)
}

/// None of the parts holds a slash, but for the whole of which there is only one way to take it apart.
fn key(node: &str, kind: Kind, namespace: &str, name: &str) -> String {
    let kind = match kind {
        Kind::Secret => 's',
        Kind::ConfigMap => 'c',
        Kind::Claim => 'v',
        Kind::Account => 'a',
    };
    format!("{kind}/{node}/{namespace}/{name}")
}
