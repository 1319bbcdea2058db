//! What the engine remembers of an app, and what it does next: pure, and the only place where that is decided.
//!
//! [`AppState`] is saved after every change and before the change is acted on, so that a process that dies anywhere goes on
//! from there. [`AppState::next`] looks at it and at a [`View`] of what runs, and names one thing to do; whoever does it
//! looks again. Nothing here waits, reads a clock or talks to anybody.
//!
//! Invariants:
//! * `inventory` names every object that may be there because of this app: it grows before anything is applied and shrinks
//!   only after a revision is healthy and the rest is gone.
//! * A digest in `failed` is not begun again until its retry is due, it is asked for by hand, it is no longer wanted, or, where there
//!   is nothing better to go to, what was applied of it has become well by itself.
//! * `healthy` is only ever a revision whose sync ended well.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use setpoint_plan::health::HealthStatus;
use setpoint_plan::{ObjectKey, ObjectRef};

mod model;
mod report;
#[cfg(test)]
mod tests;

pub use model::{
    Broken, Cause, Entry, Failed, Input, Millis, Next, Numbered, Observed, Outcome, Pin, Policy, Revision, Surplus,
    Sync, Trouble, View,
};
pub use report::{Blocked, Report, short};

/// How many failed digests are remembered; the oldest go first.
const FAILED: usize = 64;
/// The wait before the first retry of a cause that may pass; it doubles.
const FIRST_RETRY: Millis = 30_000;
/// The longest wait between two retries.
const LAST_RETRY: Millis = 600_000;
/// The least time that a sync has left after a restart.
const GRACE: Millis = 30_000;

/// What the engine remembers of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppState {
    /// The uid of the App object: another one of the same name starts afresh.
    pub uid: String,
    /// What random functions of templates draw from, in hex.
    pub seed: String,
    /// What was rendered last.
    pub input: Option<Input>,
    /// The newest revision of git that rendered.
    pub wanted: Option<Revision>,
    /// The newest source, when it did not render.
    pub broken: Option<Broken>,
    /// What the objects are kept as.
    pub held: Option<Numbered>,
    /// The last revision that became healthy.
    pub healthy: Option<Numbered>,
    /// The sync under way.
    pub sync: Option<Sync>,
    /// What failed.
    pub failed: Vec<Failed>,
    /// A rollback that was asked for.
    pub pin: Option<Pin>,
    /// Every object that may be there because of this app.
    pub inventory: BTreeSet<ObjectRef>,
    /// The number of the last sync.
    pub last_number: u64,
    /// What the last rendering could not honour.
    pub warnings: Vec<String>,
}

impl AppState {
    /// Takes up what git names now.
    pub fn want(&mut self, revision: Revision) {
        self.broken = None;
        let mut revision = revision;
        if let Some(known) = self.revisions().find(|known| known.digest == revision.digest) {
            revision.images = known.images.clone();
        }
        if self
            .pin
            .as_ref()
            .is_some_and(|pin| pin.unless.as_ref() != Some(&revision.digest))
        {
            self.pin = None;
        }
        // The same bytes under a newer commit: what runs is that commit now.
        for same in [&mut self.held, &mut self.healthy].into_iter().flatten() {
            if same.revision.digest == revision.digest {
                same.revision = revision.clone();
            }
        }
        if let Some(sync) = &mut self.sync
            && sync.revision.digest == revision.digest
        {
            sync.revision = revision.clone();
        }
        self.wanted = Some(revision);
    }

    /// Takes note that the newest source gives nothing to apply.
    pub fn broke(&mut self, source: impl Into<String>, reason: impl Into<String>) {
        self.broken = Some(Broken {
            source: source.into(),
            reason: reason.into(),
        });
    }

