//! What is mounted where in a container.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use setpoint_runtime::spec::{Mount, MountSource};

use super::Places;
use crate::env;

/// Where a container leaves its last words if it does not say.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why a mount cannot be made; shown as `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The pod has no such volume.
    #[error("volume \"{0}\" is not among the pod's volumes")]
    NoVolume(String),
    /// A path inside a volume leads out of it.
    #[error("failed to prepare subPath for volumeMount \"{volume}\": {path:?} leads out of the volume")]
    Escapes {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
    },
    /// The file system refused.
    #[error("failed to prepare subPath for volumeMount \"{volume}\": {path}", path = path.display())]
    Io {
        /// The volume.
        volume: String,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Returns a container's mounts: its volumes and the files that every pod gets (where the pod mounts nothing of its own there).
pub fn container_mounts(
    places: &Places,
    pod: &Pod,
    container: &Container,
    variables: &[(String, String)],
    termination_log: &Path,
) -> Result<Vec<Mount>, MountError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let volumes: &[Volume] = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes
            .iter()
            .find(|volume| volume.name == mount.name)
            .ok_or_else(|| MountError::NoVolume(mount.name.clone()))?;
        let root = places.volume(uid, volume);
        let lookup = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        let expanded = mount
            .sub_path_expr
            .as_deref()
            .filter(|path| !path.is_empty())
            .map(|path| env::expand(path, lookup));
        let path = match expanded
            .or_else(|| mount.sub_path.clone())
            .filter(|path| !path.is_empty())
        {
            Some(sub) => inside(&root, &sub, &mount.name)?,
            None => root,
        };
        let from_objects = volume.empty_dir.is_none() && volume.host_path.is_none();
        mounts.push(Mount {
            target: absolute(&mount.mount_path),
            source: MountSource::Bind { path },
            read_only: mount.read_only == Some(true) || from_objects,
        });
    }
    let last_words = container.termination_message_path.as_deref().unwrap_or(TERMINATION_LOG);
    let generated = [
        ("/etc/hosts", places.file(uid, "hosts")),
        ("/etc/hostname", places.file(uid, "hostname")),
        ("/etc/resolv.conf", places.file(uid, "resolv.conf")),
        (last_words, termination_log.to_owned()),
    ];
    for (target, path) in generated {
        if !target.is_empty() && !mounts.iter().any(|mount| mount.target == Path::new(target)) {
            mounts.push(Mount {
                target: absolute(target),
                source: MountSource::Bind { path },
                read_only: false,
            });
        }
    }
    Ok(mounts)
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

/// Returns a path inside a volume, made if it is missing. It is resolved here, so that no link in the volume leads the mount elsewhere.
fn inside(root: &Path, sub: &str, volume: &str) -> Result<PathBuf, MountError> {
    let escapes = || MountError::Escapes {
        volume: volume.to_owned(),
        path: sub.to_owned(),
    };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| MountError::Io {
            volume: volume.to_owned(),
            path,
            source,
        }
    };
    let root = fs::canonicalize(root).map_err(io(root))?;
    let mut path = root.clone();
    for component in Path::new(sub).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => continue,
            _ => return Err(escapes()),
        }
        match fs::canonicalize(&path) {
            Ok(real) if real.starts_with(&root) => path = real,
            Ok(_) => return Err(escapes()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link that leads nowhere would be followed by the creation.
                if fs::symlink_metadata(&path).is_ok() {
                    return Err(escapes());
                }
                fs::create_dir(&path).map_err(io(&path))?;
            }
            Err(error) => return Err(io(&path)(error)),
        }
    }
    Ok(path)
}
