//! From events to wakes: at once, then when it is quiet, and never more than one in [`QUIET`].

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How long after an event the second look comes.
pub(super) const QUIET: Duration = Duration::from_millis(50);
/// A new folder is watched by itself only after its creation was told; on a busy machine that may take longer than [`QUIET`].
const SETTLED: Duration = Duration::from_millis(500);

/// Something happened to a repository.
pub(super) struct Signal {
    pub(super) key: String,
    pub(super) folder_made: bool,
}

/// What is still owed to one key.
#[derive(Debug, PartialEq)]
struct Owed {
    /// The next wake; none but the late one is owed when this is none.
    next: Option<Instant>,
    last_event: Instant,
    /// One more, for folders that are new.
    late: Option<Instant>,
}

/// Starts the thread that calls `wake`; it ends when the sender is dropped.
pub(super) fn start(wake: impl Fn(&str) + Send + 'static) -> io::Result<Sender<Signal>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("git-watch".to_owned())
        .spawn(move || run(&receiver, wake))?;
    Ok(sender)
}

fn run(signals: &Receiver<Signal>, wake: impl Fn(&str)) {
    let mut schedule = Schedule::default();
    loop {
        let now = Instant::now();
        for key in schedule.due(now) {
            wake(&key);
        }
        let signal = match schedule.next() {
            Some(at) => match signals.recv_timeout(at.saturating_duration_since(now)) {
                Ok(signal) => signal,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            },
            None => match signals.recv() {
                Ok(signal) => signal,
                Err(mpsc::RecvError) => return,
            },
        };
        if schedule.event(&signal, Instant::now()) {
            wake(&signal.key);
        }
    }
}

#[derive(Default)]
struct Schedule {
    owed: BTreeMap<String, Owed>,
}

impl Schedule {
    /// Takes an event; says whether to wake now.
    fn event(&mut self, signal: &Signal, now: Instant) -> bool {
        let owed = self.owed.entry(signal.key.clone()).or_insert(Owed {
            next: None,
            last_event: now,
            late: None,
        });
        owed.last_event = now;
        if signal.folder_made {
            owed.late = Some(now + SETTLED);
        }
        let first = owed.next.is_none();
        if first {
            owed.next = Some(now + QUIET);
        }
        first
    }

    /// Takes out the keys to wake now.
    fn due(&mut self, now: Instant) -> Vec<String> {
        let mut keys = Vec::new();
        self.owed.retain(|key, owed| {
            let mut wake = false;
            if owed.next.is_some_and(|at| at <= now) {
                wake = true;
                // Events that came since the last wake are owed a look of their own, 50 ms after the last of them.
                owed.next = (owed.last_event + QUIET > now).then(|| owed.last_event.max(now - QUIET / 2) + QUIET);
            }
            if owed.late.is_some_and(|at| at <= now) {
                wake = true;
                owed.late = None;
            }
            if wake {
                keys.push(key.clone());
            }
            owed.next.is_some() || owed.late.is_some()
        });
        keys
    }

    fn next(&self) -> Option<Instant> {
        self.owed
            .values()
            .flat_map(|owed| [owed.next, owed.late])
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs events at these milliseconds through a schedule and gives the milliseconds of the wakes.
    fn wakes(events: &[u64], folder_made: bool) -> Vec<u64> {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        let mut wakes = Vec::new();
        for at in 0..3_000 {
            let now = start + Duration::from_millis(at);
            wakes.extend(schedule.due(now).iter().map(|_| at));
            for _ in events.iter().filter(|event| **event == at) {
                let signal = Signal {
                    key: "k".to_owned(),
                    folder_made,
                };
                if schedule.event(&signal, now) {
                    wakes.push(at);
                }
            }
        }
        assert_eq!(schedule.next(), None);
        wakes
    }

    #[test]
    fn an_event_wakes_at_once_and_again_when_it_is_quiet() {
        assert_eq!(wakes(&[10], false), [10, 60]);
        assert_eq!(wakes(&[10, 10, 10], false), [10, 60]);
        assert_eq!(wakes(&[10, 1000], false), [10, 60, 1000, 1050]);
        assert_eq!(wakes(&[10], true), [10, 60, 510]);
    }

    #[test]
    fn the_last_wake_comes_after_the_last_event_and_a_burst_wakes_seldom() {
        let burst: Vec<u64> = (0..1000).collect();
        let woken = wakes(&burst, false);
        assert!(woken.len() <= 1000 / 50 + 3, "{woken:?}");
        assert!(*woken.last().unwrap() >= 999 + 50, "{woken:?}");
        for last in [11, 30, 58] {
            let woken = wakes(&[10, last], false);
            assert!(*woken.last().unwrap() >= last + 50, "{woken:?}");
            assert!(woken.windows(2).all(|pair| pair[1] - pair[0] >= 25), "{woken:?}");
        }
    }
}
