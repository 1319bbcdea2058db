//! Which writes of a Lease are heartbeats: the log is told, and everything else is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use setpoint_store::{
    Changes, Expect, KeyValue, Log, Moment, Page, Revision, SqliteLog, StoreError, WatchStream, Window,
};

use crate::MAPS;
use crate::world::{APPLY, MERGE, World};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

/// A log that counts how it is written to.
struct Counting {
    log: Arc<SqliteLog>,
    puts: AtomicUsize,
    refreshes: AtomicUsize,
}

impl Counting {
    fn over(log: Arc<SqliteLog>) -> Arc<Counting> {
        Arc::new(Counting {
            log,
            puts: AtomicUsize::new(0),
            refreshes: AtomicUsize::new(0),
        })
    }

    /// Durable writes and heartbeats since the last look.
    fn written(&self) -> (usize, usize) {
        (
            self.puts.swap(0, Ordering::SeqCst),
            self.refreshes.swap(0, Ordering::SeqCst),
        )
    }
}

#[async_trait]
impl Log for Counting {
    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Option<KeyValue>, StoreError> {
        self.log.get(key, at).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        self.log.list(prefix, after, limit, at).await
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.log.put(key, value, expect).await
    }

    async fn count(&self, prefix: &str, at: Option<Revision>) -> Result<u64, StoreError> {
        self.log.count(prefix, at).await
    }

    async fn refresh(&self, key: &str, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.refreshes.fetch_add(1, Ordering::SeqCst);
        self.log.refresh(key, value, expect).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Revision, StoreError> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.log.delete(key, expect).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.log.watch(prefix, from).await
    }

    async fn changes(
        &self,
        prefix: &str,
        after: Revision,
        upto: Revision,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        self.log.changes(prefix, after, upto, limit).await
    }

    async fn moment(&self, time: Timestamp) -> Result<Option<Moment>, StoreError> {
        self.log.moment(time).await
    }

    async fn window(&self) -> Result<Window, StoreError> {
        self.log.window().await
    }

    async fn compact(&self, keep_from: Revision) -> Result<(), StoreError> {
        self.log.compact(keep_from).await
    }

    fn revision(&self) -> Revision {
        self.log.revision()
    }
}

fn lease(holder: &str, renewed: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {
        "holderIdentity": holder, "leaseDurationSeconds": 40, "renewTime": format!("2024-01-01T00:00:{renewed}.000000Z")}})
}

#[tokio::test]
async fn only_the_renewal_of_a_lease_is_a_heartbeat() {
    let mut counting = None;
    let world = World::over(|log| Arc::clone(counting.insert(Counting::over(log)))).await;
    let log = counting.expect("made with the world");
    log.written();
    let uri = format!("{LEASES}/l");

    let mut read = world.post(LEASES, lease("me", "00")).await.ok();
    assert_eq!(log.written(), (1, 0), "a creation is durable");
    read["spec"]["renewTime"] = "2024-01-01T00:00:10.000000Z".into();
    world.put(&uri, read).await.ok();
    assert_eq!(log.written(), (0, 1), "a renewal is not");
    world
        .patch(
            MERGE,
            &uri,
            json!({"spec": {"renewTime": "2024-01-01T00:00:20.000000Z"}}),
        )
        .await
        .ok();
    assert_eq!(log.written(), (0, 1), "nor is one by a patch");
    let applied = format!("{uri}?fieldManager=other&force=true");
    world.patch(APPLY, &applied, lease("me", "30")).await.ok();
    assert_eq!(log.written(), (0, 1), "nor one by a new owner of the same fields");
    let same = world.get(&uri).await.ok();
    assert_eq!(
        same["spec"]["renewTime"], "2024-01-01T00:00:30.000000Z",
        "everybody sees it at once"
    );

    for (pointer, value) in [
        ("/spec/holderIdentity", json!("you")),
        ("/spec/leaseDurationSeconds", json!(50)),
        ("/metadata/labels", json!({"a": "b"})),
    ] {
        let mut changed = world.get(&uri).await.ok();
        changed["spec"]["renewTime"] = "2024-01-01T00:00:40.000000Z".into();
        match changed.pointer_mut(pointer) {
            Some(field) => *field = value,
            None => changed["metadata"]["labels"] = value,
        }
        world.put(&uri, changed).await.ok();
        assert_eq!(log.written(), (1, 0), "a change of {pointer} is durable");
    }
    world.delete(&uri).await.ok();
    assert_eq!(log.written(), (1, 0), "a deletion is durable");
}

#[tokio::test]
async fn a_kind_without_a_heartbeat_has_durable_writes_only() {
    let mut counting = None;
    let world = World::over(|log| Arc::clone(counting.insert(Counting::over(log)))).await;
    let log = counting.expect("made with the world");
    log.written();
    world.post(MAPS, json!({"metadata": {"name": "m"}})).await.ok();
    let data = json!({"data": {"renewTime": "2"}, "spec": {"renewTime": "1"}});
    world.patch(MERGE, &format!("{MAPS}/m"), data).await.ok();
    assert_eq!(log.written(), (2, 0));
}
