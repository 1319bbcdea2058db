//! What is asked of a node itself. There is no kubelet behind it: what of a kubelet's API is true here is answered by the server, and
//! the rest says so.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use setpoint_api::Status;

use crate::cache::Cache;
use crate::metrics::RequestMetrics;
use crate::request::RequestInfo;
use crate::streams::{NodeUsage, PodStreams, Usage};
use crate::{pods, respond, usage};

/// The port that a kubelet would have.
const KUBELET_PORT: &str = "10250";

/// Finds the node that a name means: `[scheme:]NAME[:port]`.
pub(super) fn find(cache: &Cache, id: &str) -> Result<Value, Status> {
    let parts: Vec<&str> = id.split(':').collect();
    let (name, port) = match parts[..] {
        [name] => (name, ""),
        [name, port] => (name, port),
        ["" | "http" | "https", name, port] => (name, port),
        _ => return Err(Status::bad_request(format!("invalid node request {id:?}"))),
    };
    let node = cache.get("core/nodes", "", name);
    let node = node.ok_or_else(|| Status::not_found("", "nodes", name))?;
    if !matches!(port, "" | KUBELET_PORT) {
        return Err(Status::not_implemented(format!(
            "port {port} of node {name:?} is not reached through the API; only what a kubelet would answer at {KUBELET_PORT} is"
        )));
    }
    Ok(node.value())
}

/// Answers what a kubelet would.
pub(super) async fn serve(
    cache: &Cache,
    streams: &Arc<dyn PodStreams>,
    metrics: &RequestMetrics,
    node: &Value,
    info: &RequestInfo,
) -> Result<Response<Body>, Status> {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    if info.verb != "get" {
        return Err(Status::method_not_allowed());
    }
    let usage = async || {
        let answer = usage::of_node(&**streams, name).await;
        answer.map_err(|error| pods::failure(&error))
    };
    let found = |document: &Value| Ok(respond::json(StatusCode::OK, document));
    match info.proxied_path().trim_end_matches('/') {
        "/healthz" if is_ready(node) => Ok(respond::text(StatusCode::OK, "ok")),
        "/healthz" => Err(Status::unavailable(format!("node {name:?} is not ready"))),
        "/metrics" => metrics.page(),
        "/metrics/resource" => Ok(page(resource_metrics(&usage().await?))),
        "/metrics/cadvisor" => match usage::of_containers(&**streams, name).await {
            Ok(text) => Ok(page(text)),
            Err(error) => Err(pods::failure(&error)),
        },
        "/stats/summary" => found(&summary(cache, name, &usage().await?)),
        "/pods" => found(&pod_list(cache, name)),
        "/configz" => found(&json!({"kubeletconfig": {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "maxPods": node["status"]["capacity"]["pods"].as_str().and_then(|pods| pods.parse::<u64>().ok()),
            "streamingConnectionIdleTimeout": "4h0m0s",
        }})),
        path => Err(Status::not_implemented(format!(
            "{path:?} is not served: node {name:?} runs no kubelet; of its API there are /healthz, /metrics, /metrics/cadvisor, /metrics/resource, \
             /stats/summary, /pods and /configz"
        ))),
    }
}

