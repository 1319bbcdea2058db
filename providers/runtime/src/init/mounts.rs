//! Everything mounted inside a container besides its root: kernel file systems, devices, volumes, masks.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::rootfs::{Kind, Rootfs, attach, clone_tree, detached, kind_of};
use crate::cgroup::Group;
use crate::spec::{Mount, MountSource, Propagation, Security};
use crate::sys;

/// Hidden from containers: what tells of or changes the host (as runc's defaults).
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Kept from being written (as runc's defaults).
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The device files of every container.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What a container's /dev has of its own, or what holds no devices of the host (as containerd's list).
const OWN_DIRECTORIES: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// How deep devices lie at most.
const DEEPEST: usize = 8;

/// The numbers of the device files that every container may open where the host's own is mounted into it (as runc's defaults): those of
/// [`DEVICES`], and that of tunnels, which the kernel opens to all and lets only administrators of a network use.
const OPEN_DEVICES: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200)];

/// Links in /dev.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// Mounts /proc, /sys, the cgroup view and /dev.
pub(super) fn standard(rootfs: &Rootfs, security: &Security, shm: &Path, cgroup: &Group) -> io::Result<()> {
    let strict = NOSUID | NODEV | NOEXEC;
    let place = |path: &str| rootfs.ensure(Path::new(path), Kind::Directory);
    attach(detached("proc", &[], strict)?, place("/proc")?)?;
    let sys_attributes = if security.privileged { strict } else { strict | RDONLY };
    match detached("sysfs", &[], sys_attributes) {
        Ok(sysfs) => {
            attach(sysfs, place("/sys")?)?;
            cgroup_view(rootfs, cgroup, security.privileged)?;
        }
        // A host that hides parts of its own /sys (a container) does not let us mount a full one.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::debug!(%error, "no /sys in this container");
        }
        Err(error) => return Err(error),
    }
    let dev_attributes = if security.privileged { NOSUID } else { NOSUID | NODEV };
    let dev = detached("tmpfs", &[("mode", "755"), ("size", "65536k")], dev_attributes)?;
    attach(&dev, place("/dev")?)?;
    devices(&dev, security.privileged)?;
    let below = |name: &str| -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
        Ok(rustix::fs::openat(
            &dev,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    };
    let pts = [
        ("newinstance", ""),
        ("ptmxmode", "0666"),
        ("mode", "0620"),
        ("gid", "5"),
    ];
    attach(detached("devpts", &pts, NOSUID | NOEXEC)?, below("pts")?)?;
    attach(clone_tree(CWD, shm, false)?, below("shm")?)?;
    match detached("mqueue", &[], strict) {
        Ok(mqueue) => attach(mqueue, below("mqueue")?)?,
        Err(error) => tracing::debug!(%error, "no /dev/mqueue in this container"),
    }
    Ok(())
}

fn cgroup_view(rootfs: &Rootfs, cgroup: &Group, writable: bool) -> io::Result<()> {
    let Some(base) = rootfs.find(Path::new("/sys/fs/cgroup"))? else {
        return Ok(());
    };
    let attributes = if writable { 0 } else { sys::mount::READ_ONLY };
    let views = cgroup.views();
    if let [(None, unified)] = views.as_slice() {
        let tree = clone_tree(CWD, unified, false)?;
        sys::mount::set_attributes(tree.as_fd(), attributes, false)?;
        return attach(tree, base);
    }
    let directory = detached("tmpfs", &[("mode", "755"), ("size", "64k")], NOSUID | NODEV | NOEXEC)?;
    attach(&directory, base)?;
    for (name, path) in views {
        let Some(name) = name else { continue };
        rustix::fs::mkdirat(&directory, name.as_str(), Mode::from_raw_mode(0o755))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::openat(&directory, name.as_str(), flags, Mode::empty())?;
        let tree = clone_tree(CWD, &path, false)?;
        sys::mount::set_attributes(tree.as_fd(), attributes, false)?;
        attach(tree, target)?;
    }
    sys::mount::set_attributes(directory.as_fd(), attributes, false)
}

