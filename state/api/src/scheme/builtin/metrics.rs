//! What nodes and pods use: kinds that are made anew each time that they are asked for, and never stored.

use super::plain;
use crate::scheme::Resource;
use crate::table;

pub(super) fn metrics() -> Vec<Resource> {
    let measured = |kind: &'static str, plural: &str, columns| {
        let mut row = plain("metrics.k8s.io", kind, plural).table(columns);
        row.version = "v1beta1".to_owned();
        row.storage_version.clone_from(&row.version);
        row.singular = String::new();
        row.verbs = vec!["get", "list"];
        row
    };
    vec![
        measured("NodeMetrics", "nodes", table::node_metrics()).cluster(),
        measured("PodMetrics", "pods", table::pod_metrics()),
    ]
}
