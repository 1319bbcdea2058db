//! The image store: images by name and digest, their layers unpacked once and shared.
//!
//! On disk, below one folder that only root reads:
//! * `layers/sha256-HEX/` – a layer's files, named by the digest of its unpacked tar, whiteouts in overlayfs' form;
//! * `images/sha256-HEX.json` – an image's record, named by its configuration's digest;
//! * `references.json` – which image a name stands for;
//! * `blobs/sha256-HEX.json` – which layer a blob was unpacked to, and who could fetch it, named by the digest of the blob;
//! * `leases/` – which layers the pulls in flight count on;
//! * `staging/` – what is being unpacked; emptied by whoever opens the store while nobody else uses it.
//!
//! Invariants: a layer or record appears by one rename when it is whole, verified and on the disk, layers before the record that names them, so
//! neither a crash nor a power cut leaves anything half done; several processes may use one store (the daemon and the CLI): writers of
//! records and `references.json` take a file lock, readers read the files as they are. An image whose name moved on to another one stays, and
//! stays to be had by its digest: a rollback needs it without a network. A layer that is here is used again for a blob that was unpacked to it, by
//! whoever could fetch that blob; a configuration that claims to have it is believed nothing.

mod access;
mod archive;
mod blob;
pub mod collect;
mod error;
mod export;
mod install;
mod layer;
mod lease;
mod names;
mod progress;
mod record;
pub(crate) mod unpack;
mod usage;
mod worker;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
pub use setpoint_registry::settings::Files as RegistryFiles;
pub use setpoint_registry::{
    Class as ImageErrorClass, Credential, Keyring, NodeCredentials, Origin, Patience, Proof, Registries, RegistryError,
    credentials_from_secret,
};
use setpoint_registry::{ImageReference, LocalImages};

use access::Came;
pub use error::ImageError;
use jiff::Timestamp;
pub use layer::Doomed;
pub use progress::{LayerProgress, Progress};
pub use record::{Image, ImageConfig};
pub use usage::Usage;

/// How long an image is taken for wanted after it was found for somebody.
const WANTED: std::time::Duration = std::time::Duration::from_secs(300);

/// The store; cheap to share behind an `Arc`.
pub struct ImageStore {
    root: PathBuf,
    registries: Registries,
    node_credentials: NodeCredentials,
    limits: unpack::Limits,
    /// Images that were found for somebody who is about to use them.
    found: Mutex<HashMap<String, tokio::time::Instant>>,
    /// Blobs that are being fetched: registry, credential and digest.
    layers: layer::Turns<(String, String, String)>,
    /// References that are being pulled, each with the pod's credentials for it.
    pulling: layer::Turns<(String, Vec<String>)>,
    /// The pulls in flight, for whoever watches.
    shown: progress::Board,
    /// Shared while the store is open; whoever gets it exclusively may empty `staging/`.
    _in_use: File,
}

