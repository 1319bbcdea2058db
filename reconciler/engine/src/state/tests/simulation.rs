//! Random histories in a simulated cluster: good, bad, slow and refused revisions are pushed; objects are edited and deleted; calls
//! fail; the process dies between any two steps and goes on from what it had saved. When all that stops, every history ends at the
//! newest good revision, or, where the newest is bad, at the last one that was healthy, with the reason named.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use setpoint_plan::{Health, HealthStatus, ObjectRef};

use super::{POLICY, object};
use crate::images::Images;
use crate::state::{AppState, Cause, Millis, Next, Observed, Outcome, Policy, Revision, Surplus, Trouble, View};

/// What becomes of a revision that is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    /// Healthy only after some time.
    Slow,
    /// Never healthy; nothing says why.
    Stuck,
    Crashing,
    Refused,
    /// Does not render.
    Broken,
    /// Its registry is down until a moment.
    Down(Millis),
}

#[derive(Clone, Debug)]
enum Event {
    Push {
        fate: Fate,
        objects: BTreeSet<u8>,
    },
    /// The same bytes as the revision so many pushes ago.
    Again(usize),
    Edit(u8),
    Delete(u8),
    Time(u32),
    Steps(u8),
    Restart,
    /// The clock is set, forward or back.
    Jump(i32),
    /// The next so many actions do nothing and report an error.
    Fault(u8),
    /// Dies in the middle of an action: it was done, and its end was not saved.
    Die,
    Pin(usize),
    Resume,
    /// Something that it comes after is not well, or is again.
    Block(bool),
    /// The name of the image means another one from now on.
    Retag,
}

struct Bytes {
    fate: Fate,
    objects: Vec<ObjectRef>,
}

/// The cluster: which bytes each object was applied from last, and when.
#[derive(Default)]
struct World {
    bytes: BTreeMap<String, Bytes>,
    live: BTreeMap<ObjectRef, (String, Millis)>,
    /// The image that each object was given, and whether it was asked for by its digest.
    images: BTreeMap<ObjectRef, (String, bool)>,
    /// How often the name of the image has moved.
    moves: u32,
    now: Millis,
    faults: u8,
    die: bool,
    blocked: bool,
}

/// The name of the image that all objects run.
const IMAGE: &str = "web:v1";

/// Returns a revision's images as they are remembered.
fn images_of(state: &AppState, digest: &str) -> Images {
    let known = state.revisions().find(|known| known.digest == digest);
    known.map(|known| known.images.clone()).unwrap_or_default()
}

impl World {
    fn apply(&mut self, object: &ObjectRef, digest: &str, images: &Images) {
        self.live.insert(object.clone(), (digest.to_owned(), self.now));
        let image = match images.fixed.contains(IMAGE) {
            true => (images.digests[IMAGE].clone(), true),
            false => (format!("sha256:{}", self.moves), false),
        };
        self.images.insert(object.clone(), image);
    }

    fn jump(&mut self, process: &mut Process, by: Millis) {
        self.now += by;
        for (_, at) in self.live.values_mut() {
            *at += by;
        }
        for bytes in self.bytes.values_mut() {
            if let Fate::Down(until) = &mut bytes.fate {
                *until += by;
            }
        }
        process.state.shift(by);
    }

