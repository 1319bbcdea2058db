//! Removing folders that others wrote: what a container or an image left may be deeper than any stack.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// How far it is gone down; what is deeper is moved up first.
const DEEPEST: usize = 64;

/// Removes a folder with all below it, as [`std::fs::remove_dir_all`] does: no link is followed, and one in the folder's place is removed itself. However deep
/// it is, the stack and the number of open files stay small.
///
/// # Errors
/// `NotFound` when there is none; `DirectoryNotEmpty` when somebody writes into it meanwhile.
pub fn remove(path: &Path) -> io::Result<()> {
    let root = match open(CWD, path) {
        Ok(root) => root,
        Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(path),
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0;
    loop {
        let before = moved;
        empty(root.as_fd(), root.as_fd(), 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    std::fs::remove_dir(path)
}

fn open<P: rustix::path::Arg>(parent: impl AsFd, name: P) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Empties a folder; folders that are too deep below it go to the root, under names that count up.
fn empty(root: BorrowedFd<'_>, folder: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> io::Result<()> {
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        match unlinkat(folder, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if depth >= DEEPEST {
            *moved += 1;
            renameat(folder, &name, root, format!(".removing-{moved}"))?;
            continue;
        }
        match open(folder, &name) {
            Ok(child) => empty(root, child.as_fd(), depth + 1, moved)?,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        }
        match unlinkat(folder, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_deeper_than_any_stack_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().join("top");
        fs::create_dir(&top).expect("made");
        let mut at = open(CWD, &top).expect("opened");
        for _ in 0..8_000 {
            rustix::fs::mkdirat(&at, "a", Mode::RWXU).expect("made");
            at = open(&at, "a").expect("opened");
        }
        drop(at);
        // A small stack, as threads of a runtime may have.
        let path = top.clone();
        let thread = std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || remove(&path));
        thread.expect("a thread").join().expect("no panic").expect("removed");
        assert!(!top.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (kept, top) = (folder.path().join("kept"), folder.path().join("top"));
        fs::create_dir_all(top.join("x/y")).expect("made");
        fs::create_dir(&kept).expect("made");
        fs::write(kept.join("file"), "1").expect("written");
        fs::write(top.join("x/y/file"), "1").expect("written");
        std::os::unix::fs::symlink(&kept, top.join("x/link")).expect("linked");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&kept, &link).expect("linked");
        remove(&top).expect("removed");
        remove(&link).expect("removed");
        assert!(!top.exists() && !link.is_symlink() && kept.join("file").exists());
        assert_eq!(remove(&top).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }
}
