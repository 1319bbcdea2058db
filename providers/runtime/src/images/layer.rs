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

/// Gives a staged layer its place.
///
/// Its files are on the disk before it has the name, and the name is before this returns, so that a record that is written afterwards names
/// nothing that a power cut could empty. One `syncfs` for the layer costs less than an `fsync` for each of its files.
pub(super) fn publish(root: &Path, staged: &Path, diff_id: &str) -> Result<(), ImageError> {
    let target = folder(root, diff_id);
    let synced = File::open(staged).and_then(|staged| Ok(rustix::fs::syncfs(&staged)?));
    synced.map_err(ImageError::io("sync", staged))?;
    match std::fs::rename(staged, &target) {
        Ok(()) => {}
        // Another process was faster with the same bytes.
        Err(_) if target.exists() => {}
        Err(error) => return Err(ImageError::io("write", &target)(error)),
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
