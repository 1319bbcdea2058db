//! Following a repository: from a ref that moved to what its apps should be.
//!
//! A commit counts when its `setpoint.toml` parses; until then the last good one stays in force. What is in force is remembered, so that a
//! restart knows it before the repository can be read. The declared apps become App objects owned by the Repository; what somebody
//! changes in those is put back.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::{App, AppSpec, FINALIZER, Repository, RepositoryStatus, SyncPolicy};
use crate::app::chain;
use crate::declaration::{self, duration};
use crate::drive::Ran;
use crate::engine::{EngineError, Name, Shared};
use crate::notice::NoticeKind;
use crate::records::{Batch, Records, RecordsError};
use crate::source::{self, Class, Credentials, GitPaths, Head, Limits, Location, SourceError, Watcher};
use crate::state::short;

/// The collection of what repositories declare.
const REPOSITORIES: &str = "repositories";
/// The field manager of App objects that a repository declares.
const DECLARER: &str = "setpoint-repository";
/// How often a remote is asked when nothing else is said.
const INTERVAL: Duration = Duration::from_secs(30);
/// The least interval.
const LEAST_INTERVAL: Duration = Duration::from_secs(5);
/// How often a repository on disk is looked at although nothing was heard of it: the net behind the watch.
const NET: Duration = Duration::from_secs(300);

/// What a repository declares, as it is in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// The commit whose `setpoint.toml` is in force and whose files are rendered.
    pub commit: String,
    /// Its subject.
    pub subject: String,
    /// Its time, in seconds since 1970.
    pub time: i64,
    /// The git directory that the commit is in.
    pub git: PathBuf,
    /// The apps by name.
    pub apps: BTreeMap<String, AppSpec>,
    /// The uid of the Repository object.
    #[serde(default)]
    pub uid: String,
    /// Its URL.
    #[serde(default)]
    pub url: String,
}

impl Declared {
    /// Says whether this was read of a repository as it is now, and not of another one of its name.
    pub(crate) fn is_of(&self, repository: &Repository) -> bool {
        // Records of older versions do not say.
        let same = |known: &str, now: &str| known.is_empty() || known == now;
        same(&self.uid, repository.metadata.uid.as_deref().unwrap_or_default()) && same(&self.url, &repository.spec.url)
    }

    /// Reads what was in force when the process ended.
    pub(crate) async fn load(records: &dyn Records) -> Result<HashMap<Name, Arc<Declared>>, EngineError> {
        let mut all = HashMap::new();
        for (key, bytes) in records.records(REPOSITORIES).await? {
            let Some(name) = Name::parse(&key) else { continue };
            match serde_json::from_slice::<Declared>(&bytes) {
                Ok(declared) => {
                    all.insert(name, Arc::new(declared));
                }
                // It is only what the repository says itself: it is read again.
                Err(error) => tracing::warn!(repository = %name, %error, "what the repository declared is read anew"),
            }
        }
        Ok(all)
    }
}

/// When the last look at a repository that fetched it whatever its interval began.
type Began = Option<tokio::time::Instant>;

/// What is watched of a repository on disk: another one may have taken its place although the paths are the same.
#[derive(Clone, PartialEq)]
struct Place {
    paths: GitPaths,
    /// Device and inode of the git folder.
    folder: (u64, u64),
}

impl Place {
    fn of(path: &Path) -> Result<Place, SourceError> {
        let paths = source::Repository::open(path)?.paths();
        let folder = std::fs::metadata(&paths.git_dir).map_err(|source| SourceError::Disk {
            operation: "read",
            path: paths.git_dir.clone(),
            source,
        })?;
        Ok(Place {
            paths,
            folder: (folder.dev(), folder.ino()),
        })
    }
}

/// The repositories as sources: the watcher of those on disk, the mirrors of the others.
pub(crate) struct Sources {
    watcher: Watcher,
    watched: Mutex<HashMap<Name, Place>>,
    fetched: Mutex<HashMap<Name, tokio::time::Instant>>,
    /// One look at a time: two must not write one mirror.
    looking: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<Began>>>>,
    mirrors: PathBuf,
}

