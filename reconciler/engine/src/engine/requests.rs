//! What people ask the engine for: history, differences, a sync now, a rollback, a look at what a folder would do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use setpoint_plan::{Desired, ObjectKey, ObjectRef, Plan};

use super::{Engine, HISTORY, Name};
use crate::api::AppSpec;
use crate::app::{self, AppError, AppMemory, Goal, Kept};
use crate::drive::Ran;
use crate::images::{Images, names_in};
use crate::records::{Batch, digest};
use crate::state::{Entry, Numbered, Outcome, Revision, short};

/// How long the engine's watch may be behind a request.
const CAUGHT_UP: std::time::Duration = std::time::Duration::from_secs(5);

/// A request that cannot be met.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no such app.
    #[error("there is no app {0}")]
    NoApp(Name),
    /// There is no such revision to go to.
    #[error("{0}")]
    NoRevision(String),
    /// What was handed in cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// It did not get through.
    #[error("{0}")]
    Failed(String),
}

impl From<AppError> for RequestError {
    fn from(error: AppError) -> RequestError {
        RequestError::Failed(app::chain(&error))
    }
}

/// Where a rollback goes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackAnswer {
    /// The number in the history.
    pub number: u64,
    /// The commit or chart.
    pub source: String,
    /// How the app is, the going back having begun.
    pub standing: Standing,
}

/// How an app is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// As the App's status says it.
    pub health: String,
    /// Why, in words.
    pub reason: String,
    /// What runs.
    pub revision: Option<String>,
    /// Its number in the history.
    pub number: Option<u64>,
}

/// Whether a rollback held what ran, and how the app is now.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResumeAnswer {
    /// Whether a rollback held it.
    pub held: bool,
    /// How the app is now.
    pub standing: Standing,
}

/// What an app differs in from what it should be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The revision that what runs was compared with.
    pub source: String,
    /// Why the newest source could not be compared, if it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// What a sync would do; secrets are masked.
    pub plan: Plan,
    /// The same for people.
    pub text: String,
    /// The names of the images that a proposal's objects ask for.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub images: BTreeSet<String>,
}

/// A folder to be looked at as if it were an app's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// What the app would be.
    pub spec: AppSpec,
    /// The folder's files, as a job carries them.
    pub job: setpoint_templates::job::Job,
}

/// Objects as they are kept.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedAnswer {
    /// Which revision.
    pub source: String,
    /// Its objects with their places.
    pub objects: Vec<Desired>,
}

impl Engine {
    /// Returns an app's syncs, newest first, and the one under way before them.
    ///
    /// # Errors
    /// [`RequestError::NoApp`], or the records cannot be read.
    pub async fn history(&self, name: &Name) -> Result<Vec<Entry>, RequestError> {
        self.require(name)?;
        let series = app::series(name);
        let entries = self.shared.records.series(&series, HISTORY).await;
        let entries = entries.map_err(|error| RequestError::Failed(app::chain(&error)))?;
        let read = |bytes: &bytes::Bytes| match serde_json::from_slice(bytes) {
            Ok(entry) => Some(entry),
            Err(error) => {
                // The others are still there to be gone back to.
                tracing::error!(app = %name, %error, "an entry of the app's history is damaged and left out");
                None
            }
        };
        Ok(entries.iter().filter_map(read).collect())
    }