    /// Returns what the objects should be, and why; `None` when they are to be left alone. `blocked` keeps a new revision from being
    /// begun, not what is begun already.
    pub fn goal(&self, policy: &Policy, blocked: bool, now: Millis) -> Option<(&Revision, Cause)> {
        if let Some(pin) = &self.pin {
            return Some((&pin.revision, Cause::Request));
        }
        let wanted = self.wanted.as_ref()?;
        let failed = self.failure_of(&wanted.digest);
        let again = failed.is_none_or(|failed| failed.retry.is_some_and(|at| at <= now));
        let syncing = self.sync.as_ref();
        let begun = syncing.is_some_and(|sync| sync.revision.digest == wanted.digest) || self.holds(&wanted.digest);
        if again && (!blocked || begun) {
            return Some((wanted, Cause::Deploy));
        }
        // Something else is under way: it is ended, well or badly, before anything else is gone to.
        if let Some(sync) = syncing {
            return Some((&sync.revision, sync.cause));
        }
        let healthy = &self.healthy.as_ref()?.revision;
        // Without going back, what was healthy is still kept where the failed one never got as far as being applied.
        (policy.rollback || self.holds(&healthy.digest)).then_some((healthy, Cause::Rollback))
    }

    /// Says whether a digest is held, and the sync that brought it ended as well as it could.
    fn holds(&self, digest: &str) -> bool {
        match (&self.held, &self.healthy) {
            (Some(held), Some(healthy)) => held.revision.digest == digest && held.number == healthy.number,
            _ => false,
        }
    }

    /// Returns what is remembered of a failed digest.
    pub fn failure_of(&self, digest: &str) -> Option<&Failed> {
        self.failed.iter().find(|failed| failed.revision.digest == digest)
    }

    /// Says what is to be done next. `blocked` keeps new revisions from being begun.
    pub fn next(&self, policy: &Policy, view: &View, blocked: bool, now: Millis) -> Next {
        let Some((goal, cause)) = self.goal(policy, blocked, now) else {
            return self.tend(policy, view, now);
        };
        // What git names now may use what its names mean now; what is gone back to is to be what it was.
        // Where nothing is put back, that is not either once it is held.
        if cause != Cause::Deploy && (policy.heal || !self.holds(&goal.digest)) {
            let images = goal.images.moved(&view.images);
            if !images.is_empty() {
                let digest = goal.digest.clone();
                return Next::Fix { digest, images };
            }
        }
        match &self.sync {
            Some(sync) if sync.revision.digest == goal.digest => progress(sync, policy, view, now),
            None if self.holds(&goal.digest) => self.hold(policy, view, now),
            _ => Next::Begin {
                revision: goal.clone(),
                cause,
            },
        }
    }

    /// Returns the revision that a view is wanted of: what [`next`](Self::next) will be asked about.
    pub fn viewed(&self, policy: &Policy, blocked: bool, now: Millis) -> Option<&Revision> {
        let held = self.held.as_ref().map(|held| &held.revision);
        self.goal(policy, blocked, now).map(|(goal, _)| goal).or(held)
    }

    fn hold(&self, policy: &Policy, view: &View, now: Millis) -> Next {
        let places: Vec<usize> = drifted(view).collect();
        if policy.heal && !places.is_empty() {
            return Next::Apply { places, heal: true };
        }
        let surplus = deletable(view);
        if policy.prune && !surplus.is_empty() {
            return Next::Prune(surplus);
        }
        Next::Wait {
            until: self.retry_at(now),
        }
    }

    /// Says what is done about what failed and stays, since there is nothing better to go to: it is put back as far as it got, and
    /// begun again once it is well.
    fn tend(&self, policy: &Policy, view: &View, now: Millis) -> Next {
        let rest = Next::Wait {
            until: self.retry_at(now),
        };
        let Some(held) = &self.held else { return rest };
        let unready = view.objects.iter().filter(|object| !object.is_ready());
        let Some(stage) = unready.map(|object| object.stage).min() else {
            return match view.proved_at.filter(|at| now < *at) {
                _ if view.objects.is_empty() => rest,
                Some(proved) => Next::Wait { until: Some(proved) },
                None => Next::Begin {
                    revision: held.revision.clone(),
                    cause: match &self.wanted {
                        Some(wanted) if wanted.digest == held.revision.digest => Cause::Deploy,
                        _ => Cause::Rollback,
                    },
                },
            };
        };
        // A later stage still waits for this one.
        let places: Vec<usize> = drifted(view)
            .filter(|place| view.objects[*place].stage <= stage)
            .collect();
        match policy.heal && !places.is_empty() {
            true => Next::Apply { places, heal: true },
            false => rest,
        }
    }

