//! The values of a job: those of its files, and those that are set over them.

use serde_json::{Map, Value};

use super::objects::at;
use super::{Failure, Job};
use crate::chart::{exact_values, merge_maps, set_path};
use crate::functions::floats;

/// Values in the two ways in which templates see them.
pub(super) struct Values {
    /// For Go templates: numbers of files are floats, as in Helm; those that are set keep their types.
    pub go: Map<String, Value>,
    /// Integers are integers.
    pub exact: Map<String, Value>,
}

/// Reads the values of a job.
pub(super) fn read(job: &Job) -> Result<Values, Failure> {
    let mut files = Map::new();
    for file in &job.values {
        let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
        let values = exact_values(text).map_err(|error| at(&file.name, error))?;
        files = merge_maps(files, values);
    }
    let mut go = Value::Object(files.clone());
    floats(&mut go);
    let go = match go {
        Value::Object(go) => go,
        _ => Map::new(),
    };
    Ok(Values {
        go: with_set(go, &job.set)?,
        exact: with_set(files, &job.set)?,
    })
}

fn with_set(mut values: Map<String, Value>, set: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    for (key, value) in set {
        let is_path = key.contains(['.', '[', '\\']);
        match value {
            value if is_path => set_path(&mut values, key, value.clone()).map_err(|words| Failure {
                message: format!("set {key:?}: {words}"),
                ..Failure::default()
            })?,
            value => values = merge_maps(values, Map::from_iter([(key.clone(), value.clone())])),
        }
    }
    Ok(values)
}
