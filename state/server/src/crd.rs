//! CustomResourceDefinitions: their rows in the scheme, and the end of their objects.
//!
//! A definition's rows enter the scheme when the cache sees it stored and leave when it sees it gone, so that what is
//! served follows the log and nothing else, also at start and after a write of another process.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use setpoint_api::{Resource, Scheme, Status, meta};

use crate::cache::Stored;
use crate::registry::{self, Inner, Registry};

/// The kind of definitions in cache and log.
pub(crate) const RESOURCE: &str = "apiextensions.k8s.io/customresourcedefinitions";
/// What holds a definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// How many objects of a definition are deleted at once.
const AT_ONCE: usize = 64;
/// When a clean-up that failed is tried again; otherwise changes of the log wake it.
const AGAIN: Duration = Duration::from_secs(5);

/// Makes the rows of every served version of a definition.
pub(crate) fn rows(definition: &Value) -> Result<Vec<Resource>, String> {
    meta::list_at(definition, &["spec", "versions"])
        .iter()
        .filter(|version| version.get("served") == Some(&Value::Bool(true)))
        .map(|version| {
            Resource::from_crd(definition, meta::str_at(version, &["name"])).map_err(|error| {
                let cause = std::error::Error::source(&error)
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                format!("{error}{cause}")
            })
        })
        .collect()
}

/// Whether a condition of an object's status is true.
pub(crate) fn has_condition(object: &Value, name: &str) -> bool {
    meta::list_at(object, &["status", "conditions"])
        .iter()
        .any(|condition| meta::str_at(condition, &["type"]) == name && meta::str_at(condition, &["status"]) == "True")
}

/// Brings the rows of a stored definition into the scheme.
pub(crate) fn register(scheme: &Scheme, key: &str, bytes: &[u8]) {
    let name = name_of(key);
    let Ok(definition) = serde_json::from_slice::<Value>(bytes) else {
        tracing::error!(
            definition = name,
            "a stored CustomResourceDefinition is no JSON; its kind is not served"
        );
        return;
    };
    if !has_condition(&definition, "Established") {
        scheme.remove_custom(name);
        return;
    }
    match rows(&definition) {
        Ok(rows) => scheme.set_custom(name, rows),
        Err(error) => {
            tracing::error!(
                definition = name,
                error,
                "a stored CustomResourceDefinition cannot be served"
            );
            scheme.remove_custom(name);
        }
    }
}

/// Takes the rows of a definition that is gone out of the scheme.
pub(crate) fn unregister(scheme: &Scheme, key: &str) {
    scheme.remove_custom(name_of(key));
}

fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// Deletes the objects of definitions that are to go, then lets the definitions go. Ends with the registry.
pub(crate) async fn clean_up(inner: Weak<Inner>) {
    let Some(strong) = inner.upgrade() else { return };
    let mut definitions = strong.cache.subscribe(RESOURCE);
    let mut revisions = strong.cache.revisions();
    drop(strong);
    let mut known: Option<HashSet<String>> = None;
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let registry = Registry { inner: strong };
        definitions.mark_unchanged();
        revisions.mark_unchanged();
        let all = registry.cache().list(RESOURCE, None);
        let going: Vec<Value> = all
            .iter()
            .filter(|stored| stored.deleting)
            .map(|stored| stored.value())
            .filter(|definition| meta::finalizers(definition).any(|finalizer| finalizer == FINALIZER))
            .collect();
        let names: HashSet<String> = all.iter().map(|stored| stored.name.to_string()).collect();
        // Definitions are large: they are read only when one has gone, and at the start, when one may have.
        if known.as_ref().is_none_or(|known| !known.is_subset(&names)) {
            judge_again(&registry, &all).await;
        }
        known = Some(names);
        for definition in &going {
            if let Err(status) = finish(&registry, definition).await {
                tracing::warn!(definition = meta::name(definition), error = %status, "cannot clean up after a CustomResourceDefinition yet");
            }
        }
        drop(registry);
        // While one is going, its objects' finalizers may take a while: any change may be the one that matters.
        let changed = if going.is_empty() {
            definitions.changed().await.is_ok()
        } else {
            match tokio::time::timeout(AGAIN, revisions.changed()).await {
                Ok(changed) => changed.is_ok(),
                Err(_) => true,
            }
        };
        if !changed {
            return;
        }
    }
}

/// Writes the definitions whose names were refused as they are, so that they are judged again: a name may be free by now.
async fn judge_again(registry: &Registry, all: &[Arc<Stored>]) {
    let staying = all
        .iter()
        .filter(|stored| !stored.deleting)
        .map(|stored| stored.value());
    for refused in staying.filter(has_refused_names) {
        if let Err(status) = registry::amend(registry, &refused, |_| {}).await {
            tracing::warn!(definition = meta::name(&refused), error = %status, "cannot judge the names of a CustomResourceDefinition again");
        }
    }
}

fn has_refused_names(definition: &Value) -> bool {
    meta::list_at(definition, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == "NamesAccepted" && condition["status"] == "False")
}

/// Deletes what is left of a definition's objects; when nothing is, takes the finalizer off.
async fn finish(registry: &Registry, definition: &Value) -> Result<(), Status> {
    let (group, plural) = (
        meta::str_at(definition, &["spec", "group"]),
        meta::str_at(definition, &["spec", "names", "plural"]),
    );
    let resource = format!("{group}/{plural}");
    let left = registry.cache().list(&resource, None);
    if left.is_empty() {
        return registry::release(registry, definition, FINALIZER).await;
    }
    let Some(row) = registry.scheme().any_version(group, plural) else {
        return Err(Status::internal(format!(
            "{resource} is not served, but {} objects of it are stored",
            left.len()
        )));
    };
    let mut deletions = futures::stream::iter(left.into_iter().filter(|stored| !stored.deleting))
        .map(|stored| {
            let row = row.clone();
            async move { registry::delete_as_system(registry, &row, &stored.namespace, &stored.name).await }
        })
        .buffer_unordered(AT_ONCE);
    while let Some(outcome) = deletions.next().await {
        outcome?;
    }
    Ok(())
}
