//! Tables of what is wrong, and how Kubernetes says so: a good object, one change to it, the messages.

use serde_json::{Value, json};

use super::{errors, resource};
use crate::meta;

mod admission;
mod apps;
mod batch;
mod certificates;
mod networking;
mod scheduling;

/// A change: a JSON pointer and what is put there (null takes it away), and the messages that follow.
type Case = (&'static str, Value, &'static [&'static str]);

/// Puts a value at a pointer, making maps on the way; a null removes.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    if object.pointer(parent).is_none_or(Value::is_null) {
        put(object, parent, json!({}));
    }
    match object.pointer_mut(parent).unwrap() {
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => list[last.parse::<usize>().unwrap()] = value,
        map => {
            meta::map_of(map).insert(last.to_owned(), value);
        }
    }
}

fn refused(group: &str, plural: &str, good: &Value, cases: &[Case]) {
    assert_eq!(errors(group, plural, good.clone()), Vec::<String>::new(), "{plural}");
    for (pointer, value, expected) in cases {
        let mut object = good.clone();
        put(&mut object, pointer, value.clone());
        assert_eq!(errors(group, plural, object), *expected, "{plural} {pointer} {value}");
    }
}

/// Updates of a good, defaulted object.
fn update_refused(group: &str, plural: &str, good: &Value, cases: &[Case]) {
    let row = resource(group, plural);
    let mut old = good.clone();
    row.default(&mut old);
    for (pointer, value, expected) in cases {
        let mut new = old.clone();
        put(&mut new, pointer, value.clone());
        let found: Vec<String> = row
            .validate_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, *expected, "{plural} {pointer} {value}");
    }
}

fn status_refused(group: &str, plural: &str, old: &Value, cases: &[Case]) {
    let row = resource(group, plural);
    for (pointer, value, expected) in cases {
        let mut new = old.clone();
        put(&mut new, pointer, value.clone());
        let found: Vec<String> = row.validate_status(&new, old).iter().map(ToString::to_string).collect();
        assert_eq!(found, *expected, "{plural} {pointer} {value}");
    }
}