impl Sources {
    pub fn new(mirrors: PathBuf, wake: impl Fn(Name) + Send + Sync + 'static) -> Result<Sources, SourceError> {
        let watcher = Watcher::new(move |key: &str| {
            if let Some(name) = Name::parse(key) {
                wake(name);
            }
        })?;
        Ok(Sources {
            watcher,
            watched: Mutex::default(),
            fetched: Mutex::default(),
            looking: Mutex::default(),
            mirrors,
        })
    }

    fn looking(&self, name: &Name) -> Arc<tokio::sync::Mutex<Began>> {
        self.looking.lock().entry(name.clone()).or_default().clone()
    }

    fn forget(&self, name: &Name) {
        self.looking.lock().remove(name);
        if self.watched.lock().remove(name).is_some() {
            self.watcher.unwatch(&name.to_string());
        }
        self.fetched.lock().remove(name);
    }

    fn mirror(&self, name: &Name) -> PathBuf {
        self.mirrors.join(&name.namespace).join(format!("{}.git", name.name))
    }
}

/// What a look at a repository found.
struct Looked {
    head: Option<Head>,
    git: PathBuf,
    text: Text,
}

/// The declaration at a commit.
enum Text {
    /// It is the commit that is in force.
    Same,
    /// There is none.
    Missing,
    Found(Vec<u8>),
}

/// Brings a repository one look further.
pub(crate) fn reconcile<'a>(shared: &'a Arc<Shared>, name: &'a Name) -> BoxFuture<'a, Ran> {
    async move {
        let looking = shared.sources.looking(name);
        let _looking = looking.lock().await;
        run(shared, name).await
    }
    .boxed()
}

async fn run(shared: &Arc<Shared>, name: &Name) -> Ran {
    let Some(repository) = shared.repository(name) else {
        shared.sources.forget(name);
        shared.declared.write().remove(name);
        let batch = Batch {
            delete: vec![(REPOSITORIES.to_owned(), name.to_string())],
            ..Batch::default()
        };
        return match shared.records.commit(batch).await {
            Ok(()) => Ran::Again(None),
            Err(error) => failed(name, &error),
        };
    };
    if repository.metadata.deletion_timestamp.is_some() {
        return Ran::Again(None);
    }
    let other = |declared: &Arc<Declared>| !declared.is_of(&repository);
    if shared.declared.read().get(name).is_some_and(other) {
        // Another repository of the same name: what that one declared says nothing about this one.
        shared.declared.write().remove(name);
        shared.sources.fetched.lock().remove(name);
    }
    let mut status = RepositoryStatus {
        observed_generation: repository.metadata.generation,
        ..RepositoryStatus::default()
    };
    let ran = follow(shared, name, &repository, &mut status).await;
    let (ran, reason) = match ran {
        Ok(after) => (Ran::Again(Some(after)), None),
        Err(RepositoryError::Wrong { reason, after }) => (Ran::Again(Some(after)), Some(reason)),
        Err(RepositoryError::Passing(reason)) => (Ran::Retry, Some(reason)),
    };
    let declared = shared.declared.read().get(name).cloned();
    if let Some(declared) = &declared {
        status.in_force = Some(declared.commit.clone());
        status.apps = u64::try_from(declared.apps.len()).unwrap_or(u64::MAX);
    }
    let before = repository.status.clone().unwrap_or_default();
    if let Some(reason) = reason {
        if before.reason != reason {
            shared.notice(&name.name, NoticeKind::Failed, reason.clone());
        }
        status.reason = reason;
        status.revision = status.revision.or(before.revision.clone());
        status.branch = status.branch.or(before.branch.clone());
    }
    if status != before {
        let api: Api<Repository> = Api::namespaced(shared.target.client().clone(), &name.namespace);
        let patch = json!({"status": nulled(&status)});
        if let Err(error) = api
            .patch_status(&name.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            return failed(name, &error);
        }
    }
    ran
}