    fn view(&self, state: &AppState, digest: &str) -> View {
        let bytes = &self.bytes[digest];
        let mut view = View::default();
        let fixed = images_of(state, digest).fixed.contains(IMAGE);
        for wanted in &bytes.objects {
            let live = self.live.get(wanted);
            let is_fixed = self.images.get(wanted).is_some_and(|(_, is_fixed)| *is_fixed);
            let in_sync = live.is_some_and(|(from, _)| from == digest && is_fixed == fixed);
            if let (Some(_), Some((image, false))) = (live, self.images.get(wanted)) {
                view.images.entry(IMAGE.to_owned()).or_default().insert(image.clone());
                if in_sync {
                    view.newest.entry(IMAGE.to_owned()).or_default().insert(image.clone());
                }
            }
            let since = live.map_or(0, |(_, at)| self.now - at);
            let status = match (live, bytes.fate) {
                (None, _) => HealthStatus::Missing,
                (_, Fate::Good | Fate::Refused | Fate::Broken) => HealthStatus::Healthy,
                (_, Fate::Slow) if since >= 20_000 => HealthStatus::Healthy,
                (_, Fate::Down(until)) if self.now >= until => HealthStatus::Healthy,
                _ => HealthStatus::Progressing,
            };
            if in_sync && bytes.fate == Fate::Crashing && since >= 2_000 {
                view.trouble = Some(Trouble {
                    reason: "crashed three times".to_owned(),
                    passing: false,
                });
            }
            if let (true, Fate::Down(until)) = (in_sync, bytes.fate)
                && self.now < until
            {
                view.trouble = Some(Trouble {
                    reason: "the registry is down".to_owned(),
                    passing: true,
                });
            }
            view.objects.push(Observed {
                object: wanted.clone(),
                stage: 0,
                in_sync,
                deleting: false,
                health: Health {
                    status,
                    reason: "not ready".to_owned(),
                },
            });
        }
        for there in state.inventory.iter().filter(|object| !bytes.objects.contains(object)) {
            if self.live.contains_key(there) {
                view.surplus.push(Surplus {
                    object: there.clone(),
                    deleting: false,
                });
            }
        }
        view
    }
}

/// The process: what it has in memory, and what it has saved.
struct Process {
    state: AppState,
    saved: Vec<u8>,
    outcomes: Vec<(String, Outcome)>,
}

impl Process {
    fn save(&mut self) {
        self.saved = serde_json::to_vec(&self.state).unwrap();
    }

    fn restart(&mut self, now: Millis) {
        self.state = serde_json::from_slice(&self.saved).unwrap();
        self.state.restarted(now);
    }

    /// Does one thing; returns when to look again if there was nothing to do.
    fn step(&mut self, world: &mut World, policy: &Policy) -> Option<Option<Millis>> {
        let viewed = self.state.viewed(policy, world.blocked, world.now).cloned();
        let view = viewed.map_or_else(View::default, |revision| world.view(&self.state, &revision.digest));
        let next = self.state.next(policy, &view, world.blocked, world.now);
        if !matches!(next, Next::Wait { .. }) && world.faults > 0 {
            world.faults -= 1;
            return None;
        }
        match next {
            Next::Wait { until } => return Some(until),
            Next::Begin { revision, cause } => self.begin(world, policy, revision, cause),
            Next::Apply { places, .. } => {
                for place in places {
                    let digest = self
                        .state
                        .viewed(policy, world.blocked, world.now)
                        .unwrap()
                        .digest
                        .clone();
                    let images = images_of(&self.state, &digest);
                    world.apply(&view.objects[place].object, &digest, &images);
                    // The invariant that pruning rests on: it is remembered before it is there.
                    assert!(self.state.inventory.contains(&view.objects[place].object));
                    if std::mem::take(&mut world.die) {
                        self.restart(world.now);
                        return None;
                    }
                }
            }
            Next::Fix { digest, images } => {
                self.state.fix(&digest, &images);
                match std::mem::take(&mut world.die) {
                    true => self.restart(world.now),
                    false => self.save(),
                }
            }
            Next::Prune(objects) => {
                for object in objects {
                    world.live.remove(&object);
                    if std::mem::take(&mut world.die) {
                        self.restart(world.now);
                        return None;
                    }
                }
            }
            Next::Succeed => {
                let entry = self.state.succeed(&view, world.now).unwrap();
                assert!(view.objects.iter().all(|object| object.in_sync));
                self.end(world, entry.revision, entry.outcome);
            }
            Next::Fail { reason, passing } => {
                assert!(!reason.is_empty());
                let entry = self.state.fail(&reason, passing, world.now).unwrap();
                self.end(world, entry.revision, entry.outcome);
            }
        }
        None
    }

