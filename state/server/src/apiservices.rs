//! The APIServices that the server keeps about itself: one for each group and version that it serves.
//!
//! Those of built-in kinds are made at start, those of definitions follow their definitions. One that somebody else made under such a
//! name is left alone: only what carries the label is this module's.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use serde_json::{Value, json};
use setpoint_api::{Scheme, Status, meta};

use crate::crd;
use crate::registry::{self, Inner, Registry};

/// The kind in the cache.
const RESOURCE: &str = "apiregistration.k8s.io/apiservices";
/// Says that the server keeps an APIService: `onstart` or `true`.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// When what failed is tried again; otherwise changes wake it.
const AGAIN: Duration = Duration::from_secs(5);

/// The priorities of groups and versions: which of several clients take when they are not told.
const PRIORITIES: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18_000, 1),
    ("apps", "v1", 17_800, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
];
/// Those of definitions, and of what is not in the table.
const OTHER: (i64, i64) = (1000, 100);

/// Makes the APIServices of what is served, by name.
fn wanted(scheme: &Scheme) -> BTreeMap<String, Value> {
    let services = scheme.resources().into_iter().map(|row| {
        let (group, version) = (row.group.as_str(), row.version.as_str());
        let (group_priority, version_priority) = PRIORITIES
            .iter()
            .find(|(known, of, ..)| (*known, *of) == (group, version))
            .map_or(OTHER, |(.., group, version)| (*group, *version));
        let name = format!("{version}.{group}");
        let managed = if row.custom { "true" } else { "onstart" };
        let mut spec = json!({
            "version": version,
            "groupPriorityMinimum": group_priority,
            "versionPriority": version_priority,
        });
        if !group.is_empty() {
            spec["group"] = group.into();
        }
        let service = json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": name, "labels": {MANAGED: managed}},
            "spec": spec,
        });
        (name, service)
    });
    services.collect()
}

/// Makes, corrects and deletes APIServices until they are those of what is served.
pub(crate) async fn reconcile(registry: &Registry, at_start: bool) -> Result<(), Status> {
    let wanted = wanted(registry.scheme());
    for (name, service) in &wanted {
        let stored = registry.cache().get(RESOURCE, "", name).map(|stored| stored.value());
        match stored {
            Some(stored) if meta::label(&stored, MANAGED).is_none() => {}
            Some(stored) if stored.get("spec") == service.get("spec") => {}
            Some(_) => registry::correct(registry, service).await?,
            // One of a built-in group that somebody deleted comes back with the next start.
            None if at_start || meta::label(service, MANAGED) == Some("true") => {
                registry.create_if_absent(service.clone()).await?;
            }
            None => {}
        }
    }
    let Some(row) = registry.scheme().any_version("apiregistration.k8s.io", "apiservices") else {
        return Ok(());
    };
    for stored in registry.cache().list(RESOURCE, None) {
        let managed = stored.labels.contains_key(MANAGED);
        if managed && !stored.deleting && !wanted.contains_key(&*stored.name) {
            registry::delete_as_system(registry, &row, "", &stored.name).await?;
        }
    }
    Ok(())
}

/// Follows the definitions. Ends with the registry.
pub(crate) async fn maintain(inner: Weak<Inner>) {
    let Some(strong) = inner.upgrade() else { return };
    let mut definitions = strong.cache.subscribe(crd::RESOURCE);
    let mut services = strong.cache.subscribe(RESOURCE);
    drop(strong);
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let registry = Registry { inner: strong };
        definitions.mark_unchanged();
        services.mark_unchanged();
        let failed = match reconcile(&registry, false).await {
            Ok(()) => false,
            Err(status) => {
                tracing::warn!(error = %status, "cannot keep the APIServices yet");
                true
            }
        };
        drop(registry);
        let changed = async {
            tokio::select! {
                changed = definitions.changed() => changed.is_ok(),
                changed = services.changed() => changed.is_ok(),
            }
        };
        let goes_on = if failed {
            tokio::time::timeout(AGAIN, changed).await.unwrap_or(true)
        } else {
            changed.await
        };
        if !goes_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_and_version_has_one() {
        let wanted = wanted(&Scheme::builtin());
        let core = &wanted["v1."];
        assert_eq!(
            core["spec"],
            json!({"version": "v1", "groupPriorityMinimum": 18_000, "versionPriority": 1})
        );
        assert_eq!(wanted["v1.apps"]["spec"]["group"], "apps");
        assert_eq!(wanted["v1.apps"]["metadata"]["labels"][MANAGED], "onstart");
        let rows = Scheme::builtin().resources();
        assert!(
            rows.iter()
                .all(|row| wanted.contains_key(&format!("{}.{}", row.version, row.group)))
        );
    }
}
