//! The recent changes of one kind, bounded by number and by bytes.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use setpoint_store::Revision;

use super::{Missed, Stored};

/// At most so many changes are kept per kind.
const KEEP: usize = 512;
/// At most so many bytes of objects are kept alive by one kind's ring.
const KEEP_BYTES: usize = 512 << 10;
/// About what an event takes beside bytes of objects: labels, names and fields of the object before it are kept parsed.
const OVERHEAD: usize = 1024;

/// What happened to an object, as one watcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It was made, or began to match the selector.
    Added,
    /// It was changed.
    Modified,
    /// It went, or matches the selector no more.
    Deleted,
}

impl EventType {
    /// The word in a watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

/// One change of one object.
#[derive(Debug)]
pub struct ObjectEvent {
    /// The revision of the change.
    pub revision: Revision,
    /// The object after it; `None` when it was deleted or is damaged.
    pub current: Option<Arc<Stored>>,
    /// The object before it; `None` when it was created or was damaged.
    pub previous: Option<Arc<Stored>>,
    lines: [OnceLock<Bytes>; 3],
    /// The lines of the metadata alone.
    partial: [OnceLock<Bytes>; 3],
    /// The lines in versions that are not the stored one, by form and version.
    converted: Mutex<Vec<(EventType, Box<str>, Bytes)>>,
}

impl ObjectEvent {
    /// Makes an event; not serialized before somebody watches. To watchers a damaged object is none: one that became damaged is gone.
    pub fn new(revision: Revision, current: Option<Arc<Stored>>, previous: Option<Arc<Stored>>) -> ObjectEvent {
        let whole = |stored: &Arc<Stored>| stored.damage.is_none();
        ObjectEvent {
            revision,
            current: current.filter(whole),
            previous: previous.filter(whole),
            lines: Default::default(),
            partial: Default::default(),
            converted: Mutex::default(),
        }
    }

    /// The object that an event of this type shows: the last state before a deletion, else the new one.
    pub fn shown(&self, kind: EventType) -> Option<&Arc<Stored>> {
        match kind {
            EventType::Deleted => self.previous.as_ref().or(self.current.as_ref()),
            EventType::Added | EventType::Modified => self.current.as_ref(),
        }
    }

    /// The line of a watch in JSON; serialized once for all watchers.
    pub fn line(&self, kind: EventType) -> Bytes {
        let line = self.lines[kind as usize].get_or_init(|| match self.shown(kind) {
            Some(stored) => event_line(kind, stored, self.revision),
            None => Bytes::new(),
        });
        line.clone()
    }

    /// The line of a watch of metadata alone; written once for all watchers.
    pub fn partial_line(&self, kind: EventType) -> Bytes {
        let line = self.partial[kind as usize].get_or_init(|| match self.shown(kind) {
            Some(stored) => partial_line(kind, stored, self.revision),
            None => Bytes::new(),
        });
        line.clone()
    }

    /// The line of a watch in another version than the stored one; made once for all watchers of that form and version.
    pub(crate) fn converted_line(&self, kind: EventType, form: &str, make: impl FnOnce() -> Bytes) -> Bytes {
        let known = |lines: &[(EventType, Box<str>, Bytes)]| {
            let mut lines = lines.iter();
            lines
                .find(|(sort, known, _)| *sort == kind && **known == *form)
                .map(|(_, _, line)| line.clone())
        };
        if let Some(line) = known(&self.converted.lock()) {
            return line;
        }
        // Made outside the lock: others are not held up, and who made it twice made the same.
        let line = make();
        let mut lines = self.converted.lock();
        if known(&lines).is_none() {
            lines.push((kind, form.into(), line.clone()));
        }
        line
    }

    fn size(&self) -> usize {
        // The current object is alive anyway; what the ring holds on to is the one before.
        self.previous.as_ref().map_or(0, |stored| stored.bytes.len())
            + self
                .lines
                .iter()
                .filter_map(OnceLock::get)
                .map(Bytes::len)
                .sum::<usize>()
            + OVERHEAD
    }
}

/// Writes `{"type":…,"object":…}` and a line end.
pub(crate) fn event_line(kind: EventType, stored: &Stored, revision: Revision) -> Bytes {
    let mut out = BytesMut::with_capacity(stored.wire_len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_str().as_bytes());
    out.put_slice(b"\",\"object\":");
    stored.write(revision, &mut out);
    out.put_slice(b"}\n");
    out.freeze()
}

/// Writes the line of an event that shows the metadata alone.
pub(crate) fn partial_line(kind: EventType, stored: &Stored, revision: Revision) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_str().as_bytes());
    out.put_slice(b"\",\"object\":");
    stored.write_partial(revision, &mut out);
    out.put_slice(b"}\n");
    out.freeze()
}

/// The changes after `since`, none missing.
pub(super) struct Ring {
    events: VecDeque<(Arc<ObjectEvent>, usize)>,
    bytes: usize,
    since: Revision,
}

impl Ring {
    pub(super) fn new(since: Revision) -> Ring {
        Ring {
            events: VecDeque::new(),
            bytes: 0,
            since,
        }
    }

    /// Appends the newest change, forgetting the oldest where there is no room.
    pub(super) fn push(&mut self, event: Arc<ObjectEvent>) {
        // The line will be written as soon as somebody watches: counted before it is there.
        let size = event.size() + event.current.as_ref().map_or(0, |stored| stored.bytes.len());
        self.bytes += size;
        self.events.push_back((event, size));
        while self.events.len() > KEEP || (self.bytes > KEEP_BYTES && self.events.len() > 1) {
            if let Some((event, size)) = self.events.pop_front() {
                self.bytes -= size;
                self.since = event.revision;
            }
        }
    }

    /// Up to `limit` changes after a revision, and whether these are all.
    pub(super) fn after(&self, after: Revision, limit: usize) -> Result<(Vec<Arc<ObjectEvent>>, bool), Missed> {
        if after < self.since {
            return Err(Missed { oldest: self.since });
        }
        let from = self.events.partition_point(|(event, _)| event.revision <= after);
        let events: Vec<_> = self
            .events
            .range(from..)
            .take(limit)
            .map(|(event, _)| event.clone())
            .collect();
        let all = from + events.len() == self.events.len();
        Ok((events, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: Revision) -> Arc<ObjectEvent> {
        Arc::new(ObjectEvent::new(revision, None, None))
    }

    #[test]
    fn a_ring_tells_who_fell_behind_instead_of_skipping() {
        let mut ring = Ring::new(5);
        for revision in 6..6 + KEEP as u64 + 10 {
            ring.push(event(revision));
        }
        assert_eq!(ring.after(5, 10).unwrap_err(), Missed { oldest: 15 });
        let (events, all) = ring.after(15, 10).unwrap();
        assert_eq!(events[0].revision, 16);
        assert!(!all);
        let (events, all) = ring.after(15 + KEEP as u64, 10).unwrap();
        assert!(events.is_empty() && all);
    }
}
