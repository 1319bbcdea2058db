//! The engine: what the daemon starts, listens to and asks.

mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::{ObjectRef as Reference, Store, store::Writer};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, CustomResourceExt as _, ResourceExt as _};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

pub use requests::{Difference, Proposal, RenderedAnswer, RequestError, ResumeAnswer, RollbackAnswer, Standing};

use crate::api::{App, MANAGER, Repository, definitions};
use crate::app::{AppMemory, Progress};
use crate::drive::{Queue, Ran};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::notice::{Notice, NoticeKind};
use crate::records::{Batch, Records, RecordsError};
use crate::rendered::Renderer;
use crate::repository::{Declared, Sources};
use crate::source::SourceError;
use crate::state::{AppState, Entry, Millis, Numbered, Outcome};
use crate::target::Target;

/// The target of the log's lines that say the same as a [`Notice`].
pub const NOTICES: &str = "setpoint_engine::notice";

/// A clock.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// How many apps are worked on at a time.
const AT_ONCE: usize = 8;
/// How many repositories are looked at at a time: most of that is waiting for remotes, which must not hold up the apps.
const LOOKS_AT_ONCE: usize = 16;
/// How many syncs of an app are remembered.
pub(crate) const HISTORY: usize = 50;
/// The collection of the apps' states.
pub(crate) const APPS: &str = "apps";
/// The collection of the apps' seeds: a second place for what nothing else could give back.
pub(crate) const SEEDS: &str = "seeds";
/// The collection of charts that were handed in, with the time of that.
pub(crate) const CHARTS: &str = "charts";
/// How long a chart that no App names is kept, so that the App can be made after it.
const CHART_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How often bytes that nothing names any more are looked for.
const COLLECT: Duration = Duration::from_secs(3600);

/// What the engine is started with.
pub struct EngineConfig {
    /// The cluster that App and Repository objects are in, and that objects go to.
    pub client: Client,
    /// Where it remembers.
    pub records: Arc<dyn Records>,
    /// What runs templates.
    pub renderer: Arc<dyn Renderer>,
    /// The clock.
    pub now: Now,
    /// Randomness, for the seeds of templates.
    pub random: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    /// Where mirrors of remote repositories are kept.
    pub mirrors: PathBuf,
    /// Where metrics are registered.
    pub metrics: prometheus::Registry,
}

