//! The end of an app: its objects go first, then what is remembered of it, then the App object itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{AppError, AppMemory, Kept, series, view};
use crate::api::{App, FINALIZER, Repository};
use crate::engine::{APPS, Name, Shared};
use crate::notice::NoticeKind;
use crate::records::Batch;

/// Deletes an app's objects and lets the App object go.
pub(super) async fn finish(
    shared: &Arc<Shared>,
    name: &Name,
    app: &App,
    memory: &mut AppMemory,
) -> Result<Option<Duration>, AppError> {
    // An App that its repository still declares comes back at once: its objects and what is remembered stay for it.
    let declared = is_declared(shared, name, app).await?;
    if app.spec.sync.prune && !declared {
        let kept = Kept::read(name, &app.spec).or_else(|_| {
            // What cannot be read of the spec says nothing about whose the objects are.
            let mut spec = app.spec.clone();
            spec.ignore.clear();
            spec.sync.deadline = "2m".to_owned();
            Kept::read(name, &spec)
        });
        if let Ok(kept) = kept
            && let Some(after) = delete_all(shared, &kept, memory).await?
        {
            return Ok(Some(after));
        }
    }
    if declared {
        memory.state.uid.clear();
        super::save(shared, name, memory, Vec::new(), Vec::new()).await?;
    } else {
        forget_records(shared, name, memory).await?;
    }
    if app.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        let rest: Vec<&String> = app
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": app.resource_version()}});
        let api: Api<App> = Api::namespaced(shared.target.client().clone(), &name.namespace);
        match api
            .patch(&name.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(AppError::App(Box::new(error))),
        }
    }
    Ok(None)
}

/// Says whether the repository that an App belongs to is there and still declares it. The cluster is asked, since the end of a
/// Repository may be heard of after that of its Apps.
async fn is_declared(shared: &Shared, name: &Name, app: &App) -> Result<bool, AppError> {
    let owners = app.owner_references();
    let Some(owner) = owners.iter().find(|owner| owner.kind == "Repository") else {
        return Ok(false);
    };
    let repository = Name::new(&name.namespace, &owner.name);
    let api: Api<Repository> = Api::namespaced(shared.target.client().clone(), &name.namespace);
    let found = api
        .get_opt(&owner.name)
        .await
        .map_err(|error| AppError::App(Box::new(error)))?;
    let alive = found
        .is_some_and(|found| found.uid().as_deref() == Some(&owner.uid) && found.metadata.deletion_timestamp.is_none());
    let declared = shared.declared.read();
    Ok(alive
        && declared
            .get(&repository)
            .is_some_and(|declared| declared.apps.contains_key(&name.name)))
}

/// Deletes what is left of an app; returns when to look again while something is.
async fn delete_all(shared: &Arc<Shared>, kept: &Kept, memory: &mut AppMemory) -> Result<Option<Duration>, AppError> {
    let mut live = BTreeMap::new();
    let mut inventory = Vec::new();
    for object in &memory.state.inventory {
        if let Some(found) = shared.target.get(object).await? {
            live.insert(object.key(), found);
            inventory.push(object.clone());
        }
    }
    let left = view::deletions(&live, &inventory, kept);
    if left.is_empty() {
        return Ok(None);
    }
    for surplus in left.iter().filter(|surplus| !surplus.deleting) {
        let Some(found) = live.get(&surplus.object.key()) else {
            continue;
        };
        let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
        if shared.target.delete(&surplus.object, uid).await? {
            shared.metrics.objects.with_label_values(&["prune"]).inc();
            shared.notice(
                &kept.name.name,
                NoticeKind::Pruned,
                format!("deleted {}", surplus.object),
            );
        }
    }
    // A watch wakes this when they are gone; kinds of an app that was never applied since the start have none.
    Ok(Some(Duration::from_millis(200)))
}

async fn forget_records(shared: &Shared, name: &Name, memory: &mut AppMemory) -> Result<(), AppError> {
    shared
        .records
        .commit(Batch {
            delete: vec![(APPS.to_owned(), name.to_string())],
            delete_series: vec![series(name)],
            ..Batch::default()
        })
        .await?;
    *memory = AppMemory::default();
    Ok(())
}

/// Forgets an app that is gone without having been finished: somebody took the finalizer away.
pub(super) async fn forget(shared: &Arc<Shared>, name: &Name, memory: &mut AppMemory) -> Result<(), AppError> {
    if !memory.state.uid.is_empty() {
        forget_records(shared, name, memory).await?;
    }
    shared.live.forget(&name.to_string());
    shared.progress.write().remove(name);
    shared.memory.lock().remove(name);
    shared
        .metrics
        .apps
        .set(i64::try_from(shared.progress.read().len()).unwrap_or(i64::MAX));
    Ok(())
}