/// A page in Prometheus' text form.
fn page(text: String) -> Response<Body> {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    respond::bytes(StatusCode::OK, kind, text)
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn pod_list(cache: &Cache, node: &str) -> Value {
    let pods: Vec<Value> = cache
        .list("core/pods", None)
        .iter()
        .filter(|pod| pod.field("spec.nodeName") == node)
        .map(|pod| pod.value())
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
}

/// The kubelet's Summary, as far as it is measured here.
fn summary(cache: &Cache, node: &str, used: &NodeUsage) -> Value {
    let at = usage::seconds(used.at);
    let figures = |usage: &Usage| {
        json!({
            "cpu": {"time": at, "usageNanoCores": usage.cpu_nanocores, "usageCoreNanoSeconds": usage.cpu_nanoseconds},
            "memory": {"time": at, "workingSetBytes": usage.memory_bytes},
        })
    };
    let with = |mut object: Value, usage: &Usage| {
        let figures = figures(usage);
        object["cpu"] = figures["cpu"].clone();
        object["memory"] = figures["memory"].clone();
        object
    };
    let pods = used.pods.iter().map(|pod| {
        let stored = cache.get("core/pods", &pod.namespace, &pod.name).map(|pod| pod.value());
        let containers: Vec<Value> = pod
            .containers
            .iter()
            .map(|(name, usage)| with(json!({"name": name}), usage))
            .collect();
        let object = json!({
            "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "startTime": stored.map_or(Value::Null, |pod| pod["status"]["startTime"].clone()),
            "containers": containers,
        });
        with(object, &pod.total)
    });
    let pods: Vec<Value> = pods.collect();
    json!({"node": with(json!({"nodeName": node}), &used.total), "pods": pods})
}

/// What scrapers of `/metrics/resource` read, in Prometheus' text form.
fn resource_metrics(used: &NodeUsage) -> String {
    let cores = |usage: &Usage| {
        format!(
            "{}.{:09}",
            usage.cpu_nanoseconds / 1_000_000_000,
            usage.cpu_nanoseconds % 1_000_000_000
        )
    };
    let memory = |usage: &Usage| usage.memory_bytes.to_string();
    let at = used.at.as_millisecond();
    type Figure<'a> = (&'a str, &'a str, &'a str, &'a dyn Fn(&Usage) -> String);
    let kinds: [Figure<'_>; 2] = [
        (
            "cpu_usage_seconds_total",
            "counter",
            "Cumulative CPU time, in core-seconds.",
            &cores,
        ),
        (
            "memory_working_set_bytes",
            "gauge",
            "Memory that is in use and cannot be reclaimed, in bytes.",
            &memory,
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, figure) in kinds {
        let mut family = |of: &str, rows: Vec<(String, &Usage)>| {
            text += &format!("# HELP {of}_{name} {help}\n# TYPE {of}_{name} {kind}\n");
            for (labels, usage) in rows {
                text += &format!("{of}_{name}{labels} {} {at}\n", figure(usage));
            }
        };
        family("node", vec![(String::new(), &used.total)]);
        let labels = |pod: &crate::streams::PodUsage| format!("namespace=\"{}\",pod=\"{}\"", pod.namespace, pod.name);
        let pods = used.pods.iter();
        family(
            "pod",
            pods.clone()
                .map(|pod| (format!("{{{}}}", labels(pod)), &pod.total))
                .collect(),
        );
        let containers = pods.flat_map(|pod| {
            let labels = labels(pod);
            let row = move |(name, usage)| (format!("{{container=\"{name}\",{labels}}}"), usage);
            pod.containers.iter().map(|(name, usage)| (name, usage)).map(row)
        });
        family("container", containers.collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::PodUsage;

    #[test]
    fn what_is_used_is_written_for_scrapers() {
        let one = Usage {
            cpu_nanoseconds: 1_500_000_000,
            cpu_nanocores: 1,
            memory_bytes: 7,
        };
        let used = NodeUsage {
            at: jiff::Timestamp::UNIX_EPOCH,
            total: one,
            pods: vec![PodUsage {
                namespace: "a".to_owned(),
                name: "web".to_owned(),
                total: one,
                containers: vec![("app".to_owned(), one)],
                ..PodUsage::default()
            }],
            ..NodeUsage::default()
        };
        let text = resource_metrics(&used);
        for line in [
            "node_cpu_usage_seconds_total 1.500000000 0",
            "pod_memory_working_set_bytes{namespace=\"a\",pod=\"web\"} 7 0",
            "container_cpu_usage_seconds_total{container=\"app\",namespace=\"a\",pod=\"web\"} 1.500000000 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