fn failed(name: &Name, error: &(dyn std::error::Error + 'static)) -> Ran {
    tracing::warn!(repository = %name, error, "a look at a repository did not get through");
    Ran::Retry
}

fn nulled(status: &RepositoryStatus) -> Value {
    let mut value = json!({"branch": null, "revision": null, "inForce": null, "observedGeneration": null});
    if let (Some(all), Ok(Value::Object(given))) = (value.as_object_mut(), serde_json::to_value(status)) {
        all.extend(given);
    }
    value
}

enum RepositoryError {
    /// It stays wrong until somebody mends it; looked at again now and then.
    Wrong { reason: String, after: Duration },
    /// It may pass.
    Passing(String),
}

impl RepositoryError {
    /// Joins what went wrong in two places.
    fn and(self, other: RepositoryError) -> RepositoryError {
        let join = |one: String, other: String| if one == other { one } else { format!("{one}; {other}") };
        match (self, other) {
            (
                RepositoryError::Wrong { reason, after },
                RepositoryError::Wrong {
                    reason: other,
                    after: sooner,
                },
            ) => RepositoryError::Wrong {
                reason: join(reason, other),
                after: after.min(sooner),
            },
            (RepositoryError::Passing(one), RepositoryError::Passing(other))
            | (RepositoryError::Passing(one), RepositoryError::Wrong { reason: other, .. })
            | (RepositoryError::Wrong { reason: one, .. }, RepositoryError::Passing(other)) => {
                RepositoryError::Passing(join(one, other))
            }
        }
    }

    /// Makes it something that is asked again before long, and does not end the look that it came up in.
    fn often(self) -> RepositoryError {
        match self {
            RepositoryError::Wrong { reason, .. } | RepositoryError::Passing(reason) => RepositoryError::Wrong {
                reason,
                after: INTERVAL,
            },
        }
    }

    fn wrong(reason: impl Into<String>) -> RepositoryError {
        RepositoryError::Wrong {
            reason: reason.into(),
            after: NET,
        }
    }
}

impl From<SourceError> for RepositoryError {
    fn from(error: SourceError) -> RepositoryError {
        let reason = chain(&error);
        match error.class() {
            Class::Transient => RepositoryError::Passing(reason),
            // A path that appears later, a branch that is pushed later: nothing tells, so it is asked.
            Class::Terminal => RepositoryError::Wrong {
                reason,
                after: INTERVAL,
            },
        }
    }
}

impl From<kube::Error> for RepositoryError {
    fn from(error: kube::Error) -> RepositoryError {
        RepositoryError::Passing(format!("cannot write the App objects: {}", chain(&error)))
    }
}

impl From<RecordsError> for RepositoryError {
    fn from(error: RecordsError) -> RepositoryError {
        RepositoryError::Passing(chain(&error))
    }
}

/// Makes the App objects what is in force, looks at the repository, and does so again if something else is in force by then: a
/// repository that cannot be read must not keep its apps from being kept.
async fn follow(
    shared: &Arc<Shared>,
    name: &Name,
    repository: &Repository,
    status: &mut RepositoryStatus,
) -> Result<Duration, RepositoryError> {
    let in_force = || shared.declared.read().get(name).map(|declared| declared.commit.clone());
    let before = in_force();
    let mut declared = declare(shared, name, repository).await;
    let looked = look_at(shared, name, repository, status).await;
    if in_force() != before {
        declared = declare(shared, name, repository).await;
    }
    match (looked, declared) {
        (Ok(after), Ok(())) => Ok(after),
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Err(looked), Err(declared)) => Err(looked.and(declared)),
    }
}

