//! The order of merged lists: items that the patch names come in its order, the others stay where they were beside them.

use serde_json::Value;

/// What makes two items the same one: a key, or the whole value.
pub(super) struct Identity<'a> {
    merge_key: Option<&'a str>,
}

impl<'a> Identity<'a> {
    pub fn new(merge_key: Option<&'a str>) -> Identity<'a> {
        Identity { merge_key }
    }

    pub fn same(&self, a: &Value, b: &Value) -> bool {
        match self.merge_key {
            None => same_key(a, b),
            Some(key) => match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => same_key(a, b),
                _ => false,
            },
        }
    }

    fn position(&self, list: &[Value], item: &Value) -> Option<usize> {
        list.iter().position(|candidate| self.same(candidate, item))
    }
}

/// Compares two keys; a number is the same however it is written, but no string.
pub(super) fn same_key(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// Sorts a merged list by the order that the patch wants; `before` is the list as it was.
pub(super) fn enforce_order(
    identity: &Identity<'_>,
    merged: Vec<Value>,
    wanted: &[Value],
    before: &[Value],
) -> Vec<Value> {
    let (mut patched, mut others): (Vec<_>, Vec<_>) = merged
        .into_iter()
        .partition(|item| identity.position(wanted, item).is_some());
    let at = |list: &[Value], item: &Value| identity.position(list, item).unwrap_or(usize::MAX);
    patched.sort_by_key(|item| at(wanted, item));
    others.sort_by_key(|item| at(before, item));
    let mut out = Vec::with_capacity(patched.len() + others.len());
    let (mut patched, mut others) = (patched.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), patched.peek()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            // Only where both were there before does the old order say something.
            (Some(other), Some(patch)) => match (identity.position(before, other), identity.position(before, patch)) {
                (Some(other), Some(patch)) => other < patch,
                _ => false,
            },
        };
        out.extend(if other_first { others.next() } else { patched.next() });
    }
    out
}
