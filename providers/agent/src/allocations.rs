//! What the pods of a node have of its processors and memory, as the kubelet counts it: by what they request. Whoever wants more asks here, so that two
//! that grow at once cannot both be given the last of it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::resize::{self, Capacity};

/// The allocations of a node by pod UID.
#[derive(Debug)]
pub struct Allocations {
    capacity: Capacity,
    storage: u64,
    pods: Mutex<BTreeMap<String, Capacity>>,
    room: watch::Sender<()>,
}

impl Allocations {
    /// Begins to count; `capacity` is what the node has for pods.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            storage: 0,
            pods: Mutex::default(),
            room: watch::Sender::new(()),
        }
    }

    /// Notes what the node has of its disk for pods, in bytes; nobody is given shares of it.
    pub fn with_storage(self, storage: u64) -> Self {
        Self { storage, ..self }
    }

    /// Returns what the node has of its disk for pods, in bytes.
    pub fn storage(&self) -> u64 {
        self.storage
    }

    /// Returns what the node has for pods.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Returns what pods other than this one have.
    pub fn others(&self, uid: &str) -> Capacity {
        others(&self.pods.lock(), uid)
    }

    /// Notes what a pod has, however much that is.
    pub fn note(&self, uid: &str, has: Capacity) {
        let before = self.pods.lock().insert(uid.to_owned(), has);
        self.tell(before, has);
    }

    /// Gives a pod what it wants instead of what it has, if there is as much.
    ///
    /// # Errors
    /// What is lacking, in the kubelet's words.
    pub fn give(&self, uid: &str, wanted: Capacity) -> Result<(), String> {
        let before = {
            let mut pods = self.pods.lock();
            if let Some(lacking) = resize::crowded(wanted, others(&pods, uid), self.capacity) {
                return Err(lacking);
            }
            pods.insert(uid.to_owned(), wanted)
        };
        self.tell(before, wanted);
        Ok(())
    }

    fn tell(&self, before: Option<Capacity>, now: Capacity) {
        if before.is_some_and(|before| before.cpu_millis > now.cpu_millis || before.memory > now.memory) {
            self.room.send_replace(());
        }
    }

    /// Takes back what a pod had.
    pub fn take_back(&self, uid: &str) {
        if self.pods.lock().remove(uid).is_some() {
            self.room.send_replace(());
        }
    }

    /// Returns a receiver that changes when there may be more room.
    pub fn room(&self) -> watch::Receiver<()> {
        self.room.subscribe()
    }
}

fn others(pods: &BTreeMap<String, Capacity>, uid: &str) -> Capacity {
    let mut sum = Capacity::default();
    for (_, has) in pods.iter().filter(|(known, _)| *known != uid) {
        sum.cpu_millis += has.cpu_millis;
        sum.memory += has.memory;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(cpu_millis: i128) -> Capacity {
        Capacity { cpu_millis, memory: 0 }
    }

    #[test]
    fn what_is_given_to_one_is_not_there_for_another_until_it_is_taken_back() {
        let all = Allocations::new(has(2000));
        all.note("a", has(500));
        all.note("b", has(500));
        assert_eq!(all.give("a", has(1500)), Ok(()));
        let lacking = "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000";
        assert_eq!(all.give("b", has(1000)), Err(lacking.to_owned()));
        let mut room = all.room();
        all.note("a", has(1500));
        assert!(!room.has_changed().unwrap_or(true));
        all.take_back("a");
        assert!(room.has_changed().unwrap_or(false));
        room.mark_unchanged();
        assert_eq!(all.give("b", has(1000)), Ok(()));
        assert_eq!(all.others("a"), has(1000));
    }
}
