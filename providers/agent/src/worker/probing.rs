//! A worker's probes: which there are, when they run, what their results do.

use jiff::Timestamp;
use setpoint_runtime::spec::ContainerState;

use super::Worker;
use super::operations::Outcome;
use crate::decide;
use crate::events::Severity;
use crate::observed::{Busy, Hook, Kill};
use crate::probes::{self, Answer, Kind, Schedule, Target};

const KINDS: [Kind; 3] = [Kind::Startup, Kind::Readiness, Kind::Liveness];

impl Worker {
    /// Plans the probes of running containers and begins those that are due.
    pub(super) fn plan_probes(&mut self, now: Timestamp) {
        let pod = self.pod.clone();
        let Some(spec) = &pod.spec else { return };
        // Whether it serves is asked to the end, since what nobody else does may still be asked of it; nothing else matters any more.
        let ending = decide::is_ending(&pod, &self.observed);
        for definition in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let Some(container) = self.observed.containers.get(&definition.name) else {
                continue;
            };
            let Some(current) = container.current.as_ref().filter(|current| current.exit.is_none()) else {
                self.schedules.retain(|(name, _), _| *name != definition.name);
                continue;
            };
            let stopping = matches!(container.busy, Some(Busy::Stopping { .. }));
            let (started, hooked, attempt, started_at) = (
                container.started,
                container.hook == Hook::Done,
                current.attempt,
                current.started_at,
            );
            for kind in KINDS {
                let key = (definition.name.clone(), kind);
                let wanted = match kind {
                    Kind::Readiness => hooked && started,
                    Kind::Startup => hooked && !stopping && !ending && !started,
                    Kind::Liveness => hooked && !stopping && !ending && started,
                };
                let Some(probe) = kind.of(definition).filter(|_| wanted) else {
                    self.schedules.remove(&key);
                    continue;
                };
                let known = self.schedules.get(&key).is_some_and(|(of, _)| *of == attempt);
                if !known {
                    self.schedules
                        .insert(key.clone(), (attempt, Schedule::new(kind, probe, started_at, now)));
                }
                if let Some((_, schedule)) = self.schedules.get_mut(&key)
                    && schedule.begin(now)
                {
                    self.probe(definition.name.clone(), attempt, kind);
                }
            }
        }
    }

    /// Returns when the next probe is due.
    pub(super) fn next_probe(&self) -> Option<Timestamp> {
        self.schedules
            .values()
            .filter_map(|(_, schedule)| schedule.next())
            .min()
    }

    fn probe(&mut self, container: String, attempt: u32, kind: Kind) {
        let Some((_, definition)) = self.definition(&container) else {
            return;
        };
        let (shared, sandbox) = (self.shared.clone(), self.uid.clone());
        let ip = self.observed.addresses().unwrap_or(shared.node_ip).ipv4;
        self.running.push(Box::pin(async move {
            let id = format!("{container}-{attempt}");
            let target = Target {
                containers: &shared.containers,
                sandbox: &sandbox,
                container_id: &id,
                definition: &definition,
                ip,
            };
            let answer = match kind.of(&definition) {
                Some(probe) => probes::run(&target, probe).await,
                None => Answer::Passed,
            };
            Outcome::Probed {
                container,
                attempt,
                kind,
                answer,
            }
        }));
    }

    /// Takes a probe's result.
    pub(super) fn take_probe(&mut self, name: &str, attempt: u32, kind: Kind, answer: &Answer) {
        let now = (self.shared.now)();
        let Some((of, schedule)) = self.schedules.get_mut(&(name.to_owned(), kind)) else {
            return;
        };
        let runs = |current: &ContainerState| current.attempt == attempt && current.exit.is_none();
        let container = self.observed.containers.entry(name.to_owned()).or_default();
        if *of != attempt || !container.current.as_ref().is_some_and(runs) {
            return;
        }
        let verdict = schedule.observe(answer.passes(), now);
        let probe_grace = self
            .definition(name)
            .and_then(|(_, definition)| kind.of(&definition)?.termination_grace_period_seconds);
        let container = self.observed.containers.entry(name.to_owned()).or_default();
        match (kind, verdict.changed) {
            (Kind::Startup, Some(true)) => container.started = true,
            (Kind::Readiness, Some(ready)) => container.ready = ready,
            (Kind::Startup | Kind::Liveness, Some(false)) => {
                let word = kind.word().to_lowercase();
                let message = format!("Container {name} failed {word} probe, will be restarted");
                container.kill = Some(Kill {
                    message,
                    grace_seconds: probe_grace,
                });
            }
            _ => {}
        }
        if let Some((reason, message)) = answer.event(kind)
            && (verdict.counted || answer.passes())
        {
            self.note(Some(name), Severity::Warning, reason, message);
        }
    }
}
