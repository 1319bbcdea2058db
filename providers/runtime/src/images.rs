//! The image store: images by name and digest, their layers unpacked once and shared.
//!
//! On disk, below one folder that only root reads:
//! * `layers/sha256-HEX/` – a layer's files, named by the digest of its unpacked tar, whiteouts in overlayfs' form;
//! * `images/sha256-HEX.json` – an image's record, named by its configuration's digest;
//! * `references.json` – which image a name stands for;
//! * `staging/` – what is being unpacked; emptied by whoever opens the store while nobody else uses it.
//!
//! Invariants: a layer or record appears by one rename when it is whole and verified, so a crash leaves nothing half
//! done; several processes may use one store (the daemon and the CLI): writers of `references.json` take a file lock,
//! readers read the files as they are.

mod error;
mod install;
mod layer;
mod record;
mod unpack;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
pub use setpoint_registry::{Class as ImageErrorClass, Credentials};
use setpoint_registry::{ImageReference, LocalImages, RemoteRegistry};

pub use error::ImageError;
pub use record::{Image, ImageConfig};

/// The store; cheap to share behind an `Arc`.
pub struct ImageStore {
    root: PathBuf,
    /// One lock per reference that is being pulled, so that pulls of one image share the work.
    pulling: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Shared while the store is open; whoever gets it exclusively may empty `staging/`.
    _in_use: File,
}

impl ImageStore {
    /// Opens the store in `root`, which is created (0700) when missing.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        for folder in [
            root.to_path_buf(),
            root.join("layers"),
            root.join("images"),
            root.join("staging"),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(ImageError::io("create", &folder))?;
        }
        let path = root.join("in-use.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ImageError::io("open", &path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Nobody else has the store open: what lies in staging was left by a crash.
            let staging = root.join("staging");
            std::fs::remove_dir_all(&staging).map_err(ImageError::io("empty", &staging))?;
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&staging)
                .map_err(ImageError::io("create", &staging))?;
        }
        flock(&lock, FlockOperation::LockShared).map_err(|e| ImageError::io("lock", &path)(e.into()))?;
        Ok(ImageStore {
            root: root.to_path_buf(),
            pulling: Mutex::new(HashMap::new()),
            _in_use: lock,
        })
    }

    /// Returns the image that `reference` stands for here, without asking any registry; `None` when it is not here.
    ///
    /// A reference with a digest matches an image of that manifest digest, whatever its name.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        if reference.starts_with("sha256:") {
            return self.get(reference);
        }
        let reference: ImageReference = reference.parse()?;
        if let Some(digest) = reference.digest() {
            return Ok(self.list()?.into_iter().find(|image| image.digest == digest));
        }
        match self.references()?.get(&reference.to_string()) {
            Some(id) => self.get(id),
            None => Ok(None),
        }
    }

    /// Returns the image with this id (`sha256:…` of its configuration).
    pub fn get(&self, id: &str) -> Result<Option<Image>, ImageError> {
        match record::read(&self.root, id)? {
            Some(record) => Ok(Some(record.into_image(&self.root, &self.references()?))),
            None => Ok(None),
        }
    }

    /// Returns every image, by id.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let references = self.references()?;
        let records = record::read_all(&self.root)?;
        Ok(records
            .into_iter()
            .map(|record| record.into_image(&self.root, &references))
            .collect())
    }

    /// Fetches an image from its registry and installs it; layers that are here are not fetched again.
    ///
    /// Concurrent pulls of one reference wait for the first. The tag is always asked for anew.
    pub async fn pull(&self, reference: &str, credentials: Credentials) -> Result<Image, ImageError> {
        let reference: ImageReference = reference.parse()?;
        let name = reference.to_string();
        let lock = self.pulling.lock().entry(name.clone()).or_default().clone();
        let guard = lock.lock().await;
        let pulled = async {
            let remote = RemoteRegistry::new(reference.clone(), credentials)?;
            let manifest = remote.manifest().await?;
            self.install(&remote, &manifest, std::slice::from_ref(&reference)).await
        }
        .await;
        drop(guard);
        let mut pulling = self.pulling.lock();
        // The map and this function hold the last two handles when nobody waits.
        if Arc::strong_count(&lock) <= 2 {
            pulling.remove(&name);
        }
        pulled
    }

    /// Installs every image of an OCI layout (a folder or a tar) or of an archive that `docker save` wrote.
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        let (path, staging) = (path.to_path_buf(), self.root.join("staging"));
        let local = blocking(move || LocalImages::open(&path, &staging).map_err(ImageError::from)).await?;
        let mut installed = Vec::new();
        for (references, manifest) in local.images() {
            installed.push(self.install(&local, manifest, references).await?);
        }
        Ok(installed)
    }

    /// Takes a name away; the image goes with its last name, and layers that no image needs go with it.
    ///
    /// `name` may also be an image's id, which removes the image with all its names. The caller makes sure that no container uses it.
    /// Returns whether there was something to remove.
    pub fn remove(&self, name: &str) -> Result<bool, ImageError> {
        let _lock = self.lock_references()?;
        let mut references = self.references()?;
        let id = if name.starts_with("sha256:") {
            references.retain(|_, id| id != name);
            Some(name.to_string())
        } else {
            references.remove(&name.parse::<ImageReference>()?.to_string())
        };
        let Some(id) = id else { return Ok(false) };
        self.write_references(&references)?;
        let mut found = true;
        if !references.values().any(|other| *other == id) {
            found = record::remove(&self.root, &id)?;
            layer::remove_unused(&self.root, &record::read_all(&self.root)?)?;
        }
        Ok(found)
    }

    fn references(&self) -> Result<BTreeMap<String, String>, ImageError> {
        let path = self.root.join("references.json");
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| ImageError::Damaged { path, source: e }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(ImageError::io("read", &path)(error)),
        }
    }

    fn write_references(&self, references: &BTreeMap<String, String>) -> Result<(), ImageError> {
        record::write_json(&self.root, &self.root.join("references.json"), references)
    }

    /// Takes the lock under which names change; it is released when the file is dropped.
    fn lock_references(&self) -> Result<File, ImageError> {
        let path = self.root.join("references.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ImageError::io("open", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| ImageError::io("lock", &path)(e.into()))?;
        Ok(file)
    }
}

/// Runs blocking work away from the async threads; a panic there becomes an error here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| ImageError::Interrupted { source })?
}

#[cfg(test)]
mod tests;
