//! What decisions are made from, what they say, and what is kept of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use setpoint_plan::ObjectRef;
use setpoint_plan::health::{Health, HealthStatus};

use crate::images::{Images, Shown};

/// Milliseconds since 1970.
pub type Millis = i64;

/// Bytes that can be applied, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The commit, or `name-version` of a chart.
    pub source: String,
    /// The commit's subject.
    #[serde(default)]
    pub subject: String,
    /// The digest of the rendered objects.
    pub digest: String,
    /// The digest of where they were written.
    #[serde(default)]
    pub origins: String,
    /// The images that it ran with.
    #[serde(default, skip_serializing_if = "Images::is_empty")]
    pub images: Images,
}

impl Revision {
    /// Returns the digests of all bytes that the revision consists of.
    pub fn blobs(&self) -> impl Iterator<Item = &str> {
        [self.digest.as_str(), self.origins.as_str()].into_iter()
    }
}

/// A revision with its number in the app's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// The number, from 1.
    pub number: u64,
    /// The revision.
    pub revision: Revision,
}

/// Why a sync was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// Git names it.
    Deploy,
    /// What git names failed.
    Rollback,
    /// Somebody asked for it.
    Request,
}

/// A sync under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Its number in the history.
    pub number: u64,
    /// What is being applied.
    pub revision: Revision,
    /// Why.
    pub cause: Cause,
    /// When it began.
    pub started: Millis,
    /// When it has failed.
    pub deadline: Millis,
}

/// A digest that is not begun again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What failed.
    pub revision: Revision,
    /// Why.
    pub reason: String,
    /// When it is tried again, for a cause that may pass.
    #[serde(default)]
    pub retry: Option<Millis>,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
}

/// A newest source that gives nothing to apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// The commit or chart.
    pub source: String,
    /// Why, with file and line where there is one.
    pub reason: String,
}

/// A rollback that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What is held.
    pub revision: Revision,
    /// The digest that git named then: another one ends the pin.
    pub unless: Option<String>,
}

/// What was rendered last, so that the same is not rendered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The source and the declaration: while these are the same, nothing has to be read.
    pub quick: String,
    /// The digest of the files; empty when they could not be read, or were not told apart.
    #[serde(default)]
    pub trees: String,
    /// The digest of everything that rendering depends on; empty when it did not render.
    pub key: String,
    /// The time that the templates saw, in seconds.
    pub time: i64,
}

/// The part of an app's policy that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whether objects that git no longer names are deleted.
    pub prune: bool,
    /// Whether live edits are put back.
    pub heal: bool,
    /// Whether a failed revision goes back.
    pub rollback: bool,
    /// How long a sync may take.
    pub deadline: Millis,
}

/// One object of the goal, as it is.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object.
    pub object: ObjectRef,
    /// The stage that it is applied in: dense, from 0, in order.
    pub stage: usize,
    /// Whether an apply would change nothing.
    pub in_sync: bool,
    /// Whether it is being deleted, so that it can only be waited for.
    pub deleting: bool,
    /// Its health.
    pub health: Health,
}

impl Observed {
    /// Says whether a sync has nothing more to do or to wait for here.
    pub fn is_ready(&self) -> bool {
        self.in_sync && !self.deleting && matches!(self.health.status, HealthStatus::Healthy | HealthStatus::Suspended)
    }
}

/// Why new pods do not get well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In words.
    pub reason: String,
    /// Whether it may pass by itself.
    pub passing: bool,
}

/// What runs, seen from a goal.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The goal's objects, in the order of the sync.
    pub objects: Vec<Observed>,
    /// Why pods do not get well, or why the cluster could not be worked with.
    pub trouble: Option<Trouble>,
    /// When all that is ready has been so for long enough, where only time can tell.
    pub proved_at: Option<Millis>,
    /// Objects of the inventory that are there, are not the goal's, and may be deleted; in order of deletion.
    pub surplus: Vec<Surplus>,
    /// The images of all pods of the app.
    pub images: Shown,
    /// The images of the newest pods.
    pub newest: Shown,
    /// Objects of the inventory whose kinds are not served now: whether they are there cannot be told.
    pub unserved: Vec<ObjectRef>,
}

/// An object that is there and no longer wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// The object.
    pub object: ObjectRef,
    /// Whether it is being deleted already, so that it can only be waited for.
    pub deleting: bool,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Begin a sync of this.
    Begin {
        /// Of what.
        revision: Revision,
        /// Why.
        cause: Cause,
    },
    /// Apply these objects of the goal, by their places in the view.
    Apply {
        /// The places.
        places: Vec<usize>,
        /// Whether nobody asked: somebody else changed them.
        heal: bool,
    },
    /// Apply a revision with the digests of these images: their names mean something else now.
    Fix {
        /// The digest of the revision.
        digest: String,
        /// The names.
        images: BTreeSet<String>,
    },
    /// Delete these.
    Prune(Vec<ObjectRef>),
    /// The sync has ended well.
    Succeed,
    /// The sync has failed.
    Fail {
        /// In words.
        reason: String,
        /// Whether it is worth trying again.
        passing: bool,
    },
    /// Nothing until something changes, or until then.
    Wait {
        /// When to look again in any case.
        until: Option<Millis>,
    },
}

/// An ended sync, as the history keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// What was applied.
    pub revision: Revision,
    /// Why.
    pub cause: Cause,
    /// When it began.
    pub started: Millis,
    /// When it ended.
    pub finished: Millis,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How a sync ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything was applied and became healthy.
    Healthy,
    /// It was refused, or did not become healthy.
    Failed,
    /// Something newer came first.
    Superseded,
}
