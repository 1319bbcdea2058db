//! Who is next: seats that are shared fairly between flows. Pure; whoever waits is told by a value of the caller's.
//!
//! A flow is everything that one user sends. Invariants: the seats taken are never more than there are, a flow takes never
//! more than its own bound, and what waits is bounded per flow and in all. A free seat goes to the flow that has the
//! fewest, among equals to whoever has waited longest, so that a flood waits for itself and not everybody for the flood.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Seats in all.
    pub(super) seats: usize,
    /// Seats that one flow may take.
    pub(super) seats_per_flow: usize,
    /// Requests that may wait in all.
    pub(super) waiting: usize,
    /// Requests of one flow that may wait.
    pub(super) waiting_per_flow: usize,
}

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It has its seats.
    Runs,
    /// It waits under this number; its waiter comes out of [`FairQueue::leave`] when its turn comes.
    Waits(u64),
    /// There is no room to wait in.
    Refused,
}

struct Waiting<W> {
    number: u64,
    width: usize,
    waiter: W,
}

struct Flow<W> {
    taken: usize,
    queue: VecDeque<Waiting<W>>,
}

/// The seats of one kind of request, and who waits for them.
pub(super) struct FairQueue<W> {
    bounds: Bounds,
    taken: usize,
    waiting: usize,
    last: u64,
    /// Only flows that have a seat or wait for one.
    flows: HashMap<Arc<str>, Flow<W>>,
}

impl<W> FairQueue<W> {
    /// All seats are free.
    pub(super) fn new(bounds: Bounds) -> FairQueue<W> {
        FairQueue {
            bounds,
            taken: 0,
            waiting: 0,
            last: 0,
            flows: HashMap::new(),
        }
    }

    /// Takes `width` seats for a request of a flow, or a place to wait in. Where waiting room is short, the last request of
    /// the flow with the most waiting gives its place to a flow with fewer: dropping its waiter tells it so.
    pub(super) fn arrive(&mut self, flow: &Arc<str>, width: usize, waiter: W) -> Arrival {
        let width = self.clamp(width);
        let bounds = self.bounds;
        let (taken, queued) = self
            .flows
            .get(flow)
            .map_or((0, 0), |flow| (flow.taken, flow.queue.len()));
        // Whoever waits while a seat is free waits for its own flow, or for more seats than are free.
        let fits = self.taken + width <= bounds.seats && taken + width <= bounds.seats_per_flow;
        if fits && queued == 0 && !self.somebody_is_due() {
            self.flow(flow).taken += width;
            self.taken += width;
            return Arrival::Runs;
        }
        if queued >= bounds.waiting_per_flow || (self.waiting >= bounds.waiting && !self.make_room(queued)) {
            return Arrival::Refused;
        }
        self.last += 1;
        let number = self.last;
        self.waiting += 1;
        self.flow(flow).queue.push_back(Waiting { number, width, waiter });
        Arrival::Waits(number)
    }

    /// Gives back the seats of a request that was answered, and returns the waiters of those that have theirs now.
    pub(super) fn leave(&mut self, flow: &Arc<str>, width: usize) -> Vec<W> {
        let width = self.clamp(width);
        self.taken = self.taken.saturating_sub(width);
        if let Some(left) = self.flows.get_mut(flow) {
            left.taken = left.taken.saturating_sub(width);
        }
        self.forget(flow);
        self.admit()
    }

    /// Takes back a request that waits; returns the waiters of those that it stood before.
    pub(super) fn withdraw(&mut self, flow: &Arc<str>, number: u64) -> Vec<W> {
        if let Some(left) = self.flows.get_mut(flow) {
            let before = left.queue.len();
            left.queue.retain(|waiting| waiting.number != number);
            self.waiting -= before - left.queue.len();
        }
        self.forget(flow);
        self.admit()
    }