    fn retry_at(&self, now: Millis) -> Option<Millis> {
        let wanted = self.wanted.as_ref()?;
        self.failure_of(&wanted.digest)?.retry.filter(|at| *at > now)
    }

    /// Takes note that names of a revision's images mean something else now.
    pub fn fix(&mut self, digest: &str, images: &BTreeSet<String>) {
        self.each_revision(|revision| {
            if revision.digest == digest {
                revision.images.fixed.extend(images.iter().cloned());
            }
        });
    }

    /// Begins a sync; returns the entry of the one that it supersedes. `objects` are the new revision's.
    pub fn begin(
        &mut self,
        revision: Revision,
        cause: Cause,
        objects: impl IntoIterator<Item = ObjectRef>,
        policy: &Policy,
        now: Millis,
    ) -> Option<Entry> {
        let superseded = self
            .sync
            .take()
            .map(|sync| entry(sync, now, Outcome::Superseded, String::new()));
        self.last_number += 1;
        let number = self.last_number;
        self.inventory.extend(objects);
        self.held = Some(Numbered {
            number,
            revision: revision.clone(),
        });
        self.sync = Some(Sync {
            number,
            revision,
            cause,
            started: now,
            deadline: now.saturating_add(policy.deadline),
        });
        superseded
    }

    /// Ends a sync well: `objects` are all that there is of the app now.
    pub fn succeed(&mut self, view: &View, now: Millis) -> Option<Entry> {
        let mut sync = self.sync.take()?;
        let objects = view.objects.iter().map(|object| &object.object);
        let surplus = view.surplus.iter().map(|surplus| &surplus.object);
        self.inventory = objects.chain(surplus).chain(&view.unserved).cloned().collect();
        if sync.cause == Cause::Deploy || sync.revision.images.is_empty() {
            sync.revision.images.remember(&view.newest);
        }
        let numbered = Numbered {
            number: sync.number,
            revision: sync.revision.clone(),
        };
        if let Some(wanted) = &mut self.wanted
            && wanted.digest == sync.revision.digest
        {
            wanted.images = sync.revision.images.clone();
        }
        self.failed
            .retain(|failed| failed.revision.digest != sync.revision.digest);
        self.held = Some(numbered.clone());
        self.healthy = Some(numbered);
        Some(entry(sync, now, Outcome::Healthy, String::new()))
    }

    /// Ends a sync badly. A rollback that fails leaves its revision held: there is nothing better to go to.
    pub fn fail(&mut self, reason: &str, passing: bool, now: Millis) -> Option<Entry> {
        let sync = self.sync.take()?;
        match sync.cause {
            Cause::Deploy => self.remember(&sync.revision, reason, passing, now),
            // What was asked for by hand and fails is given up, so that git is followed again.
            Cause::Request => self.resume(),
            // There is nothing better to go to: it is held as it is, and not begun again and again.
            Cause::Rollback => {
                if let Some(healthy) = &mut self.healthy {
                    healthy.number = sync.number;
                }
            }
        }
        Some(entry(sync, now, Outcome::Failed, reason.to_owned()))
    }

    /// Takes note that the cluster refuses a revision, before anything of it was applied: what is under way goes on.
    pub fn refuse(&mut self, revision: &Revision, cause: Cause, reason: &str, passing: bool, now: Millis) -> Entry {
        self.last_number += 1;
        let sync = Sync {
            number: self.last_number,
            revision: revision.clone(),
            cause,
            started: now,
            deadline: now,
        };
        match cause {
            Cause::Deploy => self.remember(revision, reason, passing, now),
            Cause::Request => self.resume(),
            Cause::Rollback => {}
        }
        entry(sync, now, Outcome::Failed, reason.to_owned())
    }

    fn remember(&mut self, revision: &Revision, reason: &str, passing: bool, now: Millis) {
        let attempts = self.failure_of(&revision.digest).map_or(0, |failed| failed.attempts);
        self.failed.retain(|failed| failed.revision.digest != revision.digest);
        let wait = FIRST_RETRY.saturating_mul(1 << attempts.min(10)).min(LAST_RETRY);
        self.failed.push(Failed {
            revision: revision.clone(),
            reason: reason.to_owned(),
            retry: passing.then(|| now.saturating_add(wait)),
            attempts: attempts.saturating_add(1),
        });
        let surplus = self.failed.len().saturating_sub(FAILED);
        self.failed.drain(..surplus);
    }

