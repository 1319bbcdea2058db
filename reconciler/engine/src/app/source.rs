//! What an app should be: its declaration, the files that it names, rendered once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kube::ResourceExt as _;
use serde_json::json;
use setpoint_templates::Capabilities;
use setpoint_templates::job::{Job, Output, ValuesFile};

use super::{AppError, AppMemory, Kept, Unrendered, save};
use crate::api::{App, AppSpec};
use crate::engine::{Name, Shared};
use crate::images::Images;
use crate::notice::NoticeKind;
use crate::records::digest;
use crate::rendered::{self, PrepareError, Rendered};
use crate::repository::Declared;
use crate::source::{Repository, SourceError};
use crate::state::{Input, Revision, short};
use crate::target::Class;

/// Grows when the same input must be rendered anew by a newer program.
const FORMAT: u32 = 1;
/// When a source that could not be read for now is read again.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Returns the spec in force: a repository's own apps are as the repository says, whatever their App objects say.
pub(super) fn spec(shared: &Shared, name: &Name, app: &App) -> AppSpec {
    own(shared, name, app)
        .and_then(|declared| declared.apps.get(&name.name).cloned())
        .unwrap_or_else(|| app.spec.clone())
}

fn declared(shared: &Shared, name: &Name, app: &App) -> Option<Arc<Declared>> {
    let repository = app.spec.repository.as_ref()?;
    let repository = Name::new(&name.namespace, repository);
    shared.declared_by(&repository)
}

/// Returns the repository's declaration of an app that it owns.
fn own(shared: &Shared, name: &Name, app: &App) -> Option<Arc<Declared>> {
    let owners = app.owner_references();
    let owner = owners.iter().find(|owner| owner.kind == "Repository")?;
    shared.declared_by(&Name::new(&name.namespace, &owner.name))
}

/// Files to be rendered, and when and from where they are.
struct Files {
    files: BTreeMap<String, Vec<u8>>,
    values: Vec<ValuesFile>,
}

/// Renders what the source names now, if it is not rendered already.
///
/// A source that gives nothing to apply is remembered as broken. Returns when to read again what could not be read for now.
pub(super) async fn take_up(
    shared: &Arc<Shared>,
    kept: &Kept,
    app: &App,
    memory: &mut AppMemory,
) -> Result<Option<Duration>, AppError> {
    let again = read(shared, kept, app, memory).await?;
    memory.unread &= again.is_some();
    Ok(again)
}