/// Fetches a remote, reads the branch, and puts what its head declares in force.
async fn look_at(
    shared: &Arc<Shared>,
    name: &Name,
    repository: &Repository,
    status: &mut RepositoryStatus,
) -> Result<Duration, RepositoryError> {
    let location = Location::parse(&repository.spec.url)?;
    let on_disk = matches!(location, Location::Path(_));
    let (path, after) = match location {
        Location::Path(path) => (path, NET),
        Location::Remote(remote) => {
            let interval = interval(repository)?;
            let mirror = shared.sources.mirror(name);
            let due = shared
                .sources
                .fetched
                .lock()
                .get(name)
                .is_none_or(|at| at.elapsed() >= interval);
            if due {
                let credentials = credentials(shared, name, repository).await?;
                let into = mirror.clone();
                blocking(move || source::fetch(&remote, &into, &Limits::default(), credentials.as_ref())).await?;
                shared
                    .sources
                    .fetched
                    .lock()
                    .insert(name.clone(), tokio::time::Instant::now());
            }
            (mirror, interval)
        }
    };
    // One that cannot be watched is asked instead.
    let unwatched = match on_disk {
        true => watch(shared, name, &path).await.err().map(RepositoryError::often),
        false => None,
    };
    let branch = repository.spec.branch.clone().filter(|branch| !branch.is_empty());
    let known = shared.declared.read().get(name).cloned();
    let looked = blocking(move || look(&path, branch.as_deref(), known.as_deref())).await?;
    let Some(head) = looked.head else {
        return Err(RepositoryError::Wrong {
            reason: "the branch has no commit yet: push one".to_owned(),
            after,
        });
    };
    status.branch = Some(head.branch.clone());
    status.revision = Some(head.commit.clone());
    let wrong = match looked.text {
        Text::Same => None,
        Text::Missing => Some(RepositoryError::Wrong {
            reason: missing(shared, name, &head),
            after,
        }),
        Text::Found(text) => take_up(shared, name, repository, &head, &looked.git, &text, after)
            .await
            .err(),
    };
    match (wrong, unwatched) {
        (None, None) => Ok(after),
        (Some(error), None) | (None, Some(error)) => Err(error),
        (Some(wrong), Some(unwatched)) => Err(wrong.and(unwatched)),
    }
}

/// Says that a commit declares nothing. A file that is gone must not delete everything: an empty one says that.
fn missing(shared: &Shared, name: &Name, head: &Head) -> String {
    let (commit, file) = (short(&head.commit), declaration::FILE);
    match shared.declared.read().get(name) {
        Some(declared) => format!(
            "{commit} has no {file} any more; what {} declares stays in force (an empty file declares no apps)",
            short(&declared.commit)
        ),
        None => format!("{commit} has no {file} at its root: add one that names the apps"),
    }
}

fn interval(repository: &Repository) -> Result<Duration, RepositoryError> {
    let Some(text) = repository.spec.interval.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(INTERVAL);
    };
    duration::parse(text)
        .map(|interval| interval.max(LEAST_INTERVAL))
        .ok_or_else(|| RepositoryError::wrong(format!("spec.interval: {text:?} is not a time such as 30s or 5m")))
}

async fn credentials(
    shared: &Shared,
    name: &Name,
    repository: &Repository,
) -> Result<Option<Credentials>, RepositoryError> {
    use k8s_openapi::api::core::v1::Secret;
    let Some(secret) = repository
        .spec
        .credentials
        .as_deref()
        .filter(|secret| !secret.is_empty())
    else {
        return Ok(None);
    };
    let api: Api<Secret> = Api::namespaced(shared.target.client().clone(), &name.namespace);
    let found = api
        .get_opt(secret)
        .await
        .map_err(|error| RepositoryError::Passing(chain(&error)))?;
    let Some(found) = found else {
        return Err(RepositoryError::Wrong {
            reason: format!(
                "there is no Secret {}/{secret} with the repository's credentials",
                name.namespace
            ),
            after: INTERVAL,
        });
    };
    let data = found.data.unwrap_or_default();
    let text = |key: &str| {
        data.get(key)
            .map(|value| String::from_utf8_lossy(&value.0).into_owned())
    };
    let Some(password) = text("password") else {
        return Err(RepositoryError::Wrong {
            reason: format!("the Secret {}/{secret} has no key password", name.namespace),
            after: INTERVAL,
        });
    };
    Ok(Some(Credentials {
        username: text("username").unwrap_or_else(|| "git".to_owned()),
        password,
    }))
}

