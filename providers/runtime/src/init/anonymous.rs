//! The volumes that an image declares and nobody mounts anything on: each is an empty directory of the attempt, beside its upper layer, into which what the
//! image has at that path is copied, as containerd does. They end with the attempt.
//!
//! All that is read here is the image's: paths are resolved inside the container's root, and no link is followed on the way down.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fsetxattr, fstat, linkat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::rootfs::{Kind, Rootfs, kind_of};
use crate::spec::{Mount, MountSource};

/// How deep directories may nest: a layer has no deeper ones.
const DEEPEST: usize = 512;
/// The longest list of names of extended attributes, and the largest attribute, in bytes (the kernel's own limits).
const ATTRIBUTE: usize = 64 << 10;

/// Makes a directory for each path and fills it; returns what is to be mounted. Nothing else is mounted on the root yet, so that only the image is copied.
pub(super) fn make(rootfs: &Rootfs, paths: &[PathBuf], directory: &Path) -> io::Result<Vec<Mount>> {
    let base = directory.join("volumes");
    let mut mounts = Vec::new();
    for (at, target) in paths.iter().enumerate() {
        let place = base.join(at.to_string());
        fs::create_dir_all(&place)?;
        fill(rootfs, target, &place).map_err(|error| {
            let message = format!("copy what the image has at its volume {}: {error}", target.display());
            io::Error::new(error.kind(), message)
        })?;
        mounts.push(Mount {
            target: target.clone(),
            source: MountSource::Bind { path: place },
            read_only: false,
        });
    }
    Ok(mounts)
}

fn fill(rootfs: &Rootfs, target: &Path, place: &Path) -> io::Result<()> {
    let Some(found) = rootfs.find(target)? else {
        return Ok(());
    };
    if kind_of(&found)? != Kind::Directory {
        let message = "it is not a directory";
        return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
    }
    let from = openat(&found, ".", DIRECTORY, Mode::empty())?;
    let to = rustix::fs::open(place, DIRECTORY, Mode::empty())?;
    let mut copy = Copy {
        linked: HashMap::new(),
        root: to.as_fd(),
    };
    copy.children(from.as_fd(), to.as_fd(), &mut PathBuf::new(), 0)?;
    finish(&from, &to)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Copy<'a> {
    /// Files with several names, by device and inode: the first name, from the volume's root.
    linked: HashMap<(u64, u64), PathBuf>,
    root: BorrowedFd<'a>,
}

impl Copy<'_> {
    fn children(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &mut PathBuf,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other("its directories nest too deep"));
        }
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        for name in names {
            use std::os::unix::ffi::OsStrExt;
            path.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
            self.entry(from, to, &name, path, depth)?;
            path.pop();
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &mut PathBuf,
        depth: usize,
    ) -> io::Result<()> {
        let found = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind == FileType::Directory {
            mkdirat(to, name, Mode::RWXU)?;
            let (below, made) = (
                openat(from, name, DIRECTORY, Mode::empty())?,
                openat(to, name, DIRECTORY, Mode::empty())?,
            );
            self.children(below.as_fd(), made.as_fd(), path, depth + 1)?;
            // Last: what is made in a directory changes its times.
            return finish(&below, &made);
        }
        if found.st_nlink > 1 {
            let file = (found.st_dev, found.st_ino);
            if let Some(first) = self.linked.get(&file) {
                linkat(self.root, first, to, name, AtFlags::empty())?;
                return Ok(());
            }
            self.linked.insert(file, path.clone());
        }
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut source = File::from(openat(from, name, flags, Mode::empty())?);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut target = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut source, &mut target)?;
                finish(&source, &target)
            }
            FileType::Symlink => {
                symlinkat(&readlinkat(from, name, Vec::new())?, to, name)?;
                chown(to, name, &found)?;
                Ok(utimensat(to, name, &times(&found), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            // A socket is of no use without its process.
            FileType::Socket => Ok(()),
            _ => {
                mknodat(to, name, kind, mode(&found), found.st_rdev)?;
                chown(to, name, &found)?;
                // The mask of this process took of what was asked for.
                rustix::fs::chmodat(to, name, mode(&found), AtFlags::empty())?;
                Ok(utimensat(to, name, &times(&found), AtFlags::SYMLINK_NOFOLLOW)?)
            }
        }
    }
}

fn chown(to: BorrowedFd<'_>, name: &CStr, found: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn mode(found: &Stat) -> Mode {
    Mode::from_raw_mode(found.st_mode as RawMode & 0o7777)
}

fn times(found: &Stat) -> Timestamps {
    // Nobody's clock needs more than what both forms of the structure hold.
    let time = |seconds: i64, nanoseconds: i64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(found.st_atime, found.st_atime_nsec as i64),
        last_modification: time(found.st_mtime, found.st_mtime_nsec as i64),
    }
}

/// Gives a copy the owner, mode, attributes and times of what it was copied from.
fn finish(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    let found = fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)))?;
    // After the owner, which takes setuid and setgid away; before file capabilities would be lost by it, too.
    fchmod(to, mode(&found))?;
    attributes(from.as_fd(), to.as_fd())?;
    Ok(rustix::fs::futimens(to, &times(&found))?)
}

/// Copies the extended attributes that belong to an image.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTE];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Ok(length) => length,
        // A file system without any.
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        let ours = name == b"security.capability" || name.starts_with(b"user.");
        let Some(name) = CString::new(name).ok().filter(|_| ours) else {
            continue;
        };
        let mut value = vec![0; ATTRIBUTE];
        let length = rustix::fs::fgetxattr(from, name.as_c_str(), &mut value)?;
        match fsetxattr(to, name.as_c_str(), &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
