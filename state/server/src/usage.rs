//! `metrics.k8s.io`: what nodes and pods use, as their agents say when they are asked.
//!
//! Nothing is sampled while nobody asks. A node that does not answer is left out of lists, as one that has not been measured.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future;
use jiff::Timestamp;
use serde_json::{Value, json};
use setpoint_api::{Quantity, Status};

use crate::cache::{Cache, Stored};
use crate::computed::{Computed, ComputedKind};
use crate::pods;
use crate::streams::{NodeUsage, PodStreams, PodUsage, StreamError, Usage};

const GROUP: &str = "metrics.k8s.io";
/// How long a node may take to say what it uses.
const ASK_WITHIN: Duration = Duration::from_secs(15);

/// The kinds of `metrics.k8s.io`.
pub(crate) fn kinds(cache: &Arc<Cache>, streams: &Arc<dyn PodStreams>) -> Vec<ComputedKind> {
    let source = || Source {
        cache: Arc::clone(cache),
        streams: Arc::clone(streams),
    };
    vec![
        ComputedKind {
            group: GROUP,
            resource: "nodes",
            source: Arc::new(Nodes(source())),
        },
        ComputedKind {
            group: GROUP,
            resource: "pods",
            source: Arc::new(Pods(source())),
        },
    ]
}

/// Asks a node what it uses.
///
/// # Errors
/// As [`PodStreams::usage`]; also when the node does not answer in time.
pub(crate) async fn of_node(streams: &dyn PodStreams, node: &str) -> Result<NodeUsage, StreamError> {
    in_time(node, streams.usage(node)).await
}

/// Returns what a node's containers use, as a page for scrapers.
///
/// # Errors
/// As [`of_node`].
pub(crate) async fn of_containers(streams: &dyn PodStreams, node: &str) -> Result<String, StreamError> {
    in_time(node, streams.container_metrics(node)).await
}

async fn in_time<T>(node: &str, asked: impl Future<Output = Result<T, StreamError>>) -> Result<T, StreamError> {
    match tokio::time::timeout(ASK_WITHIN, asked).await {
        Ok(answer) => answer,
        Err(late) => Err(StreamError::Failed {
            operation: format!("learn in time what node {node:?} uses"),
            source: late.into(),
        }),
    }
}

struct Source {
    cache: Arc<Cache>,
    streams: Arc<dyn PodStreams>,
}

impl Source {
    /// What a node uses, if it says so.
    async fn ask(&self, node: &str) -> Option<NodeUsage> {
        match of_node(&*self.streams, node).await {
            Ok(usage) => Some(usage),
            Err(error) => {
                tracing::debug!(node, error = %pods::chain(&error), "a node does not say what it uses");
                None
            }
        }
    }

    /// Every node that says what it uses, by name.
    async fn ask_all(&self) -> Vec<(Arc<Stored>, NodeUsage)> {
        let nodes = self.cache.list("core/nodes", None);
        let asked = nodes
            .into_iter()
            .map(|node| async move { Some((Arc::clone(&node), self.ask(&node.name).await?)) });
        future::join_all(asked).await.into_iter().flatten().collect()
    }
}

struct Nodes(Source);

#[async_trait]
impl Computed for Nodes {
    async fn list(&self, _: Option<&str>) -> Result<Vec<Value>, Status> {
        let all = self.0.ask_all().await;
        Ok(all.iter().map(|(node, usage)| node_metrics(node, usage)).collect())
    }

    async fn get(&self, _: &str, name: &str) -> Result<Value, Status> {
        let node = self.0.cache.get("core/nodes", "", name);
        let node = node.ok_or_else(|| Status::not_found("", "nodes", name))?;
        let usage = self.0.ask(name).await;
        let usage = usage.ok_or_else(|| Status::not_found(GROUP, "nodemetrics", name))?;
        Ok(node_metrics(&node, &usage))
    }
}

struct Pods(Source);

#[async_trait]
impl Computed for Pods {
    async fn list(&self, namespace: Option<&str>) -> Result<Vec<Value>, Status> {
        let pods = self.0.cache.list("core/pods", namespace);
        let by_uid: HashMap<&str, &Arc<Stored>> = pods.iter().map(|pod| (&*pod.uid, pod)).collect();
        let mut found = Vec::new();
        for (_, node) in &self.0.ask_all().await {
            for usage in &node.pods {
                if let Some(pod) = by_uid.get(usage.uid.as_str()) {
                    found.push((Arc::clone(pod), pod_metrics(pod, node, usage)));
                }
            }
        }
        found.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
        Ok(found.into_iter().map(|(_, metrics)| metrics).collect())
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Value, Status> {
        let pod = self.0.cache.get("core/pods", namespace, name);
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", &format!("{namespace}/{name}")))?;
        let none = || Status::not_found(GROUP, "podmetrics", &format!("{namespace}/{name}"));
        let value = pod.value();
        let node = value["spec"]["nodeName"].as_str().ok_or_else(none)?;
        let usage = self.0.ask(node).await.ok_or_else(none)?;
        let own = usage
            .pods
            .iter()
            .find(|found| *found.uid == *pod.uid)
            .ok_or_else(none)?;
        Ok(pod_metrics(&pod, &usage, own))
    }
}

fn node_metrics(node: &Stored, usage: &NodeUsage) -> Value {
    let mut object = described("NodeMetrics", node, usage);
    object["usage"] = amounts(&usage.total);
    object
}

fn pod_metrics(pod: &Stored, node: &NodeUsage, usage: &PodUsage) -> Value {
    let mut object = described("PodMetrics", pod, node);
    let containers = usage
        .containers
        .iter()
        .map(|(name, usage)| json!({"name": name, "usage": amounts(usage)}));
    object["containers"] = containers.collect();
    object
}

fn described(kind: &str, of: &Stored, usage: &NodeUsage) -> Value {
    let mut metadata = json!({"name": of.name, "creationTimestamp": seconds(usage.at)});
    if !of.namespace.is_empty() {
        metadata["namespace"] = json!(of.namespace);
    }
    if !of.labels.is_empty() {
        metadata["labels"] = Value::Object(of.labels.clone());
    }
    json!({
        "kind": kind,
        "apiVersion": format!("{GROUP}/v1beta1"),
        "metadata": metadata,
        "timestamp": seconds(usage.at),
        "window": duration(usage.window),
    })
}

fn amounts(usage: &Usage) -> Value {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    json!({
        "cpu": Quantity::from_nanos(number(usage.cpu_nanocores)).to_string(),
        "memory": Quantity::from_bytes(number(usage.memory_bytes)).to_string(),
    })
}

/// A time as `metav1.Time` is written: without fractions.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A duration as Go writes it, to the millisecond: `15.02s`, `1m0s`.
fn duration(length: Duration) -> String {
    let millis = length.as_millis();
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{:03}", millis % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let text = format!("{}{dot}{fraction}s", millis / 1000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => text,
        (0, minutes) => format!("{minutes}m{text}"),
        (hours, minutes) => format!("{hours}h{minutes}m{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_written_as_go_does() {
        for (millis, text) in [
            (15_020, "15.02s"),
            (1_000, "1s"),
            (60_000, "1m0s"),
            (3_661_500, "1h1m1.5s"),
            (7, "0.007s"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn amounts_are_quantities() {
        let usage = Usage {
            cpu_nanocores: 12_345_678,
            memory_bytes: 3 << 20,
            ..Usage::default()
        };
        assert_eq!(amounts(&usage), json!({"cpu": "12345678n", "memory": "3Mi"}));
    }
}