/// Watches a repository on disk, if this very one is not watched already.
async fn watch(shared: &Arc<Shared>, name: &Name, path: &Path) -> Result<(), RepositoryError> {
    let at = path.to_owned();
    let place = blocking(move || Place::of(&at)).await?;
    let (sources, key) = (&shared.sources, name.to_string());
    let before = sources.watched.lock().get(name).cloned();
    if before.as_ref() == Some(&place) && sources.watcher.watches(&key) {
        return Ok(());
    }
    if before.is_some_and(|before| before != place) {
        // Also where the paths are the same: what is watched is the folder that was there.
        sources.watcher.unwatch(&key);
    }
    sources.watcher.watch(&key, &place.paths)?;
    sources.watched.lock().insert(name.clone(), place);
    Ok(())
}

fn look(path: &Path, branch: Option<&str>, known: Option<&Declared>) -> Result<Looked, SourceError> {
    let repository = source::Repository::open(path)?;
    let head = repository.head(branch)?;
    let git = repository.paths().git_dir;
    let text = match &head {
        Some(head) if known.is_none_or(|known| known.commit != head.commit || known.git != git) => {
            match repository.file(&head.commit, declaration::FILE)? {
                Some(text) => Text::Found(text),
                None => Text::Missing,
            }
        }
        _ => Text::Same,
    };
    Ok(Looked { head, git, text })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, RepositoryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(RepositoryError::Passing(format!(
            "reading the repository was cut off: {error}"
        ))),
    }
}

/// Puts a commit's declaration in force.
async fn take_up(
    shared: &Arc<Shared>,
    name: &Name,
    repository: &Repository,
    head: &Head,
    git: &Path,
    text: &[u8],
    after: Duration,
) -> Result<(), RepositoryError> {
    let before = repository.status.as_ref();
    let new = before.and_then(|status| status.revision.as_deref()) != Some(head.commit.as_str());
    if new {
        shared.notice(
            &name.name,
            NoticeKind::Commit,
            format!("{} {}", short(&head.commit), head.subject),
        );
    }
    let commit = short(&head.commit);
    let parsed = std::str::from_utf8(text)
        .map_err(|_| format!("{commit}: {} is not text in UTF-8", declaration::FILE))
        .and_then(|text| declaration::parse(text).map_err(|error| format!("{commit}: {error}")));
    let declaration = parsed.map_err(|reason| match shared.declared.read().get(name) {
        Some(declared) => format!("{reason}; {} stays in force", short(&declared.commit)),
        None => reason,
    });
    let declaration = declaration.map_err(|reason| RepositoryError::Wrong { reason, after })?;
    let declared = Declared {
        commit: head.commit.clone(),
        subject: head.subject.clone(),
        time: head.time,
        git: git.to_owned(),
        apps: declaration
            .apps
            .into_iter()
            .map(|app| (app.name.clone(), spec_of(&name.name, app)))
            .collect(),
        uid: repository.uid().unwrap_or_default(),
        url: repository.spec.url.clone(),
    };
    let bytes = serde_json::to_vec(&declared).map_err(|error| RepositoryError::Wrong {
        reason: format!("{commit}: what it declares cannot be kept: {error}"),
        after,
    })?;
    let batch = Batch {
        put: vec![(REPOSITORIES.to_owned(), name.to_string(), bytes.into())],
        ..Batch::default()
    };
    shared.records.commit(batch).await?;
    let names: Vec<String> = declared.apps.keys().cloned().collect();
    shared.declared.write().insert(name.clone(), Arc::new(declared));
    // Apps that were made through the API may have their files here, too.
    let others = shared.apps.state().into_iter().filter(|app| {
        app.namespace().as_deref() == Some(&name.namespace) && app.spec.repository.as_ref() == Some(&name.name)
    });
    for app in names.into_iter().chain(others.map(|app| app.name_any())) {
        shared.wake_app(&Name::new(&name.namespace, app));
    }
    Ok(())
}

/// Makes the spec of an app that a repository declares.
pub fn spec_of(repository: &str, app: declaration::App) -> AppSpec {
    AppSpec {
        repository: Some(repository.to_owned()),
        path: Some(app.path),
        chart: None,
        namespace: Some(app.namespace),
        values_files: app.values,
        values: app.set,
        after: app.after,
        ignore: app.ignore,
        sync: SyncPolicy {
            prune: app.sync.prune,
            heal: app.sync.heal,
            rollback: app.sync.rollback,
            deadline: duration::format(app.sync.deadline),
        },
    }
}

