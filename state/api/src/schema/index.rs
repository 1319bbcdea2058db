//! The items of a list by the values of the keys that tell them apart.

use std::collections::HashMap;

use serde_json::Value;

/// A list's items by their keys; of items with the same keys, the first counts.
pub(super) struct Index<'a> {
    keys: Vec<&'a str>,
    items: HashMap<String, &'a Value>,
}

impl<'a> Index<'a> {
    /// Indexes a list; what is none has no items.
    pub fn new(keys: impl Iterator<Item = &'a str>, list: &'a Value) -> Index<'a> {
        let keys: Vec<&str> = keys.collect();
        let mut items = HashMap::new();
        for item in list.as_array().into_iter().flatten() {
            items.entry(identity(&keys, item)).or_insert(item);
        }
        Index { keys, items }
    }

    /// Returns the item with the keys of this one.
    pub fn find(&self, item: &Value) -> Option<&'a Value> {
        self.items.get(&identity(&self.keys, item)).copied()
    }
}

fn identity(keys: &[&str], item: &Value) -> String {
    let parts = keys
        .iter()
        .map(|key| item.get(*key).map_or_else(String::new, Value::to_string));
    parts.collect::<Vec<_>>().join(",")
}
