//! The label and field selectors of lists, watches and deletions of collections.

use setpoint_api::{FieldSelector, LabelSelector, Resource, Status};

use super::Call;
use crate::cache::Stored;
use crate::request::Query;

const NAME: &str = "metadata.name";

pub(crate) struct Selection {
    labels: LabelSelector,
    /// The fields' keys, the values, and whether they have to be equal.
    fields: Vec<(String, String, bool)>,
    everything: bool,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`; refuses fields that the kind cannot be selected by.
    pub(crate) fn read(query: &Query, row: &Resource) -> Result<Selection, Status> {
        let labels = query.get("labelSelector").unwrap_or_default();
        let fields = query.get("fieldSelector").unwrap_or_default();
        let everything = labels.trim().is_empty() && fields.trim().is_empty();
        let labels: LabelSelector = labels.parse()?;
        let fields: FieldSelector = fields.parse()?;
        fields.check(row)?;
        let fields = fields.requirements().iter().map(|term| {
            let selectable = row.selectable_fields.iter().find(|field| field.name == term.field);
            let key = selectable.map_or_else(|| term.field.clone(), |field| field.key());
            (key, term.value.clone(), term.equal)
        });
        let fields = fields.collect();
        Ok(Selection {
            labels,
            fields,
            everything,
        })
    }

    /// Reads what a list or watch is of. One of a single object, which the path or `metadata.name=` names, is of that object
    /// alone: its name is what the caller was allowed by, and no other selector widens it.
    pub(crate) fn of(call: &Call<'_>) -> Result<Selection, Status> {
        let mut selection = Selection::read(&call.info.query, &call.row)?;
        if call.name.is_empty() {
            return Ok(selection);
        }
        if selection.fields.is_empty() {
            selection.fields.push((NAME.to_owned(), call.name.clone(), true));
            selection.everything = false;
        } else if !selection.is_of(&call.name) {
            return Err(Status::bad_request(
                "fieldSelector metadata.name doesn't match requested name",
            ));
        }
        Ok(selection)
    }

    /// Whether the first term that asks for a name asks for this one.
    fn is_of(&self, name: &str) -> bool {
        let mut terms = self.fields.iter().filter(|(key, _, equal)| key == NAME && *equal);
        terms.next().is_some_and(|(_, value, _)| value == name)
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.everything
    }

    /// The one name that is selected, if one is.
    pub(crate) fn name(&self) -> Option<&str> {
        let named =
            |(key, value, equal): &&(String, String, bool)| *equal && key == "metadata.name" && !value.is_empty();
        self.fields.iter().find(named).map(|(_, value, _)| value.as_str())
    }

    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        self.everything
            || (self.labels.matches(Some(&stored.labels))
                && self
                    .fields
                    .iter()
                    .all(|(key, value, equal)| (stored.field(key) == value) == *equal))
    }
}
