//! What is mounted where in a container.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use setpoint_runtime::spec::{Mount, MountSource, Propagation};

use super::Places;
use crate::env;

/// How long a name may be, in bytes (`NAME_MAX`).
const LONGEST_NAME: usize = 255;
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
    /// Mounts do not travel at a path of the host.
    #[error("path \"{path}\" is mounted on \"{point}\" but it is not {needed}", path = path.display(), point = point.display())]
    NotShared {
        /// The path.
        path: PathBuf,
        /// What it lies on.
        point: PathBuf,
        /// What that would have to be.
        needed: &'static str,
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
        let sub = expanded
            .or_else(|| mount.sub_path.clone())
            .filter(|path| !path.is_empty());
        let claim = volume.persistent_volume_claim.as_ref();
        let kept = volume.empty_dir.is_some() || volume.host_path.is_some() || volume.ephemeral.is_some();
        let writable = claim.map_or(kept, |claim| claim.read_only != Some(true));
        let source = if volume.image.is_some() {
            image_source(places, uid, &mount.name, sub)?
        } else {
            let (path, beneath) = match sub {
                Some(sub) => {
                    let (path, root) = inside(&root, &sub, &mount.name)?;
                    // Of what is made from objects nobody but the agent changes anything.
                    (path, (kept || claim.is_some()).then_some(root))
                }
                None => (root, None),
            };
            let on_host = volume.host_path.is_some() || claim.is_some();
            bind_source(path, beneath, mount, on_host)?
        };
        mounts.push(Mount {
            target: absolute(&mount.mount_path),
            source,
            read_only: mount.read_only == Some(true) || !writable,
        });
    }
    let last_words = container.termination_message_path.as_deref().unwrap_or(TERMINATION_LOG);
    // What belongs to the root is as read-only as it; last words are to be written.
    let context = container.security_context.as_ref();
    let fixed = context.and_then(|context| context.read_only_root_filesystem) == Some(true);
    let generated = [
        ("/etc/hosts", places.file(uid, "hosts"), fixed),
        ("/etc/hostname", places.file(uid, "hostname"), fixed),
        ("/etc/resolv.conf", places.file(uid, "resolv.conf"), fixed),
        (last_words, termination_log.to_owned(), false),
    ];
    for (target, path, read_only) in generated {
        if !target.is_empty() && !mounts.iter().any(|mount| mount.target == Path::new(target)) {
            mounts.push(Mount {
                target: absolute(target),
                source: MountSource::Bind { path },
                read_only,
            });
        }
    }
    Ok(mounts)
}

/// Says how a path of this host is mounted.
fn bind_source(
    path: PathBuf,
    beneath: Option<PathBuf>,
    mount: &VolumeMount,
    on_host: bool,
) -> Result<MountSource, MountError> {
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Propagation::HostToContainer,
        Some("Bidirectional") => Propagation::Bidirectional,
        _ => Propagation::None,
    };
    if propagation != Propagation::None {
        let failed = |source| MountError::Io {
            volume: mount.name.clone(),
            path: path.clone(),
            source,
        };
        let path = fs::canonicalize(&path).map_err(failed)?;
        let table = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
        propagates(&table, &path, propagation)?;
    }
    let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
    // Below other volumes nothing is mounted: for them it makes no difference.
    let said = (recursive || mount.read_only != Some(true) || !on_host) && propagation == Propagation::None;
    if said && beneath.is_none() {
        return Ok(MountSource::Bind { path });
    }
    Ok(MountSource::Volume {
        path,
        beneath,
        propagation,
        recursive,
    })
}

/// Checks that later mounts below a path can travel as they are to.
fn propagates(mountinfo: &str, path: &Path, wanted: Propagation) -> Result<(), MountError> {
    let mut on = (PathBuf::new(), "");
    for line in mountinfo.lines() {
        let (head, _) = line.split_once(" - ").unwrap_or((line, ""));
        let mut fields = head.split(' ').skip(4);
        let Some(point) = fields.next().map(unescape) else {
            continue;
        };
        // The last of several on one point is on top.
        if path.starts_with(&point) && point.components().count() >= on.0.components().count() {
            on = (point, head);
        }
    }
    let has = |word: &str| on.1.split(' ').skip(6).any(|field| field.starts_with(word));
    let (fits, needed) = match wanted {
        Propagation::Bidirectional => (has("shared:"), "a shared mount"),
        _ => (has("shared:") || has("master:"), "a shared or slave mount"),
    };
    if fits {
        return Ok(());
    }
    Err(MountError::NotShared {
        path: path.to_owned(),
        point: on.0,
        needed,
    })
}

