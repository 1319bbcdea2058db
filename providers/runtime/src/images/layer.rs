//! Layers on disk.

use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::ImageError;
use super::record::Record;

/// Returns the folder of a layer by the digest of its unpacked tar.
pub(super) fn folder(root: &Path, diff_id: &str) -> PathBuf {
    root.join("layers").join(diff_id.replace(':', "-"))
}

/// Returns where a layer's files are within its folder.
pub(super) fn files(folder: &Path) -> PathBuf {
    folder.join("fs")
}

/// Returns the size of a layer's files in bytes, counted when it was unpacked; `None` when there is no layer or when what is there is not whole.
///
/// The size was written last: where it is missing or empty, the machine lost its power before the layer was on the disk.
pub(super) fn size(folder: &Path) -> Result<Option<u64>, ImageError> {
    let path = folder.join("size");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(ImageError::io("read", &path)(error)),
    }
}

/// Writes down the size of a layer's files, beside them.
pub(super) fn write_size(folder: &Path, size: u64) -> Result<(), ImageError> {
    let path = folder.join("size");
    std::fs::write(&path, size.to_string()).map_err(ImageError::io("write", &path))
}

/// A layer that is unpacked and verified, but not yet where it belongs. Dropping it removes it.
pub(super) struct Staged {
    /// What it was unpacked in.
    pub place: TempDir,
    /// Its folder in that.
    pub folder: PathBuf,
    /// The digest of its unpacked tar.
    pub diff_id: String,
}

/// Gives staged layers their places.
///
/// Their files are on the disk before they have names, and the names are before this returns, so that a record that is written afterwards names
/// nothing that a power cut could empty. One `syncfs` for an image costs less than an `fsync` for each of its files.
pub(super) fn publish(root: &Path, staged: Vec<Staged>) -> Result<(), ImageError> {
    if staged.is_empty() {
        return Ok(());
    }
    let synced = File::open(root).and_then(|root| Ok(rustix::fs::syncfs(&root)?));
    synced.map_err(ImageError::io("sync", root))?;
    for layer in staged {
        let target = folder(root, &layer.diff_id);
        match std::fs::rename(&layer.folder, &target) {
            Ok(()) => {}
            // Another process, or the same layer further down in this image, was faster with the same bytes.
            Err(_) if target.exists() => {}
            Err(error) => return Err(ImageError::io("write", &target)(error)),
        }
        layer.place.close().map_err(ImageError::io("remove", &layer.folder))?;
    }
    let layers = root.join("layers");
    let synced = File::open(&layers).and_then(|layers| layers.sync_all());
    synced.map_err(ImageError::io("sync", &layers))
}

/// Takes a layer out of sight in one step, because one that is half removed must not be taken for a whole one; dropping what this returns removes it.
pub(super) fn discard(root: &Path, layer: &Path) -> Result<TempDir, ImageError> {
    let doomed = TempDir::new_in(root.join("staging")).map_err(ImageError::io("write to", root))?;
    std::fs::rename(layer, doomed.path().join("layer")).map_err(ImageError::io("move", layer))?;
    Ok(doomed)
}

/// Discards every layer that none of `records` names. The caller holds the lock on names, so no record appears meanwhile.
pub(super) fn discard_unused(root: &Path, records: &[Record]) -> Result<Vec<TempDir>, ImageError> {
    let used: HashSet<PathBuf> = records
        .iter()
        .flat_map(|r| &r.layers)
        .map(|digest| folder(root, digest))
        .collect();
    let layers = root.join("layers");
    let mut doomed = Vec::new();
    for entry in std::fs::read_dir(&layers).map_err(ImageError::io("list", &layers))? {
        let path = entry.map_err(ImageError::io("list", &layers))?.path();
        if !used.contains(&path) {
            doomed.push(discard(root, &path)?);
        }
    }
    Ok(doomed)
}
