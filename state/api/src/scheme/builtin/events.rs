//! events.k8s.io/v1: the Events of the core group, under other names.

use super::plain;
use crate::convert::events::EVENT;
use crate::scheme::Resource;
use crate::{table, validate};

pub(super) fn events() -> Vec<Resource> {
    let mut event = plain("events.k8s.io", "Event", "events")
        .short(&["ev"])
        .stored_as("", "v1", EVENT)
        .table(table::event_of_events())
        .validated(validate::event::create, validate::event::update);
    for (name, path) in [
        ("regarding.kind", "involvedObject.kind"),
        ("regarding.namespace", "involvedObject.namespace"),
        ("regarding.name", "involvedObject.name"),
        ("regarding.uid", "involvedObject.uid"),
        ("regarding.apiVersion", "involvedObject.apiVersion"),
        ("regarding.resourceVersion", "involvedObject.resourceVersion"),
        ("regarding.fieldPath", "involvedObject.fieldPath"),
        ("reason", "reason"),
        ("reportingController", "reportingComponent"),
        ("type", "type"),
    ] {
        event = event.selectable_at(name, path, "");
    }
    vec![event]
}
