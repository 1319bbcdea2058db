//! The order of merged lists: items that the patch names come in its order, the others stay where they were beside them.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use serde_json::Value;

/// What makes two items the same one: a key, or the whole value.
pub(super) struct Identity<'a> {
    merge_key: Option<&'a str>,
}

/// What an item is told from others by; a number is the same however it is written, but no string.
#[derive(Clone, Copy)]
pub(super) struct Key<'a>(pub &'a Value);

impl Key<'_> {
    fn number(self) -> Option<f64> {
        self.0.as_f64()
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.number(), other.number()) {
            (None, None) => self.0 == other.0,
            (a, b) => a == b,
        }
    }
}

// No number in JSON differs from itself.
impl Eq for Key<'_> {}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.number() {
            // Zero has two forms.
            Some(number) => (number + 0.0).to_bits().hash(state),
            None => self.0.hash(state),
        }
    }
}

/// Where items are in a list; of items that are the same, where the first is.
pub(super) type Places<'a> = HashMap<Key<'a>, usize>;

impl<'a> Identity<'a> {
    pub fn new(merge_key: Option<&'a str>) -> Identity<'a> {
        Identity { merge_key }
    }

    /// Returns what an item is told from others by; nothing for one that lacks the key.
    pub fn key<'v>(&self, item: &'v Value) -> Option<Key<'v>> {
        match self.merge_key {
            None => Some(Key(item)),
            Some(name) => item.get(name).map(Key),
        }
    }

    pub fn places<'v>(&self, list: impl IntoIterator<Item = &'v Value>) -> Places<'v> {
        let mut places = Places::new();
        for (at, item) in list.into_iter().enumerate() {
            if let Some(key) = self.key(item) {
                places.entry(key).or_insert(at);
            }
        }
        places
    }
}

/// Sorts a merged list by the order that the patch wants; `before` is the list as it was.
pub(super) fn enforce_order(
    identity: &Identity<'_>,
    merged: Vec<Value>,
    wanted: &[Value],
    before: &[Value],
) -> Vec<Value> {
    let (wanted, before) = (identity.places(wanted), identity.places(before));
    let (mut patched, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let key = identity.key(&item);
        let place = |places: &Places<'_>| key.and_then(|key| places.get(&key).copied());
        let (rank, was) = (place(&wanted), place(&before));
        match rank {
            Some(rank) => patched.push((rank, was, item)),
            None => others.push((was.unwrap_or(usize::MAX), was, item)),
        }
    }
    patched.sort_by_key(|(rank, ..)| *rank);
    others.sort_by_key(|(rank, ..)| *rank);
    let mut out = Vec::with_capacity(patched.len() + others.len());
    let (mut patched, mut others) = (patched.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), patched.peek()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            // Only where both were there before does the old order say something.
            (Some((_, Some(other), _)), Some((_, Some(patch), _))) => other < patch,
            _ => false,
        };
        let next = if other_first { others.next() } else { patched.next() };
        out.extend(next.map(|(.., item)| item));
    }
    out
}