    /// Seats taken, and requests waiting.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.taken, self.waiting)
    }

    fn clamp(&self, width: usize) -> usize {
        width.clamp(1, self.bounds.seats_per_flow.min(self.bounds.seats).max(1))
    }

    fn flow(&mut self, flow: &Arc<str>) -> &mut Flow<W> {
        self.flows.entry(Arc::clone(flow)).or_insert_with(|| Flow {
            taken: 0,
            queue: VecDeque::new(),
        })
    }

    fn forget(&mut self, flow: &Arc<str>) {
        if self
            .flows
            .get(flow)
            .is_some_and(|flow| flow.taken == 0 && flow.queue.is_empty())
        {
            self.flows.remove(flow);
        }
    }

    /// The flow whose turn it is, with the width of its first request; the flows that may take no more are passed over.
    fn due(&self) -> Option<(Arc<str>, usize)> {
        if self.waiting == 0 {
            return None;
        }
        self.flows
            .iter()
            .filter_map(|(name, flow)| {
                let first = flow.queue.front()?;
                let may = flow.taken + first.width <= self.bounds.seats_per_flow;
                may.then_some((flow.taken, first.number, name, first.width))
            })
            .min_by_key(|(taken, number, _, _)| (*taken, *number))
            .map(|(_, _, name, width)| (Arc::clone(name), width))
    }

    fn somebody_is_due(&self) -> bool {
        self.due().is_some()
    }

    /// Seats those whose turn it is. One that needs more seats than are free is waited for: nobody slips past it.
    fn admit(&mut self) -> Vec<W> {
        let mut admitted = Vec::new();
        while let Some((name, width)) = self.due() {
            if self.taken + width > self.bounds.seats {
                break;
            }
            let Some(flow) = self.flows.get_mut(&name) else { break };
            let Some(first) = flow.queue.pop_front() else { break };
            flow.taken += width;
            self.taken += width;
            self.waiting -= 1;
            admitted.push(first.waiter);
        }
        admitted
    }

    /// Turns away the last of the longest queue if that is longer than `queued`.
    fn make_room(&mut self, queued: usize) -> bool {
        let longest = self
            .flows
            .iter()
            .max_by_key(|(_, flow)| flow.queue.len())
            .filter(|(_, flow)| flow.queue.len() > queued + 1)
            .map(|(name, _)| Arc::clone(name));
        let Some(flow) = longest.and_then(|name| self.flows.get_mut(&name)) else {
            return false;
        };
        let turned_away = flow.queue.pop_back().is_some();
        if turned_away {
            self.waiting -= 1;
        }
        turned_away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        seats: 4,
        seats_per_flow: 3,
        waiting: 6,
        waiting_per_flow: 4,
    };

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn a_flood_leaves_a_seat_for_somebody_else() {
        let mut queue = FairQueue::new(BOUNDS);
        let (flood, ann) = (name("flood"), name("ann"));
        for _ in 0..3 {
            assert_eq!(queue.arrive(&flood, 1, "flood"), Arrival::Runs);
        }
        assert!(matches!(queue.arrive(&flood, 1, "flood"), Arrival::Waits(_)));
        assert_eq!(queue.arrive(&ann, 1, "ann"), Arrival::Runs);
    }

    #[test]
    fn a_free_seat_goes_to_whoever_has_fewest() {
        let mut queue = FairQueue::new(BOUNDS);
        let (flood, ann, bob) = (name("flood"), name("ann"), name("bob"));
        for _ in 0..3 {
            queue.arrive(&flood, 1, "flood");
        }
        queue.arrive(&ann, 1, "ann");
        queue.arrive(&flood, 1, "flood");
        queue.arrive(&ann, 1, "ann");
        queue.arrive(&bob, 1, "bob");
        assert_eq!(queue.leave(&flood, 1), ["bob"], "it has none at all");
        assert_eq!(
            queue.leave(&flood, 1),
            ["flood"],
            "two against ann's one, but who was there first"
        );
    }

    #[test]
    fn a_wide_request_waits_for_room_and_is_not_passed() {
        let mut queue = FairQueue::new(BOUNDS);
        let (flood, ann, bob) = (name("flood"), name("ann"), name("bob"));
        for _ in 0..3 {
            queue.arrive(&flood, 1, "flood");
        }
        assert!(matches!(queue.arrive(&ann, 2, "ann"), Arrival::Waits(_)));
        assert!(
            matches!(queue.arrive(&bob, 1, "bob"), Arrival::Waits(_)),
            "ann is before him"
        );
        assert_eq!(queue.leave(&flood, 1), ["ann"]);
        assert_eq!(queue.leave(&flood, 1), ["bob"]);
        assert_eq!(queue.load(), (4, 0));
        assert_eq!(
            queue.arrive(&name("cid"), 100, "cid"),
            Arrival::Waits(3),
            "never wider than a flow may be"
        );
    }

    #[test]
    fn waiting_room_is_bounded_and_shared() {
        let mut queue = FairQueue::new(BOUNDS);
        let (flood, ann) = (name("flood"), name("ann"));
        for _ in 0..3 + 4 {
            assert_ne!(queue.arrive(&flood, 1, "flood"), Arrival::Refused);
        }
        assert_eq!(queue.arrive(&flood, 1, "flood"), Arrival::Refused, "a flow's own bound");
        queue.arrive(&ann, 1, "ann");
        queue.arrive(&ann, 1, "ann");
        queue.arrive(&ann, 1, "ann");
        assert_eq!(queue.load(), (4, 6));
        let bob = queue.arrive(&name("bob"), 1, "bob");
        assert!(matches!(bob, Arrival::Waits(_)), "the flood's last gave its place");
        assert_eq!(queue.load(), (4, 6));
    }

    #[test]
    fn what_is_withdrawn_leaves_nothing_behind() {
        let mut queue = FairQueue::new(BOUNDS);
        let ann = name("ann");
        queue.arrive(&ann, 3, "ann");
        let Arrival::Waits(number) = queue.arrive(&ann, 1, "ann") else {
            panic!("no seat")
        };
        assert!(queue.withdraw(&ann, number).is_empty());
        assert!(queue.leave(&ann, 3).is_empty());
        assert_eq!(queue.load(), (0, 0));
        assert!(queue.flows.is_empty());
    }
}