async fn read(
    shared: &Arc<Shared>,
    kept: &Kept,
    app: &App,
    memory: &mut AppMemory,
) -> Result<Option<Duration>, AppError> {
    if own(shared, &kept.name, app).is_some_and(|declared| !declared.apps.contains_key(&kept.name.name)) {
        // It is about to be deleted: its folder may be gone already, which says nothing.
        return Ok(None);
    }
    let (source, subject, time) = match origin(shared, kept, app, memory) {
        Some(origin) => origin,
        None => return Ok(None),
    };
    let quick = digest(json!([FORMAT, source, kept.spec]).to_string().as_bytes());
    let state = &memory.state;
    if !memory.unread
        && state.input.as_ref().is_some_and(|input| input.quick == quick)
        && (state.wanted.is_some() || state.broken.is_some())
    {
        return Ok(None);
    }
    // A source never changes under its name: what was read of it once need not be read again.
    let known = state.input.as_ref().filter(|input| input.quick == quick);
    let known = known.map(|input| input.trees.clone()).filter(|trees| !trees.is_empty());
    let read = async {
        let trees = match known {
            Some(trees) => trees,
            None => trees(shared, kept, app).await?,
        };
        let key = key(shared, kept, &trees).await?;
        Ok((trees, key))
    };
    let (trees, key) = match read.await {
        Ok(read) => read,
        Err(error) => return broken(shared, kept, memory, &source, quick, error).await,
    };
    let before = memory.state.input.clone().filter(|input| input.key == key);
    if let (Some(before), Some(wanted)) = (&before, &memory.state.wanted) {
        // Another commit with the same files: nothing to render, but it is what runs now.
        let revision = Revision {
            source,
            subject,
            ..wanted.clone()
        };
        memory.state.want(revision);
        memory.state.input = Some(Input {
            quick,
            trees,
            ..before.clone()
        });
        if memory.state != memory.saved {
            save(shared, &kept.name, memory, Vec::new(), Vec::new()).await?;
        }
        return Ok(None);
    }
    let now = tokio::time::Instant::now();
    if memory.unread || memory.unrendered.as_ref().is_some_and(|before| before.key != key) {
        memory.unrendered = None;
    }
    if let Some(before) = memory.unrendered.as_ref().filter(|before| before.again > now) {
        memory.stuck = Some(before.reason.clone());
        return Ok(Some(before.again - now));
    }
    let files = match files(shared, kept, app).await {
        Ok(files) => files,
        Err(error) => return broken(shared, kept, memory, &source, quick, error).await,
    };
    let timer = shared.metrics.render.start_timer();
    let outcome = render(shared, kept, &memory.state.seed, files, time).await;
    timer.observe_duration();
    let tries = memory.unrendered.take().map_or(0, |before| before.tries);
    match outcome {
        Err(Unread::Passing(reason)) => {
            let wait = READ_AGAIN.saturating_mul(1 << tries.min(6));
            memory.stuck = Some(reason.clone());
            memory.unrendered = Some(Unrendered {
                key,
                reason,
                tries: tries.saturating_add(1),
                again: tokio::time::Instant::now() + wait,
            });
            Ok(Some(wait))
        }
        Ok(rendered) if rendered.is_empty() && !memory.state.inventory.is_empty() => {
            // A mistake in a condition must not delete everything.
            let reason = "it renders no object at all; to delete what runs, remove the app".to_owned();
            broken(shared, kept, memory, &source, quick, Unread::Broken(reason)).await
        }
        Ok(rendered) => {
            let revision = Revision {
                source,
                subject,
                digest: rendered.digest(),
                origins: digest(&rendered.origins),
                images: Images::default(),
            };
            memory.state.warnings = rendered.warnings.clone();
            memory.state.want(revision);
            memory.state.input = Some(Input {
                quick,
                trees,
                key,
                time,
            });
            let blobs = vec![rendered.objects, rendered.origins];
            save(shared, &kept.name, memory, blobs, Vec::new()).await.map(|()| None)
        }
        Err(error) => broken(shared, kept, memory, &source, quick, error).await,
    }
}

/// Returns source, subject and time of what is to be rendered; `None` while a repository was not read yet.
fn origin(shared: &Shared, kept: &Kept, app: &App, memory: &AppMemory) -> Option<(String, String, i64)> {
    if let Some(chart) = &kept.spec.chart {
        let version = if chart.version.is_empty() { "0" } else { &chart.version };
        let source = format!("{}-{version}", chart.name);
        // A chart's files have no time of their own: the first look at them is.
        let time = memory
            .state
            .input
            .as_ref()
            .filter(|input| input.time > 0)
            .map_or_else(|| (shared.now)().as_second(), |input| input.time);
        return Some((source, String::new(), time));
    }
    let Some(declared) = declared(shared, &kept.name, app) else {
        if kept.spec.repository.is_none() {
            return Some((String::new(), String::new(), 0));
        }
        return None;
    };
    Some((declared.commit.clone(), declared.subject.clone(), declared.time))
}

enum Unread {
    Broken(String),
    Passing(String),
}

impl From<SourceError> for Unread {
    fn from(error: SourceError) -> Unread {
        let reason = super::chain(&error);
        match error.class() {
            crate::source::Class::Transient => Unread::Passing(reason),
            crate::source::Class::Terminal => Unread::Broken(reason),
        }
    }
}

