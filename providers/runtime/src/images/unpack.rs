//! A layer's tar into a folder, for overlayfs.
//!
//! Every path is resolved by the kernel inside the folder (`openat2` with `RESOLVE_IN_ROOT`), so that neither `..` nor
//! an absolute link of the layer leads outside; every file is made through a handle on its parent and never through a link that
//! already stands at its name. Whiteouts become what overlayfs expects: `.wh.x` a character device 0:0, `.wh..wh..opq` an extended attribute.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
    fsetxattr, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};

/// What a layer may hold at most.
pub(super) struct Limits {
    /// Bytes of all its files together.
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

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks a tar (plain, gzip or zstd) into `folder`, which is created; returns the digest of the plain tar and the bytes of its files.
pub(super) fn unpack(reader: &mut dyn Read, folder: &Path, limits: &Limits) -> io::Result<(String, u64)> {
    std::fs::create_dir_all(folder)?;
    let mut reader = BufReader::with_capacity(128 << 10, reader);
    let mut magic = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(reader);
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => unpack_tar(flate2::read::MultiGzDecoder::new(whole), folder, limits),
        [0x28, 0xb5, 0x2f, 0xfd] => unpack_tar(zstd::stream::read::Decoder::new(whole)?, folder, limits),
        _ => unpack_tar(whole, folder, limits),
    }
}

fn unpack_tar(reader: impl Read, folder: &Path, limits: &Limits) -> io::Result<(String, u64)> {
    let mut hashing = Hashing {
        inner: reader,
        hash: Context::new(&SHA256),
    };
    let mut tree = Tree::open(folder)?;
    let (mut bytes, mut entries) = (0u64, 0u64);
    let mut archive = tar::Archive::new(&mut hashing);
    for entry in archive.entries()? {
        let mut entry = entry?;
        entries += 1;
        bytes = bytes.saturating_add(if entry.header().entry_type().is_file() {
            entry.size()
        } else {
            0
        });
        if entries > limits.entries || bytes > limits.bytes {
            return Err(invalid(format!(
                "it is larger than allowed ({} bytes in {} entries)",
                limits.bytes, limits.entries
            )));
        }
        let path = entry.path()?.into_owned();
        tree.add(&path, &mut entry)
            .map_err(|e| io::Error::new(e.kind(), format!("entry {}: {e}", path.display())))?;
    }
    tree.finish()?;
    // The digest covers the padding after the last entry.
    io::copy(&mut hashing.by_ref().take(1 << 30), &mut io::sink())?;
    Ok((format!("sha256:{}", hex::encode(hashing.hash.finish())), bytes))
}

struct Hashing<R> {
    inner: R,
    hash: Context,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.hash.update(&buf[..read]);
        Ok(read)
    }
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
}

impl Tree {
    fn open(folder: &Path) -> io::Result<Tree> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Tree {
            root: rustix::fs::open(folder, flags, Mode::empty())?,
            last: None,
            times: HashMap::new(),
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
            return Ok(fsetxattr(
                &parent,
                c"trusted.overlay.opaque",
                b"y",
                XattrFlags::empty(),
            )?);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            let hidden = OsStr::from_bytes(hidden);
            if hidden.is_empty() || hidden == "." || hidden == ".." || hidden.as_bytes().contains(&b'/') {
                return Err(invalid("a whiteout that names nothing"));
            }
            remove(&parent, hidden)?;
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
            if self.last.as_ref().is_some_and(|(last, _)| last.starts_with(path)) {
                self.last = None;
            }
            remove(parent, name)?;
        }
        match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
                let mut file = std::fs::File::from(fd);
                let copied = io::copy(entry, &mut file)?;
                if kind != tar::EntryType::GNUSparse && copied != entry.header().entry_size()? && copied != entry.size()
                {
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
                return set_time(parent, name, entry.header().mtime()?);
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
        let time = entry.header().mtime()?;
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
    if clean.len() > 256 {
        return Err(invalid("its path is deeper than 256 directories"));
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

/// Makes way for an entry of the same layer that replaces an earlier one.
fn remove(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR) => {
            // Below a handle on the parent: remove_dir_all follows no links.
            let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(parent))).join(name);
            std::fs::remove_dir_all(path)
        }
        Err(error) => Err(error.into()),
    }
}

fn uid(header: &tar::Header) -> io::Result<Option<Uid>> {
    let id = u32::try_from(header.uid()?).ok().filter(|id| *id != u32::MAX);
    Ok(Some(Uid::from_raw(
        id.ok_or_else(|| invalid("its owner is out of range"))?,
    )))
}

fn gid(header: &tar::Header) -> io::Result<Option<Gid>> {
    let id = u32::try_from(header.gid()?).ok().filter(|id| *id != u32::MAX);
    Ok(Some(Gid::from_raw(
        id.ok_or_else(|| invalid("its group is out of range"))?,
    )))
}

fn set_owner_and_mode(parent: &OwnedFd, name: &OsStr, header: &tar::Header, directory: bool) -> io::Result<()> {
    // Owner first: changing it clears setuid bits.
    chownat(parent, name, uid(header)?, gid(header)?, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode((header.mode()? & 0o7777) as RawMode);
    if directory || name != "." {
        rustix::fs::chmodat(parent.as_fd(), name, mode, AtFlags::empty())?;
    }
    Ok(())
}

fn set_xattrs<R: Read>(parent: &OwnedFd, name: &OsStr, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(());
    };
    let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(parent))).join(name);
    for extension in extensions {
        let extension = extension?;
        let Some(attribute) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
            continue;
        };
        // File capabilities and user attributes; overlayfs' own and the host's security labels are not a layer's to set.
        if attribute == b"security.capability" || attribute.starts_with(b"user.") {
            lsetxattr(&path, attribute, extension.value_bytes(), XattrFlags::empty())?;
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
