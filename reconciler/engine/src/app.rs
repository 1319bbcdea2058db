//! Keeping one app: look, let [`state`](crate::state) decide, act, look again.
//!
//! One run at a time per app. A run ends when there is nothing to do until something changes; whatever changes wakes it. All that
//! it has to remember is saved before it is acted on.

mod act;
mod finish;
mod publish;
mod source;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use setpoint_plan::{Baseline, Ignore, ObjectKey};

use crate::api::{App, AppSpec, AppStatus, FINALIZER, MANAGER, SyncPolicy};
use crate::declaration::duration;
use crate::drive::Ran;
use crate::engine::{APPS, Name, SEEDS, Shared};
use crate::records::{Batch, RecordsError};
use crate::rendered::PrepareError;
use crate::state::{AppState, Millis, Next, Policy, Revision, Trouble};
use crate::target::{Class, TargetError};

pub(crate) use act::inherit;
pub(crate) use publish::report;
pub use source::pack;
pub(crate) use source::{preview, unpack};
pub(crate) use view::{Goal, Seen};

/// When what cannot be put back now is tried again, if nothing wakes the app before.
const LATER: Duration = Duration::from_secs(15);
/// When an app is looked at again although nothing was heard, while some of its kinds cannot be watched.
const UNHEARD: Millis = 15_000;
/// A difference between the clock and a steady one that is no jump.
const JUMP: Millis = 10_000;
/// How many things a run does before others get their turn.
const STEPS: usize = 64;

/// What is known of an app between runs. Only [`AppState`] outlives the process.
#[derive(Default)]
pub(crate) struct AppMemory {
    /// What is remembered.
    pub state: AppState,
    /// The objects that are being looked at.
    pub goal: Option<Goal>,
    /// How each of them was when it was last read.
    pub seen: HashMap<ObjectKey, Seen>,
    /// How often pods had been started again when the sync began, by workload.
    pub baselines: HashMap<String, Baseline>,
    /// What was degraded already when the sync began: it may get well by what the sync brings.
    pub unwell: HashSet<ObjectKey>,
    /// The number of the sync that both of these are of.
    pub counted: Option<u64>,
    /// Whether some of the goal's kinds are not watched, so that nobody tells of changes.
    pub unheard: bool,
    /// Whether what was seen is read once more before it is believed.
    pub doubted: bool,
    /// The clock when it was last asked, and a steady one.
    pub clock: Option<(Millis, tokio::time::Instant)>,
    /// The spec as it could last be read.
    pub readable: Option<AppSpec>,
    /// Since when everything has been ready.
    pub ready_since: Option<Millis>,
    /// The state as it was saved last: what could not be saved must not be acted on.
    pub saved: AppState,
    /// Whether the source is to be read again although its name is the same.
    pub unread: bool,
    /// What could not be rendered for want of a worker that lives long enough.
    pub unrendered: Option<Unrendered>,
    /// Whether the last failure may pass.
    pub passing: bool,
    /// How often each object was put back lately.
    pub healed: HashMap<ObjectKey, Healed>,
    /// Why its pods did not get well when they were last looked at.
    pub trouble: Option<Trouble>,
    /// Why the last attempt to act did not get through.
    pub stuck: Option<String>,
    /// How often a deletion was looked at since it last got further.
    pub looks: u32,
    /// The status as it was last written.
    pub published: Option<AppStatus>,
}

impl From<AppState> for AppMemory {
    fn from(state: AppState) -> AppMemory {
        AppMemory {
            saved: state.clone(),
            state,
            ..AppMemory::default()
        }
    }
}

impl AppMemory {
    /// Returns the time. What is due at some time moves with a clock that was set, or that went on while the machine was suspended.
    pub(crate) fn now(&mut self, shared: &Shared) -> Millis {
        let (now, steady) = (shared.millis(), tokio::time::Instant::now());
        let Some((before, since)) = self.clock.replace((now, steady)) else {
            return now;
        };
        let by = jump(before, now, steady.duration_since(since));
        if by != 0 {
            tracing::warn!(seconds = by / 1000, "the clock jumped");
            self.state.shift(by);
            self.saved.shift(by);
            self.ready_since = self.ready_since.map(|since| since.saturating_add(by));
            for healed in self.healed.values_mut() {
                healed.since = healed.since.saturating_add(by);
            }
        }
        now
    }

    /// Returns what is degraded now.
    fn unwell_now(&self) -> HashSet<ObjectKey> {
        let unwell = self.seen.iter().filter(|(_, seen)| seen.is_degraded());
        unwell.map(|(key, _)| key.clone()).collect()
    }
}

