//! Writing a backup's file, and reading it back: nothing leaves the stream for a place outside the folder that it is unpacked to.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path};

use anyhow::{Context, bail, ensure};
use setpoint_store::{KeyError, KeyId, Keys};

use super::{Header, MARK, Opened, VERSION};
use crate::output;

/// How much of the disk is to stay free behind what is unpacked, in bytes.
const SPARE: u64 = 64 << 20;
/// The deepest folder.
const DEEPEST: usize = 32;
/// How much of the archive a file may take besides its own bytes (heads, folders, long names), in bytes.
const AROUND_A_FILE: u64 = 16 << 10;
/// How much of the archive may be no file's bytes besides, in bytes.
const AROUND_ALL: u64 = 64 << 20;
/// How many folders there may be for each file, and besides: a repository without commits has more folders than files.
const FOLDERS_A_FILE: u64 = 8;
const FOLDERS_BESIDES: u64 = 4096;

/// Writes a backup of the parts in a folder, reads it back and returns its size in bytes. It appears whole or not at all; one that is there is
/// replaced only when `replace` says so.
pub fn write(header: &Header, parts: &Path, keys: &Keys, to: &Path, replace: bool) -> anyhow::Result<u64> {
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Temporary files are made 0600, and removed when this fails.
    let mut file = tempfile::Builder::new()
        .prefix(".setpoint-backup-")
        .tempfile_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    let line = serde_json::to_string(header)?;
    let mut fill = || -> anyhow::Result<()> {
        let mut into = BufWriter::with_capacity(1 << 18, file.as_file_mut());
        write!(into, "{MARK}{VERSION}\n{line}\n")?;
        let sealed = keys.seal_stream(&place(&line), into)?;
        ensure!(
            sealed.key().to_string() == header.key,
            "the keys changed meanwhile; try again"
        );
        let mut tar = tar::Builder::new(zstd::Encoder::new(sealed, 3)?);
        for part in &header.contents {
            append(&mut tar, parts, Path::new(&part.name))?;
        }
        tar.into_inner()?
            .finish()?
            .finish()?
            .into_inner()
            .map_err(|error| error.into_error())?
            .sync_all()?;
        Ok(())
    };
    fill().with_context(|| format!("cannot write the backup {}", to.display()))?;
    output::progress(&format!("reading {} back", to.display()));
    super::open(file.path())
        .and_then(|opened| read(opened, keys, to, None))
        .with_context(|| {
            format!(
                "the backup {} was written and does not read back: nothing of it is left behind; look whether the disk is sound, and try again",
                to.display()
            )
        })?;
    let bytes = file.as_file().metadata()?.len();
    let kept = if replace {
        file.persist(to)
    } else {
        file.persist_noclobber(to)
    };
    match kept {
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => return Err(there(to)),
        Err(error) => return Err(error.error).with_context(|| format!("cannot write the backup {}", to.display())),
        Ok(_) => {}
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    Ok(bytes)
}

/// The error of a backup that would replace a file.
pub fn there(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is there already; choose another name, or replace it with --force",
        path.display()
    )
}

/// What the stream is bound to.
fn place(line: &str) -> [&[u8]; 3] {
    [b"backup", VERSION.as_bytes(), line.as_bytes()]
}

fn append<W: Write>(tar: &mut tar::Builder<W>, root: &Path, path: &Path) -> anyhow::Result<()> {
    let full = root.join(path);
    let meta = full.symlink_metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(meta.permissions().mode() & 0o700);
    if meta.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, path, std::io::empty())?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&full)? {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            append(tar, root, &path.join(name))?;
        }
        return Ok(());
    }
    header.set_size(meta.len());
    let mut from = Exact {
        from: BufReader::new(File::open(&full)?),
        left: meta.len(),
    };
    tar.append_data(&mut header, path, &mut from)
        .with_context(|| format!("cannot take {}", path.display()))
}

/// Gives exactly so many bytes: an archive's entry that is shorter than it says would swallow the next one.
struct Exact<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.by_ref().take(self.left).read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the file became shorter meanwhile",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Finds the keys that open a backup among those of a key file and the one that it carries itself.
pub fn keys_for(header: &Header, candidates: Vec<Keys>, path: &Path) -> anyhow::Result<Keys> {
    let id: KeyId = header
        .key
        .parse()
        .with_context(|| format!("the header of the backup {} is damaged", path.display()))?;
    candidates.into_iter().find(|keys| keys.has(id)).with_context(|| {
        format!(
            "the backup {} of {:.0} is sealed with key {id}, which is not here: name a copy of the key file of instance {} (store.key) with --key",
            path.display(),
            header.created,
            header.instance
        )
    })
}

