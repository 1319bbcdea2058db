//! The one driver of the engine's work: a queue of keys, one run per key at a time, a later look where one is asked for.
//!
//! A wake that comes while its key runs leads to another run, so that no change is missed; wakes of a key that waits are
//! one. A run that fails is tried again after a wait that doubles, up to a minute; a wake comes through at once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The wait after a first failure.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between two tries.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// How a run ended.
pub enum Ran {
    /// Well; look again after this long even if nobody wakes.
    Again(Option<Duration>),
    /// It did not get through: try again.
    Retry,
}

#[derive(Default)]
struct Waiting<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    /// Keys to be looked at later: by time, then by order of asking.
    later: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    counter: u64,
}

/// A queue of keys. Cheap to clone.
pub struct Queue<K> {
    waiting: Arc<Mutex<Waiting<K>>>,
    changed: Arc<Notify>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Queue<K> {
        Queue {
            waiting: self.waiting.clone(),
            changed: self.changed.clone(),
        }
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Default for Queue<K> {
    fn default() -> Queue<K> {
        Queue::new()
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Queue<K> {
    /// Makes an empty queue.
    pub fn new() -> Queue<K> {
        Queue {
            waiting: Arc::new(Mutex::new(Waiting {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                running: HashSet::new(),
                later: BTreeMap::new(),
                due: HashMap::new(),
                counter: 0,
            })),
            changed: Arc::new(Notify::new()),
        }
    }

    /// Asks for a run of `key` now.
    pub fn wake(&self, key: K) {
        let mut waiting = self.waiting.lock();
        if waiting.queued.insert(key.clone()) {
            waiting.ready.push_back(key);
            self.changed.notify_one();
        }
    }

    fn wake_at(&self, key: K, at: Instant) {
        let mut waiting = self.waiting.lock();
        if let Some(before) = waiting.due.remove(&key) {
            waiting.later.remove(&before);
        }
        waiting.counter += 1;
        let place = (at, waiting.counter);
        waiting.due.insert(key.clone(), place);
        waiting.later.insert(place, key);
        self.changed.notify_one();
    }

    /// Returns how many keys wait for a run.
    pub fn len(&self) -> usize {
        self.waiting.lock().ready.len()
    }

    /// Takes the next key that may run, or says until when there is none.
    fn take(&self, now: Instant) -> Result<K, Option<Instant>> {
        let mut waiting = self.waiting.lock();
        while let Some((&place, _)) = waiting.later.first_key_value() {
            if place.0 > now {
                break;
            }
            if let Some(key) = waiting.later.remove(&place) {
                waiting.due.remove(&key);
                if waiting.queued.insert(key.clone()) {
                    waiting.ready.push_back(key);
                }
            }
        }
        for _ in 0..waiting.ready.len() {
            let Some(key) = waiting.ready.pop_front() else { break };
            if waiting.running.contains(&key) {
                waiting.ready.push_back(key);
                continue;
            }
            waiting.queued.remove(&key);
            waiting.running.insert(key.clone());
            if let Some(place) = waiting.due.remove(&key) {
                waiting.later.remove(&place);
            }
            return Ok(key);
        }
        Err(waiting.later.first_key_value().map(|(place, _)| place.0))
    }

    fn ended(&self, key: &K) {
        self.waiting.lock().running.remove(key);
        self.changed.notify_one();
    }

    /// Runs keys, at most `concurrency` at a time, until the future is dropped.
    pub async fn drive<F, R>(&self, concurrency: usize, run: F)
    where
        F: Fn(K) -> R + Send + Sync + 'static,
        R: Future<Output = Ran> + Send + 'static,
        K: std::fmt::Debug,
    {
        let mut runs = JoinSet::new();
        let mut failures: HashMap<K, u32> = HashMap::new();
        loop {
            let mut sleep = None;
            while runs.len() < concurrency {
                match self.take(Instant::now()) {
                    Ok(key) => {
                        let run = run(key.clone());
                        // A run that panics must not take its key with it.
                        runs.spawn(async move {
                            let ran = AssertUnwindSafe(run).catch_unwind().await;
                            (key, ran)
                        });
                    }
                    Err(next) => {
                        sleep = next;
                        break;
                    }
                }
            }
            let later = async {
                match sleep {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = runs.join_next() => {
                    let Ok((key, ran)) = ended else { continue };
                    let ran = ran.unwrap_or_else(|_| {
                        tracing::error!(?key, "a reconcile panicked; this is a fault in setpoint");
                        Ran::Retry
                    });
                    match ran {
                        Ran::Again(after) => {
                            failures.remove(&key);
                            if let Some(after) = after {
                                self.wake_at(key.clone(), Instant::now() + after);
                            }
                        }
                        Ran::Retry => {
                            let count = failures.entry(key.clone()).or_default();
                            *count = count.saturating_add(1);
                            let wait = FIRST_WAIT.saturating_mul(1 << (*count - 1).min(10)).min(LAST_WAIT);
                            self.wake_at(key.clone(), Instant::now() + wait);
                        }
                    }
                    self.ended(&key);
                }
                () = self.changed.notified() => {}
                () = later => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{Queue, Ran};

    async fn until(mut done: impl FnMut() -> bool) {
        while !done() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_during_a_run_leads_to_another_run_and_never_to_two_at_once() {
        let queue = Queue::new();
        let (runs, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (inner, counted, together) = (queue.clone(), runs.clone(), at_once.clone());
        let work = queue.drive(8, move |key: u8| {
            let (inner, counted, together) = (inner.clone(), counted.clone(), together.clone());
            async move {
                assert_eq!(together.fetch_add(1, Ordering::SeqCst), 0);
                if counted.fetch_add(1, Ordering::SeqCst) < 5 {
                    inner.wake(key);
                    inner.wake(key);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                together.fetch_sub(1, Ordering::SeqCst);
                Ran::Again(None)
            }
        });
        queue.wake(1);
        tokio::select! {
            () = work => {}
            () = until(|| runs.load(Ordering::SeqCst) == 6 && queue.len() == 0) => {}
        }
        assert_eq!(runs.load(Ordering::SeqCst), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_run_and_a_panic_are_tried_again_and_a_later_look_comes() {
        let queue = Queue::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let work = queue.drive(1, move |_: u8| {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match run {
                    0 => Ran::Retry,
                    1 => panic!("on purpose"),
                    2 => Ran::Again(Some(Duration::from_secs(2))),
                    _ => Ran::Again(None),
                }
            }
        });
        queue.wake(1);
        tokio::select! {
            () = work => {}
            () = until(|| runs.load(Ordering::SeqCst) == 4) => {}
        }
    }
}