/// Returns by how much a clock went on more, or less, than a steady one did.
fn jump(before: Millis, now: Millis, steady: Duration) -> Millis {
    let steady = i64::try_from(steady.as_millis()).unwrap_or(i64::MAX);
    let by = now.saturating_sub(before).saturating_sub(steady);
    if by.abs() < JUMP { 0 } else { by }
}

/// What this machine could not render: a template that takes all its memory must not be rendered again and again.
pub(crate) struct Unrendered {
    /// The digest of what was to be rendered.
    key: String,
    /// Why it was not.
    reason: String,
    /// How often it was tried.
    tries: u32,
    /// When it is tried again.
    again: tokio::time::Instant,
}

/// How often an object was put back, and since when that is counted.
#[derive(Clone, Copy)]
pub(crate) struct Healed {
    since: Millis,
    count: u32,
}

/// How far an app is, for those that come after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The repository that declares it.
    repository: Option<String>,
    /// The newest source that it has taken up.
    source: String,
    /// What it is to be made of that, if that rendered.
    wanted: Option<Revision>,
    /// Whether anything of it was ever applied.
    begun: bool,
    /// Whether all of it runs and is healthy.
    settled: bool,
    /// How it is, in words.
    health: String,
}

/// What the engine could not do, and what that asks for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error("the state of the app cannot be written")]
    Encode(#[source] serde_json::Error),
    #[error("the rendered objects {digest} are not kept any more")]
    Lost { digest: String },
    #[error("{0}")]
    Spec(String),
    #[error("cannot write the App object")]
    App(#[source] Box<kube::Error>),
}

/// Everything of a spec that decisions depend on.
pub(crate) struct Kept {
    pub name: Name,
    pub spec: AppSpec,
    pub namespace: String,
    pub policy: Policy,
    pub plan: setpoint_plan::Policy,
}

impl Kept {
    /// Reads a spec.
    ///
    /// # Errors
    /// In words: a deadline or an ignored field that cannot be read.
    pub fn read(name: &Name, spec: &AppSpec) -> Result<Kept, String> {
        let deadline = duration::parse(&spec.sync.deadline)
            .filter(|deadline| !deadline.is_zero())
            .ok_or_else(|| {
                format!(
                    "spec.sync.deadline: {:?} is not a time such as 2m, 90s or 1h30m",
                    spec.sync.deadline
                )
            })?;
        let ignore = spec
            .ignore
            .iter()
            .map(|text| Ignore::parse(text).map_err(|error| format!("spec.ignore: {error}")))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Kept {
            name: name.clone(),
            spec: spec.clone(),
            namespace: spec
                .namespace
                .clone()
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or_else(|| "default".to_owned()),
            policy: Policy {
                prune: spec.sync.prune,
                heal: spec.sync.heal,
                rollback: spec.sync.rollback,
                deadline: i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX),
            },
            plan: setpoint_plan::Policy {
                manager: MANAGER.to_owned(),
                owner: name.to_string(),
                ignore,
                prune: spec.sync.prune,
            },
        })
    }
}

/// Returns the name of an app's history among the records.
pub(crate) fn series(name: &Name) -> String {
    format!("{APPS}/{name}")
}

/// Brings an app one look further.
pub(crate) fn reconcile<'a>(shared: &'a Arc<Shared>, name: &'a Name) -> BoxFuture<'a, Ran> {
    // Boxed: the compiler cannot see through so many borrows that this may go from thread to thread.
    run(shared, name).boxed()
}

async fn run(shared: &Arc<Shared>, name: &Name) -> Ran {
    let memory = shared.memory_of(name);
    let mut memory = memory.clone().lock_owned().await;
    if !shared.is_memory_of(name, tokio::sync::OwnedMutexGuard::mutex(&memory)) {
        // It was forgotten while this waited for it.
        shared.wake_app(name);
        return Ran::Again(None);
    }
    let Some(app) = shared.app(name) else {
        // One that its repository declares comes back, and goes on with what is remembered.
        if shared.declares(name) {
            return Ran::Again(None);
        }
        // It is gone, finalizer and all: nothing is left to be kept.
        return match finish::forget(shared, name, &mut memory).await {
            Ok(()) => Ran::Again(None),
            Err(error) => {
                tracing::warn!(app = %name, error = &error as &dyn std::error::Error, "cannot forget an app that is gone");
                Ran::Retry
            }
        };
    };
    if let Some(uid) = app.uid()
        && memory.state.uid != uid
    {
        memory.published = None;
        match memory.state.uid.is_empty() && !memory.state.seed.is_empty() {
            // The App object was made again, for the same app.
            true => memory.state.uid = uid,
            false => *memory = AppMemory::from(fresh(shared, &memory.state, uid)),
        }
    }
    let ran = if app.metadata.deletion_timestamp.is_some() {
        finish::finish(shared, name, &app, &mut memory).await
    } else {
        keep(shared, name, &app, &mut memory).await
    };
    match ran {
        Ok(after) => Ran::Again(after),
        Err(error) => {
            if matches!(error, AppError::Records(_)) {
                memory.state = memory.saved.clone();
            }
            let reason = chain(&error);
            if memory.stuck.as_deref() != Some(&reason) {
                tracing::warn!(app = %name, "{reason}");
            }
            memory.stuck = Some(reason);
            memory.passing = class(&error) == Class::Transient;
            // It is tried again anyway, and with it the status is written.
            publish::publish(shared, &app, &mut memory, None).await;
            Ran::Retry
        }
    }
}