async fn broken(
    shared: &Shared,
    kept: &Kept,
    memory: &mut AppMemory,
    source: &str,
    quick: String,
    error: Unread,
) -> Result<Option<Duration>, AppError> {
    let reason = match error {
        Unread::Broken(reason) => reason,
        Unread::Passing(reason) => {
            // What runs goes on being kept; the source is read again with the next wake or retry.
            memory.stuck = Some(reason);
            return Ok(Some(READ_AGAIN));
        }
    };
    let time = memory.state.input.as_ref().map(|input| input.time).unwrap_or_default();
    let known = memory
        .state
        .broken
        .as_ref()
        .is_some_and(|broken| broken.source == source && broken.reason == reason);
    memory.state.broke(source, reason.clone());
    memory.state.input = Some(Input {
        quick,
        trees: String::new(),
        key: String::new(),
        time,
    });
    if !known {
        shared.notice(
            &kept.name.name,
            NoticeKind::Failed,
            format!("{}: {reason}", short(source)),
        );
    }
    save(shared, &kept.name, memory, Vec::new(), Vec::new())
        .await
        .map(|()| None)
}

/// Returns the digest of everything that rendering depends on.
async fn key(shared: &Shared, kept: &Kept, trees: &str) -> Result<String, Unread> {
    let surroundings = shared.target.surroundings().await;
    let surroundings = surroundings.map_err(|error| Unread::Passing(super::chain(&error)))?;
    let identity = json!([
        FORMAT,
        kept.name.name,
        kept.namespace,
        kept.spec.values,
        surroundings.digest,
        trees
    ]);
    Ok(digest(identity.to_string().as_bytes()))
}

/// Returns the digest of all files that are rendered.
async fn trees(shared: &Shared, kept: &Kept, app: &App) -> Result<String, Unread> {
    let spec = &kept.spec;
    if let Some(chart) = &spec.chart {
        return Ok(chart.digest.clone());
    }
    let (declared, path) = place(shared, kept, app)?;
    let (commit, files) = (declared.commit.clone(), spec.values_files.clone());
    let git = declared.git.clone();
    let trees = blocking(move || {
        let repository = Repository::open(&git)?;
        let folder = repository.tree_id(&commit, &path)?;
        let values = files
            .iter()
            .map(|file| repository.tree_id(&commit, file))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((folder, values))
    })
    .await?;
    Ok(digest(json!([trees.0, trees.1]).to_string().as_bytes()))
}

async fn files(shared: &Shared, kept: &Kept, app: &App) -> Result<Files, Unread> {
    if let Some(chart) = &kept.spec.chart {
        let bytes = shared
            .records
            .blob(&chart.digest)
            .await
            .map_err(|error| Unread::Passing(super::chain(&error)))?;
        let bytes = bytes.ok_or_else(|| {
            // They may be on their way: the App is made before they are sent.
            Unread::Passing(format!(
                "the files of the chart {} are not here: install it again",
                chart.name
            ))
        })?;
        let files = unpack(&bytes).map_err(Unread::Broken)?;
        return Ok(Files {
            files,
            values: Vec::new(),
        });
    }
    let (declared, path) = place(shared, kept, app)?;
    let (commit, names, git) = (
        declared.commit.clone(),
        kept.spec.values_files.clone(),
        declared.git.clone(),
    );
    blocking(move || {
        let repository = Repository::open(&git)?;
        let files = repository.files(&commit, &path)?;
        let mut values = Vec::with_capacity(names.len());
        for name in names {
            values.push((repository.file(&commit, &name)?, name));
        }
        Ok((files, values))
    })
    .await
    .and_then(|(files, values)| {
        let values = values
            .into_iter()
            .map(|(bytes, name)| values_file(bytes, name))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Files { files, values })
    })
}

fn values_file(bytes: Option<Vec<u8>>, name: String) -> Result<ValuesFile, Unread> {
    let Some(bytes) = bytes else {
        return Err(Unread::Broken(format!(
            "there is no file of values {name} in the repository"
        )));
    };
    let text =
        String::from_utf8(bytes).map_err(|_| Unread::Broken(format!("the file of values {name} is not text")))?;
    Ok(ValuesFile { name, text })
}