/// The engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// App and Repository could not be defined.
    #[error("cannot define {name} in the cluster")]
    Define {
        /// The definition.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The records could not be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Repositories on disk cannot be watched.
    #[error("cannot watch repositories on disk")]
    Watch(#[source] SourceError),
    /// The metrics could not be registered.
    #[error("cannot register the engine's metrics")]
    Metrics(#[from] prometheus::Error),
    /// A part that runs for ever ended.
    #[error("the engine cannot go on: {0} ended")]
    Ended(&'static str),
}

/// Names an App or a Repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Name {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Name {
    /// Names an object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Name {
        Name {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Reads `namespace/name`.
    pub fn parse(text: &str) -> Option<Name> {
        let (namespace, name) = text.split_once('/')?;
        Some(Name::new(namespace, name))
    }

    /// Names `object`.
    pub fn of(object: &impl kube::Resource) -> Name {
        let meta = object.meta();
        Name::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What every reconcile works with.
pub(crate) struct Shared {
    pub target: Target,
    pub live: Live,
    pub records: Arc<dyn Records>,
    pub renderer: Arc<dyn Renderer>,
    pub now: Now,
    pub random: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    pub metrics: Metrics,
    pub notices: broadcast::Sender<Notice>,
    /// The apps to be looked at.
    pub queue: Queue<Name>,
    /// The repositories to be looked at.
    pub looks: Queue<Name>,
    pub apps: Store<App>,
    pub repositories: Store<Repository>,
    pub sources: Sources,
    /// What repositories declare, by repository.
    pub declared: RwLock<HashMap<Name, Arc<Declared>>>,
    /// What is known of each app; locked while it is worked on.
    pub memory: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<AppMemory>>>>,
    /// Held for reading while bytes are written with what names them, for writing while those are removed that nothing names.
    pub collecting: tokio::sync::RwLock<()>,
    /// How far each app is, for those that come after it.
    pub progress: RwLock<HashMap<Name, Progress>>,
}

impl Shared {
    pub fn millis(&self) -> Millis {
        (self.now)().as_millisecond()
    }

    pub fn notice(&self, subject: &str, kind: NoticeKind, text: impl Into<String>) {
        let text = text.into();
        match kind {
            NoticeKind::Failed => tracing::warn!(target: NOTICES, app = subject, "{text}"),
            _ => tracing::info!(target: NOTICES, app = subject, "{text}"),
        }
        let notice = Notice {
            subject: subject.to_owned(),
            kind,
            text,
        };
        // An error means that nobody listens, which is nobody's fault.
        drop(self.notices.send(notice));
    }

    pub fn app(&self, name: &Name) -> Option<Arc<App>> {
        self.apps.get(&Reference::new(&name.name).within(&name.namespace))
    }

    pub fn repository(&self, name: &Name) -> Option<Arc<Repository>> {
        self.repositories
            .get(&Reference::new(&name.name).within(&name.namespace))
    }

    /// Returns what is known of an app, empty when it is new.
    pub fn memory_of(&self, name: &Name) -> Arc<tokio::sync::Mutex<AppMemory>> {
        self.memory.lock().entry(name.clone()).or_default().clone()
    }

    /// Says whether this is still what is known of an app.
    pub fn is_memory_of(&self, name: &Name, memory: &Arc<tokio::sync::Mutex<AppMemory>>) -> bool {
        self.memory
            .lock()
            .get(name)
            .is_some_and(|known| Arc::ptr_eq(known, memory))
    }

    /// Says whether a repository that is there declares an app.
    pub fn declares(&self, name: &Name) -> bool {
        let declared = self.declared.read();
        declared.iter().any(|(repository, declared)| {
            repository.namespace == name.namespace
                && declared.apps.contains_key(&name.name)
                && self.repository(repository).is_some_and(|repository| {
                    repository.metadata.deletion_timestamp.is_none() && declared.is_of(&repository)
                })
        })
    }

    pub fn wake_app(&self, name: &Name) {
        self.queue.wake(name.clone());
    }

    pub fn wake_repository(&self, name: &Name) {
        self.looks.wake(name.clone());
    }

    /// Returns what a repository declares; `None` while that is not known, also when what is known is of another one of its name.
    pub fn declared_by(&self, repository: &Name) -> Option<Arc<Declared>> {
        let declared = self.declared.read().get(repository).cloned()?;
        match self.repository(repository) {
            Some(repository) if !declared.is_of(&repository) => None,
            _ => Some(declared),
        }
    }
}

/// The running engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Defines the engine's kinds in the cluster and starts to keep apps; the engine runs while `tasks` does.
    ///
    /// # Errors
    /// [`EngineError`]; nothing runs then.
    pub async fn start(
        config: EngineConfig,
        tasks: &mut JoinSet<(&'static str, Result<(), EngineError>)>,
    ) -> Result<Engine, EngineError> {
        define(&config.client).await?;
        let metrics = Metrics::register(&config.metrics)?;
        let (queue, looks): (Queue<Name>, Queue<Name>) = (Queue::new(), Queue::new());
        let target = Target::new(config.client.clone());
        let woken = queue.clone();
        let live = Live::new(
            target.clone(),
            Arc::new(move |app: &str| {
                if let Some(name) = Name::parse(app) {
                    woken.wake(name);
                }
            }),
        );
        let woken = looks.clone();
        let sources = Sources::new(config.mirrors, move |name| woken.wake(name)).map_err(EngineError::Watch)?;
        let (apps, repositories) = (Writer::<App>::default(), Writer::<Repository>::default());
        let memory = load(&*config.records, &*config.random, (config.now)().as_millisecond()).await?;
        let declared = Declared::load(&*config.records).await?;
        let shared = Arc::new(Shared {
            target,
            live,
            records: config.records,
            renderer: config.renderer,
            now: config.now,
            random: config.random,
            metrics,
            notices: broadcast::channel(256).0,
            queue,
            looks,
            apps: apps.as_reader(),
            repositories: repositories.as_reader(),
            sources,
            declared: RwLock::new(declared),
            memory: Mutex::new(memory),
            collecting: tokio::sync::RwLock::default(),
            progress: RwLock::default(),
        });
        shared.live.watch_pods();
        let definitions = shared.target.clone().follow_definitions();
        tasks.spawn(async move {
            definitions.await;
            (
                "the watch of definitions",
                Err(EngineError::Ended("the watch of definitions")),
            )
        });
        let client = config.client;
        let (watched, api) = (shared.clone(), Api::<Repository>::all(client.clone()));
        tasks.spawn(async move {
            follow(api, repositories, move |repository: &Repository, _| {
                watched.wake_repository(&Name::of(repository));
            })
            .await;
            (
                "the watch of repositories",
                Err(EngineError::Ended("the watch of repositories")),
            )
        });
        let (watched, api) = (shared.clone(), Api::<App>::all(client));
        tasks.spawn(async move {
            follow(api, apps, move |app: &App, before: Option<&App>| {
                // Its status is the engine's own word about it.
                let same = before.is_some_and(|before| {
                    before.metadata.generation == app.metadata.generation
                        && before.metadata.uid == app.metadata.uid
                        && before.metadata.deletion_timestamp == app.metadata.deletion_timestamp
                        && before.metadata.labels == app.metadata.labels
                        && before.metadata.finalizers == app.metadata.finalizers
                });
                if same {
                    return;
                }
                watched.wake_app(&Name::of(app));
                // What declares it, whatever somebody wrote into it.
                let namespace = app.namespace().unwrap_or_default();
                let named = app.spec.repository.iter().cloned();
                let before = before.and_then(|before| before.spec.repository.clone());
                let owners = app.owner_references().iter().map(|owner| owner.name.clone());
                for repository in named.chain(before).chain(owners) {
                    watched.wake_repository(&Name::new(&namespace, repository));
                }
            })
            .await;
            ("the watch of apps", Err(EngineError::Ended("the watch of apps")))
        });
        let driven = shared.clone();
        tasks.spawn(async move {
            drive(driven).await;
            ("the engine's work", Err(EngineError::Ended("the engine's work")))
        });
        let collected = shared.clone();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(COLLECT).await;
                if let Err(error) = collect(&collected).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "old revisions could not be removed; it is tried again in an hour"
                    );
                }
            }
        });
        Ok(Engine { shared })
    }

    /// Returns what happens from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.shared.notices.subscribe()
    }

    /// Returns a repository as the engine sees it.
    pub fn repository(&self, name: &Name) -> Option<Arc<Repository>> {
        self.shared.repository(name)
    }

    /// Returns the apps of a repository, in order of their names.
    pub fn apps_of(&self, repository: &Name) -> Vec<Arc<App>> {
        let mut apps = self.shared.apps.state();
        apps.retain(|app| {
            app.namespace().as_deref() == Some(&repository.namespace)
                && app.spec.repository.as_ref() == Some(&repository.name)
        });
        apps.sort_by_key(|app| app.name_any());
        apps
    }

    /// Ends every watch of the cluster.
    pub fn stop(&self) {
        self.shared.live.stop();
    }

    /// Looks at everything now, without waiting for an event.
    pub fn wake_all(&self) {
        for app in self.shared.apps.state() {
            self.shared.wake_app(&Name::of(&*app));
        }
        for repository in self.shared.repositories.state() {
            self.shared.wake_repository(&Name::of(&*repository));
        }
    }
}