/// Takes away what is mounted below a folder: a container with mounts that travel to the host may leave some, and removing the folder would remove what they
/// show. Succeeds when there is no folder.
///
/// # Errors
/// What cannot be taken away; then nothing may be removed.
pub(super) fn unmount_below(folder: &Path) -> io::Result<()> {
    let folder = match std::fs::canonicalize(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let table = std::fs::read("/proc/self/mountinfo")?;
    let table = String::from_utf8_lossy(&table);
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> = points
        .filter(|point| *point != folder && point.starts_with(&folder))
        .collect();
    // The innermost first, and of several on one point the last.
    below.reverse();
    below.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in below {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(&point, flags)?;
    }
    Ok(())
}

/// Reads a path of mountinfo, in which spaces and the like are written in octal.
fn unescape(text: &str) -> PathBuf {
    let mut plain = text.to_owned();
    for (escaped, byte) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escaped, byte);
    }
    PathBuf::from(plain)
}

/// Says which image is mounted, and what of it.
fn image_source(places: &Places, uid: &str, volume: &str, sub: Option<String>) -> Result<MountSource, MountError> {
    let escapes = |path: &str| MountError::Escapes {
        volume: volume.to_owned(),
        path: path.to_owned(),
    };
    if let Some(sub) = &sub {
        let plain = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        if !Path::new(sub).components().all(plain) {
            return Err(escapes(sub));
        }
    }
    let path = places.image(uid, volume);
    let image = fs::read_to_string(&path).map_err(|source| MountError::Io {
        volume: volume.to_owned(),
        path,
        source,
    })?;
    Ok(MountSource::Image {
        image,
        layers: Vec::new(),
        sub_path: sub.map(PathBuf::from),
    })
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

/// Returns a path inside a volume, and the volume's own; what is missing becomes directories with the volume's own mode, as the kubelet makes
/// them. Whoever writes to the volume may change it at the same time: each step is taken from the volume's root in one look, which no link
/// leads out of, and the mount itself is looked up once more in the same way.
fn inside(root: &Path, sub: &str, volume: &str) -> Result<(PathBuf, PathBuf), MountError> {
    let escapes = || MountError::Escapes {
        volume: volume.to_owned(),
        path: sub.to_owned(),
    };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| MountError::Io {
            volume: volume.to_owned(),
            path,
            source,
        }
    };
    let root = fs::canonicalize(root).map_err(io(root))?;
    let top = rustix::fs::open(&root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let top = top.map_err(|error| io(&root)(error.into()))?;
    let mode = rustix::fs::fstat(&top)
        .map_err(|error| io(&root)(error.into()))?
        .st_mode;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let look = |path: &Path| rustix::fs::openat2(&top, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how);
    let mut so_far = PathBuf::new();
    let mut found: Option<OwnedFd> = None;
    for component in Path::new(sub).components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            _ => return Err(escapes()),
        };
        so_far.push(name);
        let missing = match look(&so_far) {
            Ok(next) => {
                found = Some(next);
                continue;
            }
            Err(Errno::NOENT) => found.as_ref().unwrap_or(&top),
            // A link that leads out, or in a circle.
            Err(Errno::XDEV | Errno::LOOP) => return Err(escapes()),
            Err(error) => return Err(io(&root.join(&so_far))(error.into())),
        };
        make_directory(missing, name, mode & 0o7777).map_err(io(&root.join(&so_far)))?;
        // A link that leads nowhere is there, too, and is not followed.
        found = Some(look(&so_far).map_err(|_| escapes())?);
    }
    let path = match found {
        Some(found) => fs::read_link(own_path(&found)).map_err(io(&root.join(&so_far)))?,
        None => root.clone(),
    };
    if path.starts_with(&root) {
        Ok((path, root))
    } else {
        Err(escapes())
    }
}

/// Makes a directory that has its mode from the beginning: under another name, so that one that was broken off is finished by the next, and nobody
/// finds it half made. Succeeds when something of the name is there.
fn make_directory(parent: &OwnedFd, name: &OsStr, mode: u32) -> io::Result<()> {
    let mut unfinished = OsString::from(".");
    unfinished.push(name);
    unfinished.push(".making");
    if unfinished.len() > LONGEST_NAME {
        unfinished = OsString::from(".setpoint.making");
    }
    match rustix::fs::mkdirat(parent, &unfinished, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, &unfinished, flags, Mode::empty()) {
        Ok(made) => rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?,
        // Another pod's has just become the one.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let flags = RenameFlags::NOREPLACE;
    let renamed = match rustix::fs::renameat_with(parent, &unfinished, parent, name, flags) {
        // Some file systems of the network do not know the flag.
        Err(Errno::INVAL) => rustix::fs::renameat(parent, &unfinished, parent, name),
        renamed => renamed,
    };
    match renamed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::EXIST | Errno::NOTEMPTY) => match rustix::fs::unlinkat(parent, &unfinished, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The name under which this process has a file open.
fn own_path(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
