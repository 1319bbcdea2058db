//! What the parts that decide on a request have to say of it in the audit log.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The longest value that is kept, in bytes.
const LONGEST: usize = 10 << 10;

/// Annotations of one request's audit event. A decision that is made anew (a write that came between) says it again: the
/// last word counts.
#[derive(Debug, Default)]
pub struct Annotations {
    said: Mutex<BTreeMap<String, String>>,
    created: Mutex<Option<String>>,
}

impl Annotations {
    /// Says something; values of more than 10 KiB are cut.
    pub fn set(&self, key: &str, value: impl Into<String>) {
        let mut value = value.into();
        if value.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
            value.truncate(end);
        }
        self.said.lock().insert(key.to_owned(), value);
    }

    /// All that was said.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.said.lock().clone()
    }

    /// Says what is created: a creation's path does not have the name.
    pub(crate) fn creates(&self, name: &str) {
        *self.created.lock() = Some(name.to_owned());
    }

    /// The name of what is created, if that is what the request is about.
    pub(crate) fn created(&self) -> Option<String> {
        self.created.lock().clone()
    }
}
