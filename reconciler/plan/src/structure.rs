//! What is known of a kind's structure: that of a built-in kind, or nothing but that every object has metadata.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use setpoint_api::apply::Place;
use setpoint_api::schema::{self, Schema};
use setpoint_api::{Resource, Scheme, meta};

/// The structure of a kind.
pub(crate) struct Structure {
    schema: Option<Arc<Schema>>,
    /// Of a kind that has metadata as all have; stands in for that of unknown kinds.
    config_map: Option<Arc<Schema>>,
}

impl Structure {
    /// Finds the structure of an object's kind.
    pub fn of(object: &Value) -> Structure {
        let (group, version) = meta::group_version(meta::api_version(object));
        let schema = schema::builtin(group, version, meta::kind(object));
        let config_map = match &schema {
            Some(_) => None,
            None => schema::builtin("", "v1", "ConfigMap"),
        };
        Structure { schema, config_map }
    }

    /// Returns the schema of a built-in kind.
    pub fn known(&self) -> Option<&Schema> {
        self.schema.as_deref()
    }

    /// Returns the place of the whole object.
    pub fn root(&self) -> Place<'_> {
        Place::root(self.known().unwrap_or_else(|| Schema::any()))
    }

    /// Returns the place below a key of the whole object.
    pub fn top(&self, key: &str) -> Place<'_> {
        match &self.config_map {
            Some(config_map) if key == "metadata" => Place::root(config_map).child(key),
            _ => self.root().child(key),
        }
    }
}

/// Returns the row of a built-in kind.
pub(crate) fn row(object: &Value) -> Option<Arc<Resource>> {
    static SCHEME: OnceLock<Scheme> = OnceLock::new();
    SCHEME.get_or_init(Scheme::builtin).for_object(object)
}

/// Returns whether `status` is not part of what an apply of the object writes.
pub(crate) fn status_apart(object: &Value) -> bool {
    row(object).is_none_or(|row| row.has_status)
}

/// Returns whether a field of `metadata` is the server's, or says who the object is.
pub(crate) fn is_bookkeeping(key: &str) -> bool {
    matches!(
        key,
        "name"
            | "namespace"
            | "generateName"
            | "creationTimestamp"
            | "deletionTimestamp"
            | "deletionGracePeriodSeconds"
            | "selfLink"
            | "uid"
            | "clusterName"
            | "generation"
            | "managedFields"
            | "resourceVersion"
    )
}