/// Reads a backup to its end; with a folder it is unpacked there, without one it is only looked at. The parts are as the header says when
/// this succeeds.
pub fn read(opened: Opened, keys: &Keys, path: &Path, into: Option<&Path>) -> anyhow::Result<()> {
    let Opened { header, line, rest } = opened;
    if let Some(folder) = into {
        ensure_room(header.bytes(), folder, "the restore")?;
    }
    let unpack = || -> anyhow::Result<()> {
        let id = header.key.parse::<KeyId>()?;
        let sealed = keys.open_stream(id, &place(&line), rest)?;
        let mut archive = tar::Archive::new(zstd::Decoder::new(sealed)?.take(longest(&header)));
        let mut left: BTreeMap<&str, (u64, u64)> = header
            .contents
            .iter()
            .map(|part| (part.name.as_str(), (part.files, part.bytes)))
            .collect();
        let mut folders = most_folders(&header);
        for entry in archive.entries()? {
            unpack_entry(&mut entry?, &mut left, &mut folders, into)?;
        }
        // Only at the stream's end is it known to be whole; what is cut at its bound has not come there.
        let mut tail = archive.into_inner();
        std::io::copy(&mut tail, &mut std::io::sink())?;
        ensure!(tail.limit() > 0, "it is longer than its header says");
        if let Some((name, _)) = left.iter().find(|(_, left)| **left != (0, 0)) {
            bail!("{name} is not all there");
        }
        Ok(())
    };
    unpack().map_err(|error| {
        let meant = cause(&error).map(ToString::to_string);
        let context = match meant {
            Some(cause) => format!("the backup {} cannot be read: {cause}", path.display()),
            None => format!("the backup {} cannot be read", path.display()),
        };
        error.context(context)
    })
}

/// How long the archive of a backup may be, in bytes: a header that says little must not stand before a stream without end.
fn longest(header: &Header) -> u64 {
    header
        .bytes()
        .saturating_add(header.files().saturating_mul(AROUND_A_FILE))
        .saturating_add(AROUND_ALL)
}

/// How many folders a backup may have.
fn most_folders(header: &Header) -> u64 {
    header
        .files()
        .saturating_mul(FOLDERS_A_FILE)
        .saturating_add(FOLDERS_BESIDES)
}

/// Finds a key's error behind those that passed it on.
fn cause(error: &anyhow::Error) -> Option<&KeyError> {
    error.chain().find_map(|cause| {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause
            .downcast_ref::<KeyError>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref()))
    })
}

fn unpack_entry<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    left: &mut BTreeMap<&str, (u64, u64)>,
    folders: &mut u64,
    into: Option<&Path>,
) -> anyhow::Result<()> {
    let path = entry.path()?.into_owned();
    let bad = |what: &str| anyhow::anyhow!("the backup holds {:?}, {what}", path.display().to_string());
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or_else(|| bad("whose name is no text"))?),
            _ => return Err(bad("which leads out of its folder")),
        }
    }
    ensure!(names.len() <= DEEPEST, bad("which lies too deep"));
    let part = names.first().ok_or_else(|| bad("which has no name"))?;
    let (files, bytes) = left
        .get_mut(*part)
        .ok_or_else(|| bad("which its header does not name"))?;
    let mode = entry.header().mode()? & 0o700;
    match entry.header().entry_type() {
        tar::EntryType::Directory => {
            *folders = folders
                .checked_sub(1)
                .ok_or_else(|| bad("more folders than its files can need"))?;
            if let Some(folder) = into {
                std::fs::DirBuilder::new()
                    .mode(0o700)
                    .create(folder.join(&path))
                    .with_context(|| format!("cannot make {}", path.display()))?;
            }
        }
        tar::EntryType::Regular => {
            let size = entry.size();
            *files = files.checked_sub(1).ok_or_else(|| bad("more than its header says"))?;
            *bytes = bytes
                .checked_sub(size)
                .ok_or_else(|| bad("more than its header says"))?;
            let copied = match into {
                None => std::io::copy(entry, &mut std::io::sink())?,
                Some(folder) => {
                    let mut file = OpenOptions::new()
                        .write(true)
                        .create_new(true)
                        .mode(0o600)
                        .open(folder.join(&path))
                        .with_context(|| format!("cannot make {}", path.display()))?;
                    let copied = std::io::copy(entry, &mut file)?;
                    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
                    copied
                }
            };
            ensure!(copied == size, bad("which is cut short"));
        }
        _ => return Err(bad("which is neither file nor folder")),
    }
    Ok(())
}

