//! emptyDirs: a directory on disk, or a file system in memory that is no larger than the pod may use.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{VolumeError, ownership};
use crate::resources;

/// Makes an emptyDir unless it is there.
pub(super) fn prepare<F>(
    path: &Path,
    dir: &EmptyDirVolumeSource,
    spec: &PodSpec,
    node_memory: u64,
    group: Option<u32>,
    io: impl Fn(&'static str, &Path) -> F,
) -> Result<(), VolumeError>
where
    F: FnOnce(io::Error) -> VolumeError,
{
    let in_memory = dir.medium.as_deref() == Some("Memory");
    let mounted = || is_mount(path).map_err(io("look at", path));
    if path.is_dir() && (!in_memory || mounted()?) {
        return Ok(());
    }
    let mode = dir.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o777) & 0o1777;
    if in_memory {
        fs::create_dir_all(path).map_err(io("create", path))?;
        let mut options = format!("size={}", memory_size(dir, spec, node_memory));
        match group {
            Some(group) => options += &format!(",gid={group},mode={:o}", ownership::opened(mode)),
            None => options += &format!(",mode={mode:o}"),
        }
        let options = std::ffi::CString::new(options).map_err(|error| io("size", path)(error.into()))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        return mount("tmpfs", path, "tmpfs", flags, options.as_c_str())
            .map_err(|error| io("mount", path)(error.into()));
    }
    // Under another name until it is whole: what is there under its own is taken as it is, with whatever the pod made of it.
    let unfinished = unfinished(path);
    fs::create_dir_all(&unfinished).map_err(io("create", &unfinished))?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(mode)).map_err(io("open up", &unfinished))?;
    if let Some(group) = group {
        ownership::give(&unfinished, group, false).map_err(io("change the group of", &unfinished))?;
    }
    fs::rename(&unfinished, path).map_err(io("name", path))
}

/// Returns where a directory is made: no volume's name begins with a dot.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// How large an emptyDir in memory may become, in bytes: what it asks for, at most what the pod may use, at most what the node has.
pub(super) fn memory_size(dir: &EmptyDirVolumeSource, spec: &PodSpec, node_memory: u64) -> u64 {
    let own = dir
        .size_limit
        .as_ref()
        .and_then(resources::bytes)
        .filter(|size| *size > 0);
    let pod = resources::of_pod(spec).memory_limit;
    [own, pod, Some(node_memory).filter(|size| *size > 0)]
        .into_iter()
        .flatten()
        .min()
        // The kernel's own default, half of the memory, needs the word 0.
        .unwrap_or(0)
}

/// Returns whether a directory is the root of a file system of its own.
fn is_mount(path: &Path) -> io::Result<bool> {
    let Some(parent) = path.parent() else { return Ok(true) };
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

/// Takes the file systems off a pod's volumes. What still uses one keeps it to itself until it ends.
pub(super) fn unmount_all(volumes: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(volumes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() && is_mount(&entry.path())? {
            unmount(entry.path(), UnmountFlags::DETACH)?;
        }
    }
    Ok(())
}
