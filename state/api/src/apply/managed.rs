//! The entries of `metadata.managedFields`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Writer;
use super::fields::Set;

/// How many managers of the operation `Update` an object keeps; the oldest are then held as one.
const MAX_UPDATE_MANAGERS: usize = 10;
const OLD_MANAGERS: &str = "ancient-changes";

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339, in seconds.
    pub time: Option<String>,
    pub set: Set,
}

impl Entry {
    pub fn is_apply_of(&self, writer: &Writer<'_>) -> bool {
        self.operation == Operation::Apply && self.manager == writer.name() && self.subresource == writer.subresource
    }

    pub fn is_update_of(&self, writer: &Writer<'_>) -> bool {
        self.operation == Operation::Update
            && self.manager == writer.name()
            && self.subresource == writer.subresource
            && self.api_version == writer.api_version
    }

    /// Names the manager as the messages of conflicts do.
    pub fn describe(&self) -> String {
        let mut out = crate::validate::field::quote(&self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }

    fn decode(entry: &Value) -> Option<Entry> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let set = match entry.get("fieldsV1") {
            Some(fields) => Set::decode(fields)?,
            None => Set::default(),
        };
        Some(Entry {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
            set,
        })
    }

    fn encode(&self) -> Value {
        let mut out = Map::new();
        out.insert("manager".into(), self.manager.as_str().into());
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        out.insert("operation".into(), operation.into());
        out.insert("apiVersion".into(), self.api_version.as_str().into());
        if let Some(time) = &self.time {
            out.insert("time".into(), time.as_str().into());
        }
        out.insert("fieldsType".into(), "FieldsV1".into());
        out.insert("fieldsV1".into(), self.set.encode());
        if !self.subresource.is_empty() {
            out.insert("subresource".into(), self.subresource.as_str().into());
        }
        Value::Object(out)
    }
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managers(pub Vec<Entry>);

impl Managers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads an object's entries; nothing if one of them cannot be read.
    pub fn decode(object: &Value) -> Option<Managers> {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array)?;
        entries
            .iter()
            .map(Entry::decode)
            .collect::<Option<Vec<_>>>()
            .map(Managers)
    }

    /// Writes the entries that have fields into an object, in their order.
    pub fn encode_into(self, object: &mut Value) {
        let Some(map) = object.as_object_mut() else { return };
        let metadata = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        let Some(metadata) = metadata.as_object_mut() else {
            return;
        };
        match self.encode() {
            Value::Null => drop(metadata.remove("managedFields")),
            entries => drop(metadata.insert("managedFields".into(), entries)),
        }
    }

    /// Returns the entries that have fields, in their order; null when there are none.
    pub fn encode(mut self) -> Value {
        self.0.retain(|entry| !entry.set.is_empty());
        self.0.sort_by(|a, b| {
            let key = |entry: &Entry| {
                (
                    entry.operation,
                    entry.time.clone(),
                    entry.manager.clone(),
                    entry.api_version.clone(),
                    entry.subresource.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        if self.0.is_empty() {
            Value::Null
        } else {
            self.0.iter().map(Entry::encode).collect()
        }
    }

    /// Holds the oldest managers of updates as one where there are too many.
    pub fn cap(&mut self) {
        self.0.retain(|entry| !entry.set.is_empty());
        let mut updates: Vec<usize> = (0..self.0.len())
            .filter(|at| self.0[*at].operation == Operation::Update)
            .collect();
        if updates.len() <= MAX_UPDATE_MANAGERS {
            return;
        }
        updates.sort_by(|a, b| (&self.0[*a].time, &self.0[*a].manager).cmp(&(&self.0[*b].time, &self.0[*b].manager)));
        let surplus = updates.len() - MAX_UPDATE_MANAGERS + 1;
        let old: Vec<usize> = updates.into_iter().take(surplus).collect();
        let mut kept = Vec::with_capacity(self.0.len());
        // Fields mean what they mean in their version: one entry for each.
        let mut buckets: Vec<Entry> = Vec::new();
        for (at, entry) in std::mem::take(&mut self.0).into_iter().enumerate() {
            if !old.contains(&at) {
                kept.push(entry);
                continue;
            }
            match buckets.iter_mut().find(|known| known.api_version == entry.api_version) {
                None => buckets.push(Entry {
                    manager: OLD_MANAGERS.to_owned(),
                    subresource: String::new(),
                    ..entry
                }),
                Some(known) => {
                    known.set = known.set.union(&entry.set);
                    known.time = known.time.take().max(entry.time);
                }
            }
        }
        kept.extend(buckets);
        self.0 = kept;
    }
}

/// Writes a time as entries have it.
pub(super) fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns whether managedFields ask to be forgotten: an empty list, or one empty entry.
pub(super) fn is_reset(fields: &Value) -> bool {
    match fields.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(|entry| entry.values().all(Value::is_null)),
        _ => false,
    }
}
