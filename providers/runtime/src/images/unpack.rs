//! A layer's tar into a folder, for overlayfs.
//!
//! Runs in a worker without rights (`unpacker`), whose root is that folder. Every path is resolved by the kernel inside the folder besides (`openat2`
//! with `RESOLVE_IN_ROOT`), so that neither `..` nor an absolute link of the layer leads outside; every file is made through a handle on its parent
//! and never through a link that already stands at its name. Whiteouts become what overlayfs expects: `.wh.x` a character device 0:0;
//! `.wh..wh..opq` is told to who started the worker, since the attribute that it becomes takes rights that the worker has not.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
    fsetxattr, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use serde::{Deserialize, Serialize};

/// What a layer may hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Bytes of all its files together; the tar may have a quarter more and 2 GiB, for what is between them.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 64 << 30,
            entries: 2_000_000,
        }
    }
}

impl Limits {
    /// The largest tar.
    pub fn tar(&self) -> u64 {
        self.bytes.saturating_add(self.bytes / 4).saturating_add(2 << 30)
    }

    fn exceeded(&self) -> io::Error {
        invalid(format!(
            "it is larger than allowed ({} bytes in {} entries)",
            self.bytes, self.entries
        ))
    }
}

/// What an unpacked layer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unpacked {
    /// Bytes of its files.
    pub bytes: u64,
    /// Directories that hide what is below them, each as the bytes of its path within the layer.
    pub opaque: Vec<Vec<u8>>,
}

/// How deep directories may nest.
const DEEPEST: usize = 256;
/// How long the paths of opaque directories may be together, in bytes.
const OPAQUE_PATHS: usize = 1 << 20;
/// The largest extended attribute, in bytes (the kernel's own limit).
const LARGEST_ATTRIBUTE: usize = 64 << 10;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Notes that aufs left for itself: they hide nothing.
const OF_AUFS: &[u8] = b".wh..wh.";

/// Writes what a blob (plain, gzip or zstd) holds into `plain`.
pub(crate) fn decompress(packed: impl Read, plain: &mut impl Write) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(128 << 10, packed);
    let mut magic = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(reader.by_ref());
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => copy(flate2::read::MultiGzDecoder::new(whole), plain)?,
        [0x28, 0xb5, 0x2f, 0xfd] => copy(zstd::stream::read::Decoder::new(whole)?, plain)?,
        _ => copy(whole, plain)?,
    }
    plain.flush()?;
    // What follows belongs to the blob's digest too.
    io::copy(&mut reader.take(64 << 20), &mut io::sink())?;
    Ok(())
}

fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Unpacks a tar into `folder`, which exists and is empty, and reads it to its very end.
pub(crate) fn untar(reader: impl Read, folder: &Path, limits: &Limits) -> io::Result<Unpacked> {
    let mut reader = BufReader::with_capacity(256 << 10, reader);
    let mut tree = Tree::open(folder)?;
    let (mut bytes, mut entries) = (0u64, 0u64);
    let mut archive = tar::Archive::new(&mut reader);
    for entry in archive.entries()? {
        let mut entry = entry?;
        entries += 1;
        if entry.header().entry_type().is_file() || entry.header().entry_type().is_gnu_sparse() {
            bytes = bytes.saturating_add(entry.size());
        }
        if entries > limits.entries || bytes > limits.bytes {
            return Err(limits.exceeded());
        }
        let path = entry.path()?.into_owned();
        tree.add(&path, &mut entry)
            .map_err(|e| io::Error::new(e.kind(), format!("entry {}: {e}", shown(&path))))?;
    }
    tree.finish()?;
    // Whoever sends it waits until all is read: the digest covers the padding after the last entry.
    io::copy(&mut reader.take(1 << 30), &mut io::sink())?;
    Ok(Unpacked {
        bytes,
        opaque: tree
            .opaque
            .into_iter()
            .map(|path| path.into_os_string().into_encoded_bytes())
            .collect(),
    })
}

