//! The lines of a watch in the form that its client accepts.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use setpoint_api::table;
use setpoint_api::{Resource, Status, meta};

use crate::body::{Accept, Form};
use crate::cache::{EventType, ObjectEvent, Stored, event_line, partial_line};
use crate::registry::{Call, Now, value_of};

pub(super) struct Renderer {
    row: Arc<Resource>,
    accept: Accept,
    now: Now,
    /// Whether a Table's columns were sent; they are once.
    columns_sent: bool,
}

impl Renderer {
    pub(super) fn new(call: &Call<'_>) -> Renderer {
        Renderer {
            row: call.row.clone(),
            accept: call.accept,
            now: call.inner().now.clone(),
            columns_sent: false,
        }
    }

    /// An event of the ring; but for tables the line is shared by all watchers of a version.
    pub(super) fn event(&mut self, kind: EventType, event: &ObjectEvent) -> Bytes {
        match event.shown(kind) {
            Some(stored) if self.accept.form == Form::Object && super::in_version(&self.row, stored) => {
                event.line(kind)
            }
            Some(stored)
                if self.accept.form == Form::Metadata
                    && self.accept.is_current()
                    && super::in_version(&self.row, stored) =>
            {
                event.partial_line(kind)
            }
            Some(stored) if self.accept.form != Form::Table => {
                let form = format!("{:?} {} {}", self.accept.form, self.accept.meta, self.row.api_version());
                event.converted_line(kind, &form, || self.object(kind, stored, event.revision))
            }
            Some(stored) => self.object(kind, stored, event.revision),
            None => Bytes::new(),
        }
    }

    /// An object as it is, said to be at a revision.
    pub(super) fn object(&mut self, kind: EventType, stored: &Stored, revision: u64) -> Bytes {
        if self.accept.form == Form::Object && super::in_version(&self.row, stored) {
            return event_line(kind, stored, revision);
        }
        if self.accept.form == Form::Metadata && self.accept.is_current() && super::in_version(&self.row, stored) {
            return partial_line(kind, stored, revision);
        }
        let mut value = value_of(&self.row, stored);
        meta::set(&mut value, "resourceVersion", revision.to_string());
        let object = match self.accept.form {
            Form::Object => value,
            Form::Metadata => table::partial(&value),
            Form::Table => {
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let metadata = json!({"resourceVersion": revision.to_string()});
                table::table(
                    &self.row,
                    [&value],
                    metadata,
                    self.accept.include,
                    columns,
                    (self.now)(),
                )
            }
        };
        line(kind.as_str(), &self.versioned(object))
    }

    /// How far the watch has come.
    pub(super) fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.accept.form {
            Form::Object => json!({"kind": self.row.kind, "apiVersion": self.row.api_version(), "metadata": metadata}),
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Table => {
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                table::table(&self.row, [], metadata, self.accept.include, columns, (self.now)())
            }
        };
        line("BOOKMARK", &self.versioned(object))
    }

    /// What stands for an object in the version asked for; an object as it is.
    fn versioned(&self, object: Value) -> Value {
        match self.accept.form {
            Form::Object => object,
            _ => self.accept.versioned(object),
        }
    }

    /// Why the watch ends.
    pub(super) fn error(&self, status: &Status) -> Bytes {
        line("ERROR", &status.to_value())
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    text.into()
}
