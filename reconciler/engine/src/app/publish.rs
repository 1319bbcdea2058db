//! What others see of an app: its status, its progress for those that come after it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::{AppMemory, Kept, Progress};
use crate::api::{App, AppStatus};
use crate::engine::{Name, Shared};
use crate::state::{Blocked, Policy, Report, View, short};

/// When a status that could not be written is written again.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// Says why a new revision of an app has to wait for others; `None` when it need not.
pub(super) fn blocked(shared: &Shared, kept: &Kept, memory: &AppMemory) -> Option<Blocked> {
    let wanted = memory.state.wanted.as_ref()?;
    let all = shared.progress.read();
    let waits = |reason: String, failed: bool| Some(Blocked { reason, failed });
    for after in &kept.spec.after {
        let Some(progress) = all.get(&Name::new(&kept.name.namespace, after)) else {
            return waits(format!("waits for {after}, which is not known yet"), false);
        };
        // Of one repository, only the same commit counts; others have a history of their own.
        let together = kept.spec.repository.is_some() && progress.repository == kept.spec.repository;
        if together && progress.source != wanted.source {
            return waits(format!("waits for {after} to take up {}", short(&wanted.source)), false);
        }
        if !progress.settled {
            return match progress.health.as_str() {
                "Failed" => waits(format!("waits for {after}, which failed: mend that first"), true),
                "Held" => waits(format!("waits for {after}, which is held by a rollback"), true),
                other => waits(format!("waits for {after}, which is {}", other.to_lowercase()), false),
            };
        }
    }
    None
}

/// Tells those that come after an app how far it is.
pub(super) fn progress(shared: &Arc<Shared>, kept: &Kept, memory: &AppMemory) {
    let state = &memory.state;
    let source = match (&state.broken, &state.wanted) {
        (Some(broken), _) => broken.source.clone(),
        (None, Some(wanted)) => wanted.source.clone(),
        (None, None) => String::new(),
    };
    let digest = |numbered: &Option<crate::state::Numbered>| numbered.as_ref().map(|n| n.revision.digest.clone());
    let wanted = state.wanted.as_ref().map(|wanted| wanted.digest.clone());
    let settled = state.broken.is_none()
        && state.sync.is_none()
        && wanted.is_some()
        && digest(&state.held) == wanted
        && digest(&state.healthy) == wanted;
    let health = match () {
        () if settled => "Healthy",
        () if state.sync.is_some() => "Progressing",
        () if state.pin.is_some() => "Held",
        () if state.broken.is_some() => "Failed",
        () if state
            .wanted
            .as_ref()
            .is_some_and(|wanted| state.failure_of(&wanted.digest).is_some()) =>
        {
            "Failed"
        }
        () => "Waiting",
    };
    let now = Progress {
        repository: kept.spec.repository.clone(),
        source,
        wanted: state.wanted.clone().filter(|_| state.broken.is_none()),
        begun: state.held.is_some(),
        settled,
        health: health.to_owned(),
    };
    let before = shared.progress.write().insert(kept.name.clone(), now.clone());
    if before.as_ref() == Some(&now) {
        return;
    }
    shared
        .metrics
        .apps
        .set(i64::try_from(shared.progress.read().len()).unwrap_or(i64::MAX));
    wake_dependents(shared, &kept.name);
}

/// Wakes those that come after an app, and those that are going and may have something for it.
pub(super) fn wake_dependents(shared: &Shared, on: &Name) {
    for app in shared.apps.state() {
        let name = Name::of(&*app);
        if name.namespace == on.namespace && name != *on {
            let going = app.metadata.deletion_timestamp.is_some();
            if going || super::source::spec(shared, &name, &app).after.contains(&on.name) {
                shared.wake_app(&name);
            }
        }
    }
}

/// Returns health and reason of an app as it is known.
pub(crate) fn report(shared: &Shared, kept: Option<&Kept>, memory: &AppMemory) -> Report {
    let policy = kept.map_or(
        Policy {
            prune: true,
            heal: true,
            rollback: true,
            deadline: 0,
        },
        |kept| kept.policy,
    );
    let blocked = kept.and_then(|kept| blocked(shared, kept, memory)).filter(|_| {
        // Only what is not there yet waits.
        let state = &memory.state;
        state.pin.is_none()
            && state.held.as_ref().map(|held| &held.revision.digest)
                != state.wanted.as_ref().map(|wanted| &wanted.digest)
    });
    let view = known_view(memory);
    memory.state.report(
        &policy,
        &view,
        blocked.as_ref(),
        memory.stuck.as_deref(),
        shared.millis(),
    )
}

