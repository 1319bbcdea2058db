//! Cluster roles that are made of others: what `aggregationRule` selects is written into their `rules`.
//!
//! Decisions do not wait for it, see `index`: the rules are written for people and programs that read the role. Others'
//! changes to the rules of such a role are undone. Roles that select each other come to the same rules, once.

use std::sync::Weak;
use std::time::Duration;

use serde_json::{Value, json};
use setpoint_api::{Status, meta};

use super::{Index, Rule, Sources};
use crate::registry::{self, Inner, Registry};

const RESOURCE: &str = "rbac.authorization.k8s.io/clusterroles";
/// Who owns the rules, as in Kubernetes.
const MANAGER: &str = "clusterrole-aggregation-controller";
/// When what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// The aggregated roles among these whose rules are not what they come to, with what they come to.
pub(crate) fn outdated(roles: &[Value]) -> Vec<(&Value, Value)> {
    let index = Index::build(&Sources {
        cluster_roles: roles.to_vec(),
        ..Sources::default()
    });
    roles
        .iter()
        .filter(|role| role["aggregationRule"].is_object())
        .filter_map(|role| {
            let reference = json!({"kind": "ClusterRole", "name": meta::name(role)});
            let mut rules: Vec<Value> = Vec::new();
            for rule in index.referenced(&reference, "").unwrap_or_default().iter() {
                let rule = Rule::to_value(rule);
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
            let wanted = Value::Array(rules);
            let is = match &role["rules"] {
                Value::Null => json!([]),
                rules => rules.clone(),
            };
            (is != wanted).then_some((role, wanted))
        })
        .collect()
}

/// Writes the rules of aggregated roles whenever a cluster role has changed. Ends with the registry.
pub(crate) async fn follow(inner: Weak<Inner>) {
    let Some(strong) = inner.upgrade() else { return };
    let mut changes = strong.cache.subscribe(RESOURCE);
    drop(strong);
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let registry = Registry { inner: strong };
        changes.mark_unchanged();
        let roles: Vec<Value> = registry
            .cache()
            .list(RESOURCE, None)
            .iter()
            .map(|stored| stored.value())
            .collect();
        let mut failed = false;
        for (role, rules) in outdated(&roles) {
            if let Err(status) = write(&registry, role, &rules).await {
                tracing::warn!(role = meta::name(role), error = %status, "cannot write the rules that a ClusterRole comes to yet");
                failed = true;
            }
        }
        drop(registry);
        let ended = if failed {
            matches!(tokio::time::timeout(AGAIN, changes.changed()).await, Ok(Err(_)))
        } else {
            changes.changed().await.is_err()
        };
        if ended {
            return;
        }
    }
}

async fn write(registry: &Registry, role: &Value, rules: &Value) -> Result<(), Status> {
    let written = registry::revise(registry, role, MANAGER, &mut |old| {
        let mut new = old.clone();
        // It may have become an ordinary role meanwhile; its rules are its own then.
        if old["aggregationRule"].is_object() {
            new["rules"] = rules.clone();
        }
        new
    })
    .await;
    match written {
        Err(status) if status.reason == "NotFound" => Ok(()),
        written => written,
    }
}
