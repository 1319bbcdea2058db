//! What an app's state means, in words: the health and reason that its status shows.

use setpoint_plan::health::HealthStatus;

use super::{AppState, Cause, Millis, Policy, View, drifted};

/// Health, reason and what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `Healthy`, `Progressing`, `Waiting`, `Degraded`, `Failed` or `Unknown`.
    pub health: &'static str,
    /// Why, in words; empty when there is nothing to say.
    pub reason: String,
}

/// Why a new revision has to wait for another app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// In words.
    pub reason: String,
    /// Whether the other has failed.
    pub failed: bool,
}

impl Report {
    fn new(health: &'static str, reason: impl Into<String>) -> Report {
        Report {
            health,
            reason: reason.into(),
        }
    }
}

impl AppState {
    /// Says how the app is. `blocked` is why a new revision has to wait; `stuck` why the last attempt to act did not get through.
    pub fn report(
        &self,
        policy: &Policy,
        view: &View,
        blocked: Option<&Blocked>,
        stuck: Option<&str>,
        now: Millis,
    ) -> Report {
        let held = self.held.as_ref().map(|held| short(&held.revision.source));
        if let Some(sync) = &self.sync {
            let what = match sync.cause {
                Cause::Rollback => format!("{}going back to {}", self.why_failed(), short(&sync.revision.source)),
                Cause::Request => format!("going to {} as asked", short(&sync.revision.source)),
                Cause::Deploy => format!("deploying {}", short(&sync.revision.source)),
            };
            let health = if sync.cause == Cause::Rollback {
                "Failed"
            } else {
                "Progressing"
            };
            let why = stuck.map_or_else(|| waiting_for(view), str::to_owned);
            return Report::new(health, if why.is_empty() { what } else { format!("{what}: {why}") });
        }
        if let Some(broken) = &self.broken {
            let rest = held.map_or_else(|| "nothing runs".to_owned(), |held| format!("{held} keeps running"));
            return Report::new(
                "Failed",
                format!("{}: {}; {rest}", short(&broken.source), broken.reason),
            );
        }
        if self.pin.is_none()
            && let Some(failed) = self.wanted.as_ref().and_then(|wanted| self.failure_of(&wanted.digest))
        {
            let rest = match (&self.held, held) {
                (Some(running), Some(held)) if running.revision.digest != failed.revision.digest => {
                    format!("{held} runs")
                }
                (None, _) => "nothing runs".to_owned(),
                _ => "there is no healthy revision to go back to".to_owned(),
            };
            let retry = failed
                .retry
                .map(|at| format!("; tried again in {} s", (at - now).max(0) / 1000))
                .unwrap_or_default();
            return Report::new("Failed", format!("{}{rest}{retry}", self.why_failed()));
        }
        if let Some(blocked) = blocked {
            // Behind what failed there is nothing to wait for: that has to be mended first.
            return Report::new(
                if blocked.failed { "Failed" } else { "Waiting" },
                blocked.reason.clone(),
            );
        }
        if self.held.is_none() {
            return match &self.wanted {
                None => Report::new("Unknown", "nothing is rendered yet"),
                Some(wanted) => Report::new(
                    "Progressing",
                    stuck.map_or_else(|| format!("deploying {}", short(&wanted.source)), str::to_owned),
                ),
            };
        }
        self.settled(policy, view, stuck)
    }

    fn settled(&self, policy: &Policy, view: &View, stuck: Option<&str>) -> Report {
        if let Some(stuck) = stuck {
            return Report::new("Degraded", stuck);
        }
        let changed: Vec<usize> = drifted(view).collect();
        if let Some(first) = changed.first().and_then(|place| view.objects.get(*place)) {
            let others = changed.len() - 1;
            let more = if others > 0 {
                format!(" and {others} more")
            } else {
                String::new()
            };
            return match policy.heal {
                true => Report::new("Progressing", format!("putting back {}{more}", first.object)),
                false => Report::new("Degraded", format!("{}{more} differs from git", first.object)),
            };
        }
        for (status, health) in [
            (HealthStatus::Degraded, "Degraded"),
            (HealthStatus::Missing, "Degraded"),
            (HealthStatus::Unknown, "Unknown"),
            (HealthStatus::Progressing, "Progressing"),
        ] {
            let found = view.objects.iter().find(|object| object.health.status == status);
            if let Some(object) = found {
                // A pod that does not get well says more than what waits for it.
                let why = view
                    .trouble
                    .as_ref()
                    .map_or(&object.health.reason, |trouble| &trouble.reason);
                return Report::new(health, format!("{}: {why}", object.object));
            }
        }
        match &self.pin {
            Some(_) => Report::new(
                "Healthy",
                "held by a rollback until git changes the app or `setpoint resume`",
            ),
            None => Report::new("Healthy", ""),
        }
    }

    fn why_failed(&self) -> String {
        let failed = self.wanted.as_ref().and_then(|wanted| self.failure_of(&wanted.digest));
        failed.map_or_else(String::new, |failed| {
            format!("{} failed: {}; ", short(&failed.revision.source), failed.reason)
        })
    }
}

fn waiting_for(view: &View) -> String {
    if let Some(trouble) = &view.trouble {
        return trouble.reason.clone();
    }
    let waiting = view.objects.iter().find(|object| !object.is_ready());
    waiting.map(super::describe).unwrap_or_default()
}

/// Shortens a commit to what people read; anything else stays.
pub fn short(source: &str) -> String {
    if source.len() == 40 && source.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return source[..7].to_owned();
    }
    source.to_owned()
}
