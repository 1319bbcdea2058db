//! What the log is told about the keys of this API: which kinds keep no history, which are sealed, which expire.
//!
//! A row here is a prefix of keys as [`setpoint_api::Resource::storage_prefix`] makes them, with its slash.

use std::time::Duration;

use setpoint_store::Rule;

/// How long an Event lives after it was last written, as in Kubernetes.
const EVENT_LIFE: Duration = Duration::from_secs(60 * 60);
/// Not more Events than this are kept, whatever their age.
const MOST_EVENTS: usize = 10_000;

/// How the objects of one kind are kept.
struct Kept {
    prefix: &'static str,
    history: bool,
    sealed: bool,
    expire: Option<Duration>,
    at_most: Option<usize>,
}

impl Kept {
    /// As everything is kept.
    const fn as_usual(prefix: &'static str) -> Kept {
        Kept {
            prefix,
            history: true,
            sealed: false,
            expire: None,
            at_most: None,
        }
    }

    const fn forgotten(self) -> Kept {
        Kept { history: false, ..self }
    }

    const fn sealed(self) -> Kept {
        Kept { sealed: true, ..self }
    }
}

const KEPT: &[Kept] = &[
    Kept {
        expire: Some(EVENT_LIFE),
        at_most: Some(MOST_EVENTS),
        ..Kept::as_usual("core/events/").forgotten()
    },
    // Renewed every few seconds, and only the newest says anything.
    Kept::as_usual("coordination.k8s.io/leases/").forgotten(),
    Kept::as_usual("core/secrets/").sealed(),
    // An App carries its values, which may hold passwords.
    Kept::as_usual("setpoint.dev/apps/").sealed(),
];

/// Returns the rules that the log behind this API is to be opened with.
pub fn log_rules() -> Vec<Rule> {
    KEPT.iter()
        .map(|kept| Rule {
            history: kept.history,
            sealed: kept.sealed,
            expire: kept.expire,
            at_most: kept.at_most,
            ..Rule::new(kept.prefix)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use setpoint_api::Scheme;

    use super::*;

    #[test]
    fn every_rule_of_a_built_in_kind_has_the_prefix_of_its_keys() {
        let scheme = Scheme::builtin();
        let prefixes: Vec<String> = scheme
            .resources()
            .iter()
            .map(|row| format!("{}/", row.storage_prefix()))
            .collect();
        // Apps are a kind of the program around the server.
        for kept in KEPT.iter().filter(|kept| kept.prefix != "setpoint.dev/apps/") {
            assert!(prefixes.iter().any(|prefix| prefix == kept.prefix), "{}", kept.prefix);
        }
    }

    #[test]
    fn no_prefix_starts_with_another() {
        for (place, kept) in KEPT.iter().enumerate() {
            for (other_place, other) in KEPT.iter().enumerate() {
                assert!(
                    place == other_place || !kept.prefix.starts_with(other.prefix),
                    "{}",
                    kept.prefix
                );
            }
        }
    }

    #[test]
    fn every_kind_with_a_heartbeat_keeps_no_history() {
        for row in Scheme::builtin()
            .resources()
            .iter()
            .filter(|row| !row.heartbeat.is_empty())
        {
            let prefix = format!("{}/", row.storage_prefix());
            assert!(
                KEPT.iter().any(|kept| kept.prefix == prefix && !kept.history),
                "{prefix}"
            );
        }
    }
}
