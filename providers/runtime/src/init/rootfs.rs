//! A container's root file system: the overlay, and reaching places inside it without being led outside.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

use crate::sys;

/// How a path inside a root is looked up: never outside, never through a magic link of /proc.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// A mounted root file system, not yet the process's own.
#[derive(Debug)]
pub(super) struct Rootfs {
    /// The directory, as a place to look up from.
    pub(super) directory: OwnedFd,
}

/// What a mount target has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Directory,
    File,
}

impl Rootfs {
    /// Mounts the layers (bottom first) under a fresh upper layer in `directory` (`upper`, `work`, `rootfs` are made there).
    pub(super) fn overlay(layers: &[PathBuf], directory: &Path, devices: bool) -> io::Result<Self> {
        let path = |name: &str| directory.join(name);
        let target = path("rootfs");
        // O_PATH descriptors name layers shortly and without characters that the option parser would take apart.
        let mut opened = Vec::with_capacity(layers.len());
        for layer in layers {
            let layer = rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| named(error, "open layer", layer))?;
            opened.push(layer);
        }
        let names: Vec<String> = opened
            .iter()
            .rev()
            .map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd()))
            .collect();
        match Self::attach_new(&names, &path("upper"), &path("work"), &target, devices) {
            Ok(()) => {}
            // Kernels before 6.8 do not know lowerdir+, those before 5.2 not even the calls.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                Self::attach_old(&names, &path("upper"), &path("work"), &target, devices)
                    .map_err(|error| named(error, "mount overlay on", &target))?;
            }
            Err(error) => return Err(named(error, "mount overlay on", &target)),
        }
        let directory = rustix::fs::open(
            &target,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { directory })
    }

    /// Mounts the layers (bottom first, at least two) at `target`, without an upper layer.
    pub(super) fn read_only(layers: &[PathBuf], target: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut opened = Vec::with_capacity(layers.len());
        for layer in layers {
            let layer = rustix::fs::open(layer, flags, Mode::empty());
            opened.push(layer.map_err(|error| named(error, "open layer", target))?);
        }
        let names: Vec<String> = opened
            .iter()
            .rev()
            .map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd()))
            .collect();
        let new = || {
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            let context = context.as_fd();
            fsconfig_set_string(context, "source", "overlay")?;
            for layer in &names {
                fsconfig_set_string(context, "lowerdir+", layer.as_str())?;
            }
            fsconfig_create(context)?;
            let mounted = fsmount(
                context,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::MOUNT_ATTR_RDONLY,
            )?;
            move_mount(
                mounted.as_fd(),
                "",
                CWD,
                target,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        let old = || {
            let options = std::ffi::CString::new(format!("lowerdir={}", names.join(":")));
            let options = options.map_err(|_| rustix::io::Errno::INVAL)?;
            mount("overlay", target, "overlay", MountFlags::RDONLY, options.as_c_str())
        };
        match new() {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => old(),
            other => other,
        }
        .map_err(|error| named(error, "mount overlay on", target))?;
        let directory = rustix::fs::open(target, flags, Mode::empty())?;
        Ok(Self { directory })
    }

    fn attach_new(
        layers: &[String],
        upper: &Path,
        work: &Path,
        target: &Path,
        devices: bool,
    ) -> rustix::io::Result<()> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        fsconfig_set_string(context, "source", "overlay")?;
        for layer in layers {
            fsconfig_set_string(context, "lowerdir+", layer.as_str())?;
        }
        fsconfig_set_string(context, "upperdir", upper)?;
        fsconfig_set_string(context, "workdir", work)?;
        fsconfig_set_flag(context, "volatile")?;
        fsconfig_create(context)?;
        let attributes = if devices {
            MountAttrFlags::empty()
        } else {
            MountAttrFlags::MOUNT_ATTR_NODEV
        };
        let mounted = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        move_mount(
            mounted.as_fd(),
            "",
            CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
    }

    fn attach_old(
        layers: &[String],
        upper: &Path,
        work: &Path,
        target: &Path,
        devices: bool,
    ) -> rustix::io::Result<()> {
        let flags = if devices {
            MountFlags::empty()
        } else {
            MountFlags::NODEV
        };
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            layers.join(":"),
            upper.display(),
            work.display()
        );
        let with = |options: &str| {
            let options = std::ffi::CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
            mount("overlay", target, "overlay", flags, options.as_c_str())
        };
        // `volatile` is younger (5.10) than overlayfs; without it unmounting writes the upper layer out.
        with(&format!("{options},volatile")).or_else(|error| {
            if error == rustix::io::Errno::INVAL {
                with(&options)
            } else {
                Err(error)
            }
        })
    }

    /// Opens a place inside, as a path only; `None` when it is not there.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let relative = relative(path)?;
        match rustix::fs::openat2(
            &self.directory,
            &relative,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            INSIDE,
        ) {
            Ok(found) => Ok(Some(found)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(named(error, "look up", path)),
        }
    }

    /// Opens a place inside, and makes it and the directories above it when missing.
    pub(super) fn ensure(&self, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
        if let Some(found) = self.find(path)? {
            let is_directory = kind_of(&found)? == Kind::Directory;
            if is_directory != (kind == Kind::Directory) {
                let wanted = if kind == Kind::Directory {
                    "a directory"
                } else {
                    "a file"
                };
                let message = format!("mount target {} is not {wanted}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            return Ok(found);
        }
        let relative = relative(path)?;
        let mut parent = sys::descriptors::duplicate(&self.directory)?;
        let mut so_far = PathBuf::new();
        let count = relative.components().count();
        for (index, name) in relative.components().enumerate() {
            so_far.push(name);
            let last = index + 1 == count;
            let next = match self.find(&so_far)? {
                Some(found) => found,
                None => {
                    let made = if last && kind == Kind::File {
                        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                        rustix::fs::openat(&parent, name.as_os_str(), flags, Mode::from_raw_mode(0o644)).map(drop)
                    } else {
                        rustix::fs::mkdirat(&parent, name.as_os_str(), Mode::from_raw_mode(0o755))
                    };
                    made.map_err(|error| named(error, "make mount target", path))?;
                    self.find(&so_far)?
                        .ok_or_else(|| named(rustix::io::Errno::NOENT, "make mount target", path))?
                }
            };
            parent = next;
        }
        Ok(parent)
    }
}

/// Returns whether an open place is a directory.
pub(super) fn kind_of(place: &OwnedFd) -> io::Result<Kind> {
    let stat = rustix::fs::fstat(place)?;
    Ok(if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        Kind::Directory
    } else {
        Kind::File
    })
}

fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => relative.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                let message = format!("mount target {} must not contain ..", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
    }
    if relative.as_os_str().is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the root itself cannot be a mount target",
        ));
    }
    Ok(relative)
}

/// Clones the tree of mounts at a place.
pub(super) fn clone_tree(directory: impl AsFd, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    rustix::mount::open_tree(directory, path, flags).map_err(|error| named(error, "bind", path))
}

/// Puts a detached mount on a place.
pub(crate) fn attach(mounted: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mounted, "", target, "", flags)?)
}

/// Makes a detached mount of a file system without a device.
pub(crate) fn detached(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let make = || {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        for (key, value) in options {
            if value.is_empty() {
                fsconfig_set_flag(context, *key)?;
            } else {
                fsconfig_set_string(context, *key, *value)?;
            }
        }
        fsconfig_create(context)?;
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(|error| named(error, "mount", Path::new(kind)))
}

fn named(error: impl Into<io::Error>, operation: &str, path: &Path) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
}

/// Changes the owner of an open file; what cannot be owned is left.
pub(super) fn give(file: impl AsFd, uid: u32, gid: u32) {
    let owner = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    if let Err(error) = rustix::fs::chownat(file, "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH) {
        tracing::debug!(%error, "standard stream keeps its owner");
    }
}
