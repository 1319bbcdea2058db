//! The versions of a kind, where an object does not look the same in all of them.
//!
//! An entry of `metadata.managedFields` names fields of the version that its manager spoke. What a write changes is therefore compared in
//! each entry's version: the object before and after are turned into it, and its fields are looked for there.
//!
//! Invariant: where every version has the same form, nothing is converted.

use std::sync::Arc;

use serde_json::Value;

use super::differ::{Comparison, compare};
use super::managed::Entry;
use super::node::Node;
use super::{Managers, Writer};
use crate::schema::Schema;

/// Knows the versions of a kind that a writer did not speak.
pub trait Versions: Sync {
    /// Returns a version in which objects look different; `None` for one in which they look as the writer sees them, and for one that
    /// is not served any more.
    fn other(&self, api_version: &str) -> Option<OtherVersion>;
}

/// The way from the writer's version to another one, and back.
pub struct OtherVersion {
    /// The structure there.
    pub schema: Arc<Schema>,
    /// Turns an object of the writer's version into one of this version.
    pub there: Box<dyn Fn(&mut Value) + Send + Sync>,
    /// Turns an object of this version into one of the writer's.
    pub back: Box<dyn Fn(&mut Value) + Send + Sync>,
}

impl std::fmt::Debug for OtherVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OtherVersion")
    }
}

/// A kind of which every version has the same form.
#[derive(Clone, Copy, Debug, Default)]
pub struct SameForm;

impl Versions for SameForm {
    fn other(&self, _: &str) -> Option<OtherVersion> {
        None
    }
}

impl OtherVersion {
    /// Returns an object of the writer's version as it looks here.
    pub(super) fn seen(&self, object: &Value) -> Value {
        let mut object = object.clone();
        (self.there)(&mut object);
        object
    }

    /// Returns an object of this version as the writer sees it.
    pub(super) fn returned(&self, mut object: Value) -> Value {
        (self.back)(&mut object);
        object
    }
}

/// What a write changes, in the version of each of the managers.
pub(super) struct Comparisons {
    own: Comparison,
    others: Vec<(String, Comparison)>,
}

impl Comparisons {
    /// Compares an object before and after a write; `keep` takes out of each comparison what this write cannot own.
    pub fn new(
        root: &Node<'_>,
        (before, after): (&Value, &Value),
        managers: &Managers,
        versions: &dyn Versions,
        keep: impl Fn(&mut Comparison),
    ) -> Comparisons {
        let mut own = compare(root, Some(before), Some(after));
        keep(&mut own);
        let mut others: Vec<(String, Comparison)> = Vec::new();
        for version in spoken(managers) {
            if let Some(other) = versions.other(version) {
                let root = Node::root(&other.schema);
                let mut comparison = compare(&root, Some(&other.seen(before)), Some(&other.seen(after)));
                keep(&mut comparison);
                others.push((version.to_owned(), comparison));
            }
        }
        Comparisons { own, others }
    }

    /// Returns the comparison in the writer's version.
    pub fn own(&self) -> &Comparison {
        &self.own
    }

    /// Returns the comparison in the version of an entry.
    pub fn of(&self, entry: &Entry) -> &Comparison {
        self.others
            .iter()
            .find(|(version, _)| *version == entry.api_version)
            .map_or(&self.own, |(_, comparison)| comparison)
    }
}

/// Returns the versions that the managers spoke, each once.
pub(super) fn spoken(managers: &Managers) -> Vec<&str> {
    let mut versions: Vec<&str> = managers.0.iter().map(|entry| entry.api_version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

impl Writer<'_> {
    /// Keeps of a comparison what this write can own.
    pub(super) fn filter(&self, comparison: &mut Comparison) {
        for set in [&mut comparison.added, &mut comparison.modified, &mut comparison.removed] {
            self.strip(set);
        }
    }
}