/// A path as it may be shown: not endless, nothing that a terminal would obey.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// Marks directories as opaque for overlayfs. The paths come from a worker and are not believed: nothing outside of `folder` is touched.
pub(crate) fn mark_opaque(folder: &Path, opaque: &[Vec<u8>]) -> io::Result<()> {
    if opaque.is_empty() {
        return Ok(());
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, flags, Mode::empty())?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for path in opaque {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let directory = openat2(&root, OsStr::from_bytes(path), flags, Mode::empty(), within)?;
        fsetxattr(&directory, c"trusted.overlay.opaque", b"y", XattrFlags::empty())?;
    }
    Ok(())
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// The folder that a layer grows in.
struct Tree {
    root: OwnedFd,
    /// The parent of the entry before: most entries share it.
    last: Option<(PathBuf, OwnedFd)>,
    /// Directories' times are set last, because adding to a directory changes them.
    times: HashMap<PathBuf, u64>,
    /// Directories that hide what lower layers have in them.
    opaque: BTreeSet<PathBuf>,
    opaque_bytes: usize,
}

impl Tree {
    fn open(folder: &Path) -> io::Result<Tree> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Tree {
            root: rustix::fs::open(folder, flags, Mode::empty())?,
            last: None,
            times: HashMap::new(),
            opaque: BTreeSet::new(),
            opaque_bytes: 0,
        })
    }

    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(openat2(
            &self.root,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?)
    }

    /// Opens an entry's parent, making what is missing of it.
    fn parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return fd.try_clone();
        }
        let fd = match self.directory(path) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut made = PathBuf::new();
                for component in path.components() {
                    let parent = self.directory(&made)?;
                    match mkdirat(&parent, component.as_os_str(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    made.push(component);
                }
                self.directory(path)?
            }
            Err(error) => return Err(error),
        };
        self.last = Some((path.to_path_buf(), fd.try_clone()?));
        Ok(fd)
    }

    fn add<R: Read>(&mut self, path: &Path, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let Some((parent_path, name)) = split(path)? else {
            // The root itself: its mode and owner are the root directory's in the container.
            return set_owner_and_mode(&self.root, OsStr::new("."), entry.header(), true);
        };
        let parent = self.parent(&parent_path)?;
        if name.as_bytes() == OPAQUE {
            return self.hide_below(&parent);
        }
        if name.as_bytes().starts_with(OF_AUFS) {
            return Ok(());
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            let hidden = OsStr::from_bytes(hidden);
            if hidden.is_empty() || hidden == "." || hidden == ".." || hidden.as_bytes().contains(&b'/') {
                return Err(invalid("a whiteout that names nothing"));
            }
            self.forget(&parent_path.join(hidden));
            remove(&parent, hidden, 0)?;
            return Ok(mknodat(
                &parent,
                hidden,
                FileType::CharacterDevice,
                Mode::empty(),
                makedev(0, 0),
            )?);
        }
        self.make(&parent, &name, path, entry)
    }

    /// Notes that a directory is opaque, by the path that it really has.
    fn hide_below(&mut self, directory: &OwnedFd) -> io::Result<()> {
        // Asked of the kernel, since the layer may have named it through links; the worker's root is the layer's.
        let path = real_path(&self.root, directory)?;
        self.opaque_bytes += path.as_os_str().len() + 1;
        if self.opaque_bytes > OPAQUE_PATHS {
            return Err(invalid("it has too many opaque directories"));
        }
        self.opaque.insert(path);
        Ok(())
    }

    /// Forgets what is known of a path that is about to go.
    fn forget(&mut self, path: &Path) {
        // Its parent may have been named through a link, so that what is below it is not found by its name.
        self.last = None;
        self.opaque.retain(|known| !known.starts_with(path));
    }

    fn make<R: Read>(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        entry: &mut tar::Entry<'_, R>,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        let device = || -> io::Result<u64> {
            let header = entry.header();
            Ok(makedev(
                header.device_major()?.unwrap_or(0),
                header.device_minor()?.unwrap_or(0),
            ))
        };
        let is_directory = kind == tar::EntryType::Directory;
        if !is_directory || !is_real_directory(parent, name)? {
            self.forget(path);
            remove(parent, name, 0)?;
        }
        match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
                let mut file = std::fs::File::from(fd);
                if copy_sparsely(entry, &mut file)? != entry.size() {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the layer ends in the middle of it",
                    ));
                }
                file.flush()?;
            }
            tar::EntryType::Directory => match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            },
            tar::EntryType::Symlink => {
                let target = entry
                    .link_name()?
                    .ok_or_else(|| invalid("a symbolic link without a target"))?;
                symlinkat(target.as_os_str(), parent, name)?;
                chownat(
                    parent,
                    name,
                    uid(entry.header())?,
                    gid(entry.header())?,
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
                return set_time(parent, name, mtime(entry.header())?);
            }
            tar::EntryType::Link => {
                let target = entry
                    .link_name()?
                    .ok_or_else(|| invalid("a hard link without a target"))?;
                let Some((target_parent, target_name)) = split(&target)? else {
                    return Err(invalid("a hard link to the root"));
                };
                let target_parent = self.directory(&target_parent)?;
                // Neither the link's own mode nor owner counts: it is the same file.
                return Ok(linkat(&target_parent, target_name, parent, name, AtFlags::empty())?);
            }
            tar::EntryType::Char => {
                mknodat(
                    parent,
                    name,
                    FileType::CharacterDevice,
                    Mode::from_raw_mode(0o600),
                    device()?,
                )?;
            }
            tar::EntryType::Block => {
                mknodat(
                    parent,
                    name,
                    FileType::BlockDevice,
                    Mode::from_raw_mode(0o600),
                    device()?,
                )?;
            }
            tar::EntryType::Fifo => mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?,
            // Global headers and vendor extensions carry no file.
            _ => return Ok(()),
        }
        set_owner_and_mode(parent, name, entry.header(), is_directory)?;
        set_xattrs(parent, name, entry)?;
        let time = mtime(entry.header())?;
        if is_directory {
            self.times.insert(path.to_path_buf(), time);
            return Ok(());
        }
        set_time(parent, name, time)
    }

    fn finish(&self) -> io::Result<()> {
        for (path, time) in &self.times {
            let Some((parent, name)) = split(path)? else { continue };
            // A later entry may have replaced or hidden it.
            match self.directory(&parent) {
                Ok(parent) if is_real_directory(&parent, &name)? => set_time(&parent, &name, *time)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Splits a tar's path into parent and name, both below the root; `None` for the root itself.
fn split(path: &Path) -> io::Result<Option<(PathBuf, OsString)>> {
    let mut clean: Vec<OsString> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name.to_os_string()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(invalid("its path leads upwards")),
        }
    }
    if clean.len() > DEEPEST {
        return Err(invalid(format!("its path is deeper than {DEEPEST} directories")));
    }
    Ok(clean.pop().map(|name| (clean.iter().collect(), name)))
}

fn is_real_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::Directory),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes way for an entry of the same layer that replaces an earlier one. Follows no links.
fn remove(parent: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    if depth > DEEPEST {
        return Err(invalid("directories nest too deep"));
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let inner = entry.file_name().to_bytes();
        if inner != b"." && inner != b".." {
            remove(&directory, OsStr::from_bytes(inner), depth + 1)?;
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Copies a file, leaving holes where there are long runs of zeros: a sparse file must not take the room of what it says it holds.
fn copy_sparsely(from: &mut impl Read, to: &mut std::fs::File) -> io::Result<u64> {
    use std::io::Seek;
    let mut buffer = vec![0; 128 << 10];
    let (mut copied, mut hole) = (0u64, false);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hole = count >= 4096 && buffer[..count].iter().all(|byte| *byte == 0);
        if hole {
            to.seek_relative(i64::try_from(count).map_err(io::Error::other)?)?;
        } else {
            to.write_all(&buffer[..count])?;
        }
        copied += count as u64;
    }
    if hole {
        to.set_len(copied)?;
    }
    Ok(copied)
}

/// The path of a directory below the root, found by going upwards.
fn real_path(root: &OwnedFd, directory: &OwnedFd) -> io::Result<PathBuf> {
    let top = rustix::fs::fstat(root)?;
    let mut names: Vec<OsString> = Vec::new();
    let mut here = directory.try_clone()?;
    for _ in 0..=DEEPEST {
        let own = rustix::fs::fstat(&here)?;
        if (own.st_dev, own.st_ino) == (top.st_dev, top.st_ino) {
            return Ok(names.iter().rev().collect());
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let parent = openat(&here, c"..", flags, Mode::empty())?;
        let mut found = None;
        for entry in Dir::read_from(&parent)? {
            let entry = entry?;
            if entry.ino() == own.st_ino {
                found = Some(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
                break;
            }
        }
        names.push(found.ok_or_else(|| invalid("a directory is not where it was"))?);
        here = parent;
    }
    Err(invalid("directories nest too deep"))
}

/// Takes a field that was never written for 0, as other readers of archives do.
fn number(field: &[u8], read: io::Result<u64>) -> io::Result<u64> {
    match field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        true => Ok(0),
        false => read,
    }
}

fn mtime(header: &tar::Header) -> io::Result<u64> {
    number(&header.as_old().mtime, header.mtime())
}

fn uid(header: &tar::Header) -> io::Result<Option<Uid>> {
    let id = u32::try_from(number(&header.as_old().uid, header.uid())?)
        .ok()
        .filter(|id| *id != u32::MAX);
    Ok(Some(Uid::from_raw(
        id.ok_or_else(|| invalid("its owner is out of range"))?,
    )))
}

fn gid(header: &tar::Header) -> io::Result<Option<Gid>> {
    let id = u32::try_from(number(&header.as_old().gid, header.gid())?)
        .ok()
        .filter(|id| *id != u32::MAX);
    Ok(Some(Gid::from_raw(
        id.ok_or_else(|| invalid("its group is out of range"))?,
    )))
}

fn set_owner_and_mode(parent: &OwnedFd, name: &OsStr, header: &tar::Header, directory: bool) -> io::Result<()> {
    // Owner first: changing it clears setuid bits.
    chownat(parent, name, uid(header)?, gid(header)?, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = number(&header.as_old().mode, header.mode().map(u64::from))?;
    let mode = Mode::from_raw_mode((mode & 0o7777) as RawMode);
    if directory || name != "." {
        rustix::fs::chmodat(parent.as_fd(), name, mode, AtFlags::empty())?;
    }
    Ok(())
}

fn set_xattrs<R: Read>(parent: &OwnedFd, name: &OsStr, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
    // Only files and directories are opened: opening a device or a pipe does things, and nothing has attributes there.
    let kind = entry.header().entry_type();
    let Some(extensions) = entry.pax_extensions()?.filter(|_| kind.is_file() || kind.is_dir()) else {
        return Ok(());
    };
    let mut file: Option<OwnedFd> = None;
    for extension in extensions {
        let extension = extension?;
        let Some(attribute) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
            continue;
        };
        // File capabilities and user attributes; overlayfs' own (it knows them as `user.` too) and the host's labels are not a layer's to set.
        let allowed = attribute == b"security.capability" || attribute.starts_with(b"user.");
        if !allowed || attribute.starts_with(b"user.overlay.") {
            continue;
        }
        if extension.value_bytes().len() > LARGEST_ATTRIBUTE {
            return Err(invalid("an extended attribute is too large"));
        }
        if file.is_none() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            file = Some(openat(parent, name, flags, Mode::empty())?);
        }
        if let Some(file) = &file {
            fsetxattr(file, attribute, extension.value_bytes(), XattrFlags::empty())?;
        }
    }
    Ok(())
}

fn set_time(parent: &OwnedFd, name: &OsStr, seconds: u64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
