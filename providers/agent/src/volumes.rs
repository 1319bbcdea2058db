//! A pod's volumes on this node.
//!
//! Places: `<data>/pods/UID/volumes/NAME` on disk; what must not touch a disk (secrets, projected volumes, memory-backed emptyDirs) lies below `<data>/volatile`, one
//! tmpfs of the instance. What outlives its pod lies below `<data>/volumes` (see [`persistent`]). Volumes made from objects are written as Kubernetes does: a dated directory, a `..data` link to it that
//! is replaced atomically, and one link per file through it, so that a reader sees the old or the new content and never a mixture.

mod content;
mod empty;
pub mod folders;
pub mod images;
pub mod measure;
mod mounts;
mod ownership;
pub mod persistent;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod, Volume};

use crate::env::Sources;

pub use persistent::Stores;

pub use content::{Payload, PayloadFile, Tokens, payload, token_requests, write};
pub use mounts::{MountError, container_mounts};

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Something that it is made of is missing.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    Missing {
        /// The volume.
        volume: String,
        /// What is missing.
        message: String,
    },
    /// A path on the host is not what it is said to be.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : hostPath type check failed: {path} is not a {wanted}")]
    HostPath {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A claim cannot be used.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]: error processing PVC {claim}: {message}"
    )]
    Claim {
        /// The volume.
        volume: String,
        /// The claim, `NAMESPACE/NAME`.
        claim: String,
        /// Why.
        message: String,
    },
    /// A directory that somebody was to make is not there.
    #[error("MountVolume.NewMounter initialization failed for volume \"{volume}\" : path \"{path}\" does not exist", path = path.display())]
    NoPath {
        /// The volume.
        volume: String,
        /// The path.
        path: PathBuf,
    },
    /// Its kind is not kept here.
    #[error("volume \"{volume}\" has a kind that is not supported here")]
    Unsupported {
        /// The volume.
        volume: String,
    },
    /// The file system refused.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : cannot {operation} {path}", path = path.display())]
    Io {
        /// The volume.
        volume: String,
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Where an instance keeps its pods' files.
#[derive(Clone, Debug)]
pub struct Places {
    disk: PathBuf,
    memory: PathBuf,
    volumes: PathBuf,
}

impl Places {
    /// Names the places below an instance's data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            disk: data_dir.join("pods"),
            memory: data_dir.join("volatile"),
            volumes: data_dir.join("volumes"),
        }
    }

    /// Returns the directory of the volumes that outlive their pods.
    pub fn volumes(&self) -> &Path {
        &self.volumes
    }

    /// Returns the directory of all pods' files on disk.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Returns where the instance's tmpfs is mounted.
    pub fn memory(&self) -> &Path {
        &self.memory
    }

    /// Returns a generated file of a pod (`hosts`, `hostname`, `resolv.conf`).
    pub fn file(&self, uid: &str, name: &str) -> PathBuf {
        self.disk.join(uid).join("etc").join(name)
    }

    /// Returns where an attempt of a container leaves its last words.
    pub fn termination_log(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.disk
            .join(uid)
            .join("containers")
            .join(container)
            .join(format!("{attempt}.termination"))
    }

    /// Returns where a volume lies.
    pub fn volume(&self, uid: &str, volume: &Volume) -> PathBuf {
        if let Some(host) = &volume.host_path {
            return PathBuf::from(&host.path);
        }
        let root = if in_memory(volume) { &self.memory } else { &self.disk };
        root.join(uid).join("volumes").join(&volume.name)
    }

    /// Returns the file that says which image a pod's volume is made of.
    pub fn image(&self, uid: &str, volume: &str) -> PathBuf {
        self.disk.join(uid).join("images").join(volume)
    }

    /// Returns the UIDs of all pods of which files are there.
    pub fn pods(&self) -> io::Result<BTreeSet<String>> {
        let mut uids = BTreeSet::new();
        for directory in [&self.disk, &self.memory] {
            for entry in fs::read_dir(directory)? {
                uids.extend(entry?.file_name().into_string());
            }
        }
        Ok(uids)
    }

    /// Removes everything of a pod. Succeeds when there is nothing.
    pub fn remove_pod(&self, uid: &str) -> io::Result<()> {
        empty::unmount_all(&self.memory.join(uid).join("volumes"))?;
        for root in [&self.disk, &self.memory] {
            mounts::unmount_below(&root.join(uid))?;
            match setpoint_runtime::tree::remove(&root.join(uid)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn in_memory(volume: &Volume) -> bool {
    let memory = volume
        .empty_dir
        .as_ref()
        .is_some_and(|dir| dir.medium.as_deref() == Some("Memory"));
    memory || volume.secret.is_some() || volume.projected.is_some()
}

/// Makes all volumes of a pod, or brings those made from objects up to date. Blocking.
pub fn prepare(
    places: &Places,
    pod: &Pod,
    sources: &Sources,
    tokens: &Tokens,
    stores: &Stores,
    now: Timestamp,
) -> Result<(), VolumeError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else { return Ok(()) };
    let group = spec
        .security_context
        .as_ref()
        .and_then(|security| security.fs_group)
        .and_then(|group| u32::try_from(group).ok());
    for volume in spec.volumes.iter().flatten() {
        let io = |operation, path: &Path| {
            let (volume, path) = (volume.name.clone(), path.to_owned());
            move |source| VolumeError::Io {
                volume,
                operation,
                path,
                source,
            }
        };
        let path = places.volume(uid, volume);
        if let Some(host) = &volume.host_path {
            host_path(&volume.name, host, &io)?;
        } else if let Some(dir) = &volume.empty_dir {
            empty::prepare(&path, dir, spec, sources.node_memory, group, io)?;
        } else if volume.image.is_some() {
            // Its image is found before, and mounted by the runtime.
        } else if persistent::claim_of(pod, volume).is_some() {
            let Some(store) = stores.get(&volume.name) else {
                // Its data was found when the pod began.
                fs::read_link(&path).map_err(io("look at", &path))?;
                continue;
            };
            persistent::prepare(&path, volume, store, spec.security_context.as_ref(), io)?;
        } else {
            let payload = payload(pod, volume, sources, tokens)?;
            fs::create_dir_all(&path).map_err(io("create", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(io("open up", &path))?;
            write(&path, &payload, group, now).map_err(io("write", &path))?;
        }
    }
    Ok(())
}

fn host_path<F>(
    volume: &str,
    host: &HostPathVolumeSource,
    io: &impl Fn(&'static str, &Path) -> F,
) -> Result<(), VolumeError>
where
    F: FnOnce(io::Error) -> VolumeError,
{
    let path = Path::new(&host.path);
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io("look at", path)(error)),
    };
    let kind = host.type_.as_deref().unwrap_or_default();
    match (kind, found) {
        // Without a type nothing is checked; what is missing becomes a directory, as container runtimes do.
        ("" | "DirectoryOrCreate", None) => fs::create_dir_all(path).map_err(io("create", path)),
        ("FileOrCreate", None) => {
            let file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(io("create", path))?;
            file.set_permissions(fs::Permissions::from_mode(0o644))
                .map_err(io("open up", path))
        }
        ("", Some(_)) => Ok(()),
        (_, found) => {
            let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
            let (fits, wanted) = match kind {
                "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "directory"),
                "File" | "FileOrCreate" => (is(fs::FileType::is_file), "file"),
                "Socket" => (is(fs::FileType::is_socket), "socket"),
                "CharDevice" => (is(fs::FileType::is_char_device), "character device"),
                "BlockDevice" => (is(fs::FileType::is_block_device), "block device"),
                _ => (false, "known kind of path"),
            };
            if fits {
                Ok(())
            } else {
                Err(VolumeError::HostPath {
                    volume: volume.to_owned(),
                    path: host.path.clone(),
                    wanted,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