/// Fails before anything is written when the disk has too little room for so many bytes; `what` needs them.
pub fn ensure_room(bytes: u64, folder: &Path, what: &str) -> anyhow::Result<()> {
    let disk =
        rustix::fs::statvfs(folder).with_context(|| format!("cannot look at the disk of {}", folder.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = bytes.saturating_add(SPARE);
    ensure!(
        free >= needed,
        "the disk of {} has {} left and {what} needs {}: make room and try again (nothing was changed)",
        folder.display(),
        super::size(free),
        super::size(needed)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{self, Content};

    struct World {
        folder: tempfile::TempDir,
        keys: Keys,
        header: Header,
    }

    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(&folder.path().join("store.key")).unwrap();
        let parts = folder.path().join("parts");
        std::fs::create_dir_all(parts.join("repositories/a.git/refs")).unwrap();
        std::fs::write(parts.join("store.db"), vec![7; 300_000]).unwrap();
        std::fs::write(parts.join("repositories/a.git/HEAD"), "ref").unwrap();
        let content = |name: &str, files, bytes| Content {
            name: name.to_string(),
            files,
            bytes,
        };
        let header = Header {
            created: "2026-01-01T00:00:00Z".parse().unwrap(),
            instance: "ab12".into(),
            node: "n".into(),
            version: "1".into(),
            newest_revision: 5,
            key: keys.newest().to_string(),
            keys: vec![],
            contents: vec![content("store.db", 1, 300_000), content("repositories", 1, 3)],
            key_file: None,
        };
        World { folder, keys, header }
    }

    impl World {
        fn path(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self) -> std::path::PathBuf {
            let to = self.path("backup");
            write(&self.header, &self.path("parts"), &self.keys, &to, true).unwrap();
            to
        }

        fn read(&self, name: &str) -> anyhow::Result<std::path::PathBuf> {
            let into = self.path(name);
            std::fs::create_dir(&into).unwrap();
            let path = self.path("backup");
            read(backup::open(&path)?, &self.keys, &path, Some(&into))?;
            Ok(into)
        }
    }

    #[test]
    fn what_was_packed_comes_back_with_its_empty_folders() {
        let world = world();
        let to = world.write();
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o600);
        let into = world.read("into").unwrap();
        assert_eq!(std::fs::read(into.join("store.db")).unwrap(), vec![7; 300_000]);
        assert_eq!(std::fs::read(into.join("repositories/a.git/HEAD")).unwrap(), b"ref");
        assert!(into.join("repositories/a.git/refs").is_dir());
        read(backup::open(&to).unwrap(), &world.keys, &to, None).unwrap();
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_when_asked() {
        let world = world();
        let to = world.write();
        let before = std::fs::read(&to).unwrap();
        let error = write(&world.header, &world.path("parts"), &world.keys, &to, false).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(std::fs::read(&to).unwrap(), before);
        world.write();
    }

    #[test]
    fn a_file_that_is_cut_or_changed_anywhere_is_refused() {
        let world = world();
        let to = world.write();
        let whole = std::fs::read(&to).unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 40) {
            std::fs::write(&to, &whole[..length]).unwrap();
            world.read(&format!("cut-{length}")).unwrap_err();
        }
        for index in (0..whole.len()).step_by(whole.len() / 60) {
            let mut bad = whole.clone();
            bad[index] ^= 1;
            std::fs::write(&to, &bad).unwrap();
            world.read(&format!("bad-{index}")).unwrap_err();
        }
        std::fs::write(&to, &whole[..whole.len() - 1]).unwrap();
        let error = world.read("end").unwrap_err().to_string();
        assert!(error.contains("cut short"), "{error}");
    }

    #[test]
    fn a_header_that_was_changed_does_not_open_the_stream() {
        let mut world = world();
        let to = world.write();
        let text = std::fs::read(&to).unwrap();
        let at = text.windows(4).position(|window| window == b"ab12").unwrap();
        let mut changed = text.clone();
        changed[at] = b'c';
        std::fs::write(&to, changed).unwrap();
        world.header.instance = "cb12".into();
        assert!(world.read("into").unwrap_err().to_string().contains("was changed"));
    }

    #[test]
    fn a_wrong_key_is_told_which_one_is_needed() {
        let world = world();
        let to = world.write();
        let other = Keys::open(&world.path("other.key")).unwrap();
        let error = keys_for(&world.header, vec![other], &to).unwrap_err().to_string();
        assert!(error.contains(&world.header.key) && error.contains("--key"), "{error}");
        assert!(keys_for(&world.header, vec![world.keys.clone()], &to).is_ok());
    }

    /// Writes a backup whose archive is made by hand.
    fn forged(world: &World, build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> String {
        let mut tar = tar::Builder::new(Vec::new());
        build(&mut tar);
        let tar = zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap();
        let line = serde_json::to_string(&world.header).unwrap();
        let mut bytes = format!("{MARK}{VERSION}\n{line}\n").into_bytes();
        let mut sealed = world.keys.seal_stream(&place(&line), &mut bytes).unwrap();
        sealed.write_all(&tar).unwrap();
        sealed.finish().unwrap();
        std::fs::write(world.path("backup"), bytes).unwrap();
        let into = tempfile::tempdir().unwrap();
        let path = world.path("backup");
        let error = read(backup::open(&path).unwrap(), &world.keys, &path, Some(into.path())).unwrap_err();
        format!("{error:#}")
    }

    fn entry(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        // As raw bytes: the builder refuses such names itself.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }

    #[test]
    fn an_archive_that_reaches_for_more_than_its_parts_is_refused() {
        use tar::EntryType;
        let world = world();
        for name in ["../x", "/etc/x", "repositories/../../x", "unknown/x", "./../x"] {
            let said = forged(&world, |tar| entry(tar, EntryType::Regular, name, b"x"));
            assert!(said.contains("the backup holds"), "{name}: {said}");
        }
        for kind in [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Char,
            EntryType::Block,
            EntryType::Fifo,
        ] {
            let said = forged(&world, |tar| entry(tar, kind, "store.db", b""));
            assert!(said.contains("neither file nor folder"), "{kind:?}: {said}");
        }
        let said = forged(&world, |tar| entry(tar, EntryType::Regular, "store.db", &[0; 300_001]));
        assert!(said.contains("more than its header says"), "{said}");
        let said = forged(&world, |tar| {
            entry(tar, EntryType::Regular, "store.db", b"");
            entry(tar, EntryType::Regular, "store.db", b"");
        });
        assert!(said.contains("more than its header says"), "{said}");
        let said = forged(&world, |tar| entry(tar, EntryType::Regular, "store.db", &[0; 300_000]));
        assert!(said.contains("repositories is not all there"), "{said}");
        let said = forged(&world, |tar| {
            entry(tar, EntryType::Directory, "repositories", b"");
            for number in 0..most_folders(&world.header) {
                entry(tar, EntryType::Directory, &format!("repositories/{number}"), b"");
            }
        });
        assert!(said.contains("more folders"), "{said}");
    }

    #[test]
    fn a_stream_that_is_longer_than_its_header_says_is_not_read_to_its_end() {
        let world = world();
        let bytes = std::fs::read(world.path("parts/store.db")).unwrap();
        let long = vec![0; usize::try_from(longest(&world.header)).unwrap()];
        let said = forged(&world, |tar| {
            entry(tar, tar::EntryType::Regular, "store.db", &bytes);
            entry(tar, tar::EntryType::Regular, "repositories", b"ref");
            // Behind the archive's end.
            tar.finish().unwrap();
            tar.get_mut().extend_from_slice(&long);
        });
        assert!(said.contains("longer than its header says"), "{said}");
    }

    #[test]
    fn a_backup_that_does_not_read_back_is_not_left_behind() {
        let mut world = world();
        // The header says less than there is.
        world.header.contents[0].bytes = 1;
        let to = world.path("backup");
        let error = write(&world.header, &world.path("parts"), &world.keys, &to, true).unwrap_err();
        let said = format!("{error:#}");
        assert!(
            said.contains("does not read back") && said.contains("store.db"),
            "{said}"
        );
        let left: Vec<_> = std::fs::read_dir(world.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("backup"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