/// Fills /dev. Devices are binds of the host's, on a file system that itself allows none: so a container with CAP_MKNOD
/// can make device files but open none but these, without a device cgroup.
fn devices(dev: &OwnedFd, privileged: bool) -> io::Result<()> {
    for name in DEVICES {
        bind_device(dev, &Path::new("/dev").join(name), name)?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    if !privileged {
        return Ok(());
    }
    host_devices(Path::new("/dev"), dev, 0)
}

/// Makes the device files of a directory of the host and of those below it, with their owners and modes. A file that goes meanwhile is left out.
fn host_devices(from: &Path, to: &OwnedFd, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let own = |names: &[&str]| depth == 0 && name.to_str().is_some_and(|name| names.contains(&name));
        let made = if kind.is_dir() && !own(&OWN_DIRECTORIES) && depth < DEEPEST {
            host_directory(&entry.path(), to, depth)
        } else if (kind.is_char_device() || kind.is_block_device()) && !own(&DEVICES) && !own(&["ptmx", "console"]) {
            entry.metadata().and_then(|metadata| make_device(to, &name, &metadata))
        } else {
            continue;
        };
        if let Err(error) = made {
            tracing::debug!(%error, device = %entry.path().display(), "device is not in this container");
        }
    }
    Ok(())
}

fn host_directory(from: &Path, to: &OwnedFd, depth: usize) -> io::Result<()> {
    let name = from.file_name().unwrap_or_default();
    rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(to, name, flags, Mode::empty())?;
    host_devices(from, &made, depth + 1)?;
    // One without devices is not shown.
    match rustix::fs::unlinkat(to, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOTEMPTY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn make_device(to: &OwnedFd, name: &OsStr, found: &fs::Metadata) -> io::Result<()> {
    let kind = FileType::from_raw_mode(found.mode());
    let mode = Mode::from_raw_mode(found.mode() & 0o777);
    rustix::fs::mknodat(to, name, kind, mode, found.rdev())?;
    let (user, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    rustix::fs::chownat(to, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    // What was made just now is no link, and its mode was cut by the umask.
    Ok(rustix::fs::chmodat(to, name, mode, AtFlags::empty())?)
}

fn bind_device(dev: &OwnedFd, source: &Path, name: &str) -> io::Result<()> {
    let tree = clone_tree(CWD, source, false)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o666))?);
    let target = rustix::fs::openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(tree, target)
}

/// What mounting volumes needs to know of the container.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    /// The attempt's own directory.
    pub(super) directory: &'a Path,
    /// The host's mount namespace.
    pub(super) namespace: &'a OwnedFd,
    /// Whether devices may be opened.
    pub(super) privileged: bool,
}

/// Mounts what the container asked for, outer targets before inner ones.
pub(super) fn volumes(rootfs: &Rootfs, mounts: &[&Mount], host: Host<'_>) -> io::Result<()> {
    let mut ordered: Vec<(usize, &Mount)> = mounts.iter().copied().enumerate().collect();
    ordered.sort_by_key(|(_, mount)| mount.target.components().count());
    for (at, mount) in ordered {
        volume(rootfs, mount, at, host).map_err(|error| {
            let source = match &mount.source {
                MountSource::Bind { path } | MountSource::Volume { path, .. } => path.display().to_string(),
                MountSource::Tmpfs { .. } => "tmpfs".to_owned(),
                MountSource::Image { image, .. } => image.clone(),
            };
            let message = format!("mount {source} on {}: {error}", mount.target.display());
            io::Error::new(error.kind(), message)
        })?;
    }
    Ok(())
}

