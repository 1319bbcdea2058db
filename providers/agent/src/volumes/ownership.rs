//! Gives a volume to a group, as `fsGroup` asks.
//!
//! Another pod may write to the same volume meanwhile, so that nothing is reached by a path: each entry is opened from its directory, never
//! through a link, and changed as what was opened.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags};

/// Deeper trees are refused: their end would never be found while somebody keeps digging.
const DEPTH: usize = 512;
const WRITABLE: u32 = 0o660;
const READABLE: u32 = 0o440;
const DIRECTORY: u32 = 0o2110;

/// Makes a tree readable (and unless `read_only` writable) for a group; new files in its directories get the group as well.
/// Symbolic links are not followed, but for the last part of `path` itself.
pub(super) fn give(path: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let root = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    give_entry(&root, group, if read_only { READABLE } else { WRITABLE }, 0)
}

/// Returns the mode that [`give`] leaves a directory of this one with, writable.
pub(super) fn opened(mode: u32) -> u32 {
    mode | WRITABLE | DIRECTORY
}

/// Returns whether a volume's root looks as [`give`] leaves it, writable.
pub(super) fn is_given(path: &Path, group: u32) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path)?;
    let wanted = WRITABLE | if metadata.is_dir() { DIRECTORY } else { 0 };
    Ok(metadata.gid() == group && metadata.mode() & wanted == wanted)
}

fn give_entry(entry: &OwnedFd, group: u32, add: u32, depth: usize) -> io::Result<()> {
    let found = rustix::fs::fstat(entry)?;
    if found.st_gid != group {
        rustix::fs::chownat(entry, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    }
    let kind = FileType::from_raw_mode(found.st_mode);
    if kind == FileType::Symlink {
        return Ok(());
    }
    let is_directory = kind == FileType::Directory;
    let add = add | if is_directory { DIRECTORY } else { 0 };
    if found.st_mode | add != found.st_mode {
        let mode = fs::Permissions::from_mode((found.st_mode | add) & 0o7777);
        fs::set_permissions(format!("/proc/self/fd/{}", entry.as_raw_fd()), mode)?;
    }
    if !is_directory {
        return Ok(());
    }
    if depth >= DEPTH {
        return Err(io::Error::other(format!(
            "the volume has directories more than {DEPTH} deep"
        )));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(entry, ".", flags, Mode::empty())?;
    for child in Dir::read_from(&directory)? {
        let child = child?;
        let name = child.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(directory.as_fd(), name, flags, Mode::empty()) {
            Ok(child) => give_entry(&child, group, add & (WRITABLE | READABLE), depth + 1)?,
            // It went meanwhile.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
