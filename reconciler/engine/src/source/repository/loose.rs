//! Loose objects are looked at before libgit2 reads them.
//!
//! libgit2 (1.9) never comes back from a loose object whose compressed data ends early, which is what a power cut leaves behind. So
//! each is unpacked here first, without keeping the result; objects in packs need no such care.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::ZlibDecoder;
use git2::{ErrorClass, ErrorCode, Oid};

const MAX_HEADER: usize = 64;
const MAX_ALTERNATES: usize = 16;
const MAX_ALTERNATES_FILE: u64 = 64 * 1024;

/// The folders in which a repository's loose objects are: its own and those that it borrows from.
pub(super) struct Loose {
    folders: Vec<PathBuf>,
}

impl Loose {
    pub(super) fn of(common_dir: &Path) -> Self {
        let mut folders = vec![common_dir.join("objects")];
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            let Ok(file) = std::fs::File::open(folder.join("info/alternates")) else {
                continue;
            };
            for line in BufReader::new(file.take(MAX_ALTERNATES_FILE))
                .lines()
                .map_while(Result::ok)
            {
                let other = folder.join(line.trim());
                if !line.starts_with('#') && !folders.contains(&other) && folders.len() < MAX_ALTERNATES {
                    folders.push(other);
                }
            }
        }
        Self { folders }
    }

    /// Gives the folders, the repository's own first.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Says whether libgit2 may read the object: it is whole, or not loose at all.
    pub(super) fn check(&self, id: Oid) -> Result<(), git2::Error> {
        let name = id.to_string();
        let (fan, rest) = name.split_at(2);
        for folder in &self.folders {
            let file = match std::fs::File::open(folder.join(fan).join(rest)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(damaged(&name, &error.to_string())),
            };
            whole(file).map_err(|error| damaged(&name, &error.to_string()))?;
        }
        Ok(())
    }
}

fn whole(file: std::fs::File) -> io::Result<()> {
    let mut data = BufReader::new(ZlibDecoder::new(BufReader::new(file)));
    let mut header = Vec::new();
    data.by_ref().take(MAX_HEADER as u64).read_until(0, &mut header)?;
    let size: u64 = header
        .strip_suffix(b"\0")
        .and_then(|header| std::str::from_utf8(header).ok())
        .and_then(|header| header.split_once(' '))
        .and_then(|(_, size)| size.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has no header"))?;
    // One byte more than announced is enough to know that it is too long.
    let found = io::copy(&mut data.take(size.saturating_add(1)), &mut io::sink())?;
    if found == size {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it has another size than its header says",
        ))
    }
}

fn damaged(name: &str, problem: &str) -> git2::Error {
    git2::Error::new(
        ErrorCode::GenericError,
        ErrorClass::Odb,
        format!("the object {name} is damaged: {problem}; `git fsck` tells more, and another clone has it whole"),
    )
}