async fn drive(shared: Arc<Shared>) {
    // Without a first list, an app that is only not seen yet would be taken for one that is gone.
    let known = async {
        let apps = shared.apps.wait_until_ready().await;
        let repositories = shared.repositories.wait_until_ready().await;
        apps.is_ok() && repositories.is_ok()
    };
    if !known.await {
        return;
    }
    // Old restarts must not be taken for new ones because the pods are not known yet.
    shared.live.pods_listed().await;
    let gone: Vec<Name> = {
        let memory = shared.memory.lock();
        memory
            .keys()
            .filter(|name| shared.app(name).is_none())
            .cloned()
            .collect()
    };
    for name in gone {
        shared.wake_app(&name);
    }
    let (apps, repositories) = (shared.clone(), shared.clone());
    let apps = shared.queue.drive(AT_ONCE, move |name| {
        let shared = apps.clone();
        async move {
            let ran = crate::app::reconcile(&shared, &name).await;
            counted(&shared, ran)
        }
    });
    let repositories = shared.looks.drive(LOOKS_AT_ONCE, move |name| {
        let shared = repositories.clone();
        async move {
            let ran = crate::repository::reconcile(&shared, &name).await;
            counted(&shared, ran)
        }
    });
    futures::future::join(apps, repositories).await;
}

