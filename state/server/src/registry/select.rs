//! The label and field selectors of lists, watches and deletions of collections.

use setpoint_api::{FieldSelector, LabelSelector, Resource, Status};

use crate::cache::Stored;
use crate::request::Query;

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
