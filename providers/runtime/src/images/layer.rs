//! Layers on disk.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::Hash;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::record::Record;
use super::{ImageError, blob, lease, names};

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

/// A folder in `staging/` that a worker writes into. It goes with this, however the work ends.
#[derive(Debug)]
pub(super) struct Place(Option<PathBuf>);

impl Place {
    /// Makes one.
    pub fn new(root: &Path) -> Result<Self, ImageError> {
        let staging = root.join("staging");
        let made = tempfile::Builder::new().prefix("layer-").tempdir_in(&staging);
        Ok(Place(Some(made.map_err(ImageError::io("write to", &staging))?.keep())))
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Removes it now.
    pub async fn remove(mut self) {
        if let Some(path) = self.0.take() {
            remove_for_good(path).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(path) = self.0.take() else { return };
        // The work was given up, and its worker killed: the worker's processes may write for a moment yet.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(remove_for_good(path))),
            Err(_) => {
                if let Err(error) = crate::tree::remove(&path) {
                    tracing::warn!(%error, folder = %path.display(), "what was unpacked stays until the next start");
                }
            }
        }
    }
}

async fn remove_for_good(path: PathBuf) {
    for _ in 0..REMOVALS {
        let folder = path.clone();
        match tokio::task::spawn_blocking(move || crate::tree::remove(&folder)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => return,
            // The runtime ends.
            Err(_) => return,
            Ok(Err(error)) => tracing::debug!(%error, folder = %path.display(), "removing it again"),
        }
        tokio::time::sleep(BETWEEN_REMOVALS).await;
    }
    tracing::warn!(folder = %path.display(), "what was unpacked stays until the next start");
}

/// How often a folder is removed into which a dying process may still write.
const REMOVALS: u32 = 50;
/// How long is waited for it to die.
const BETWEEN_REMOVALS: Duration = Duration::from_millis(20);

/// A layer that is unpacked and verified, but not yet where it belongs.
pub(super) struct Staged {
    /// What it was unpacked in.
    pub place: Place,
    /// Its folder in that.
    pub folder: PathBuf,
    /// The digest of its unpacked tar.
    pub diff_id: String,
}

/// Gives a staged layer its place.
///
/// Its files are on the disk before it has a name, and the name is before this returns, so that a record that is written afterwards names
/// nothing that a power cut could empty. One `syncfs` costs less than an `fsync` for each file.
pub(super) fn publish(root: &Path, layer: &Staged) -> Result<(), ImageError> {
    let synced = File::open(root).and_then(|root| Ok(rustix::fs::syncfs(&root)?));
    synced.map_err(ImageError::io("sync", root))?;
    let target = folder(root, &layer.diff_id);
    match std::fs::rename(&layer.folder, &target) {
        Ok(()) => {}
        // Another process was faster with the same bytes.
        Err(_) if target.exists() => {}
        Err(error) => return Err(ImageError::io("write", &target)(error)),
    }
    let layers = root.join("layers");
    let synced = File::open(&layers).and_then(|layers| layers.sync_all());
    synced.map_err(ImageError::io("sync", &layers))
}

/// Lets those who would fetch the same thing from the same place with the same credential wait for each other. Nobody waits for another place, which
/// may be slow, or for somebody else's fetch, which shows nothing of what he himself may have.
#[derive(Debug)]
pub(super) struct Turns<K> {
    taken: Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Turns {
            taken: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> Turns<K> {
    /// Returns the lock of what is fetched.
    pub fn turn(&self, what: K) -> Arc<tokio::sync::Mutex<()>> {
        let mut taken = self.taken.lock();
        if let Some(turn) = taken.get(&what).and_then(Weak::upgrade) {
            return turn;
        }
        taken.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        taken.insert(what, Arc::downgrade(&turn));
        turn
    }
}

/// Takes a layer out of sight in one step, because one that is half removed must not be taken for a whole one; returns the folder that is to be
/// removed.
pub(super) fn discard(root: &Path, layer: &Path) -> Result<PathBuf, ImageError> {
    let doomed = TempDir::new_in(root.join("staging")).map_err(ImageError::io("write to", root))?;
    std::fs::rename(layer, doomed.path().join("layer")).map_err(ImageError::io("move", layer))?;
    Ok(doomed.keep())
}

/// Layers that are out of sight and have to be removed yet; what is forgotten here goes when the store is opened the next time.
#[derive(Debug, Default)]
#[must_use = "it still takes room on the disk"]
pub struct Doomed {
    folders: Vec<PathBuf>,
    /// The size of their files in bytes.
    pub bytes: u64,
}

impl Doomed {
    /// Removes them, which may take long. Blocks.
    ///
    /// # Errors
    /// Which folder cannot be removed.
    pub fn remove(self) -> Result<(), ImageError> {
        for folder in self.folders {
            crate::tree::remove(&folder).map_err(ImageError::io("remove", &folder))?;
        }
        Ok(())
    }

    /// Adds others to them.
    pub fn join(&mut self, others: Doomed) {
        self.folders.extend(others.folders);
        self.bytes += others.bytes;
    }
}

/// Discards every layer that none of `records` names and no pull in flight counts on. While the lock on names is held no record appears.
pub(super) fn discard_unused(root: &Path, records: &[Record], lock: &names::Lock) -> Result<Doomed, ImageError> {
    let held = lease::held(root, lock)?;
    let named = records.iter().flat_map(|record| &record.layers);
    let used: HashSet<&str> = named.chain(&held).map(String::as_str).collect();
    let kept: HashSet<PathBuf> = used.iter().map(|digest| folder(root, digest)).collect();
    // First, so that no blob is ever known to hold a layer that is not there.
    blob::forget_unused(root, &used, lock)?;
    let layers = root.join("layers");
    let mut doomed = Doomed::default();
    for entry in std::fs::read_dir(&layers).map_err(ImageError::io("list", &layers))? {
        let path = entry.map_err(ImageError::io("list", &layers))?.path();
        if !kept.contains(&path) {
            doomed.bytes += size(&path)?.unwrap_or_default();
            doomed.folders.push(discard(root, &path)?);
        }
    }
    Ok(doomed)
}