fn counted(shared: &Shared, ran: Ran) -> Ran {
    let queued = shared.queue.len() + shared.looks.len();
    shared.metrics.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
    let outcome = if matches!(ran, Ran::Retry) { "retry" } else { "done" };
    shared.metrics.reconciles.with_label_values(&[outcome]).inc();
    ran
}

/// Watches a kind for ever: the store holds a change before it is told.
async fn follow<K>(api: Api<K>, mut writer: Writer<K>, changed: impl Fn(&K, Option<&K>))
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + fmt::Debug + Send + Sync + 'static,
{
    let store = writer.as_reader();
    let mut events = watcher(api, watcher::Config::default())
        .modify(|object| object.meta_mut().managed_fields = None)
        .default_backoff()
        .boxed();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                let kind = K::kind(&());
                tracing::warn!(kind = %kind, error = &error as &dyn std::error::Error, "a watch failed and starts again");
                continue;
            }
        };
        let before = match &event {
            watcher::Event::Apply(object) => store.get(&Reference::from_obj(object)),
            _ => None,
        };
        let known = match &event {
            watcher::Event::InitDone => store.state(),
            _ => Vec::new(),
        };
        writer.apply_watcher_event(&event);
        match &event {
            watcher::Event::Apply(object) => changed(object, before.as_deref()),
            watcher::Event::Delete(object) => changed(object, None),
            watcher::Event::InitDone => {
                let listed = store.state();
                // Those that a lost watch missed the end of, too.
                known.iter().chain(&listed).for_each(|object| changed(object, None));
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => {}
        }
    }
}

async fn define(client: &Client) -> Result<(), EngineError> {
    let api = Api::all(client.clone());
    for definition in definitions() {
        let name = definition.name_any();
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&definition))
            .await
            .map_err(|source| EngineError::Define {
                name,
                source: Box::new(source),
            })?;
    }
    // A definition is answered before it is served; the first list must not find nothing because of that.
    for name in [App::crd_name(), Repository::crd_name()] {
        let established =
            kube::runtime::wait::await_condition(api.clone(), name, kube::runtime::conditions::is_crd_established());
        match tokio::time::timeout(Duration::from_secs(10), established).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot see that {name} is served"
            ),
            Err(_) => tracing::warn!("{name} is not served yet; going on"),
        }
    }
    Ok(())
}

type Memories = HashMap<Name, Arc<tokio::sync::Mutex<AppMemory>>>;

async fn load(
    records: &dyn Records,
    random: &(dyn Fn() -> [u8; 32] + Send + Sync),
    now: Millis,
) -> Result<Memories, EngineError> {
    let mut memories = HashMap::new();
    let seeds: HashMap<String, Bytes> = records.records(SEEDS).await?.into_iter().collect();
    let mut unkept = Vec::new();
    for (key, bytes) in records.records(APPS).await? {
        let Some(name) = Name::parse(&key) else { continue };
        let mut state: AppState = match serde_json::from_slice(&bytes) {
            Ok(state) => state,
            Err(error) => {
                // One damaged record must not keep all others from being kept.
                tracing::error!(app = %name, %error, "the record of an app is damaged; it is made anew of its history and of git");
                recover(records, random, &name, seeds.get(&key)).await?
            }
        };
        if !state.seed.is_empty() && !seeds.contains_key(&key) {
            unkept.push((SEEDS.to_owned(), key, state.seed.clone().into()));
        }
        state.restarted(now);
        memories.insert(name, Arc::new(tokio::sync::Mutex::new(AppMemory::from(state))));
    }
    if !unkept.is_empty() {
        let batch = Batch {
            put: unkept,
            ..Batch::default()
        };
        records.commit(batch).await?;
    }
    Ok(memories)
}

