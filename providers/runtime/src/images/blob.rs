//! Which blob was unpacked to which layer, and who could fetch it: `blobs/sha256-HEX.json`, by the digest of the blob's bytes.
//!
//! What a manifest and a configuration say of a layer is a claim. That a blob holds a layer is known here only, because both were hashed when the
//! blob was unpacked; and a layer that is here is given to nobody who has not fetched its blob, since a manifest may name what its author
//! merely has heard of.
//!
//! Invariants: a pair is written after its layer is in its place, while a lease keeps that there; it goes with its layer. Nothing else depends on
//! it: where one is lost, its blob is fetched once more.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::access::{Came, Holders};
use super::record::{self, Durable};
use super::{ImageError, names};

/// A blob that was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Blob {
    /// The digest of the tar in it.
    pub layer: String,
    /// Who could fetch it.
    #[serde(default)]
    pub holders: Holders,
}

fn folder(root: &Path) -> PathBuf {
    root.join("blobs")
}

fn path(root: &Path, digest: &str) -> PathBuf {
    folder(root).join(format!("{}.json", digest.replace(':', "-")))
}

/// Returns what is known of a blob by its digest.
pub(super) fn read(root: &Path, digest: &str) -> Result<Option<Blob>, ImageError> {
    if !record::is_digest(digest) {
        return Ok(None);
    }
    match record::read_json(&path(root, digest)) {
        // Fetching the blob anew is what mends it.
        Err(error @ ImageError::Damaged { .. }) => {
            tracing::warn!(%error, "what is known of a blob cannot be read");
            Ok(None)
        }
        read => read,
    }
}

/// Notes that a blob holds a layer, and who fetched it. The caller has a lease on the layer.
pub(super) fn note(root: &Path, digest: &str, layer: &str, came: &Came) -> Result<(), ImageError> {
    let known = read(root, digest)?.filter(|known| known.layer == layer);
    let mut blob = known.clone().unwrap_or_else(|| Blob {
        layer: layer.to_owned(),
        ..Blob::default()
    });
    blob.holders.note(came);
    match known.as_ref() == Some(&blob) {
        true => Ok(()),
        false => record::write_json(root, &path(root, digest), &blob, Durable::No),
    }
}

/// Forgets the blobs of layers that are not among `used`.
pub(super) fn forget_unused(root: &Path, used: &HashSet<&str>, _lock: &names::Lock) -> Result<(), ImageError> {
    let folder = folder(root);
    for entry in std::fs::read_dir(&folder).map_err(ImageError::io("list", &folder))? {
        let path = entry.map_err(ImageError::io("list", &folder))?.path();
        let known = match record::read_json::<Blob>(&path) {
            Err(ImageError::Damaged { .. }) => None,
            read => read?,
        };
        if known.is_some_and(|blob| used.contains(blob.layer.as_str())) {
            continue;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ImageError::io("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