    /// Compares what runs with what git names, or with what holds where git names nothing that renders.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn difference(&self, name: &Name) -> Result<Difference, RequestError> {
        let kept = self.kept(name)?;
        let memory = self.shared.memory_of(name);
        let (revision, inventory, broken) = {
            let memory = memory.lock().await;
            let state = &memory.state;
            let held = state.held.as_ref().map(|held| held.revision.clone());
            let revision = state.wanted.clone().or(held);
            let broken = state
                .broken
                .as_ref()
                .map(|broken| format!("{}: {}", short(&broken.source), broken.reason));
            (revision, state.inventory.iter().cloned().collect::<Vec<_>>(), broken)
        };
        let Some(revision) = revision else {
            return Err(RequestError::NoRevision(match broken {
                Some(broken) => format!("nothing of {name} renders: {broken}"),
                None => format!("nothing of {name} is rendered yet"),
            }));
        };
        let goal = Goal::load(&self.shared, &revision).await?;
        let plan = self.plan(&kept, &goal.desired()?, &inventory).await?;
        Ok(Difference {
            source: revision.source,
            broken,
            text: plan.to_string(),
            plan: plan.masked(),
            images: BTreeSet::new(),
        })
    }

    /// Renders a folder as an app's and says what a sync of it would do.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] with file and line when it does not render.
    pub async fn propose(&self, name: &Name, proposal: Proposal) -> Result<Difference, RequestError> {
        let kept = Kept::read(name, &proposal.spec).map_err(RequestError::Invalid)?;
        let memory = self.shared.memory.lock().get(name).cloned();
        let (seed, inventory) = match memory {
            Some(memory) => {
                let memory = memory.lock().await;
                let inventory = memory.state.inventory.iter().cloned().collect::<Vec<_>>();
                (memory.state.seed.clone(), inventory)
            }
            None => (hex::encode((self.shared.random)()), Vec::new()),
        };
        let rendered = app::preview(&self.shared, &kept, &seed, proposal.job)
            .await
            .map_err(RequestError::Invalid)?;
        let images = names_in(&rendered.objects);
        let goal = Goal::of(
            rendered.digest(),
            Images::default(),
            rendered.objects,
            Some(rendered.origins),
        )?;
        let plan = self.plan(&kept, &goal.desired()?, &inventory).await?;
        Ok(Difference {
            source: "proposal".to_owned(),
            broken: None,
            text: plan.to_string(),
            plan: plan.masked(),
            images,
        })
    }

    /// Returns the objects of a revision: what is held, or a commit or number of the history.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn rendered(&self, name: &Name, revision: Option<&str>) -> Result<RenderedAnswer, RequestError> {
        let revision = match revision {
            Some(revision) => self.find(name, revision).await?.revision,
            None => {
                self.require(name)?;
                let memory = self.shared.memory_of(name);
                let memory = memory.lock().await;
                let held = memory.state.held.as_ref().map(|held| held.revision.clone());
                held.ok_or_else(|| RequestError::NoRevision(format!("nothing of {name} runs yet")))?
            }
        };
        let goal = Goal::load(&self.shared, &revision).await?;
        Ok(RenderedAnswer {
            source: revision.source,
            objects: goal.desired()?,
        })
    }

    /// Looks at an app and its source now, and tries again what failed.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn sync(&self, name: &Name) -> Result<Standing, RequestError> {
        self.caught_up(name).await?;
        self.change(name, |memory| {
            memory.state.retry();
            // Read again; rendered again only if it differs, so that the same files go on giving the same bytes.
            memory.unread = true;
            memory.seen.clear();
            memory.healed.clear();
        })
        .await?;
        if let Some(repository) = self.shared.app(name).and_then(|app| app.spec.repository.clone()) {
            let repository = Name::new(&name.namespace, repository);
            crate::repository::look_again(&self.shared, &repository).await;
        }
        Ok(self.look(name).await)
    }

    /// Changes what is remembered of an app; nothing is changed when it cannot be saved.
    async fn change<T>(&self, name: &Name, change: impl FnOnce(&mut AppMemory) -> T) -> Result<T, RequestError> {
        let memory = self.shared.memory_of(name);
        let mut memory = memory.lock().await;
        let done = change(&mut memory);
        if memory.state != memory.saved {
            let saved = app::save(&self.shared, name, &mut memory, Vec::new(), Vec::new()).await;
            saved.inspect_err(|_| memory.state = memory.saved.clone())?;
        }
        Ok(done)
    }

    /// Looks at an app now and says how it is then: what a request asked for has begun when this returns.
    async fn look(&self, name: &Name) -> Standing {
        if matches!(app::reconcile(&self.shared, name).await, Ran::Retry) {
            self.shared.wake_app(name);
        }
        let memory = self.shared.memory_of(name);
        let memory = memory.lock().await;
        let kept = self.kept(name).ok();
        let report = app::report(&self.shared, kept.as_ref(), &memory);
        // What runs may ask for a later look: only the queue knows of those.
        self.shared.wake_app(name);
        Standing {
            health: report.health.to_owned(),
            reason: report.reason,
            revision: memory.state.held.as_ref().map(|held| held.revision.source.clone()),
            number: memory.state.held.as_ref().map(|held| held.number),
        }
    }

    /// Goes to an earlier revision and holds it until git names other bytes or [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`RequestError::NoRevision`] when there is none, with those that there are.
    pub async fn rollback(&self, name: &Name, revision: Option<&str>) -> Result<RollbackAnswer, RequestError> {
        let found = match revision {
            Some(revision) => self.find(name, revision).await?,
            None => self.previous(name).await?,
        };
        // Without its bytes nothing can be gone back to.
        Goal::load(&self.shared, &found.revision).await?;
        self.change(name, |memory| memory.state.pin(found.revision.clone()))
            .await?;
        Ok(RollbackAnswer {
            number: found.number,
            source: found.revision.source,
            standing: self.look(name).await,
        })
    }

    /// Follows git again after a rollback.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn resume(&self, name: &Name) -> Result<ResumeAnswer, RequestError> {
        self.require(name)?;
        let held = self
            .change(name, |memory| {
                let held = memory.state.pin.is_some();
                memory.state.resume();
                held
            })
            .await?;
        Ok(ResumeAnswer {
            held,
            standing: self.look(name).await,
        })
    }

    /// Keeps the files of a chart that an App names by their digest.
    ///
    /// # Errors
    /// When the files cannot be kept.
    pub async fn keep_chart(&self, name: &Name, bytes: bytes::Bytes) -> Result<String, RequestError> {
        app::unpack(&bytes).map_err(RequestError::Invalid)?;
        let digest = digest(&bytes);
        let uploaded = (self.shared.now)().to_string();
        let batch = Batch {
            blobs: vec![bytes],
            put: vec![(super::CHARTS.to_owned(), digest.clone(), uploaded.into())],
            ..Batch::default()
        };
        let _collecting = self.shared.collecting.read().await;
        let kept = self.shared.records.commit(batch).await;
        kept.map_err(|error| RequestError::Failed(app::chain(&error)))?;
        self.shared.wake_app(name);
        Ok(digest)
    }

    /// Waits until the engine has seen an app as it is now: who asks has perhaps just written it.
    async fn caught_up(&self, name: &Name) -> Result<(), RequestError> {
        let api: kube::Api<crate::api::App> =
            kube::Api::namespaced(self.shared.target.client().clone(), &name.namespace);
        let live = api.get_opt(&name.name).await;
        let live = live.map_err(|error| RequestError::Failed(app::chain(&error)))?;
        let Some(live) = live else {
            return Err(RequestError::NoApp(name.clone()));
        };
        let end = tokio::time::Instant::now() + CAUGHT_UP;
        loop {
            let seen = self.shared.app(name);
            let same = seen.is_some_and(|seen| {
                seen.metadata.uid == live.metadata.uid && seen.metadata.generation >= live.metadata.generation
            });
            if same || tokio::time::Instant::now() >= end {
                return self.require(name);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn require(&self, name: &Name) -> Result<(), RequestError> {
        match self.shared.app(name) {
            Some(_) => Ok(()),
            None => Err(RequestError::NoApp(name.clone())),
        }
    }

    fn kept(&self, name: &Name) -> Result<Kept, RequestError> {
        let app = self.shared.app(name).ok_or_else(|| RequestError::NoApp(name.clone()))?;
        Kept::read(name, &app.spec).map_err(RequestError::Invalid)
    }

    async fn plan(&self, kept: &Kept, desired: &[Desired], inventory: &[ObjectRef]) -> Result<Plan, RequestError> {
        let mut live: BTreeMap<ObjectKey, Value> = BTreeMap::new();
        let references = desired.iter().filter_map(|desired| desired.reference().ok());
        let wanted: BTreeSet<ObjectRef> = references.chain(inventory.iter().cloned()).collect();
        for object in &wanted {
            if let Some(mut found) = self.shared.target.get(object).await.map_err(AppError::from)? {
                app::inherit(&self.shared, kept, &mut found);
                live.insert(object.key(), found);
            }
        }
        setpoint_plan::plan(desired, &live, inventory, &kept.plan)
            .map_err(|error| RequestError::Invalid(app::chain(&error)))
    }

    async fn find(&self, name: &Name, wanted: &str) -> Result<Numbered, RequestError> {
        let entries = self.history(name).await?;
        let number = wanted.parse::<u64>().ok().filter(|_| wanted.len() < 7);
        let found = entries.iter().find(|entry| match number {
            Some(number) => entry.number == number,
            None => wanted.len() >= 4 && entry.revision.source.starts_with(wanted),
        });
        let found = found.ok_or_else(|| {
            let numbers: Vec<String> = entries
                .iter()
                .take(5)
                .map(|entry| format!("{} ({})", entry.number, short(&entry.revision.source)))
                .collect();
            RequestError::NoRevision(match numbers.is_empty() {
                true => format!("{name} has no history yet"),
                false => format!("{name} has no revision {wanted}; the newest are {}", numbers.join(", ")),
            })
        })?;
        Ok(Numbered {
            number: found.number,
            revision: found.revision.clone(),
        })
    }

    /// Returns the last healthy revision that is not what runs.
    async fn previous(&self, name: &Name) -> Result<Numbered, RequestError> {
        let entries = self.history(name).await?;
        let memory = self.shared.memory_of(name);
        let running: Option<Revision> = memory
            .lock()
            .await
            .state
            .held
            .as_ref()
            .map(|held| held.revision.clone());
        let other = |entry: &&Entry| {
            entry.outcome == Outcome::Healthy
                && running
                    .as_ref()
                    .is_none_or(|running| running.digest != entry.revision.digest)
        };
        let found = entries.iter().find(other).ok_or_else(|| {
            RequestError::NoRevision(format!(
                "{name} was healthy in no other revision: there is nothing to go back to"
            ))
        })?;
        Ok(Numbered {
            number: found.number,
            revision: found.revision.clone(),
        })
    }
}