/// Makes an app's record anew, in place of a damaged one: its seed as it was kept beside, the last healthy revision of its history,
/// and every object of its history, so that what git no longer names is still deleted. What was begun since the last sync ended and
/// is no more in git is not known, and stays.
async fn recover(
    records: &dyn Records,
    random: &(dyn Fn() -> [u8; 32] + Send + Sync),
    name: &Name,
    seed: Option<&Bytes>,
) -> Result<AppState, RecordsError> {
    let seed = seed.and_then(|seed| String::from_utf8(seed.to_vec()).ok());
    let mut state = AppState {
        // Random values change only where no seed was ever kept.
        seed: seed.unwrap_or_else(|| hex::encode(random())),
        ..AppState::default()
    };
    for bytes in records.series(&crate::app::series(name), HISTORY).await? {
        let entry: Entry = match serde_json::from_slice(&bytes) {
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(app = %name, %error, "an entry of the history of an app is damaged");
                continue;
            }
        };
        state.last_number = state.last_number.max(entry.number);
        let Some(objects) = records.blob(&entry.revision.digest).await? else {
            continue;
        };
        let desired = match crate::rendered::read(&entry.revision.digest, &objects, None) {
            Ok(desired) => desired,
            Err(error) => {
                tracing::warn!(app = %name, error = &error as &dyn std::error::Error, "a revision of an app is damaged");
                continue;
            }
        };
        let references = desired.iter().filter_map(|desired| desired.reference().ok());
        state.inventory.extend(references);
        if state.healthy.is_none() && entry.outcome == Outcome::Healthy {
            state.healthy = Some(Numbered {
                number: entry.number,
                revision: entry.revision,
            });
        }
    }
    let bytes = serde_json::to_vec(&state).map_err(|error| RecordsError {
        operation: "written",
        source: Box::new(error),
    })?;
    let batch = Batch {
        put: vec![(APPS.to_owned(), name.to_string(), bytes.into())],
        ..Batch::default()
    };
    records.commit(batch).await?;
    Ok(state)
}

/// Removes rendered bytes that neither an app nor its history names.
async fn collect(shared: &Shared) -> Result<(), RecordsError> {
    let mut keep = BTreeSet::new();
    let _collecting = shared.collecting.write().await;
    // The records, not the memories: what is not saved names nothing that is kept.
    for (key, bytes) in shared.records.records(APPS).await? {
        let Ok(state) = serde_json::from_slice::<AppState>(&bytes) else {
            tracing::warn!(
                app = key,
                "a damaged record: nothing is removed until the next start makes it anew"
            );
            return Ok(());
        };
        for revision in state.revisions() {
            keep.extend(revision.blobs().map(str::to_owned));
        }
        let Some(name) = Name::parse(&key) else { continue };
        for bytes in shared.records.series(&crate::app::series(&name), HISTORY).await? {
            if let Ok(entry) = serde_json::from_slice::<Entry>(&bytes) {
                keep.extend(entry.revision.blobs().map(str::to_owned));
            }
        }
    }
    for app in shared.apps.state() {
        keep.extend(app.spec.chart.iter().map(|chart| chart.digest.clone()));
    }
    let oldest = (shared.now)() - CHART_KEPT;
    for (digest, uploaded) in shared.records.records(CHARTS).await? {
        let young = std::str::from_utf8(&uploaded)
            .ok()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .is_some_and(|uploaded| uploaded > oldest);
        if young {
            keep.insert(digest);
        }
    }
    let removed = shared.records.keep_only_blobs(&keep).await?;
    if removed > 0 {
        tracing::info!(removed, "removed old revisions that nothing names");
    }
    Ok(())
}
