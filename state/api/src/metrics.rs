//! The structure of the kinds of `metrics.k8s.io/v1beta1`, which no crate has.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;

/// NodeMetrics says what a node used over a window of time.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics")]
pub struct NodeMetrics {
    /// Standard object's metadata.
    pub metadata: ObjectMeta,
    /// The end of the window.
    pub timestamp: Time,
    /// The length of the window that the rates are of, such as 15s.
    pub window: String,
    /// How much of each resource was used.
    pub usage: BTreeMap<String, Quantity>,
}

/// PodMetrics says what the containers of a pod used over a window of time.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics")]
pub struct PodMetrics {
    /// Standard object's metadata.
    pub metadata: ObjectMeta,
    /// The end of the window.
    pub timestamp: Time,
    /// The length of the window that the rates are of, such as 15s.
    pub window: String,
    /// The containers that run.
    pub containers: Vec<ContainerMetrics>,
}

/// ContainerMetrics says what a container used.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics")]
pub struct ContainerMetrics {
    /// The container's name.
    pub name: String,
    /// How much of each resource was used.
    pub usage: BTreeMap<String, Quantity>,
}