    fn begin(&mut self, world: &mut World, policy: &Policy, revision: Revision, cause: Cause) {
        let bytes = &world.bytes[&revision.digest];
        if bytes.fate == Fate::Refused && cause != Cause::Rollback {
            self.state.refuse(&revision, cause, "refused", false, world.now);
        } else {
            self.state
                .begin(revision, cause, bytes.objects.clone(), policy, world.now);
        }
        // Dying here loses the decision, which is then made again.
        match std::mem::take(&mut world.die) {
            true => self.restart(world.now),
            false => self.save(),
        }
    }

    fn end(&mut self, world: &mut World, revision: Revision, outcome: Outcome) {
        match std::mem::take(&mut world.die) {
            true => self.restart(world.now),
            false => {
                self.outcomes.push((revision.digest, outcome));
                self.save();
            }
        }
    }
}

fn run(events: &[Event]) {
    let mut world = World::default();
    let mut process = Process {
        state: AppState::default(),
        saved: Vec::new(),
        outcomes: Vec::new(),
    };
    process.save();
    let mut pushed: Vec<Revision> = Vec::new();
    let mut newest_breaks = false;
    for (place, event) in events.iter().enumerate() {
        match event {
            Event::Push { fate: Fate::Broken, .. } => {
                process.state.broke(format!("c{place}"), "values.yaml:1:1: no");
                process.save();
                newest_breaks = true;
            }
            Event::Push { fate, objects } => {
                let digest = format!("d{place}");
                let objects = objects.iter().map(|name| object(&name.to_string())).collect();
                world.bytes.insert(digest.clone(), Bytes { fate: *fate, objects });
                let revision = Revision {
                    source: format!("c{place}"),
                    subject: String::new(),
                    digest,
                    origins: String::new(),
                    images: Images::default(),
                };
                pushed.push(revision.clone());
                process.state.want(revision);
                process.save();
                newest_breaks = false;
            }
            Event::Again(back) => {
                if let Some(revision) = pushed.iter().rev().nth(*back).cloned() {
                    let revision = Revision {
                        source: format!("c{place}"),
                        ..revision
                    };
                    pushed.push(revision.clone());
                    process.state.want(revision);
                    process.save();
                    newest_breaks = false;
                }
            }
            Event::Edit(name) => {
                if let Some(live) = world.live.get_mut(&object(&name.to_string())) {
                    live.0 = "somebody's".to_owned();
                }
            }
            Event::Delete(name) => {
                world.live.remove(&object(&name.to_string()));
            }
            Event::Time(by) => world.now += Millis::from(*by),
            Event::Steps(count) => {
                for _ in 0..*count {
                    process.step(&mut world, &POLICY);
                }
            }
            Event::Restart => process.restart(world.now),
            Event::Jump(by) => world.jump(&mut process, Millis::from(*by)),
            Event::Fault(count) => world.faults = *count,
            Event::Die => world.die = true,
            Event::Pin(back) => {
                let healthy = process
                    .outcomes
                    .iter()
                    .rev()
                    .filter(|(_, outcome)| *outcome == Outcome::Healthy);
                let digest = healthy.map(|(digest, _)| digest).nth(*back).cloned();
                if let Some(revision) = digest.and_then(|digest| pushed.iter().find(|r| r.digest == digest)) {
                    process.state.pin(revision.clone());
                    process.save();
                }
            }
            Event::Resume => {
                process.state.resume();
                process.save();
            }
            Event::Block(blocked) => world.blocked = *blocked,
            Event::Retag => world.moves += 1,
        }
    }
    // Everything from outside stops; the end must be reached in bounded time.
    world.blocked = false;
    process.state.resume();
    process.save();
    come_to_rest(&mut process, &mut world);
    // What was put back last may need a moment to be well again, and what failed may have become well: that wakes.
    world.now += 60_000;
    come_to_rest(&mut process, &mut world);
    check(&process.state, &world, pushed.last(), newest_breaks);
}

fn come_to_rest(process: &mut Process, world: &mut World) {
    for _ in 0..2_000 {
        match process.step(world, &POLICY) {
            None => {}
            Some(Some(until)) => world.now = world.now.max(until),
            Some(None) => return,
        }
    }
    panic!("it never comes to rest: {:?}", process.state);
}

