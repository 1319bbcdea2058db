//! Layers on disk.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

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

/// Returns the size of a layer's files in bytes, counted when it was unpacked.
pub(super) fn size(folder: &Path) -> Result<u64, ImageError> {
    let path = folder.join("size");
    let text = std::fs::read_to_string(&path).map_err(ImageError::io("read", &path))?;
    text.trim().parse().map_err(|_| {
        ImageError::io("read", &path)(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "it holds no number",
        ))
    })
}

/// Writes down the size of a layer's files, beside them.
pub(super) fn write_size(folder: &Path, size: u64) -> Result<(), ImageError> {
    let path = folder.join("size");
    std::fs::write(&path, size.to_string()).map_err(ImageError::io("write", &path))
}

/// Removes every layer that none of `records` names. The caller holds the lock on names, so no record appears meanwhile.
pub(super) fn remove_unused(root: &Path, records: &[Record]) -> Result<(), ImageError> {
    let used: HashSet<PathBuf> = records
        .iter()
        .flat_map(|r| &r.layers)
        .map(|digest| folder(root, digest))
        .collect();
    let layers = root.join("layers");
    for entry in std::fs::read_dir(&layers).map_err(ImageError::io("list", &layers))? {
        let path = entry.map_err(ImageError::io("list", &layers))?.path();
        if used.contains(&path) {
            continue;
        }
        // Out of sight in one step first: a layer that is half removed must not be taken for a whole one.
        let doomed = tempfile::TempDir::new_in(root.join("staging")).map_err(ImageError::io("write to", root))?;
        std::fs::rename(&path, doomed.path().join("layer")).map_err(ImageError::io("move", &path))?;
        doomed.close().map_err(ImageError::io("remove", &path))?;
    }
    Ok(())
}
