//! A plan for people.

use std::fmt;

use super::{Change, Counts, Plan};
use crate::diff::FieldChange;
use crate::mask;
use crate::object::ObjectRef;

/// Of one object no more changed fields are shown than this.
const MAX_FIELDS: usize = 50;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let object = &step.object;
            match &step.change {
                Change::Create => writeln!(f, "+ create {object}")?,
                Change::Update { changes } => {
                    writeln!(f, "~ update {object}")?;
                    fields(f, object, changes)?;
                }
                Change::Replace { because, changes } => {
                    writeln!(f, "± replace {object}: {because}")?;
                    fields(f, object, changes)?;
                }
                Change::Delete => writeln!(f, "- delete {object}")?,
                Change::Unchanged => {}
            }
        }
        write!(f, "{}", self.counts())
    }
}

fn fields(f: &mut fmt::Formatter<'_>, object: &ObjectRef, changes: &[FieldChange]) -> fmt::Result {
    for change in mask::changes(object, &changes[..changes.len().min(MAX_FIELDS)]) {
        writeln!(f, "    {change}")?;
    }
    match changes.len().checked_sub(MAX_FIELDS) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(f, "    and {more} more"),
    }
}

/// Written as `spec.replicas: 2 → 3`, with long values shortened. Hides nothing: see [`mask::changes`].
impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<serde_json::Value>| value.as_ref().map_or("unset".to_owned(), mask::shown);
        write!(f, "{}: {} → {}", self.path, shown(&self.from), shown(&self.to))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.create, "to create"),
            (self.update, "to change"),
            (self.replace, "to replace"),
            (self.delete, "to delete"),
        ];
        let mut nothing = true;
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count} {what}, ")?;
            nothing = false;
        }
        if nothing {
            f.write_str("nothing to do, ")?;
        }
        write!(f, "{} unchanged", self.unchanged)
    }
}
