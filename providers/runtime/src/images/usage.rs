//! When images were used: `usage.json`, written by the daemon that looks from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ImageError;
use super::record::{self, Durable};

/// When images came and were used, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage(BTreeMap<String, Seen>);

/// What is known of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// When it was first seen.
    pub detected: Timestamp,
    /// When it was last seen in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

impl Usage {
    /// Notes which images there are and which of them are in use now; forgets those that are gone.
    pub fn look(&mut self, present: &BTreeSet<String>, used: &BTreeSet<String>, now: Timestamp) {
        self.0.retain(|id, _| present.contains(id));
        for id in present {
            let seen = self.0.entry(id.clone()).or_insert(Seen {
                detected: now,
                last_used: None,
            });
            if used.contains(id) {
                seen.last_used = Some(now);
            }
        }
    }

    /// Returns what is known of an image.
    pub fn of(&self, id: &str) -> Option<Seen> {
        self.0.get(id).copied()
    }
}

pub(super) fn read(root: &Path) -> Result<Usage, ImageError> {
    match record::read_json(&root.join("usage.json")) {
        // What is lost here is lost for good and little: images look younger than they are.
        Err(error @ ImageError::Damaged { .. }) => {
            tracing::warn!(%error, "it is not known when images were used");
            Ok(Usage::default())
        }
        read => Ok(read?.unwrap_or_default()),
    }
}

pub(super) fn write(root: &Path, usage: &Usage) -> Result<(), ImageError> {
    record::write_json(root, &root.join("usage.json"), usage, Durable::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_noted_and_what_is_gone_is_forgotten() {
        let set = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<BTreeSet<String>>();
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut usage = Usage::default();
        usage.look(&set(&["a", "b"]), &set(&["a"]), at(1));
        usage.look(&set(&["a"]), &set(&[]), at(2));
        let a = usage.of("a").unwrap();
        assert_eq!((a.detected, a.last_used, usage.of("b")), (at(1), Some(at(1)), None));
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("staging")).unwrap();
        write(folder.path(), &usage).unwrap();
        assert_eq!(read(folder.path()).unwrap(), usage);
        std::fs::write(folder.path().join("usage.json"), "{").unwrap();
        assert_eq!(read(folder.path()).unwrap(), Usage::default());
    }
}
