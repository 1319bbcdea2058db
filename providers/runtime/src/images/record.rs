//! What the store remembers of an image.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access::Access;
use super::names::Names;
use super::{ImageError, layer};

/// How an image wants to be run, unless the container says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The program, and arguments that are always given.
    pub entrypoint: Vec<String>,
    /// The arguments when the container gives none.
    pub cmd: Vec<String>,
    /// Variables as `NAME=value`.
    pub env: Vec<String>,
    /// The directory to start in.
    pub working_dir: Option<String>,
    /// `user`, `user:group`, by name or number.
    pub user: Option<String>,
    /// The signal that stops it, by name or number.
    pub stop_signal: Option<String>,
    /// The paths of its volumes, as it writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// An installed image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its id: `sha256:…` of its configuration.
    pub id: String,
    /// The digest of its manifest; of its configuration where it came without one.
    pub digest: String,
    /// The names that stand for it.
    pub references: Vec<String>,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Its unpacked layers, bottom first.
    pub layers: Vec<PathBuf>,
    /// The size of its layers' files in bytes.
    pub size: u64,
    /// Whether nothing removes it by itself: it was imported, and no registry is known to have it. One whose names have all moved on to other
    /// images is no longer pinned.
    pub pinned: bool,
}

/// An image on disk. Names are kept apart, because they move between images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub id: String,
    pub digest: String,
    /// What else it was installed as: a configuration may have several manifests (packed anew, elsewhere), and a manifest several indexes.
    #[serde(default)]
    pub other_digests: Vec<String>,
    pub config: ImageConfig,
    /// The digests of the unpacked layers, bottom first.
    pub layers: Vec<String>,
    pub size: u64,
    /// Who may use it.
    #[serde(default)]
    pub access: Access,
    /// Whether it ever had a name.
    #[serde(default)]
    pub named: bool,
    /// The whole configuration; images that were installed before it was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_config: Option<Value>,
}

impl Record {
    /// Whether a reference by this digest means this image.
    pub fn answers_to(&self, digest: &str) -> bool {
        // The id: an image of a docker archive, which has no manifest, is shown with it.
        digest == self.digest || digest == self.id || self.other_digests.iter().any(|other| other == digest)
    }

    /// Keeps answering to what an earlier record of this image did.
    pub fn succeed(&mut self, earlier: Record) {
        self.access.succeed(earlier.access);
        self.named |= earlier.named;
        let mut digests = earlier.other_digests;
        digests.push(earlier.digest.clone());
        if self.digest == self.id {
            // It came without a manifest this time; a digest that a registry knows is worth more.
            digests.push(std::mem::replace(&mut self.digest, earlier.digest));
        }
        for digest in digests {
            self.also_answer_to(&digest);
        }
    }

    /// Notes another digest that means this image.
    pub fn also_answer_to(&mut self, digest: &str) {
        if !self.answers_to(digest) {
            self.other_digests.push(digest.to_owned());
        }
    }

    pub fn into_image(self, root: &Path, names: &Names) -> Image {
        let own = names.iter().filter(|(_, id)| **id == self.id);
        let references: Vec<String> = own.map(|(name, _)| name.clone()).collect();
        Image {
            pinned: self.access.only_imported() && (!references.is_empty() || !self.named),
            references,
            layers: self
                .layers
                .iter()
                .map(|digest| layer::files(&layer::folder(root, digest)))
                .collect(),
            id: self.id,
            digest: self.digest,
            config: self.config,
            size: self.size,
        }
    }
}

fn path(root: &Path, id: &str) -> PathBuf {
    root.join("images").join(format!("{}.json", id.replace(':', "-")))
}

/// Whether a text is a digest, and so can be part of a path.
pub(super) fn is_digest(id: &str) -> bool {
    id.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(super) fn read(root: &Path, id: &str) -> Result<Option<Record>, ImageError> {
    if is_digest(id) {
        read_json(&path(root, id))
    } else {
        Ok(None)
    }
}

/// Returns when a record was last written: when its image was installed the last time.
pub(super) fn written_at(root: &Path, id: &str) -> Result<Option<SystemTime>, ImageError> {
    let path = path(root, id);
    match std::fs::metadata(&path).and_then(|metadata| metadata.modified()) {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::io("look at", &path)(error)),
    }
}

pub(super) fn read_all(root: &Path) -> Result<Vec<Record>, ImageError> {
    let folder = root.join("images");
    let mut records: Vec<Record> = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(ImageError::io("list", &folder))? {
        let entry = entry.map_err(ImageError::io("list", &folder))?;
        records.extend(read_json::<Record>(&entry.path())?);
    }
    records.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(records)
}

pub(super) fn write(root: &Path, record: &Record) -> Result<(), ImageError> {
    write_json(root, &path(root, &record.id), record, Durable::Yes)
}

pub(super) fn remove(root: &Path, id: &str) -> Result<bool, ImageError> {
    if !is_digest(id) {
        return Ok(false);
    }
    let path = path(root, id);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ImageError::io("remove", &path)(error)),
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ImageError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| ImageError::Damaged {
                path: path.into(),
                source,
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::io("read", path)(error)),
    }
}

/// Whether a file has to outlive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// It is on the disk before the write returns: a record must not outlive a power cut without its name.
    Yes,
    /// It may be lost, or come back empty.
    No,
}

/// Writes a file whole or not at all.
pub(super) fn write_json(root: &Path, path: &Path, value: &impl Serialize, durable: Durable) -> Result<(), ImageError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|source| ImageError::Damaged {
        path: path.into(),
        source,
    })?;
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(root.join("staging"))?;
        file.write_all(&bytes)?;
        if durable == Durable::No {
            return file.persist(path).map(drop).map_err(|error| error.error);
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(ImageError::io("write", path))
}