/// Makes a view of what was seen last, without reading anything.
fn known_view(memory: &AppMemory) -> View {
    let mut view = memory
        .goal
        .as_ref()
        .map(|goal| goal.known(&memory.seen))
        .unwrap_or_default();
    view.trouble.clone_from(&memory.trouble);
    view
}

/// Writes an app's status where it changed; returns when to look again where that failed.
pub(super) async fn publish(
    shared: &Arc<Shared>,
    app: &App,
    memory: &mut AppMemory,
    kept: Option<&Kept>,
) -> Option<Duration> {
    let report = match (kept, &memory.stuck) {
        (None, Some(stuck)) if memory.state.sync.is_none() => Report {
            health: match (&memory.state.held, memory.passing) {
                (Some(_), _) => "Degraded",
                (None, true) => "Progressing",
                (None, false) => "Failed",
            },
            reason: stuck.clone(),
        },
        _ => report(shared, kept, memory),
    };
    write(shared, app, memory, report).await
}

/// Writes why an App that is being deleted is still there; returns when to look again where that failed.
pub(super) async fn ending(
    shared: &Arc<Shared>,
    app: &App,
    memory: &mut AppMemory,
    reason: String,
) -> Option<Duration> {
    let report = Report {
        health: "Progressing",
        reason: format!("is being deleted: {reason}"),
    };
    write(shared, app, memory, report).await
}

async fn write(shared: &Shared, app: &App, memory: &mut AppMemory, report: Report) -> Option<Duration> {
    let state = &memory.state;
    let previous = memory.published.clone().or_else(|| app.status.clone());
    let status = AppStatus {
        revision: state.held.as_ref().map(|held| held.revision.source.clone()),
        number: state.held.as_ref().map(|held| held.number),
        wanted: match (&state.broken, &state.wanted) {
            (Some(broken), _) => Some(broken.source.clone()),
            (None, wanted) => wanted.as_ref().map(|wanted| wanted.source.clone()),
        },
        health: report.health.to_owned(),
        reason: report.reason.clone(),
        held: state.pin.as_ref().map(|_| "rollback".to_owned()),
        objects: memory
            .goal
            .as_ref()
            .map_or(0, |goal| u64::try_from(goal.references.len()).unwrap_or(u64::MAX)),
        warnings: state.warnings.clone(),
        observed_generation: app.metadata.generation,
        conditions: vec![ready(shared, app, previous.as_ref(), &report)],
    };
    // What was written last is believed before what the watch tells, which may still be what was before that.
    if memory.published.as_ref().or(app.status.as_ref()) == Some(&status) {
        memory.published = Some(status);
        return None;
    }
    let api: Api<App> = Api::namespaced(shared.target.client().clone(), &app.namespace().unwrap_or_default());
    let patch = json!({"status": merge(&status)});
    match api
        .patch_status(&app.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => {
            memory.published = Some(status);
            None
        }
        Err(kube::Error::Api(answer)) if answer.code == 404 => None,
        Err(error) => {
            tracing::warn!(app = %app.name_any(), error = &error as &dyn std::error::Error, "cannot write the status of an app");
            Some(WRITE_AGAIN)
        }
    }
}

/// Returns a status as a merge patch: what it does not have is taken away.
fn merge(status: &AppStatus) -> Value {
    let mut value = json!({"revision": null, "number": null, "wanted": null, "held": null, "warnings": null, "observedGeneration": null});
    if let (Some(all), Ok(Value::Object(given))) = (value.as_object_mut(), serde_json::to_value(status)) {
        all.extend(given);
    }
    value
}

fn ready(shared: &Shared, app: &App, previous: Option<&AppStatus>, report: &Report) -> Condition {
    let status = match report.health {
        "Healthy" => "True",
        "Unknown" => "Unknown",
        _ => "False",
    };
    let before = previous.and_then(|status| status.conditions.iter().find(|condition| condition.type_ == "Ready"));
    let since = before
        .filter(|before| before.status == status)
        .map(|before| before.last_transition_time.clone());
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: report.health.to_owned(),
        message: report.reason.clone(),
        observed_generation: app.metadata.generation,
        last_transition_time: since.unwrap_or_else(|| Time(truncated((shared.now)()))),
    }
}

/// Cuts a time to seconds, as it is stored: otherwise what is read back differs from what was written.
fn truncated(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}
