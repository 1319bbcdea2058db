//! Whose requests share seats with whose: one row per level, the first that fits counts.

use super::queue::Bounds;
use crate::request::UserInfo;

/// The group of the nodes' agents.
const NODES: &str = "system:nodes";

/// A share of the server.
pub(super) struct Level {
    /// As metrics name it.
    pub(super) name: &'static str,
    /// Whether a user's requests belong here; `true`: they come from this process.
    matches: fn(&UserInfo, bool) -> bool,
    /// For what only reads.
    pub(super) reads: Bounds,
    /// For what writes, and waits for the disk.
    pub(super) writes: Bounds,
    /// For watches and streams; nobody waits for one.
    pub(super) streams: Bounds,
}

/// The levels. As in Kubernetes 400 reads and 200 writes of everybody's are answered at a time; what keeps the cluster
/// going has seats beside them, so that no user's flood stops it.
pub(super) const LEVELS: &[Level] = &[
    Level {
        name: "system",
        // Controllers are one user: a bound of its own would only hold back one of them for another.
        matches: |user, in_process| in_process && user.is_master(),
        reads: queued(256, 256, 4096, 4096),
        writes: queued(256, 256, 4096, 4096),
        streams: open(10_000, 10_000),
    },
    Level {
        name: "node",
        matches: |user, _| user.in_group(NODES),
        reads: queued(128, 64, 2048, 512),
        writes: queued(128, 64, 2048, 512),
        streams: open(10_000, 1_000),
    },
    Level {
        name: "workload",
        matches: |_, _| true,
        reads: queued(400, 200, 4096, 512),
        writes: queued(200, 100, 4096, 512),
        streams: open(10_000, 2_500),
    },
];

/// The level of a user's requests, as its place in [`LEVELS`].
pub(super) fn of(user: &UserInfo, in_process: bool) -> usize {
    LEVELS
        .iter()
        .position(|level| (level.matches)(user, in_process))
        // The last row fits everybody.
        .unwrap_or(LEVELS.len() - 1)
}

const fn queued(seats: usize, seats_per_flow: usize, waiting: usize, waiting_per_flow: usize) -> Bounds {
    Bounds {
        seats,
        seats_per_flow,
        waiting,
        waiting_per_flow,
    }
}

const fn open(seats: usize, seats_per_flow: usize) -> Bounds {
    queued(seats, seats_per_flow, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_level_and_only_this_process_has_its_own() {
        let level = |user: &UserInfo, in_process| LEVELS[of(user, in_process)].name;
        let controllers = UserInfo::system("setpoint");
        assert_eq!(level(&controllers, true), "system");
        assert_eq!(level(&controllers, false), "workload");
        assert_eq!(level(&UserInfo::new("system:node:box", &[NODES]), true), "node");
        assert_eq!(level(&UserInfo::new("ann", &[]), true), "workload");
    }
}
