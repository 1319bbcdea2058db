//! Backups: what one holds, how its file is laid out, how it is made and put back.
//!
//! A backup file is two lines of text and a sealed stream:
//!
//! ```text
//! setpoint-backup 1
//! {"created":…,"instance":…,"key":…,"contents":[…]}      what it is, for people and for `restore`
//! (sealed stream of a zstd tar: the parts, each under its name)
//! ```
//!
//! The two lines are bound to the stream: it does not open behind others. Without the key that the header names nothing of the
//! stream can be read; the key is in the file only when that was asked for.
//!
//! Not in it: images, copies of remote repositories, what of pods lies on this machine, and the kubeconfig: all of that is had
//! again, or belongs to the machine.
//!
//! Where to start: `stage` takes the parts out of a data directory in use, `pack` writes and reads the file, `swap` puts parts
//! in the place of others so that a crash leaves all of the old or all of the new.

pub mod pack;
pub mod repositories;
pub mod stage;
pub mod swap;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The first line without its version.
const MARK: &str = "setpoint-backup ";
/// The format's version.
const VERSION: &str = "1";
/// The longest header, in bytes.
const LONGEST_HEADER: u64 = 1 << 20;

/// The parts that a backup may have, in the order in which they are taken and put back. The store comes before the history, which may then
/// know of more but never of less; repositories come last: commits that came meanwhile are rolled out after the restore.
pub const PARTS: &[&str] = &[
    "store.db",
    "history.db",
    "instance.json",
    "service-account.key",
    "service-account.next.key",
    "service-account.old.json",
    "pki",
    "repositories",
];

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// When it was made.
    pub created: Timestamp,
    /// The instance's four digits.
    pub instance: String,
    /// The node's name.
    pub node: String,
    /// The version that made it.
    pub version: String,
    /// No revision beyond this had been issued when the store was copied.
    pub newest_revision: u64,
    /// The key that the stream is sealed with.
    pub key: String,
    /// All keys that are needed to read everything in it.
    pub keys: Vec<String>,
    /// The parts.
    pub contents: Vec<Content>,
    /// The text of the key file, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
}

/// One part of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// One of [`PARTS`].
    pub name: String,
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Header {
    /// Returns the bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.contents.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// Returns how many files all parts have.
    pub fn files(&self) -> u64 {
        self.contents.iter().fold(0, |sum, part| sum.saturating_add(part.files))
    }

    /// Returns the header as programs are shown it: without any key.
    pub fn shown(&self) -> serde_json::Result<serde_json::Value> {
        let mut shown = serde_json::to_value(Header {
            key_file: None,
            ..self.clone()
        })?;
        shown["holdsKey"] = self.key_file.is_some().into();
        Ok(shown)
    }
}

/// A backup file whose header has been read; what follows is the stream.
pub struct Opened {
    /// What it says of itself.
    pub header: Header,
    /// The header's line, which the stream is bound to.
    line: String,
    /// The rest of the file.
    rest: BufReader<File>,
}

/// Opens a backup file and reads its header.
pub fn open(path: &Path) -> anyhow::Result<Opened> {
    let file = File::open(path).with_context(|| format!("cannot open the backup {}", path.display()))?;
    ensure!(
        file.metadata()?.is_file(),
        "{} is no backup: it is not a file",
        path.display()
    );
    let mut rest = BufReader::new(file);
    let mark = line(&mut rest, 64)?.unwrap_or_default();
    let Some(version) = mark.strip_prefix(MARK) else {
        bail!("{} is no backup of setpoint", path.display());
    };
    ensure!(
        version == VERSION,
        "{} is a backup of format {version:?}; setpoint {} reads format {VERSION}: use the version that made it, or a newer one",
        path.display(),
        env!("CARGO_PKG_VERSION")
    );
    let line = line(&mut rest, LONGEST_HEADER)?
        .with_context(|| format!("the backup {} ends within its header: it was cut short", path.display()))?;
    let header: Header = serde_json::from_str(&line)
        .with_context(|| format!("the header of the backup {} is damaged", path.display()))?;
    for part in &header.contents {
        ensure!(
            PARTS.contains(&part.name.as_str()),
            "the backup {} holds {:?}, which setpoint {} does not know: use the version that made it, or a newer one",
            path.display(),
            part.name,
            env!("CARGO_PKG_VERSION")
        );
    }
    Ok(Opened { header, line, rest })
}

/// Reads a line of so many bytes at most; `None` when it does not end there, or is not text.
fn line(from: &mut impl BufRead, longest: u64) -> anyhow::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.by_ref().take(longest).read_until(b'\n', &mut bytes)?;
    Ok((bytes.pop() == Some(b'\n'))
        .then(|| String::from_utf8(bytes).ok())
        .flatten())
}

/// Says in people's units how much something is.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_backup_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let said = |text: &str| {
            std::fs::write(&path, text).unwrap();
            open(&path).err().unwrap().to_string()
        };
        assert!(said("").contains("no backup of setpoint"));
        assert!(said("PK\x03\x04").contains("no backup of setpoint"));
        assert!(said("setpoint-backup 9\n{}\n").contains("format \"9\""));
        assert!(said("setpoint-backup 1\n{\"crea").contains("cut short"));
        assert!(said("setpoint-backup 1\n{}\n").contains("damaged"));
        assert!(open(folder.path()).err().unwrap().to_string().contains("not a file"));
        let unknown = r#"{"created":"2026-01-01T00:00:00Z","instance":"ab12","node":"n","version":"9","newestRevision":1,"key":"k","keys":[],"contents":[{"name":"../x","files":1,"bytes":1}]}"#;
        assert!(said(&format!("setpoint-backup 1\n{unknown}\n")).contains("does not know"));
    }

    #[test]
    fn sizes_are_said_in_peoples_units() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
    }
}
