//! Freeing values: one after the other, however deep they lie in one another.
//!
//! A template can put a list into a list a million times; freeing that level by level would take a stack as deep.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::ops::Deref;

use super::{Entries, Value};

thread_local! {
    /// What is still to be freed, while something is.
    static PENDING: RefCell<Option<Vec<Value>>> = const { RefCell::new(None) };
}

/// The elements of a list.
#[derive(Default)]
pub struct Items(Vec<Value>);

impl From<Vec<Value>> for Items {
    fn from(items: Vec<Value>) -> Self {
        Self(items)
    }
}

impl FromIterator<Value> for Items {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl Deref for Items {
    type Target = Vec<Value>;
    fn deref(&self) -> &Vec<Value> {
        &self.0
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        if self.0.iter().any(holds_more) {
            release(std::mem::take(&mut self.0));
        }
    }
}

/// The entries of a map, shared by its holders.
pub(super) struct Cell(RefCell<Entries>);

impl Cell {
    pub fn new(entries: Entries) -> Self {
        Self(RefCell::new(entries))
    }

    pub fn borrow(&self) -> Ref<'_, Entries> {
        self.0.borrow()
    }

    pub fn borrow_mut(&self) -> RefMut<'_, Entries> {
        self.0.borrow_mut()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let entries = self.0.get_mut();
        if entries.values().any(holds_more) {
            release(std::mem::take(entries).into_values().collect());
        }
    }
}

fn holds_more(value: &Value) -> bool {
    matches!(value, Value::List(_) | Value::Map(_))
}

/// Frees values, or leaves them to whoever is freeing already.
fn release(values: Vec<Value>) {
    // While the thread ends there is no list any more; then they are freed right here, with the closure.
    let is_first = PENDING.try_with(|pending| match &mut *pending.borrow_mut() {
        Some(pending) => {
            pending.extend(values);
            false
        }
        none => {
            *none = Some(values);
            true
        }
    });
    if is_first != Ok(true) {
        return;
    }
    let next = || PENDING.with(|pending| pending.borrow_mut().as_mut().and_then(Vec::pop));
    while let Some(value) = next() {
        drop(value);
    }
    PENDING.with(|pending| *pending.borrow_mut() = None);
}
