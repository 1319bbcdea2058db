//! The keys: there, private, and all that the databases are sealed with.

use setpoint_store::{KeyError, KeyId, Keys};

use super::{Finding, Findings, Subject};
use crate::backup::swap;

/// Looks at the key file, and whether it has every key that is needed.
pub async fn keys(subject: &Subject) -> Findings {
    // Which keys are needed is known once the databases may be looked at.
    if swap::pending(subject.paths.data_dir()) {
        return Ok(Vec::new());
    }
    let path = subject.paths.key();
    let mut sealed: Vec<(&str, KeyId, u64)> = Vec::new();
    for (name, database) in [
        ("store.db", subject.paths.store()),
        ("history.db", subject.paths.history()),
    ] {
        if database.exists() {
            // What cannot be read is the database's own row.
            let Ok(counts) = setpoint_store::sealed_with(&database).await else {
                continue;
            };
            sealed.extend(counts.into_iter().map(|(id, count)| (name, id, count)));
        }
    }
    let back = format!("put {} back from where you keep a copy", path.display());
    if !path.exists() {
        return Ok(match (subject.instance.is_some(), sealed.is_empty()) {
            (_, false) => vec![Finding::failed(
                format!("{} is missing, and the databases are sealed with it", path.display()),
                back,
            )],
            (true, true) => vec![Finding::ok("no key yet: the next start makes one")],
            (false, true) => Vec::new(),
        });
    }
    let keys = match Keys::load(&path) {
        Ok(keys) => keys,
        Err(error @ KeyError::Permissions { .. }) => {
            return Ok(vec![Finding::failed(
                error.to_string(),
                "then ask yourself who may have read it, and change the key: setpoint key rotate",
            )]);
        }
        Err(error) => return Ok(vec![Finding::failed(error.to_string(), back)]),
    };
    let missing: Vec<Finding> = sealed
        .iter()
        .filter(|(_, id, _)| !keys.has(*id))
        .map(|(name, id, count)| {
            Finding::failed(
                format!(
                    "{count} values in {name} are sealed with key {id}, which {} does not have",
                    path.display()
                ),
                format!("add its line (`{id} …`) from a copy of the key file, before the last line"),
            )
        })
        .collect();
    if !missing.is_empty() {
        return Ok(missing);
    }
    let total: u64 = sealed.iter().map(|(_, _, count)| count).sum();
    let older: u64 = sealed
        .iter()
        .filter(|(_, id, _)| *id != keys.newest())
        .map(|(_, _, count)| count)
        .sum();
    let mut text = format!(
        "every key is here, the newest is {}; sealed values: {total}",
        keys.newest()
    );
    if older > 0 {
        text.push_str(&format!(", with older keys: {older}"));
    }
    Ok(vec![Finding::ok(text)])
}