/// Starts a new App of a name afresh; what an older one left behind is still this name's to delete.
fn fresh(shared: &Shared, before: &AppState, uid: String) -> AppState {
    AppState {
        uid,
        seed: hex::encode((shared.random)()),
        inventory: before.inventory.clone(),
        last_number: before.last_number,
        ..AppState::default()
    }
}

async fn keep(
    shared: &Arc<Shared>,
    name: &Name,
    app: &App,
    memory: &mut AppMemory,
) -> Result<Option<Duration>, AppError> {
    let finalized = app.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if !finalized && !add_finalizer(shared, name, app).await? {
        // Somebody else wrote first; the watch tells what.
        return Ok(Some(Duration::from_millis(250)));
    }
    memory.passing = false;
    let spec = source::spec(shared, name, app);
    let (kept, unreadable) = match Kept::read(name, &spec) {
        Ok(kept) => {
            memory.readable = Some(spec);
            (kept, None)
        }
        // A sync under way is ended as it was begun.
        Err(reason) if memory.state.sync.is_some() => (last_readable(name, &spec, memory)?, Some(reason)),
        Err(reason) => {
            // What runs is left alone until somebody mends the spec.
            memory.stuck = Some(reason);
            return Ok(publish::publish(shared, app, memory, None).await);
        }
    };
    memory.stuck = None;
    let unread = match &unreadable {
        None => source::take_up(shared, &kept, app, memory).await?,
        Some(_) => None,
    };
    let after = work(shared, &kept, memory).await;
    memory.stuck = unreadable.or(memory.stuck.take());
    let (after, failed) = match after {
        Ok(after) => ([after, unread].into_iter().flatten().min(), None),
        Err(error) => (None, Some(error)),
    };
    memory.stuck = memory
        .stuck
        .take()
        .or_else(|| failed.as_ref().map(|error| chain(error)));
    publish::progress(shared, &kept, memory);
    let unpublished = publish::publish(shared, app, memory, Some(&kept)).await;
    match failed {
        // A sync that cannot get through must still be ended by its deadline.
        Some(error) if memory.state.sync.is_none() || class(&error) == Class::Transient => Err(error),
        Some(error) => {
            tracing::warn!(app = %name, error = &error as &dyn std::error::Error, "stuck");
            Ok(Some(Duration::from_secs(5)))
        }
        None => Ok([after, unpublished].into_iter().flatten().min()),
    }
}

/// Returns how an app is kept while its spec cannot be read: as it last could, or, after a restart, as far as it can.
fn last_readable(name: &Name, spec: &AppSpec, memory: &AppMemory) -> Result<Kept, AppError> {
    let readable = memory.readable.clone().unwrap_or_else(|| {
        let mut spec = spec.clone();
        spec.ignore.retain(|text| Ignore::parse(text).is_ok());
        spec.sync.deadline = SyncPolicy::default().deadline;
        spec
    });
    Kept::read(name, &readable).map_err(AppError::Spec)
}

