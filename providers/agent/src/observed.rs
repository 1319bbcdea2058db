//! What a worker knows of its pod besides the object: plain data, the input of [`crate::decide`] and [`crate::status`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerDef, ResourceRequirements};
use setpoint_net::AddressPair;
use setpoint_runtime::spec::{ContainerState, Exit};

use crate::backoff;
use crate::containers::ReadyImage;
use crate::resize::Capacity;

/// A step that failed and is tried again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The machine-readable cause as Kubernetes calls it, e.g. `ErrImagePull`.
    pub reason: String,
    /// The cause for people.
    pub message: String,
    /// How often in a row.
    pub count: u32,
    /// When it failed last.
    pub failed_at: Timestamp,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// A step that is done once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// Not begun.
    #[default]
    Todo,
    /// Under way.
    Doing,
    /// Done.
    Done,
    /// Failed, to be tried again.
    Failed(Failure),
}

/// The pod's sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// There is none.
    #[default]
    Missing,
    /// It is being made.
    Creating,
    /// It stands.
    Ready {
        /// The pod's addresses; `None` on the host's network.
        addresses: Option<AddressPair>,
    },
    /// It could not be made.
    Failed(Failure),
    /// Its containers have ended for good, and it is being ended, too.
    Closing,
    /// It is no more, but for its logs and exit codes.
    Closed,
    /// It is being removed.
    Removing,
}

/// A container's image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Image {
    /// Not looked for yet.
    #[default]
    Unresolved,
    /// Being looked for or fetched.
    Resolving,
    /// At hand.
    Ready(ReadyImage),
    /// It cannot be had at present; it is tried again.
    Failed(Failure),
}

/// What is being done to a container right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// It is being started, its postStart hook included.
    Starting,
    /// It is being stopped.
    Stopping {
        /// When it is killed at the latest.
        by: Timestamp,
    },
}

/// How far a container's postStart hook is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// Not begun.
    #[default]
    Todo,
    /// Under way.
    Running,
    /// Done, or there is none.
    Done,
}

/// How far a change of what the running containers may use is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resize {
    /// They have what the object asks for, or are about to be given it.
    #[default]
    Settled,
    /// The node can never grant it; why.
    Infeasible(String),
    /// The node cannot grant it as long as other pods have what they have; why.
    Deferred(String),
    /// It is being done.
    Doing,
    /// It failed, to be tried again.
    Failed(Failure),
}

/// One container of the pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// Its image.
    pub image: Image,
    /// The reference that `image` was looked for by.
    pub asked: Option<String>,
    /// The reference that the newest attempt was started from.
    pub reference: Option<String>,
    /// Whether the newest attempt was ended because the object asks for another image: it is followed by another whatever the policy.
    pub replaced: bool,
    /// The newest attempt.
    pub current: Option<ContainerState>,
    /// The attempt before.
    pub previous: Option<ContainerState>,
    /// What ended attempts said (`terminationMessagePath`), and why those that could not start could not, by attempt.
    pub messages: BTreeMap<u32, String>,
    /// The attempts that never started.
    pub unstarted: Vec<u32>,
    /// What is being done.
    pub busy: Option<Busy>,
    /// Why it could not be configured.
    pub failure: Option<Failure>,
    /// What the newest attempt may use, as it was given; `None` before the first.
    pub applied: Option<ResourceRequirements>,
    /// The number of the next attempt.
    pub next_attempt: u32,
    /// Exits in a row without a long run between them.
    pub crashes: u32,
    /// Whether the startup probe has succeeded (or there is none).
    pub started: bool,
    /// Whether the readiness probe succeeds (or there is none).
    pub ready: bool,
    /// Whether the newest attempt belonged to a sandbox that is no more.
    pub stale: bool,
    /// Whether it is to be started again whatever its policy, because all are restarted.
    pub anew: bool,
    /// The postStart hook of the newest attempt.
    pub hook: Hook,
    /// A probe or hook wants it killed.
    pub kill: Option<Kill>,
}

/// Why and how a probe ends a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The event's message.
    pub message: String,
    /// The probe's own grace period.
    pub grace_seconds: Option<i64>,
}

/// The grace of a pod that used more than it may, as the kubelet gives it.
pub const EVICTION_GRACE: Duration = Duration::from_secs(1);
/// The reason of a pod that used more than it may.
pub const EVICTED: &str = "Evicted";

