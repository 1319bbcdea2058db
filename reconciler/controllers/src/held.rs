//! Which kinds are held in memory, and how little of each: only what a controller reads is kept.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher;
use kube::{Api, Client};

use crate::hub::Held;
use crate::namespace::defaults;
use crate::{nodes, pods, volumes};

impl Held for Deployment {}
impl Held for ReplicaSet {}
impl Held for Endpoints {}
impl Held for EndpointSlice {}
impl Held for Service {}
impl Held for PersistentVolume {}
impl Held for PersistentVolumeClaim {}
impl Held for StorageClass {}

impl Held for Pod {
    fn slim(&mut self) {
        pods::slim(self);
    }
}

impl Held for Node {
    fn slim(&mut self) {
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.retain(|name, _| name == volumes::NODE_FOLDER);
        }
        if let Some(status) = &mut self.status {
            status.images = None;
            status.volumes_attached = None;
            status.volumes_in_use = None;
            status.node_info = None;
        }
    }
}

impl Held for Namespace {
    fn slim(&mut self) {
        self.metadata.annotations = None;
        self.metadata.labels = None;
    }
}

impl Held for Lease {
    fn api(client: Client) -> Api<Self> {
        Api::namespaced(client, nodes::lifecycle::LEASES)
    }
}

impl Held for ServiceAccount {
    fn wanted() -> watcher::Config {
        named(defaults::ACCOUNT)
    }

    fn slim(&mut self) {
        self.metadata.annotations = None;
        self.metadata.labels = None;
        self.secrets = None;
        self.image_pull_secrets = None;
    }
}

impl Held for ConfigMap {
    fn wanted() -> watcher::Config {
        named(defaults::ROOT_CA)
    }
}

fn named(name: &str) -> watcher::Config {
    watcher::Config::default()
        .any_semantic()
        .fields(&format!("metadata.name={name}"))
}
