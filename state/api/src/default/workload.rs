//! Defaults of Deployments, ReplicaSets, StatefulSets and DaemonSets.

use serde_json::{Value, json};

use super::{each, fill, fill_text, inside, pod, spec};
use crate::meta;

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

/// Fills in a StatefulSet.
pub fn stateful_set(object: &mut Value) {
    let spec = spec(object);
    fill_text(spec, "podManagementPolicy", "OrderedReady");
    let strategy = meta::map_mut(spec, "updateStrategy");
    fill_text(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        fill(strategy, "rollingUpdate", json!({}));
        inside(strategy, "rollingUpdate", |rolling| fill(rolling, "partition", 0));
    }
    let policy = meta::map_mut(spec, "persistentVolumeClaimRetentionPolicy");
    fill_text(policy, "whenDeleted", "Retain");
    fill_text(policy, "whenScaled", "Retain");
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    each(spec, "volumeClaimTemplates", |claim| {
        claim.insert("apiVersion".into(), "v1".into());
        claim.insert("kind".into(), "PersistentVolumeClaim".into());
        fill_text(meta::map_mut(claim, "spec"), "volumeMode", "Filesystem");
        fill_text(meta::map_mut(claim, "status"), "phase", "Pending");
    });
    pod::template(spec);
}

/// Fills in a DaemonSet.
pub fn daemon_set(object: &mut Value) {
    let spec = spec(object);
    let strategy = meta::map_mut(spec, "updateStrategy");
    fill_text(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        fill(strategy, "rollingUpdate", json!({}));
        inside(strategy, "rollingUpdate", |rolling| {
            fill(rolling, "maxUnavailable", 1);
            fill(rolling, "maxSurge", 0);
        });
    }
    fill(spec, "revisionHistoryLimit", 10);
    pod::template(spec);
}