impl Container {
    /// Returns whether the newest attempt runs.
    pub fn running(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.exit.is_none())
    }

    /// Returns how the newest attempt ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        self.current.as_ref().and_then(|current| current.exit.as_ref())
    }

    /// Takes the state of an attempt that the runtime reported; older attempts than the known ones are ignored.
    /// Returns whether a running attempt is now ended or a new one runs.
    pub fn take(&mut self, state: ContainerState) -> bool {
        match &self.current {
            Some(current) if state.attempt < current.attempt => return false,
            Some(current) if state.attempt == current.attempt => {
                if *current == state || current.exit.is_some() {
                    return false;
                }
            }
            _ => {
                self.previous = self.current.take();
                self.stale = false;
                self.anew = false;
                self.replaced = false;
                // What an attempt from before the agent was started from, its status tells.
                self.reference.clone_from(&self.asked);
            }
        }
        self.next_attempt = self.next_attempt.max(state.attempt.saturating_add(1));
        if let Some(exit) = &state.exit {
            let ran = exit.finished_at.duration_since(state.started_at).unsigned_abs();
            self.crashes = if ran >= backoff::RECOVERED_AFTER {
                1
            } else {
                self.crashes.saturating_add(1)
            };
            self.ready = false;
            self.started = false;
            self.kill = None;
            if self.replaced {
                self.crashes = 0;
            }
        }
        self.current = Some(state);
        let oldest = self.next_attempt.saturating_sub(3);
        self.messages.retain(|attempt, _| *attempt >= oldest);
        self.unstarted.retain(|attempt| *attempt >= oldest);
        true
    }

    /// Returns whether the object asks for another image than the newest attempt has.
    pub fn is_of_another_image(&self, definition: &ContainerDef) -> bool {
        self.reference.is_some() && self.reference != definition.image
    }

    /// Returns when a restart may happen; `None` when the container has not ended.
    pub fn restart_at(&self) -> Option<Timestamp> {
        let exit = self.exit()?;
        exit.finished_at.checked_add(backoff::restart_delay(self.crashes)).ok()
    }
}

/// How far the pod's end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It shall run.
    #[default]
    None,
    /// New connections are being led elsewhere.
    Draining,
    /// Its containers are being stopped.
    Stopping,
    /// Sandbox and files are being removed.
    Removing,
    /// Nothing is left on the node.
    Removed,
    /// The API was told to forget it.
    Finished,
}

/// Everything a worker knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The pod's volumes and generated files.
    pub volumes: Step,
    /// The containers by name, init containers included.
    pub containers: BTreeMap<String, Container>,
    /// The end.
    pub ending: Ending,
    /// Since when all containers are being stopped.
    pub stopping_since: Option<Timestamp>,
    /// Whether the object is no longer in the API.
    pub gone: bool,
    /// Why the pod as a whole has failed (reason, message).
    pub failed: Option<(String, String)>,
    /// Whether the init containers were done once: they are not run again while this sandbox stands.
    pub initialized: bool,
    /// Whether the sandbox has to be made anew for what a container needs.
    pub outdated: bool,
    /// Why the remains could not be removed, or a sandbox not be closed.
    pub removal: Option<Failure>,
    /// Why the pod must not run here (reason, message).
    pub rejected: Option<(String, String)>,
    /// How a change of the containers' limits stands.
    pub resize: Resize,
    /// What the node has for pods; `None` grants everything.
    pub capacity: Option<Capacity>,
    /// What other pods have of it.
    pub others: Capacity,
    /// When the worker began.
    pub started_at: Option<Timestamp>,
}

impl Observed {
    /// Returns the pod's own addresses.
    pub fn addresses(&self) -> Option<AddressPair> {
        match self.sandbox {
            Sandbox::Ready { addresses } => addresses,
            _ => None,
        }
    }

    /// Begins anew with the containers that have run, but for those with these names.
    pub fn restart_all_but(&mut self, kept: &[String]) {
        self.initialized = false;
        let concerned = self.containers.iter_mut().filter(|(name, _)| !kept.contains(name));
        for (_, container) in concerned.filter(|(_, container)| container.current.is_some()) {
            container.stale = true;
            container.anew = true;
            container.kill = None;
        }
    }

    /// Forgets what belonged to a sandbox that died: its running containers count as killed at `now`.
    pub fn lose_sandbox(&mut self, now: Timestamp) {
        self.sandbox = Sandbox::Missing;
        self.stopping_since = None;
        self.initialized = false;
        for container in self.containers.values_mut() {
            container.stale = true;
            let Some(mut state) = container.current.clone().filter(|state| state.exit.is_none()) else {
                continue;
            };
            state.exit = Some(Exit {
                code: 137,
                signal: Some(9),
                oom_killed: false,
                finished_at: now,
            });
            container.take(state);
            container.stale = true;
            container.busy = None;
        }
    }
}