impl ImageStore {
    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the store in `root`, which is created (0700) when missing.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        for folder in [
            root.to_path_buf(),
            root.join("layers"),
            root.join("images"),
            root.join("blobs"),
            root.join("leases"),
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
            crate::tree::remove(&staging).map_err(ImageError::io("empty", &staging))?;
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&staging)
                .map_err(ImageError::io("create", &staging))?;
        }
        flock(&lock, FlockOperation::LockShared).map_err(|e| ImageError::io("lock", &path)(e.into()))?;
        Ok(ImageStore {
            root: root.to_path_buf(),
            registries: Registries::default(),
            node_credentials: NodeCredentials::default(),
            limits: unpack::Limits::default(),
            found: Mutex::default(),
            layers: layer::Turns::default(),
            pulling: layer::Turns::default(),
            shown: progress::Board::default(),
            _in_use: lock,
        })
    }

    /// Fetches images as this configuration of registries says, with these credentials for every pod of the machine.
    pub fn with_registries(self, registries: Registries, node_credentials: NodeCredentials) -> Self {
        ImageStore {
            registries,
            node_credentials,
            ..self
        }
    }

    /// Returns the image that `reference` stands for here, without asking any registry; `None` when it is not here.
    ///
    /// A reference with a digest (`NAME@DIGEST`, `NAME:TAG@DIGEST`) means the image that was installed with that digest, whatever
    /// its name was or has become since; it is shown with that digest.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        if reference.starts_with("sha256:") {
            return self.get(reference);
        }
        let reference: ImageReference = reference.parse()?;
        let names = names::read(&self.root)?;
        if let Some(digest) = reference.digest() {
            let records = record::read_all(&self.root)?;
            let found = records.into_iter().find(|record| record.answers_to(digest));
            return Ok(found.map(|record| Image {
                digest: digest.to_owned(),
                ..record.into_image(&self.root, &names)
            }));
        }
        match names.get(&reference.to_string()) {
            Some(id) => self.get(id),
            None => Ok(None),
        }
    }

    /// Returns the image with this id (`sha256:…` of its configuration).
    pub fn get(&self, id: &str) -> Result<Option<Image>, ImageError> {
        match record::read(&self.root, id)? {
            Some(record) => Ok(Some(record.into_image(&self.root, &names::read(&self.root)?))),
            None => Ok(None),
        }
    }

    /// Returns every image, by id.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let names = names::read(&self.root)?;
        let records = record::read_all(&self.root)?;
        Ok(records
            .into_iter()
            .map(|record| record.into_image(&self.root, &names))
            .collect())
    }

    /// Whether a pod that holds these credentials may use an image that is here without asking its registry: what was fetched with a Secret is
    /// not for pods that lack it. `id` is the image's, `reference` what the pod calls it.
    pub fn may_use(&self, id: &str, reference: &str, secrets: &Keyring) -> Result<bool, ImageError> {
        let record = record::read(&self.root, id)?;
        if reference.starts_with("sha256:") {
            return Ok(record.is_some_and(|record| record.access.allows_by_id(secrets)));
        }
        let reference: ImageReference = reference.parse()?;
        Ok(record.is_some_and(|record| record.access.allows(&reference, secrets)))
    }

    /// Notes that somebody is about to use an image.
    pub fn want(&self, id: &str) {
        let now = tokio::time::Instant::now();
        let mut found = self.found.lock();
        found.retain(|_, at| now.duration_since(*at) < WANTED);
        found.insert(id.to_owned(), now);
    }

    /// Whether somebody was about to use an image a moment ago: it is not to go though no container is there yet.
    pub fn is_wanted(&self, id: &str) -> bool {
        let found = self.found.lock().get(id).copied();
        found.is_some_and(|at| at.elapsed() < WANTED)
    }

    /// Returns every digest and name by which an image answers.
    pub fn answers_to(&self, id: &str) -> Result<Vec<String>, ImageError> {
        let Some(record) = record::read(&self.root, id)? else {
            return Ok(Vec::new());
        };
        let mut all = vec![record.id.clone(), record.digest.clone()];
        all.extend(record.other_digests.iter().cloned());
        all.extend(record.into_image(&self.root, &names::read(&self.root)?).references);
        Ok(all)
    }

    /// Returns the disk that the images are on.
    pub fn disk(&self) -> Result<collect::Disk, ImageError> {
        let room = rustix::fs::statvfs(&self.root).map_err(|e| ImageError::io("look at", &self.root)(e.into()))?;
        Ok(collect::Disk {
            capacity: room.f_blocks.saturating_mul(room.f_frsize),
            available: room.f_bavail.saturating_mul(room.f_frsize),
        })
    }

    /// Returns how long each image has been here and when it was last used, as it was written down.
    pub fn usage(&self) -> Result<Usage, ImageError> {
        usage::read(&self.root)
    }

    /// Writes that down; for one process at a time.
    pub fn write_usage(&self, usage: &Usage) -> Result<(), ImageError> {
        usage::write(&self.root, usage)
    }

    /// Fetches an image from its registry and installs it; layers that are here are not fetched again.
    ///
    /// `secrets` come before the credentials of this machine. Concurrent pulls of one reference with the same secrets wait for the first. The tag is
    /// always asked for anew. A layer that came with other credentials is fetched again, though not unpacked.
    pub async fn pull(&self, reference: &str, secrets: Keyring, progress: &Progress) -> Result<Image, ImageError> {
        let reference: ImageReference = reference.parse()?;
        let name = reference.to_string();
        // Pulls of one image share the work; whoever shows other credentials may be answered otherwise, and waits for nobody.
        let shown = secrets.lookup(&reference.name());
        let turn = self
            .pulling
            .turn((name.clone(), shown.iter().map(Credential::hash).collect()));
        let _guard = turn.lock().await;
        let _shown = self.shown.show(name, progress);
        let keyring = secrets.or(self.node_credentials.keyring(&reference).await);
        let remote = self.registries.image(reference.clone(), &keyring)?;
        let fetched = remote.manifest().await?;
        let origin = install::Origin {
            references: std::slice::from_ref(&reference),
            // The registry's bytes had the digest that was asked for, if one was; it may be that of an index.
            asked: reference.digest(),
            came: Came::Pulled {
                name: reference.name(),
                credential: fetched.credential,
            },
        };
        self.install(&remote, &fetched.manifest, origin, progress).await
    }

    /// Returns the pulls of this process that are under way, by name.
    pub fn pulls(&self) -> Vec<(String, Progress)> {
        self.shown.all()
    }

    /// Says what fetching an image would take, with this machine's credentials: how many bytes of its layers are not here. `None` when nothing is
    /// known to be missing: the image is here, by whatever its name means here now.
    ///
    /// # Errors
    /// Why its manifest cannot be had.
    pub async fn missing(&self, reference: &str) -> Result<Option<u64>, ImageError> {
        if self.resolve(reference)?.is_some() {
            return Ok(None);
        }
        let reference: ImageReference = reference.parse()?;
        let keyring = self.node_credentials.keyring(&reference).await;
        let fetched = self.registries.image(reference, &keyring)?.manifest().await?;
        let came = Came::Pulled {
            name: String::new(),
            credential: fetched.credential,
        };
        let mut bytes = 0u64;
        for layer in fetched.manifest.layers {
            let known = blob::read(&self.root, &layer.digest)?.filter(|blob| blob.holders.may_have(&came));
            let here = match known {
                Some(blob) => layer::size(&layer::folder(&self.root, &blob.layer))?.is_some(),
                None => false,
            };
            if !here {
                bytes = bytes.saturating_add(layer.size);
            }
        }
        Ok(Some(bytes))
    }

    /// Installs every image of an OCI layout (a folder or a tar) or of an archive that `docker save` wrote.
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        let metadata = tokio::fs::metadata(path).await;
        let opened = match metadata.map_err(ImageError::io("look at", path))?.is_dir() {
            true => None,
            false => Some(archive::open(&self.root, path, &self.limits).await?),
        };
        let folder = opened.as_ref().map_or(path, |opened| opened.folder()).to_path_buf();
        let name = path.display().to_string();
        let local = blocking(move || LocalImages::open(&folder, name).map_err(ImageError::from)).await;
        let installed = match local {
            Ok(local) => self.install_all(&local).await,
            Err(error) => Err(error),
        };
        if let Some(opened) = opened {
            opened.close().await;
        }
        installed
    }

    async fn install_all(&self, local: &LocalImages) -> Result<Vec<Image>, ImageError> {
        let mut installed = Vec::new();
        for (references, manifest) in local.images() {
            let origin = install::Origin {
                references,
                asked: None,
                came: Came::Imported,
            };
            installed.push(self.install(local, manifest, origin, &Progress::default()).await?);
        }
        Ok(installed)
    }

    /// Returns an image's whole configuration as it was published; `None` for one that was installed before that was kept.
    pub fn whole_config(&self, id: &str) -> Result<Option<serde_json::Value>, ImageError> {
        Ok(record::read(&self.root, id)?.and_then(|record| record.whole_config))
    }

    /// Writes an image as a tar that is an OCI layout and an archive of `docker save` at once, under the given names.
    ///
    /// Layers are packed anew of their files, so that the exported image has digests of its own; its content and configuration are the same.
    pub async fn export(&self, image: &Image, names: Vec<String>, to: std::fs::File) -> Result<(), ImageError> {
        let (image, staging) = (image.clone(), self.root.join("staging"));
        let config = self.whole_config(&image.id)?;
        blocking(move || {
            export::write(&image, config, &names, &staging, to).map_err(|source| ImageError::Io {
                operation: "export",
                path: image.id.clone().into(),
                source,
            })
        })
        .await
    }

    /// Takes a name away; the image goes with its last name, and layers that no image needs go with it.
    ///
    /// `name` may also be an image's id, which removes the image with all its names. The caller makes sure that no container uses it.
    /// Returns whether there was something to remove.
    ///
    /// Nothing else removes images, those without a name included. Whatever cleans up by itself asks first, before it calls this: the containers
    /// of this host, [`ImageStore::is_wanted`], and everything that an app may go back to (the revisions in its history name images by digest).
    pub async fn remove(&self, name: &str) -> Result<bool, ImageError> {
        match self.take_away(name).await? {
            Some(doomed) => blocking(move || doomed.remove()).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// As [`ImageStore::remove`], without waiting for the files: returns the layers that are out of sight, and no image's any more; `None` when
    /// there was nothing to remove.
    pub async fn take_away(&self, name: &str) -> Result<Option<Doomed>, ImageError> {
        let lock = names::lock(&self.root).await?;
        let (root, name) = (self.root.clone(), name.to_owned());
        // The lock is released with this: names are free again while files are removed.
        blocking(move || take_away(&root, &name, &lock)).await
    }

    /// Returns when an image was installed the last time; `None` when it is not here.
    pub fn installed_at(&self, id: &str) -> Result<Option<Timestamp>, ImageError> {
        let written = record::written_at(&self.root, id)?;
        // A file's time that no calendar has is long ago.
        Ok(written.map(|written| Timestamp::try_from(written).unwrap_or(Timestamp::UNIX_EPOCH)))
    }
}

/// Takes a name or an image out of sight; returns the layers that are to be removed, `None` when it was not there.
fn take_away(root: &Path, name: &str, lock: &names::Lock) -> Result<Option<Doomed>, ImageError> {
    let mut names = names::read(root)?;
    let id = if name.starts_with("sha256:") {
        names.retain(|_, id| id != name);
        Some(name.to_owned())
    } else {
        names.remove(&name.parse::<ImageReference>()?.to_string())
    };
    let Some(id) = id else { return Ok(None) };
    names::write(root, &names, lock)?;
    if names.values().any(|other| *other == id) {
        return Ok(Some(Doomed::default()));
    }
    if !record::remove(root, &id)? {
        return Ok(None);
    }
    layer::discard_unused(root, &record::read_all(root)?, lock).map(Some)
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