fn place(shared: &Shared, kept: &Kept, app: &App) -> Result<(Arc<Declared>, String), Unread> {
    let Some(declared) = declared(shared, &kept.name, app) else {
        return Err(Unread::Broken(
            "the spec names neither a repository with a path nor a chart".to_owned(),
        ));
    };
    match &kept.spec.path {
        Some(path) => Ok((declared, path.clone())),
        None => Err(Unread::Broken(
            "spec.path is missing: which folder of the repository?".to_owned(),
        )),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, Unread> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Unread::from),
        Err(error) => Err(Unread::Passing(format!("reading the repository was cut off: {error}"))),
    }
}

async fn render(shared: &Shared, kept: &Kept, seed: &str, files: Files, time: i64) -> Result<Rendered, Unread> {
    let folder = kept.spec.path.clone().unwrap_or_default();
    let named: Vec<String> = files.values.iter().map(|values| values.name.clone()).collect();
    let surroundings = shared
        .target
        .surroundings()
        .await
        .map_err(|error| Unread::Passing(super::chain(&error)))?;
    let job = job(kept, seed, files, time, surroundings.capabilities.clone());
    let output: Output = shared
        .renderer
        .render(job)
        .await
        .map_err(|unrendered| match unrendered {
            rendered::Unrendered::Failure(failure) => Unread::Broken(located(&folder, &named, failure)),
            rendered::Unrendered::Passing(reason) => Unread::Passing(reason),
        })?;
    Rendered::prepare(
        &shared.target,
        &kept.name.namespace,
        &kept.name.name,
        &kept.namespace,
        &folder,
        output,
    )
    .await
    .map_err(|error| match error {
        PrepareError::Target(error) if error.class() == Class::Transient => Unread::Passing(super::chain(&error)),
        error => Unread::Broken(super::chain(&error)),
    })
}

/// Puts the folder before a failure's file, so that it is named as the repository names it; files of values are already.
fn located(folder: &str, values: &[String], mut failure: setpoint_templates::job::Failure) -> String {
    if let Some(file) = &mut failure.file
        && !folder.is_empty()
        && folder != "."
        && !values.contains(file)
    {
        *file = format!("{}/{file}", folder.trim_end_matches('/'));
    }
    failure.to_string()
}

fn job(kept: &Kept, seed: &str, mut files: Files, time: i64, capabilities: Capabilities) -> Job {
    // As a last file: the keys are nested already, and one that has a dot in it must keep it.
    if !kept.spec.values.is_empty() {
        files.values.push(ValuesFile {
            name: "set".to_owned(),
            text: serde_json::Value::Object(kept.spec.values.clone()).to_string(),
        });
    }
    let mut bytes = [0; 32];
    // A seed that cannot be read cannot have been written; templates without random functions do not care.
    if hex::decode_to_slice(seed, &mut bytes).is_err() {
        tracing::error!(app = %kept.name, "the app's seed is damaged: random values of its templates change");
    }
    Job {
        files: files.files,
        name: kept.name.name.clone(),
        namespace: kept.namespace.clone(),
        // The bytes must depend on git alone: a counter would make each rendering a new one.
        revision: 1,
        is_install: true,
        values: files.values,
        set: Default::default(),
        capabilities,
        seed: bytes,
        now: time,
    }
}

/// Renders files that somebody hands in as the app would render them: the same seed, the app's own policy.
pub(crate) async fn preview(shared: &Shared, kept: &Kept, seed: &str, job: Job) -> Result<Rendered, String> {
    let files = Files {
        files: job.files,
        values: job.values,
    };
    match render(shared, kept, seed, files, job.now).await {
        Ok(rendered) => Ok(rendered),
        Err(Unread::Broken(reason) | Unread::Passing(reason)) => Err(reason),
    }
}

/// Packs a chart's files as they are kept.
///
/// # Errors
/// In words.
pub fn pack(files: &BTreeMap<String, Vec<u8>>) -> Result<Bytes, String> {
    let job = Job {
        files: files.clone(),
        ..Job::default()
    };
    serde_json::to_vec(&job)
        .map(Bytes::from)
        .map_err(|error| error.to_string())
}

pub(crate) fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    serde_json::from_slice::<Job>(bytes)
        .map(|job| job.files)
        .map_err(|error| format!("the chart's files cannot be read back: {error}"))
}
