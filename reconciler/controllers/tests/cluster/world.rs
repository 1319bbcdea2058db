//! A whole cluster in process: the real server on a real store, the real controllers, and a kubelet that follows a script.

#![allow(
    clippy::disallowed_methods,
    reason = "a test of the whole cluster runs on the real clock"
)]

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use setpoint_controllers::{ControllersConfig, run};
use setpoint_server::UserInfo;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::server;

const DEADLINE: Duration = Duration::from_secs(60);
/// How often one looks although no cluster has changed: what is waited for may be a metric.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Tells of every change in any cluster of this process.
static CHANGES: LazyLock<watch::Sender<()>> = LazyLock::new(|| watch::Sender::new(()));

/// The cluster; everything ends when it is dropped.
pub struct World {
    pub client: Client,
    pub metrics: prometheus::Registry,
    config: ControllersConfig,
    controllers: tokio::task::JoinHandle<()>,
    _tasks: JoinSet<()>,
    _dir: TempDir,
}

impl World {
    /// Starts a cluster with one node.
    pub async fn start() -> World {
        World::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ControllersConfig)) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let metrics = prometheus::Registry::new();
        let api = server::start(dir.path(), metrics.clone(), jiff::Timestamp::now).await;
        let client = Client::new(api.as_user(UserInfo::system("setpoint")), "default");
        let mut config = ControllersConfig::new(client.clone(), Arc::new(jiff::Timestamp::now), metrics.clone());
        change(&mut config);
        let mut tasks = JoinSet::new();
        let controllers = start_controllers(config.clone());
        tasks.spawn(kubelet(client.clone()));
        let mut revisions = api.registry().cache().revisions();
        tasks.spawn(async move {
            while revisions.changed().await.is_ok() {
                CHANGES.send_replace(());
            }
        });
        let world = World {
            client,
            metrics,
            config,
            controllers,
            _tasks: tasks,
            _dir: dir,
        };
        world.add_node("node-1", "4").await;
        world
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub async fn add_node(&self, name: &str, cpu: &str) {
        let node: Node = of(json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
            "status": {
                "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" },
                "capacity": { "cpu": cpu, "memory": "8Gi", "pods": "110" },
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
            },
        }));
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.create(&PostParams::default(), &node).await.expect("a node");
        let status = json!({ "status": node.status });
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .expect("its status");
    }

    /// Ends the controllers in the midst of whatever they do, and starts them anew.
    pub async fn restart_controllers(&mut self) {
        self.controllers.abort();
        (&mut self.controllers).await.ok();
        self.config.metrics = prometheus::Registry::new();
        self.controllers = start_controllers(self.config.clone());
    }

    /// Reports for a node, until the handle is aborted.
    pub fn keep_alive(&self, node: &'static str) -> tokio::task::AbortHandle {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let beats = async move {
            let mut period = tokio::time::interval(Duration::from_millis(100));
            loop {
                period.tick().await;
                let now = jiff::Timestamp::now().to_string();
                let beat =
                    json!({ "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now });
                let status = json!({ "status": { "conditions": [beat] } });
                nodes
                    .patch_status(node, &PatchParams::default(), &Patch::Strategic(&status))
                    .await
                    .ok();
            }
        };
        tokio::spawn(beats).abort_handle()
    }

    /// Merges a patch into an object.
    pub async fn merge<K>(&self, name: &str, patch: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.api()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("patched")
    }

    /// Returns all objects of a kind in the default namespace.
    pub async fn list<K>(&self) -> Vec<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.api().list(&Default::default()).await.expect("a list").items
    }

    /// Creates an object from JSON.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        self.api()
            .create(&PostParams::default(), &of(object))
            .await
            .expect("created")
    }

    /// Returns the active pods of the default namespace.
    pub async fn pods(&self) -> Vec<Pod> {
        let pods = self.api::<Pod>().list(&Default::default()).await.expect("pods").items;
        pods.into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect()
    }
}

fn start_controllers(config: ControllersConfig) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { run(config, std::future::pending()).await.expect("the controllers run") })
}

impl Drop for World {
    fn drop(&mut self) {
        self.controllers.abort();
    }
}

/// Reads an object from JSON.
pub fn of<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object of that kind")
}

/// Waits until `look` finds what it wants.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let found = tokio::time::timeout(DEADLINE, async {
        let mut changes = CHANGES.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(found) = look().await {
                return found;
            }
            // Whichever comes first.
            drop(tokio::time::timeout(LOOK_AGAIN, changes.changed()).await);
        }
    });
    found.await.unwrap_or_else(|_| panic!("in time: {what}"))
}

/// Runs every bound pod at once: running and ready, unless its annotation `script` says otherwise; and ends it when asked.
async fn kubelet(client: Client) {
    let all: Api<Pod> = Api::all(client.clone());
    let mut events = watcher(all, watcher::Config::default()).default_backoff().boxed();
    let mut started = HashSet::new();
    while let Some(event) = events.next().await {
        let (Ok(watcher::Event::Apply(pod)) | Ok(watcher::Event::InitApply(pod))) = event else {
            continue;
        };
        let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().expect("a namespace"));
        let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        if pod.metadata.deletion_timestamp.is_some() {
            if bound {
                pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                    .await
                    .ok();
            }
        } else if bound && started.insert(pod.uid()) {
            let number = started.len();
            let ready = if pod.annotations().get("script").is_some_and(|script| script == "broken") {
                "False"
            } else {
                "True"
            };
            let now = jiff::Timestamp::now().to_string();
            let status = json!({ "status": {
                "phase": "Running",
                "podIP": format!("10.42.{}.{}", number / 250, number % 250 + 1),
                "podIPs": [{ "ip": format!("10.42.{}.{}", number / 250, number % 250 + 1) }],
                "conditions": [{ "type": "Ready", "status": ready, "lastTransitionTime": now }],
            } });
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&status))
                .await
                .ok();
        }
    }
}