/// Acts until there is nothing to do.
async fn work(shared: &Arc<Shared>, kept: &Kept, memory: &mut AppMemory) -> Result<Option<Duration>, AppError> {
    let mut sure = false;
    if shared.live.take_released(&kept.name.to_string()) {
        let now = memory.now(shared);
        memory.state.hasten(now);
    }
    // Why the cluster could not be asked about what is to be begun: what is under way, or held, is kept meanwhile.
    let mut unasked: Option<AppError> = None;
    for _ in 0..STEPS {
        let blocked = publish::blocked(shared, kept, memory).is_some() || unasked.is_some();
        let now = memory.now(shared);
        let revision = memory.state.viewed(&kept.policy, blocked, now).cloned();
        let view = match &revision {
            Some(revision) => match view::observe(shared, kept, memory, revision).await {
                Ok(view) => view,
                Err(error) => return unseen(shared, kept, memory, error).await,
            },
            None => Default::default(),
        };
        memory.trouble.clone_from(&view.trouble);
        let now = memory.now(shared);
        match memory.state.next(&kept.policy, &view, blocked, now) {
            Next::Wait { until } => {
                if let Some(error) = unasked {
                    return Err(error);
                }
                let retry = act::heal_again(memory, now);
                let net = memory.unheard.then(|| now.saturating_add(UNHEARD));
                let until = [until, retry, net].into_iter().flatten().min();
                return Ok(until.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0).max(1))));
            }
            // A watch may have been silent: nothing fails because of what was only heard.
            Next::Fail { .. } if !sure => {
                sure = true;
                memory.doubted = true;
            }
            Next::Begin { revision, cause } => match act::begin(shared, kept, memory, &view, revision, cause).await {
                Err(error @ AppError::Target(_)) if unasked.is_none() && class(&error) == Class::Transient => {
                    unasked = Some(error);
                }
                begun => begun?,
            },
            Next::Apply { places, heal } => {
                if !act::apply(shared, kept, memory, &view, &places, heal).await? {
                    return unasked.map_or(Ok(Some(LATER)), Err);
                }
            }
            Next::Fix { digest, images } => act::fix(shared, kept, memory, &digest, &images).await?,
            Next::Prune(objects) => act::prune(shared, kept, memory, &objects).await?,
            Next::Succeed => {
                let entry = memory.state.succeed(&view, now);
                act::ended(shared, kept, memory, entry).await?;
            }
            Next::Fail { reason, passing } => {
                let entry = memory.state.fail(&reason, passing, now);
                act::ended(shared, kept, memory, entry).await?;
            }
        }
    }
    Ok(Some(Duration::from_millis(1)))
}

/// Deals with a cluster or a store that does not say how things are: a sync still ends by its deadline.
async fn unseen(
    shared: &Arc<Shared>,
    kept: &Kept,
    memory: &mut AppMemory,
    error: AppError,
) -> Result<Option<Duration>, AppError> {
    let now = memory.now(shared);
    if let Some(sync) = &memory.state.sync
        && now >= sync.deadline
    {
        let reason = format!("not healthy in time: {}", chain(&error));
        let entry = memory.state.fail(&reason, class(&error) == Class::Transient, now);
        act::ended(shared, kept, memory, entry).await?;
    }
    Err(error)
}

/// Saves what is remembered of an app, and bytes and history with it.
pub(crate) async fn save(
    shared: &Shared,
    name: &Name,
    memory: &mut AppMemory,
    blobs: Vec<Bytes>,
    append: Vec<Bytes>,
) -> Result<(), AppError> {
    let state = serde_json::to_vec(&memory.state).map_err(AppError::Encode)?;
    let mut put = vec![(APPS.to_owned(), name.to_string(), state.into())];
    if memory.state.seed != memory.saved.seed {
        // A second place for what nothing else could give back.
        put.push((SEEDS.to_owned(), name.to_string(), memory.state.seed.clone().into()));
    }
    let batch = Batch {
        blobs,
        put,
        keep_series: match append.is_empty() {
            true => Vec::new(),
            false => vec![(series(name), crate::engine::HISTORY)],
        },
        append: append.into_iter().map(|entry| (series(name), entry)).collect(),
        ..Batch::default()
    };
    // Bytes are named only with this record: they must not be collected in between.
    let _collecting = shared.collecting.read().await;
    shared.records.commit(batch).await?;
    memory.saved = memory.state.clone();
    Ok(())
}

/// Adds the finalizer; `false` when the App was written by somebody else meanwhile.
async fn add_finalizer(shared: &Shared, name: &Name, app: &App) -> Result<bool, AppError> {
    let mut finalizers = app.metadata.finalizers.clone().unwrap_or_default();
    finalizers.push(FINALIZER.to_owned());
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": app.resource_version()}});
    let api: Api<App> = Api::namespaced(shared.target.client().clone(), &name.namespace);
    let patched = api
        .patch(&name.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    match patched {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(AppError::App(Box::new(error))),
    }
}

fn class(error: &AppError) -> Class {
    match error {
        AppError::Target(error) | AppError::Prepare(PrepareError::Target(error)) => error.class(),
        AppError::App(_) | AppError::Records(_) => Class::Transient,
        AppError::Prepare(_) | AppError::Encode(_) | AppError::Lost { .. } | AppError::Spec(_) => Class::Terminal,
    }
}

/// Returns an error with its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests;
