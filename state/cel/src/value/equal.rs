//! Which values are equal, and which come first.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{Key, List, Map, Merge, Value};

impl PartialEq for Value {
    /// Values of different types are not equal; numbers are equal when they are the same number.
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(_) | Value::Uint(_) | Value::Double(_), _) => {
                self.compare_numbers(other) == Some(Ordering::Equal)
            }
            (Value::String(a), Value::String(b)) | (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            (Value::Optional(a), Value::Optional(b)) => a == b,
            (Value::Url(a), Value::Url(b)) => a == b,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Cidr(a, bits), Value::Cidr(b, other)) => a == b && bits == other,
            (Value::Quantity(a), Value::Quantity(b)) => a == b,
            (Value::Semver(a), Value::Semver(b)) => a.precedence(b) == Ordering::Equal,
            (Value::Format(a), Value::Format(b)) => a.name == b.name,
            _ => false,
        }
    }
}

impl Value {
    /// Compares two numbers, whatever their types; `None` for what is no number.
    ///
    /// As cel-go has it, an integer that is compared with a double is one, and loses what doubles do not have.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn compare_numbers(&self, other: &Value) -> Option<Ordering> {
        let whole = |value: &Value| match value {
            Value::Int(number) => Some(i128::from(*number)),
            Value::Uint(number) => Some(i128::from(*number)),
            _ => None,
        };
        match (self, other) {
            (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
            (Value::Double(a), b) => a.partial_cmp(&(whole(b)? as f64)),
            (a, Value::Double(b)) => (whole(a)? as f64).partial_cmp(b),
            (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
        }
    }

    /// Compares two values that have an order; `None` where they have none.
    pub(crate) fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ => self.compare_numbers(other),
        }
    }
}

impl PartialEq for List {
    fn eq(&self, other: &List) -> bool {
        if self.items.len() != other.items.len() {
            return false;
        }
        match &self.merge {
            Merge::Atomic => self.items == other.items,
            Merge::Set => {
                // Sorted by how they are written, equal sets are equal lists.
                let sorted = |list: &List| {
                    let mut keys: Vec<String> = list.items.iter().map(identity).collect();
                    keys.sort_unstable();
                    keys.dedup();
                    keys
                };
                sorted(self) == sorted(other)
            }
            Merge::Keys(keys) => {
                let by_key = |list: &List| -> BTreeMap<String, usize> {
                    let rows = list.items.iter().enumerate();
                    rows.map(|(at, item)| (key_of(item, keys), at)).collect()
                };
                let (ours, theirs) = (by_key(self), by_key(other));
                ours.len() == theirs.len()
                    && ours.iter().all(|(key, at)| {
                        theirs
                            .get(key)
                            .is_some_and(|other_at| self.items[*at] == other.items[*other_at])
                    })
            }
        }
    }
}

/// Returns a text that equal values share and unequal ones do not.
pub(super) fn identity(value: &Value) -> String {
    match value {
        Value::Map(map) => {
            let entries = map
                .entries
                .iter()
                .map(|(key, value)| format!("{}={}", identity(&key.value()), identity(value)));
            format!("{{{}}}{:?}", entries.collect::<Vec<_>>().join(","), map.hidden)
        }
        Value::List(list) => format!("[{}]", list.items.iter().map(identity).collect::<Vec<_>>().join(",")),
        Value::String(text) => format!("{text:?}"),
        Value::Int(number) => format!("n{number}"),
        Value::Uint(number) => format!("n{number}"),
        // Whole doubles are the integers that they equal.
        Value::Double(number) if number.fract() == 0.0 && number.abs() < 1.0e15 => format!("n{number:.0}"),
        other => format!("{other:?}"),
    }
}

/// Returns what makes an item of a list with keys the same item.
pub(super) fn key_of(item: &Value, keys: &[Box<str>]) -> String {
    let Value::Map(map) = item else { return identity(item) };
    let parts = keys.iter().map(|key| {
        let found = map.entries.get(&Key::String((**key).into()));
        found.map_or_else(|| "-".to_owned(), identity)
    });
    parts.collect::<Vec<_>>().join(",")
}

impl List {
    /// Returns this list with another's items behind: sets gain what they lack, and items of the same keys are replaced.
    pub(crate) fn plus(&self, other: &List) -> List {
        let mut items = self.items.clone();
        match &self.merge {
            Merge::Atomic => items.extend(other.items.iter().cloned()),
            Merge::Set => {
                let mut seen: std::collections::BTreeSet<String> = items.iter().map(identity).collect();
                for item in &other.items {
                    if seen.insert(identity(item)) {
                        items.push(item.clone());
                    }
                }
            }
            Merge::Keys(keys) => {
                let rows = items.iter().enumerate();
                let mut places: BTreeMap<String, usize> = rows.map(|(at, item)| (key_of(item, keys), at)).collect();
                for item in &other.items {
                    match places.get(&key_of(item, keys)) {
                        Some(at) => items[*at] = item.clone(),
                        None => {
                            places.insert(key_of(item, keys), items.len());
                            items.push(item.clone());
                        }
                    }
                }
            }
        }
        List {
            items,
            merge: self.merge.clone(),
        }
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Map) -> bool {
        self.entries == other.entries && self.hidden == other.hidden
    }
}
