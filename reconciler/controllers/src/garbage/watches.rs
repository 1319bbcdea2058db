//! One metadata watch per kind, kept in step with what the cluster serves.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::Collector;
use super::graph::Node;
use crate::cluster::{Cluster, Kind};
use crate::kinds::{Kinds, Served};

/// Definitions change; so does what is served. This is the kind whose changes say so.
const DEFINITIONS: &str = "customresourcedefinitions";
/// How long after a definition changed discovery is asked once more: a kind may be served a moment after its definition says so.
const SETTLE: Duration = Duration::from_millis(500);

/// Keeps the watches running until the task is dropped; `kinds` announces what is served.
pub(super) async fn run(collector: Arc<Collector>, cluster: Cluster, kinds: watch::Sender<Kinds>) {
    let changed = Arc::new(Notify::new());
    let mut running: BTreeMap<Kind, tokio::task::AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut again: Option<Duration> = None;
    let mut first = true;
    loop {
        match Kinds::discover(cluster.client().clone()).await {
            Ok(found) => {
                let wanted: BTreeMap<Kind, Served> = found
                    .iter()
                    .filter(|served| served.collectable)
                    .map(|served| ((*served.kind).clone(), served.clone()))
                    .collect();
                running.retain(|kind, task| {
                    let stays = wanted.contains_key(kind);
                    if !stays {
                        task.abort();
                        collector.kind_gone(kind);
                    }
                    stays
                });
                if first {
                    collector.expect_lists(wanted.len());
                }
                for (kind, served) in wanted {
                    running.entry(kind).or_insert_with(|| {
                        let awaited = first.then(|| FirstList(collector.clone()));
                        let (collector, cluster) = (collector.clone(), cluster.clone());
                        tasks.spawn(watch_kind(collector, cluster, served, changed.clone(), awaited))
                    });
                }
                let news = kinds.send_if_modified(|known| {
                    let news = *known != found;
                    if news {
                        *known = found;
                    }
                    news
                });
                if news && !first {
                    // An owner of a kind that nobody knew was taken for there; now it can be asked for.
                    collector.look_at_owned();
                }
                first = false;
            }
            Err(error) => {
                tracing::warn!(error = error.reason_text(), "cannot discover the kinds to collect");
                again = Some(Duration::from_secs(1));
            }
        }
        match again.take() {
            Some(wait) => {
                // Whichever comes first.
                drop(tokio::time::timeout(wait, changed.notified()).await);
            }
            None => {
                changed.notified().await;
                again = Some(SETTLE);
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

/// A first list that the collector waits for; dropped when it is in, or when it never will be.
struct FirstList(Arc<Collector>);

impl Drop for FirstList {
    fn drop(&mut self) {
        self.0.list_done();
    }
}

async fn watch_kind(
    collector: Arc<Collector>,
    cluster: Cluster,
    served: Served,
    changed: Arc<Notify>,
    mut awaited: Option<FirstList>,
) {
    let api: Api<PartialObjectMeta> = Api::all_with(cluster.client().clone(), &served.resource);
    let mut events = watcher(api, watcher::Config::default().any_semantic())
        .default_backoff()
        .boxed();
    let definitions = served.kind.plural == DEFINITIONS;
    let mut listed: HashSet<Arc<str>> = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => {
                collector.apply(Node::of(&served.kind, &object.metadata));
                if definitions {
                    changed.notify_one();
                }
            }
            Ok(watcher::Event::Delete(object)) => {
                collector.remove(object.metadata.uid.as_deref().unwrap_or_default());
                if definitions {
                    changed.notify_one();
                }
            }
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                let node = Node::of(&served.kind, &object.metadata);
                listed.extend(node.iter().map(|node| node.uid.clone()));
                collector.apply(node);
            }
            Ok(watcher::Event::InitDone) => {
                collector.relisted(&served.kind, &std::mem::take(&mut listed));
                drop(awaited.take());
                // The first time too: a definition may have come between the discovery and this list.
                if definitions {
                    changed.notify_one();
                }
            }
            Err(error) => {
                tracing::debug!(
                    kind = served.kind.plural,
                    error = &error as &dyn std::error::Error,
                    "a metadata watch failed and starts again"
                );
                // A kind that cannot be listed must not hold up all the others.
                drop(awaited.take());
                // Perhaps the kind is no longer served.
                changed.notify_one();
            }
        }
    }
}
