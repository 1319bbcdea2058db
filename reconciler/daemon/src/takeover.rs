//! Which version of this program a data directory belongs to. A version that finds what a newer one has made of it leaves everything as it is, and says
//! whose it is and what to do; a newer one writes its name down before it changes anything, so that the older one can name it.

use std::path::Path;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use setpoint_store::{DatabaseKind, Schema};

use crate::instance::{Paths, write_private};

/// The record's name in the data directory.
const RECORD: &str = "version.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The version that used the directory last.
    version: String,
}

/// Takes a data directory over, which is locked already; fails, and changes nothing, when it is of a newer version than `own`.
pub async fn take(paths: &Paths, own: &str) -> anyhow::Result<()> {
    let last = read(paths.data_dir());
    for (what, path, kind) in [
        ("the store", paths.store(), DatabaseKind::Log),
        ("the history", paths.history(), DatabaseKind::History),
    ] {
        if !path.exists() {
            continue;
        }
        // One that cannot be read says so itself when it is opened.
        let Ok(schema) = setpoint_store::schema(&path, kind).await else {
            continue;
        };
        if let Some(refusal) = refusal(own, last.as_ref(), what, &schema) {
            bail!("the data directory {} {refusal}", paths.data_dir().display());
        }
    }
    let record = Record {
        version: own.to_owned(),
    };
    if last.as_ref() == Some(&record) {
        return Ok(());
    }
    let path = paths.data_dir().join(RECORD);
    if let Err(error) = write_private(&path, &serde_json::to_vec(&record)?) {
        // It only names a version; on a full disk the daemon starts without.
        tracing::warn!(
            error = format!("{error:#}"),
            "cannot write down which version uses the data directory"
        );
    }
    Ok(())
}

/// Says why a version cannot use a database, and what to do.
fn refusal(own: &str, last: Option<&Record>, what: &str, schema: &Schema) -> Option<String> {
    if schema.found <= schema.known {
        return None;
    }
    let theirs = last.map(|last| last.version.as_str()).filter(|theirs| *theirs != own);
    let by = theirs.map_or_else(|| "a newer setpoint".to_owned(), |theirs| format!("setpoint {theirs}"));
    let start = theirs.map_or_else(|| "the newer one".to_owned(), |theirs| format!("setpoint {theirs}"));
    Some(format!(
        "was last used by {by}, and this is setpoint {own}, which does not know what is in it: {what} has schema {}, and it knows schemas up to {}. \
         Nothing was changed. Start {start} on it again, or go back to a backup that setpoint {own} made: setpoint restore --force FILE",
        schema.found, schema.known
    ))
}

/// Reads the record. It only names a version in a message: one that is not there or not readable names none.
fn read(data_dir: &Path) -> Option<Record> {
    let bytes = std::fs::read(data_dir.join(RECORD)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_named_and_what_to_do() {
        let last = Record {
            version: "0.2.0".to_owned(),
        };
        let schema = |found| Schema { found, known: 2 };
        let said = refusal("0.1.0", Some(&last), "the store", &schema(3)).unwrap();
        for part in [
            "was last used by setpoint 0.2.0",
            "this is setpoint 0.1.0",
            "the store has schema 3",
            "schemas up to 2",
            "Start setpoint 0.2.0 on it again",
            "setpoint restore --force",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(refusal("0.1.0", Some(&last), "the store", &schema(2)), None);
        let unnamed = refusal("0.1.0", None, "the history", &schema(3)).unwrap();
        assert!(
            unnamed.contains("by a newer setpoint") && unnamed.contains("Start the newer one"),
            "{unnamed}"
        );
    }

    #[tokio::test]
    async fn the_version_that_takes_a_directory_over_is_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path()).unwrap();
        for version in ["0.1.0", "0.2.0"] {
            take(&paths, version).await.unwrap();
            assert_eq!(read(paths.data_dir()).unwrap().version, version);
        }
    }
}
