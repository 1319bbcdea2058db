//! What every cluster has, created at start where it is missing.
//!
//! The class `local` too: whoever wants no default class says so in its annotation, as a class that is deleted comes back.

use std::net::SocketAddr;

use serde_json::{Value, json};
use setpoint_api::validate::scheduling::SYSTEM_PRIORITIES;
use setpoint_api::{Status, meta};

use crate::registry::{self, Registry, StartError};
use crate::strategy::{self, service::Ranges};

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates the namespaces, the system's PriorityClasses, the StorageClass `local` and the `kubernetes` Service, and points its endpoints at the API.
pub(crate) async fn run(registry: &Registry, ranges: &Ranges, address: Option<SocketAddr>) -> Result<(), StartError> {
    for name in NAMESPACES {
        create(
            registry,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await?;
    }
    for class in SYSTEM_PRIORITIES {
        create(
            registry,
            json!({
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": class.name},
                "value": class.value,
                "description": class.description,
            }),
        )
        .await?;
    }
    create(registry, storage_class(registry)).await?;
    create(registry, service(ranges)).await?;
    let Some(address) = address else { return Ok(()) };
    for object in [endpoints(address), endpoint_slice(address)] {
        if !create(registry, object.clone()).await? {
            // The address may be another than at the last start.
            registry::correct(registry, &object)
                .await
                .map_err(|status| failed(&object, status))?;
        }
    }
    Ok(())
}

async fn create(registry: &Registry, object: Value) -> Result<bool, StartError> {
    registry
        .create_if_absent(object.clone())
        .await
        .map_err(|status| failed(&object, status))
}

fn failed(object: &Value, status: Status) -> StartError {
    StartError::Seed {
        what: format!("{} {}", meta::kind(object), meta::name(object)),
        status: Box::new(status),
    }
}

/// The class of volumes that are folders on a node. It is the default unless another one is already.
fn storage_class(registry: &Registry) -> Value {
    let classes = registry.cache().list("storage.k8s.io/storageclasses", None);
    let default = !classes.iter().any(|class| strategy::volume::is_default(&class.value()));
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "local",
            "annotations": {
                "storageclass.kubernetes.io/is-default-class": default.to_string(),
                "kubernetes.io/description":
                    "A folder on the node of the first pod that uses it. The size is noted, but not enforced.",
            },
        },
        "provisioner": "setpoint.dev/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    })
}

fn labels() -> Value {
    json!({"component": "apiserver", "provider": "kubernetes"})
}

fn service(ranges: &Ranges) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels()},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ranges.first().to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}],
        },
    })
}

fn endpoints(address: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": [{"ip": address.ip().to_string()}],
            "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
        }],
    })
}

fn endpoint_slice(address: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    })
}