    /// Forgets that the wanted revision failed, so that it is tried again, with what the names of its images mean now.
    pub fn retry(&mut self) {
        let Some(digest) = self.wanted.as_ref().map(|wanted| wanted.digest.clone()) else {
            return;
        };
        self.failed.retain(|failed| failed.revision.digest != digest);
        self.each_revision(|revision| {
            if revision.digest == digest {
                revision.images.fixed.clear();
            }
        });
    }

    fn each_revision(&mut self, change: impl FnMut(&mut Revision)) {
        let numbered = [&mut self.held, &mut self.healthy].into_iter().flatten();
        let syncing = self.sync.iter_mut().map(|sync| &mut sync.revision);
        let pinned = self.pin.iter_mut().map(|pin| &mut pin.revision);
        let all = numbered.map(|numbered| &mut numbered.revision);
        all.chain(syncing)
            .chain(pinned)
            .chain(&mut self.wanted)
            .for_each(change);
    }

    /// Brings the retry of the wanted revision forward: what it failed for may have passed.
    pub fn hasten(&mut self, now: Millis) {
        let Some(wanted) = &self.wanted else { return };
        let failed = self
            .failed
            .iter_mut()
            .find(|failed| failed.revision.digest == wanted.digest);
        if let Some(retry) = failed.and_then(|failed| failed.retry.as_mut()) {
            *retry = now.min(*retry);
        }
    }

    /// Holds a revision until git names other bytes or [`resume`](Self::resume).
    pub fn pin(&mut self, revision: Revision) {
        self.pin = Some(Pin {
            revision,
            unless: self.wanted.as_ref().map(|wanted| wanted.digest.clone()),
        });
    }

    /// Follows git again; what failed stays failed.
    pub fn resume(&mut self) {
        self.pin = None;
        // What was held may be the same bytes under an older commit.
        if let Some(wanted) = self.wanted.clone() {
            let broken = self.broken.take();
            self.want(wanted);
            self.broken = broken;
        }
    }

    /// Gives a sync that a restart interrupted some time, and never more than it had, whatever the clock did meanwhile.
    pub fn restarted(&mut self, now: Millis) {
        if let Some(sync) = &mut self.sync {
            let allowed = sync.deadline.saturating_sub(sync.started).max(GRACE);
            let latest = now.saturating_add(allowed);
            sync.started = sync.started.min(now);
            sync.deadline = sync.deadline.clamp(now.saturating_add(GRACE), latest);
        }
        for at in self.failed.iter_mut().filter_map(|failed| failed.retry.as_mut()) {
            *at = (*at).min(now.saturating_add(LAST_RETRY));
        }
    }

    /// Moves what is due at some time, since the clock jumped by `by`.
    pub fn shift(&mut self, by: Millis) {
        if let Some(sync) = &mut self.sync {
            sync.started = sync.started.saturating_add(by);
            sync.deadline = sync.deadline.saturating_add(by);
        }
        for at in self.failed.iter_mut().filter_map(|failed| failed.retry.as_mut()) {
            *at = at.saturating_add(by);
        }
    }

    /// Returns every revision whose bytes may be needed again.
    pub fn revisions(&self) -> impl Iterator<Item = &Revision> {
        let numbered = [&self.held, &self.healthy]
            .into_iter()
            .flatten()
            .map(|numbered| &numbered.revision);
        let pinned = self.pin.iter().map(|pin| &pin.revision);
        let syncing = self.sync.iter().map(|sync| &sync.revision);
        numbered.chain(&self.wanted).chain(pinned).chain(syncing)
    }

    /// Takes note that a revision's bytes are lost: it cannot be gone back to.
    pub fn lose(&mut self, digest: &str) {
        let is = |revision: &Revision| revision.digest == digest;
        self.healthy.take_if(|healthy| is(&healthy.revision));
        self.held.take_if(|held| is(&held.revision));
        self.pin.take_if(|pin| is(&pin.revision));
        self.sync.take_if(|sync| is(&sync.revision));
    }