/// Makes the App objects what the declaration in force says.
async fn declare(shared: &Arc<Shared>, name: &Name, repository: &Repository) -> Result<(), RepositoryError> {
    let Some(declared) = shared.declared.read().get(name).cloned() else {
        return Ok(());
    };
    let api: Api<App> = Api::namespaced(shared.target.client().clone(), &name.namespace);
    let uid = repository.uid().unwrap_or_default();
    let mut foreign = Vec::new();
    for (app, spec) in &declared.apps {
        let known = shared.app(&Name::new(&name.namespace, app));
        if let Some(known) = &known {
            if !is_ours(known, name) {
                let whose = owner(known)
                    .or(known.spec.repository.as_ref())
                    .map_or("stands for itself".to_owned(), |other| {
                        format!("is the repository {other}'s")
                    });
                foreign.push(format!(
                    "there is an app {app} already, which {whose}; rename one of the two"
                ));
                continue;
            }
            // One that is being deleted is made again when it is gone, which is heard of.
            let same = known.spec == *spec && owned(known, &uid);
            if same || known.metadata.deletion_timestamp.is_some() {
                continue;
            }
        }
        api.patch(
            app,
            &PatchParams::apply(DECLARER).force(),
            &Patch::Apply(object(name, app, spec, &uid)),
        )
        .await?;
    }
    for app in shared.apps.state() {
        let gone = app.namespace().as_deref() == Some(&name.namespace)
            && owner(&app) == Some(&name.name)
            && !declared.apps.contains_key(&app.name_any())
            && app.metadata.deletion_timestamp.is_none();
        if gone {
            let parameters = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: app.uid(),
                    ..Preconditions::default()
                }),
                ..DeleteParams::background()
            };
            match api.delete(&app.name_any(), &parameters).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(RepositoryError::Wrong {
            reason: foreign.join("; "),
            after: INTERVAL,
        }),
    }
}

/// Says whether an App is the repository's to keep: the one that owns it, or, where none does, the one that it names. A Repository
/// that was made again is the same one with another uid.
fn is_ours(app: &App, repository: &Name) -> bool {
    let named = owner(app).or(app.spec.repository.as_ref());
    named == Some(&repository.name)
}

/// Returns the name of the Repository that owns an App.
pub(crate) fn owner(app: &App) -> Option<&String> {
    let owners = app.owner_references();
    let owner = owners.iter().find(|owner| owner.kind == Repository::kind(&()));
    owner.map(|owner| &owner.name)
}

/// Says whether an App is marked as owned by this very Repository object, and by no former one.
fn owned(app: &App, repository_uid: &str) -> bool {
    let mut owners = app.owner_references().iter();
    owners.all(|owner| owner.kind != Repository::kind(&()) || owner.uid == repository_uid)
        && app.owner_references().iter().any(|owner| owner.uid == repository_uid)
}

fn object(repository: &Name, app: &str, spec: &AppSpec, uid: &str) -> Value {
    let owner = OwnerReference {
        api_version: Repository::api_version(&()).into_owned(),
        kind: Repository::kind(&()).into_owned(),
        name: repository.name.clone(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    json!({
        "apiVersion": App::api_version(&()),
        "kind": App::kind(&()),
        "metadata": {
            "name": app,
            "namespace": repository.namespace,
            "ownerReferences": [owner],
            "finalizers": [FINALIZER],
        },
        "spec": spec,
    })
}

/// Looks at a repository now, remotes included.
pub(crate) async fn look_again(shared: &Arc<Shared>, name: &Name) {
    let asked = tokio::time::Instant::now();
    let looking = shared.sources.looking(name);
    let mut began = looking.lock().await;
    // A look that somebody else began meanwhile has seen all that this one would: a hundred apps are synced with one.
    if began.is_some_and(|began| began > asked) {
        return;
    }
    *began = Some(tokio::time::Instant::now());
    // A remote is fetched, whatever its interval.
    shared.sources.fetched.lock().remove(name);
    if matches!(run(shared, name).boxed().await, Ran::Retry) {
        shared.wake_repository(name);
    }
}

#[cfg(test)]
mod tests;
