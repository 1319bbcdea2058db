//! The versions of a kind that are served, for those who compare what managers have in the versions that they spoke.

use std::sync::Arc;

use setpoint_api::apply::{OtherVersion, Versions};
use setpoint_api::{Resource, Scheme, meta};

use super::Inner;
use crate::body;

/// The versions beside one row.
pub(super) struct ServedVersions<'a> {
    scheme: &'a Scheme,
    row: Arc<Resource>,
}

impl<'a> ServedVersions<'a> {
    pub(super) fn of(inner: &'a Inner, row: &Arc<Resource>) -> ServedVersions<'a> {
        ServedVersions {
            scheme: &inner.scheme,
            row: Arc::clone(row),
        }
    }
}

impl Versions for ServedVersions<'_> {
    fn other(&self, api_version: &str) -> Option<OtherVersion> {
        let (group, version) = meta::group_version(api_version);
        let own = Arc::clone(&self.row);
        if (group, version) == (own.group.as_str(), own.version.as_str()) {
            return None;
        }
        let other = self.scheme.by_kind(group, version, &own.kind)?;
        let converted = own.conversion.is_some() || other.conversion.is_some();
        if !converted || !own.shares_objects_with(&other) {
            return None;
        }
        let schema = body::structure(&other)?;
        let (back_own, back_other) = (Arc::clone(&own), Arc::clone(&other));
        Some(OtherVersion {
            schema,
            there: Box::new(move |object| {
                own.to_stored(object);
                other.from_stored(object);
            }),
            back: Box::new(move |object| {
                back_other.to_stored(object);
                back_own.from_stored(object);
            }),
        })
    }
}
