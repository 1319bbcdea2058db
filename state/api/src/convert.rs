//! Between the versions of kinds that have more than one form: [`crate::scheme::Conversion`]s.
//!
//! Every function takes any JSON and leaves out what it cannot carry over. What only the stored form can say travels through the other one
//! in annotations, so that a client of the other version that reads and writes an object loses nothing of it.

pub mod autoscaling;
pub mod events;

use serde_json::{Map, Value};

/// Takes the value at a path of keys out of a map, and what is then left empty on the way there.
fn take(map: &mut Map<String, Value>, path: &[&str]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return map.remove(*first).filter(|value| !value.is_null());
    }
    let inner = map.get_mut(*first)?.as_object_mut()?;
    let taken = take(inner, rest);
    if inner.is_empty() {
        map.remove(*first);
    }
    taken
}

/// Puts a value at a path of keys.
fn put(map: &mut Map<String, Value>, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => {
            map.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => put(crate::meta::map_mut(map, first), rest, value),
    }
}

#[cfg(test)]
mod tests;
