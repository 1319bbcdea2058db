//! Defaults of Deployments and ReplicaSets.

use serde_json::{Value, json};

use super::{fill, fill_text, inside, pod, spec};

/// Fills in a Deployment.
pub fn deployment(deployment: &mut Value) {
    let spec = spec(deployment);
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
    fill(spec, "strategy", json!({}));
    inside(spec, "strategy", |strategy| {
        fill_text(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
            fill(strategy, "rollingUpdate", json!({}));
            inside(strategy, "rollingUpdate", |rolling| {
                fill(rolling, "maxUnavailable", "25%");
                fill(rolling, "maxSurge", "25%");
            });
        }
    });
    pod::template(spec);
}

/// Fills in a ReplicaSet.
pub fn replica_set(replica_set: &mut Value) {
    let spec = spec(replica_set);
    fill(spec, "replicas", 1);
    pod::template(spec);
}