fn check(state: &AppState, world: &World, newest: Option<&Revision>, newest_breaks: bool) {
    assert!(state.sync.is_none());
    let Some(newest) = newest else {
        assert!(world.live.is_empty());
        return;
    };
    let view = state
        .held
        .as_ref()
        .map(|held| world.view(state, &held.revision.digest))
        .unwrap_or_default();
    let report = state.report(&POLICY, &view, None, None, world.now);
    // Whether a slow one was in time depends on when it was looked at.
    let good = match world.bytes[&newest.digest].fate {
        Fate::Good | Fate::Down(_) => true,
        // With nothing to go back to it is waited for however long it takes.
        Fate::Slow => state.failure_of(&newest.digest).is_none() || state.healthy.is_none(),
        _ => false,
    };
    if good {
        let held = state.held.as_ref().unwrap();
        assert_eq!(held.revision.digest, newest.digest);
        assert_eq!(held.revision.source, newest.source);
        assert_eq!(state.healthy.as_ref(), Some(held));
        assert_eq!(
            report.health,
            if newest_breaks { "Failed" } else { "Healthy" },
            "{report:?}"
        );
    } else {
        assert_eq!(report.health, "Failed", "{report:?}");
        assert!(!report.reason.is_empty());
        if let Some(healthy) = &state.healthy {
            assert_eq!(state.held.as_ref().unwrap().revision.digest, healthy.revision.digest);
        }
    }
    // What is held and was healthy is there, all of it, and nothing else.
    if let (Some(held), Some(healthy)) = (&state.held, &state.healthy)
        && held.revision.digest == healthy.revision.digest
    {
        let wanted: BTreeSet<&ObjectRef> = world.bytes[&held.revision.digest].objects.iter().collect();
        assert_eq!(world.live.keys().collect::<BTreeSet<_>>(), wanted);
        assert!(world.live.values().all(|(from, _)| *from == held.revision.digest));
        // What was gone back to runs the images that it was healthy with, whatever their names mean now.
        if held.revision.digest != newest.digest
            && let Some(image) = held.revision.images.digests.get(IMAGE)
        {
            assert!(
                world.live.keys().all(|object| world.images[object].0 == *image),
                "{held:?}"
            );
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        4 => Just(Fate::Good),
        2 => Just(Fate::Slow),
        1 => Just(Fate::Stuck),
        1 => Just(Fate::Crashing),
        1 => Just(Fate::Refused),
        1 => Just(Fate::Broken),
        1 => (0..1_000_000_i64).prop_map(Fate::Down),
    ];
    let objects = proptest::collection::btree_set(0..6_u8, 1..5);
    prop_oneof![
        6 => (fate, objects).prop_map(|(fate, objects)| Event::Push { fate, objects }),
        1 => (0..4_usize).prop_map(Event::Again),
        2 => (0..6_u8).prop_map(Event::Edit),
        2 => (0..6_u8).prop_map(Event::Delete),
        4 => (0..150_000_u32).prop_map(Event::Time),
        10 => (1..12_u8).prop_map(Event::Steps),
        3 => Just(Event::Restart),
        1 => (-10_000_000..10_000_000_i32).prop_map(Event::Jump),
        2 => (1..4_u8).prop_map(Event::Fault),
        3 => Just(Event::Die),
        1 => (0..3_usize).prop_map(Event::Pin),
        1 => Just(Event::Resume),
        2 => any::<bool>().prop_map(Event::Block),
        2 => Just(Event::Retag),
    ]
}

/// Found by the law below: a retry under way when something that is refused is pushed.
#[test]
fn a_retry_goes_on_although_something_refused_came_after_it() {
    let objects: BTreeSet<u8> = [0].into();
    run(&[
        Event::Push {
            fate: Fate::Slow,
            objects: objects.clone(),
        },
        Event::Steps(1),
        Event::Time(120_000),
        Event::Steps(1),
        Event::Time(30_000),
        Event::Steps(1),
        Event::Push {
            fate: Fate::Refused,
            objects,
        },
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_ends_at_the_newest_good_revision_or_a_named_reason(events in proptest::collection::vec(event(), 1..40)) {
        run(&events);
    }
}
