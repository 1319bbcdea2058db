//! The end of an app: its objects go first, then what is remembered of it, then the App object itself.
//!
//! An app that its repository renamed, or whose objects it gave to other apps, hands those over: they stay until the heir has put its
//! own name on them, however long it takes to get there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use setpoint_plan::{ObjectKey, ObjectRef};

use super::{AppError, AppMemory, Goal, Kept, publish, series, view};
use crate::api::{App, FINALIZER, Repository};
use crate::engine::{APPS, Name, SEEDS, Shared};
use crate::notice::NoticeKind;
use crate::records::Batch;
use crate::repository::{Declared, owner};
use crate::state::{AppState, short};

/// When what is being deleted is looked at first although no watch tells that it is gone; it doubles.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// The longest time between two such looks.
const LAST_LOOK: Duration = Duration::from_secs(30);

/// What an app's repository says of it.
enum Standing {
    /// There is none.
    Alone,
    /// It has the app.
    Declared,
    /// It has the app no more.
    Dropped(Arc<Declared>),
    /// It was not read yet.
    Unread(Name),
}

/// Deletes an app's objects and lets the App object go.
pub(super) async fn finish(
    shared: &Arc<Shared>,
    name: &Name,
    app: &App,
    memory: &mut AppMemory,
) -> Result<Option<Duration>, AppError> {
    let standing = standing(shared, name, app).await?;
    let kept = lenient(name, app)?;
    // An App that its repository still declares comes back at once: its objects and what is remembered stay for it.
    let declared = match standing {
        Standing::Declared => true,
        Standing::Alone => false,
        Standing::Unread(repository) => {
            let reason = format!(
                "waits for the repository {}: it may still declare the app",
                repository.name
            );
            return Ok(Some(wait(shared, app, memory, reason).await));
        }
        Standing::Dropped(declared) => {
            if let Some(reason) = hand_over(shared, &kept, memory, &declared).await? {
                return Ok(Some(wait(shared, app, memory, reason).await));
            }
            false
        }
    };
    if app.spec.sync.prune && !declared {
        let left = left(shared, &kept, memory).await?;
        if let Some(reason) = delete(shared, &kept, &left, |_| false).await? {
            return Ok(Some(wait(shared, app, memory, reason).await));
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

/// Reads a spec as far as it can be: what cannot be read of it says nothing about whose the objects are.
fn lenient(name: &Name, app: &App) -> Result<Kept, AppError> {
    Kept::read(name, &app.spec)
        .or_else(|_| {
            let mut spec = app.spec.clone();
            spec.ignore.clear();
            spec.sync.deadline = "2m".to_owned();
            Kept::read(name, &spec)
        })
        .map_err(AppError::Spec)
}

/// Says why an App is not gone yet; returns when to look again. A watch wakes sooner.
async fn wait(shared: &Arc<Shared>, app: &App, memory: &mut AppMemory, reason: String) -> Duration {
    if memory.stuck.as_deref() != Some(&reason) {
        memory.looks = 0;
    }
    let after = FIRST_LOOK.saturating_mul(1 << memory.looks.min(10)).min(LAST_LOOK);
    memory.looks = memory.looks.saturating_add(1);
    memory.stuck = Some(reason.clone());
    let unpublished = publish::ending(shared, app, memory, reason).await;
    unpublished.map_or(after, |again| after.min(again))
}

/// Says what the repository that an App belongs to has to do with it. The cluster is asked, since the end of a Repository may be
/// heard of after that of its Apps. One that was made again under its name is the same.
async fn standing(shared: &Shared, name: &Name, app: &App) -> Result<Standing, AppError> {
    let Some(owner) = owner(app) else {
        return Ok(Standing::Alone);
    };
    let repository = Name::new(&name.namespace, owner);
    let api: Api<Repository> = Api::namespaced(shared.target.client().clone(), &name.namespace);
    let found = api
        .get_opt(owner)
        .await
        .map_err(|error| AppError::App(Box::new(error)))?;
    let Some(found) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
        return Ok(Standing::Alone);
    };
    let declared = shared.declared.read().get(&repository).cloned();
    Ok(match declared.filter(|declared| declared.is_of(&found)) {
        None => Standing::Unread(repository),
        Some(declared) if declared.apps.contains_key(&name.name) => Standing::Declared,
        Some(declared) => Standing::Dropped(declared),
    })
}

/// Lets the other apps of the repository have what they want of this one's objects, and deletes the rest; returns what there is to
/// wait for.
async fn hand_over(
    shared: &Arc<Shared>,
    kept: &Kept,
    memory: &AppMemory,
    declared: &Declared,
) -> Result<Option<String>, AppError> {
    let left = left(shared, kept, memory).await?;
    if left.is_empty() {
        return Ok(None);
    }
    let mut claims: BTreeMap<ObjectKey, String> = BTreeMap::new();
    let commit = short(&declared.commit);
    for heir in declared.apps.keys() {
        let name = Name::new(&kept.name.namespace, heir);
        let progress = shared.progress.read().get(&name).cloned();
        match progress {
            // The name is somebody else's: this repository has no such app.
            Some(progress) if progress.repository != kept.spec.repository => {}
            Some(progress) if progress.source == declared.commit => match progress.wanted {
                // What is settled has all that it wants.
                Some(_) if progress.settled => {}
                Some(wanted) => {
                    let goal = Goal::load(shared, &wanted).await?;
                    claims.extend(goal.keys.iter().map(|key| (key.clone(), heir.clone())));
                }
                // One that has nothing yet may be this app under its new name.
                None if !progress.begun => {
                    return Ok(Some(format!(
                        "waits for {heir}, which does not render at {commit}: it may want some of the objects"
                    )));
                }
                None => {}
            },
            _ => {
                return Ok(Some(format!(
                    "waits for {heir} to take up {commit}: it may want some of the objects"
                )));
            }
        }
    }
    let claimed = left
        .iter()
        .find_map(|(object, _)| Some((object, claims.get(&object.key())?)));
    if let Some((object, heir)) = claimed {
        if kept.policy.prune {
            delete(shared, kept, &left, |key| claims.contains_key(key)).await?;
        }
        return Ok(Some(format!("waits for {heir} to take over {object}")));
    }
    Ok(None)
}

/// Returns what is there of an app and may be deleted, in the order of deletion.
async fn left(shared: &Shared, kept: &Kept, memory: &AppMemory) -> Result<Vec<(ObjectRef, Value)>, AppError> {
    let mut live = BTreeMap::new();
    let mut inventory = Vec::new();
    for object in &memory.state.inventory {
        if let Some(found) = shared.target.get(object).await? {
            live.insert(object.key(), found);
            inventory.push(object.clone());
        }
    }
    let deletions = view::deletions(&live, &inventory, kept);
    let left = deletions.into_iter().filter_map(|surplus| {
        let found = live.remove(&surplus.object.key())?;
        Some((surplus.object, found))
    });
    Ok(left.collect())
}

/// Deletes what is left of an app but what is to stay; returns what there is to wait for.
async fn delete(
    shared: &Arc<Shared>,
    kept: &Kept,
    left: &[(ObjectRef, Value)],
    stays: impl Fn(&ObjectKey) -> bool,
) -> Result<Option<String>, AppError> {
    let mut going = left.iter().filter(|(object, _)| !stays(&object.key()));
    let Some((first, _)) = going.clone().next() else {
        return Ok(None);
    };
    let others = going.clone().count() - 1;
    for (object, found) in &mut going {
        // So that its end is heard of.
        shared.live.watch(object).await?;
        if !found["metadata"]["deletionTimestamp"].is_null() {
            continue;
        }
        let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
        if shared.target.delete(object, uid).await? {
            shared.metrics.objects.with_label_values(&["prune"]).inc();
            shared.notice(&kept.name.name, NoticeKind::Pruned, format!("deleted {object}"));
        }
    }
    let more = if others > 0 {
        format!(" and {others} more")
    } else {
        String::new()
    };
    Ok(Some(format!("waits for {first}{more} to be gone")))
}

async fn forget_records(shared: &Shared, name: &Name, memory: &mut AppMemory) -> Result<(), AppError> {
    shared
        .records
        .commit(Batch {
            delete: vec![
                (APPS.to_owned(), name.to_string()),
                (SEEDS.to_owned(), name.to_string()),
            ],
            delete_series: vec![series(name)],
            ..Batch::default()
        })
        .await?;
    *memory = AppMemory::default();
    Ok(())
}

/// Forgets an app that is gone without having been finished: somebody took the finalizer away.
pub(super) async fn forget(shared: &Arc<Shared>, name: &Name, memory: &mut AppMemory) -> Result<(), AppError> {
    if memory.saved != AppState::default() {
        forget_records(shared, name, memory).await?;
    }
    shared.live.forget(&name.to_string());
    shared.memory.lock().remove(name);
    if shared.progress.write().remove(name).is_some() {
        publish::wake_dependents(shared, name);
    }
    shared
        .metrics
        .apps
        .set(i64::try_from(shared.progress.read().len()).unwrap_or(i64::MAX));
    Ok(())
}