fn volume(rootfs: &Rootfs, mount: &Mount, at: usize, host: Host<'_>) -> io::Result<()> {
    let devices = |tree: &OwnedFd| -> io::Result<u64> {
        let open = host.privileged || is_open_device(tree)?;
        Ok(if open { 0 } else { sys::mount::NO_DEVICES })
    };
    let read_only = if mount.read_only { sys::mount::READ_ONLY } else { 0 };
    match &mount.source {
        MountSource::Bind { path } => {
            let tree = host_tree(path, None)?;
            sys::mount::set_attributes(tree.as_fd(), devices(&tree)? | read_only, true)?;
            let target = rootfs.ensure(&mount.target, kind_of(&tree)?)?;
            attach(tree, target)
        }
        MountSource::Volume {
            path,
            beneath,
            propagation,
            recursive,
        } => {
            let beneath = beneath.as_deref();
            // Here mounts come down from the host and none go up: for both ways the host's own mount is needed.
            let tree = match propagation {
                Propagation::None | Propagation::HostToContainer => host_tree(path, beneath)?,
                Propagation::Bidirectional => {
                    sys::namespace::inside(host.namespace.as_fd(), libc::CLONE_NEWNS, || host_tree(path, beneath))?
                }
            };
            let set = match propagation {
                Propagation::None => sys::mount::set_attributes,
                Propagation::HostToContainer | Propagation::Bidirectional => sys::mount::set_attributes_shared,
            };
            set(tree.as_fd(), devices(&tree)?, true)?;
            if mount.read_only {
                set(tree.as_fd(), read_only, *recursive)?;
            }
            let target = rootfs.ensure(&mount.target, kind_of(&tree)?)?;
            attach(tree, target)
        }
        MountSource::Image { layers, sub_path, .. } => {
            let tree = image_tree(layers, sub_path.as_deref(), &host.directory.join(format!("image-{at}")))?;
            let attributes = sys::mount::READ_ONLY | sys::mount::NO_DEVICES | sys::mount::NO_PROGRAMS;
            sys::mount::set_attributes(tree.as_fd(), attributes, true)?;
            let target = rootfs.ensure(&mount.target, kind_of(&tree)?)?;
            attach(tree, target)
        }
        MountSource::Tmpfs { size } => {
            let mut attributes = NOSUID | NODEV;
            if mount.read_only {
                attributes |= RDONLY;
            }
            let size = size.map(|bytes| bytes.to_string());
            let mut options = vec![("mode", "1777")];
            if let Some(size) = &size {
                options.push(("size", size));
            }
            attach(
                detached("tmpfs", &options, attributes)?,
                rootfs.ensure(&mount.target, Kind::Directory)?,
            )
        }
    }
}

/// Returns whether a place is one of the device files that every container may open.
fn is_open_device(place: &OwnedFd) -> io::Result<bool> {
    let found = rustix::fs::fstat(place)?;
    let number = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
    Ok(FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && OPEN_DEVICES.contains(&number))
}

/// Clones what is mounted at a path of the host. With `beneath` the path is looked up from there in one step, so that nobody who writes
/// there leads it elsewhere meanwhile.
fn host_tree(path: &Path, beneath: Option<&Path>) -> io::Result<OwnedFd> {
    if !path.is_absolute() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the host path is not absolute",
        ));
    }
    let Some(beneath) = beneath else {
        return clone_tree(CWD, path, true);
    };
    let below = path.strip_prefix(beneath).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is not below {}", beneath.display()),
        )
    })?;
    let root = rustix::fs::open(beneath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let place = if below.as_os_str().is_empty() {
        root
    } else {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, below, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)?
    };
    clone_tree(place, Path::new(""), true)
}

/// Puts an image's layers together at `place`, which is made, and clones what is there at `sub_path`.
fn image_tree(layers: &[PathBuf], sub_path: Option<&Path>, place: &Path) -> io::Result<OwnedFd> {
    fs::create_dir(place)?;
    let root = match layers {
        // An overlay needs two.
        [only] => rustix::fs::open(only, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
        layers => Rootfs::read_only(layers, place)?.directory,
    };
    let Some(sub_path) = sub_path else {
        return clone_tree(root, Path::new(""), false);
    };
    // Links of the image mean places of the image.
    let found = Rootfs { directory: root }.find(sub_path)?.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("the image has no {}", sub_path.display()),
        )
    })?;
    clone_tree(found, Path::new(""), false)
}

/// Masks and write-protects what containers must not see or change of the kernel.
pub(super) fn protect(rootfs: &Rootfs) -> io::Result<()> {
    for path in READ_ONLY {
        let Some(place) = rootfs.find(Path::new(path))? else {
            continue;
        };
        let tree = clone_tree(&place, &PathBuf::new(), true)?;
        sys::mount::set_attributes(tree.as_fd(), sys::mount::READ_ONLY, true)?;
        attach(tree, place)?;
    }
    let mut empty: Option<OwnedFd> = None;
    for path in MASKED {
        let Some(place) = rootfs.find(Path::new(path))? else {
            continue;
        };
        let tree = match kind_of(&place)? {
            Kind::File => clone_tree(CWD, Path::new("/dev/null"), false)?,
            Kind::Directory => match &empty {
                // A detached mount that was attached can be cloned like any other.
                Some(empty) => clone_tree(empty, &PathBuf::new(), false)?,
                None => {
                    let made = detached("tmpfs", &[("size", "4k")], NOSUID | NODEV | NOEXEC | RDONLY)?;
                    attach(&made, place)?;
                    empty = Some(made);
                    continue;
                }
            },
        };
        attach(tree, place)?;
    }
    Ok(())
}