    /// Says whether a failed digest failed for this very reason the last time.
    pub fn failed_so(&self, digest: &str, reason: &str) -> bool {
        self.failure_of(digest)
            .is_some_and(|failed| failed.reason == reason && failed.attempts > 1)
    }

    /// Returns the inventory without the objects of `goal`.
    pub fn surplus<'a>(&'a self, goal: &'a BTreeSet<ObjectKey>) -> impl Iterator<Item = &'a ObjectRef> {
        self.inventory.iter().filter(|object| !goal.contains(&object.key()))
    }
}

/// Says what a sync does next.
fn progress(sync: &Sync, policy: &Policy, view: &View, now: Millis) -> Next {
    let late = now >= sync.deadline;
    let stages = view.objects.iter().map(|object| object.stage + 1).max().unwrap_or(0);
    for stage in 0..stages {
        let members = || {
            view.objects
                .iter()
                .enumerate()
                .filter(move |(_, object)| object.stage == stage)
        };
        let waiting = members()
            .find(|(_, object)| !object.is_ready())
            .map(|(_, object)| describe(object));
        let Some(waiting) = waiting else {
            continue;
        };
        if late {
            let took = (now - sync.started).max(0) / 1000;
            let (why, passing) = match &view.trouble {
                Some(trouble) => (trouble.reason.clone(), trouble.passing),
                // What could not even be applied in time says nothing against the revision: the cluster or this machine stood still.
                None => (waiting, members().any(|(_, object)| !object.in_sync)),
            };
            return Next::Fail {
                reason: format!("not healthy after {took} s: {why}"),
                passing,
            };
        }
        let places: Vec<usize> = members()
            .filter(|(_, object)| !object.in_sync && !object.deleting)
            .map(|(place, _)| place)
            .collect();
        if !places.is_empty() {
            return Next::Apply { places, heal: false };
        }
        // Only now: what was just applied may be what the pods waited for.
        if let Some(trouble) = view.trouble.as_ref().filter(|trouble| !trouble.passing) {
            return Next::Fail {
                reason: trouble.reason.clone(),
                passing: false,
            };
        }
        let degraded = members().find(|(_, object)| object.in_sync && object.health.status == HealthStatus::Degraded);
        // What is degraded while its app goes back may well recover: only the deadline ends that.
        if let Some((_, object)) = degraded
            && sync.cause != Cause::Rollback
        {
            return Next::Fail {
                reason: describe(object),
                passing: false,
            };
        }
        return Next::Wait {
            until: Some(sync.deadline),
        };
    }
    // A process without a probe is ready as soon as it runs: it has to go on doing so.
    if let Some(proved) = view.proved_at.filter(|at| now < *at && !late) {
        return Next::Wait { until: Some(proved) };
    }
    // It is healthy; what cannot be deleted in time must not undo that, and stays in the inventory.
    if !policy.prune || view.surplus.is_empty() || late {
        return Next::Succeed;
    }
    match deletable(view) {
        surplus if surplus.is_empty() => Next::Wait {
            until: Some(sync.deadline),
        },
        surplus => Next::Prune(surplus),
    }
}

fn deletable(view: &View) -> Vec<ObjectRef> {
    view.surplus
        .iter()
        .filter(|surplus| !surplus.deleting)
        .map(|surplus| surplus.object.clone())
        .collect()
}

/// Returns the places of objects that somebody else changed or deleted.
fn drifted(view: &View) -> impl Iterator<Item = usize> {
    view.objects
        .iter()
        .enumerate()
        .filter(|(_, object)| !object.in_sync && !object.deleting)
        .map(|(place, _)| place)
}

fn describe(object: &Observed) -> String {
    if object.deleting {
        return format!("{} is still being deleted", object.object);
    }
    if !object.in_sync {
        return format!("{} is not applied yet", object.object);
    }
    format!("{}: {}", object.object, object.health.reason)
}

fn entry(sync: Sync, finished: Millis, outcome: Outcome, reason: String) -> Entry {
    Entry {
        number: sync.number,
        revision: sync.revision,
        cause: sync.cause,
        started: sync.started,
        finished,
        outcome,
        reason,
    }
}
