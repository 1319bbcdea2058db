//! How many requests are answered at a time, so that a flood costs its sender and not everybody.
//!
//! `levels` says whose requests share seats, `queue` who is next. A request of a user who has as many seats as one may
//! have, or that finds none free, waits a short while in a queue that serves users in turn; only where that is full, or
//! the turn does not come, is it answered with 429 and Retry-After. What takes long by its nature (watches, logs, exec)
//! has a count of its own and never waits.

mod levels;
mod metrics;
mod queue;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use setpoint_api::Status;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::audit::Ending;
use crate::request::UserInfo;
use levels::LEVELS;
use metrics::LimitMetrics;
use queue::{Arrival, FairQueue};

/// How long a request may wait for its turn: a quarter of the time that an answer has, as in Kubernetes.
const WAIT_WITHIN: Duration = Duration::from_secs(15);
/// What a client is told to wait before it tries again, in seconds.
const RETRY_AFTER: u32 = 1;
/// How many objects a list returns for one seat.
const OBJECTS_PER_SEAT: usize = 100;
/// The most seats that a list takes.
const WIDEST: usize = 10;

/// What a request is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only reads.
    Read,
    /// It may write.
    Write,
    /// It lasts for as long as its client likes.
    Stream,
}

const KINDS: [(Kind, &str); 3] = [
    (Kind::Read, "readOnly"),
    (Kind::Write, "mutating"),
    (Kind::Stream, "longRunning"),
];

/// The seats that a list of so many objects takes: its cost is the processor's time, which nobody shares while it is made.
pub(super) fn list_width(objects: usize) -> usize {
    objects.div_ceil(OBJECTS_PER_SEAT).clamp(1, WIDEST)
}

type Queue = Mutex<FairQueue<oneshot::Sender<()>>>;

/// The seats of one level and kind.
struct Room {
    level: &'static str,
    kind: &'static str,
    queue: Queue,
    metrics: Arc<LimitMetrics>,
}

/// Room for requests.
pub(super) struct Limits {
    /// By level and kind, in the order of [`LEVELS`] and [`KINDS`].
    rooms: Vec<[Arc<Room>; 3]>,
}

/// A request that has its seats; they are free again when it is dropped.
pub(crate) struct Seat {
    room: Arc<Room>,
    flow: Arc<str>,
    width: usize,
}

impl Limits {
    /// Registers the metrics; every seat is free.
    pub(super) fn new(registry: &prometheus::Registry) -> Result<Limits, prometheus::Error> {
        let metrics = Arc::new(LimitMetrics::new(registry)?);
        let rooms = LEVELS
            .iter()
            .map(|level| {
                KINDS.map(|(kind, name)| {
                    let bounds = match kind {
                        Kind::Read => level.reads,
                        Kind::Write => level.writes,
                        Kind::Stream => level.streams,
                    };
                    Arc::new(Room {
                        level: level.name,
                        kind: name,
                        queue: Mutex::new(FairQueue::new(bounds)),
                        metrics: Arc::clone(&metrics),
                    })
                })
            })
            .collect();
        Ok(Limits { rooms })
    }

    /// Takes `width` seats for a request of a user, waiting for its turn; answers that there are none when the queue is
    /// full or the turn does not come within [`WAIT_WITHIN`].
    pub(super) async fn admit(
        &self,
        user: &UserInfo,
        in_process: bool,
        kind: Kind,
        width: usize,
    ) -> Result<Seat, Status> {
        let room = Arc::clone(&self.rooms[levels::of(user, in_process)][kind as usize]);
        let flow: Arc<str> = Arc::from(user.name.as_str());
        let (sender, receiver) = oneshot::channel();
        let arrival = {
            let mut queue = room.queue.lock();
            let arrival = queue.arrive(&flow, width, sender);
            room.show(&queue);
            arrival
        };
        let labels = [room.level, room.kind];
        match arrival {
            Arrival::Runs => {
                room.metrics.waited.with_label_values(&labels).observe(0.0);
                room.metrics.dispatched.with_label_values(&labels).inc();
                Ok(Seat { room, flow, width })
            }
            Arrival::Refused => Err(room.refuse(kind, user, "queue-full")),
            Arrival::Waits(number) => {
                let since = Instant::now();
                let mut turn = Turn {
                    room: Arc::clone(&room),
                    flow: Arc::clone(&flow),
                    width,
                    number,
                    receiver,
                    done: false,
                };
                let outcome = tokio::time::timeout(WAIT_WITHIN, &mut turn.receiver).await;
                let waited = since.elapsed().as_secs_f64();
                room.metrics.waited.with_label_values(&labels).observe(waited);
                match outcome {
                    Ok(Ok(())) => {
                        turn.done = true;
                        room.metrics.dispatched.with_label_values(&labels).inc();
                        Ok(Seat { room, flow, width })
                    }
                    Ok(Err(_)) => {
                        // It gave its place in the queue to a user who has fewer.
                        turn.done = true;
                        Err(room.refuse(kind, user, "queue-full"))
                    }
                    Err(_) => Err(room.refuse(kind, user, "time-out")),
                }
            }
        }
    }
}

