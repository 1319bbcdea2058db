//! How many requests are answered at a time, so that a flood costs its senders and not everybody.

use std::sync::Arc;

use setpoint_api::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As in Kubernetes: reads are cheap, writes wait for the disk.
const READS: usize = 400;
const WRITES: usize = 200;

/// Room for requests; watches, streams and this process's own do not count.
pub(super) struct Limits {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::new(READS, WRITES)
    }
}

impl Limits {
    fn new(reads: usize, writes: usize) -> Limits {
        Limits {
            reads: Arc::new(Semaphore::new(reads)),
            writes: Arc::new(Semaphore::new(writes)),
        }
    }

    /// Takes a place, or answers that there is none just now.
    pub(super) fn admit(&self, read: bool) -> Result<OwnedSemaphorePermit, Status> {
        let room = if read { &self.reads } else { &self.writes };
        Arc::clone(room)
            .try_acquire_owned()
            .map_err(|_| Status::too_many_requests("too many requests, please try again later", 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_is_answered() {
        let limits = Limits::new(1, 1);
        let first = limits.admit(true).expect("room");
        let refused = limits.admit(true).expect_err("no room");
        assert_eq!(refused.code, 429);
        assert_eq!(crate::respond::status(&refused).headers()["retry-after"], "1");
        assert!(limits.admit(false).is_ok());
        drop(first);
        assert!(limits.admit(true).is_ok());
    }
}
