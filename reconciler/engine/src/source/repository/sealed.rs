//! Packs are looked at before libgit2 reads them.
//!
//! libgit2 (1.9) believes a pack's index: a damaged one makes it read where nothing is, which ends the process. Git closes packs and their
//! indices with a checksum, which is compared here once for each file. Later opens know the file by its inode, size and time.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use git2::{ErrorClass, ErrorCode};
use parking_lot::Mutex;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// Larger packs are left to libgit2: their objects carry checksums of their own, and reading all would take seconds.
const MAX_PACK: u64 = 256 << 20;
const MAX_KNOWN: usize = 100_000;
const SEAL: u64 = 20;

type Known = (u64, u64, u64, i64, i64);

/// Files that were found whole by this process; forgetting them only costs time.
static WHOLE: LazyLock<Mutex<HashSet<Known>>> = LazyLock::new(|| Mutex::new(HashSet::new()));

/// Checks the packs in folders of objects.
pub(super) fn check(folders: &[PathBuf]) -> Result<(), git2::Error> {
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder.join("pack")) else {
            continue;
        };
        for entry in entries.map_while(Result::ok) {
            let path = entry.path();
            let name = entry.file_name();
            let index = name == "multi-pack-index" || path.extension().is_some_and(|end| end == "idx");
            let pack = path.extension().is_some_and(|end| end == "pack");
            if !index && !pack {
                continue;
            }
            match whole(&path, pack) {
                Ok(true) => {}
                // Another process has tidied up meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(false) => return Err(damaged(&path)),
                Err(error) => {
                    let message = format!("cannot read {}: {error}", path.display());
                    return Err(git2::Error::new(ErrorCode::GenericError, ErrorClass::Os, message));
                }
            }
        }
    }
    Ok(())
}

fn whole(path: &Path, pack: bool) -> io::Result<bool> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    let length = metadata.len();
    let known = (
        metadata.dev(),
        metadata.ino(),
        length,
        metadata.mtime(),
        metadata.mtime_nsec(),
    );
    if (pack && length > MAX_PACK) || WHOLE.lock().contains(&known) {
        return Ok(true);
    }
    let Some(body) = length.checked_sub(SEAL) else {
        return Ok(false);
    };
    let mut content = file.take(length);
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let mut buffer = vec![0; 128 * 1024];
    let mut left = body;
    while left > 0 {
        let step = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(part) = buffer.get_mut(..step) else { break };
        content.read_exact(part)?;
        digest.update(part);
        left -= step as u64;
    }
    let mut seal = Vec::new();
    content.read_to_end(&mut seal)?;
    let fits = digest.finish().as_ref() == seal;
    if fits {
        let mut known_files = WHOLE.lock();
        if known_files.len() >= MAX_KNOWN {
            known_files.clear();
        }
        known_files.insert(known);
    }
    Ok(fits)
}

fn damaged(path: &Path) -> git2::Error {
    git2::Error::new(
        ErrorCode::GenericError,
        ErrorClass::Odb,
        format!(
            "the file {} is damaged: its checksum does not fit; `git fsck` tells more, and another clone has it whole",
            path.display()
        ),
    )
}