impl Room {
    fn refuse(&self, kind: Kind, user: &UserInfo, reason: &str) -> Status {
        self.metrics
            .rejected
            .with_label_values(&[self.level, self.kind, reason])
            .inc();
        if kind == Kind::Stream {
            let text = format!(
                "too many watches and streams are open for {:?}; close some, or share one, and try again later",
                user.name
            );
            return Status::too_many_requests(text, RETRY_AFTER);
        }
        Status::too_many_requests("too many requests, please try again later", RETRY_AFTER)
    }

    /// Gives seats back and wakes those whose turn it is.
    fn leave(&self, flow: &Arc<str>, width: usize) {
        let mut queue = self.queue.lock();
        wake(queue.leave(flow, width));
        self.show(&queue);
    }

    fn show(&self, queue: &FairQueue<oneshot::Sender<()>>) {
        let (seats, waiting) = queue.load();
        let labels = [self.level, self.kind];
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.seats.with_label_values(&labels).set(number(seats));
        self.metrics.waiting.with_label_values(&labels).set(number(waiting));
    }
}

/// Tells those who have their seats. Called under the queue's lock, so that a [`Turn`] that goes knows whether it had them.
fn wake(admitted: Vec<oneshot::Sender<()>>) {
    for waiter in admitted {
        if waiter.send(()).is_err() {
            // A turn leaves the queue before its receiver goes, so whoever is seated is there.
            tracing::error!("a request that was given its turn was gone: its seats stay taken");
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.leave(&self.flow, self.width);
    }
}

/// A request that lasts, and its seat; an upgraded connection, which outlives its answer, keeps it from the request's
/// extensions. When the last clone goes, the request has ended.
#[derive(Clone)]
pub(crate) struct Session(#[expect(dead_code, reason = "held, never read")] Arc<(Seat, Ending)>);

impl Session {
    /// A seat, and who is to be told of its end.
    pub(super) fn new(seat: Seat, ending: Ending) -> Session {
        Session(Arc::new((seat, ending)))
    }
}

/// A body that holds a session until it has been sent.
struct Held {
    body: Body,
    _session: Session,
}

/// The same body; the session lasts until it has been sent.
pub(super) fn held(body: Body, session: Session) -> Body {
    Body::new(Held {
        body,
        _session: session,
    })
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request that waits. Where its client goes first, it leaves the queue, or the seats that it was given just then.
struct Turn {
    room: Arc<Room>,
    flow: Arc<str>,
    width: usize,
    number: u64,
    receiver: oneshot::Receiver<()>,
    done: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Under the lock nobody is seated: what the channel says is what is so.
        let mut queue = self.room.queue.lock();
        wake(match self.receiver.try_recv() {
            Ok(()) => queue.leave(&self.flow, self.width),
            Err(oneshot::error::TryRecvError::Empty) => queue.withdraw(&self.flow, self.number),
            Err(oneshot::error::TryRecvError::Closed) => Vec::new(),
        });
        self.room.show(&queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new(&prometheus::Registry::new()).expect("metrics")
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_its_request_is_answered_and_the_queue_is_short() {
        let limits = Arc::new(limits());
        let ann = UserInfo::new("ann", &[]);
        let mut seats = Vec::new();
        for _ in 0..100 {
            seats.push(limits.admit(&ann, false, Kind::Write, 1).await.expect("a seat"));
        }
        let refused = limits.admit(&ann, false, Kind::Write, 1).await.err().expect("no turn");
        assert_eq!(refused.code, 429);
        assert_eq!(crate::respond::status(&refused).headers()["retry-after"], "1");
        limits.admit(&ann, false, Kind::Read, 1).await.expect("another kind");
        let bob = UserInfo::new("bob", &[]);
        limits.admit(&bob, false, Kind::Write, 1).await.expect("another user");
        let turn = limits.admit(&ann, false, Kind::Write, 1);
        drop(seats.pop());
        turn.await.expect("a seat again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_while_waiting_leaves_no_seat_taken() {
        let limits = limits();
        let ann = UserInfo::new("ann", &[]);
        let mut seats = Vec::new();
        for _ in 0..100 {
            seats.push(limits.admit(&ann, false, Kind::Write, 1).await.expect("a seat"));
        }
        let mut waiting = Box::pin(limits.admit(&ann, false, Kind::Write, 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        // Its turn comes and its client goes in the same moment.
        seats.clear();
        drop(waiting);
        let room = &limits.rooms[LEVELS.len() - 1][Kind::Write as usize];
        assert_eq!(room.queue.lock().load(), (0, 0));
    }

    #[test]
    fn a_long_list_takes_more_seats_than_a_short_one() {
        assert_eq!(list_width(0), 1);
        assert_eq!(list_width(100), 1);
        assert_eq!(list_width(101), 2);
        assert_eq!(list_width(100_000), WIDEST);
    }
}
