//! The repository of ours that a remote's branches are copied into.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use git2::{ErrorClass, ErrorCode, Indexer, Odb, Oid, Sort};

use super::protocol::Offer;
use crate::source::{Repository, SourceError, create};

/// Commits named to the server as known: enough to find common ground after a rewrite.
const HAVES: usize = 256;
/// Each fetch adds a pack; so many are joined into one.
const MAX_PACKS: usize = 50;
/// What libgit2 calls a pack that is still being written.
const UNFINISHED: &str = "pack_git2_";

pub(super) struct Mirror {
    repository: git2::Repository,
    path: PathBuf,
    until: Instant,
}

impl Mirror {
    /// Opens the mirror, or makes it.
    pub(super) fn open(path: &Path, until: Instant) -> Result<Self, SourceError> {
        let empty = match std::fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(source) => return Err(disk("read", path, source)),
        };
        let failed = |operation| failed(operation, path);
        let damaged = !empty && is_damaged(path);
        if damaged {
            tracing::warn!(mirror = %path.display(), "a mirror is damaged; it is made anew");
            std::fs::remove_dir_all(path).map_err(|source| disk("remove the damaged mirror", path, source))?;
        }
        if empty || damaged {
            create::in_place(path, |place| {
                create::bare(place, "main").map_err(failed("make a mirror"))?;
                Ok(())
            })?;
        }
        let repository = git2::Repository::open_bare(path).map_err(failed("open the mirror"))?;
        let mirror = Self {
            repository,
            path: path.to_path_buf(),
            until,
        };
        for (file, name) in mirror.packs()? {
            if name.starts_with(UNFINISHED) {
                std::fs::remove_file(&file).map_err(|source| disk("remove", &file, source))?;
            }
        }
        Ok(mirror)
    }

    /// Lists the commits of an offer that are not here.
    pub(super) fn missing(&self, offer: &Offer) -> Result<Vec<Oid>, SourceError> {
        let odb = self.odb()?;
        let missing: BTreeSet<Oid> = offer
            .branches
            .iter()
            .map(|(_, id)| *id)
            .filter(|id| !odb.exists(*id))
            .collect();
        Ok(missing.into_iter().collect())
    }

    /// Lists the newest commits that are here.
    pub(super) fn haves(&self) -> Result<Vec<Oid>, SourceError> {
        let failed = failed("read the history", &self.path);
        let mut walk = self.repository.revwalk().map_err(&failed)?;
        walk.set_sorting(Sort::TIME).map_err(&failed)?;
        walk.push_glob("refs/heads/*").map_err(&failed)?;
        walk.take(HAVES).collect::<Result<_, _>>().map_err(&failed)
    }

    pub(super) fn pack(&self) -> Result<Pack, SourceError> {
        let mut indexer =
            Indexer::new(None, &self.pack_folder(), 0, false).map_err(failed("write a pack", &self.path))?;
        let until = self.until;
        indexer.progress(move |_| Instant::now() < until);
        Ok(Pack {
            indexer,
            path: self.path.clone(),
        })
    }

    /// Makes sure that what was asked for has come.
    pub(super) fn complete(&mut self, wants: &[Oid]) -> Result<(), SourceError> {
        self.odb()?.refresh().map_err(failed("read the new pack", &self.path))?;
        for want in wants {
            let commit = self.repository.find_commit(*want);
            commit
                .and_then(|commit| commit.tree())
                .map_err(failed("find what was fetched", &self.path))?;
        }
        Ok(())
    }

    /// Moves branches and HEAD to where the remote's are. Those that are gone go first: a new one may need their place.
    pub(super) fn update(&mut self, offer: &Offer) -> Result<(), SourceError> {
        let failed = failed("move a branch", &self.path);
        let wanted: BTreeSet<&str> = offer.branches.iter().map(|(name, _)| name.as_str()).collect();
        let mut known = Vec::new();
        for reference in self.repository.references_glob("refs/heads/*").map_err(&failed)? {
            let reference = reference.map_err(&failed)?;
            known.push(String::from_utf8_lossy(reference.name_bytes()).into_owned());
        }
        for name in known.iter().filter(|name| !wanted.contains(name.as_str())) {
            self.repository
                .find_reference(name)
                .and_then(|mut gone| gone.delete())
                .map_err(&failed)?;
        }
        for (name, id) in &offer.branches {
            let there = self.repository.refname_to_id(name).ok();
            if there != Some(*id) {
                self.repository.reference(name, *id, true, "fetch").map_err(&failed)?;
            }
        }
        if let Some(head) = &offer.head {
            let now = self.repository.find_reference("HEAD").map_err(&failed)?;
            if now.symbolic_target_bytes() != Some(head.as_bytes()) {
                self.repository.set_head(head).map_err(&failed)?;
            }
        }
        Ok(())
    }

    /// Joins packs when there are many. Everything is kept, also what no branch leads to any more.
    pub(super) fn tidy(&self) -> Result<(), SourceError> {
        let failed = failed("join packs", &self.path);
        let old = self.packs()?;
        if old.iter().filter(|(_, name)| name.ends_with(".pack")).count() <= MAX_PACKS {
            return Ok(());
        }
        let odb = self.odb()?;
        let mut builder = self.repository.packbuilder().map_err(&failed)?;
        let mut problem = None;
        let walked = odb.foreach(|id| match builder.insert_object(*id, None) {
            Ok(()) => true,
            Err(error) => {
                problem = Some(error);
                false
            }
        });
        if let Some(error) = problem {
            return Err(failed(error));
        }
        walked.map_err(&failed)?;
        builder.write(&self.pack_folder(), 0).map_err(&failed)?;
        let name = builder.name().map_err(&failed)?.map(|name| format!("pack-{name}."));
        let Some(name) = name else { return Ok(()) };
        for (file, _) in old
            .iter()
            .filter(|(_, old)| old.starts_with("pack-") && !old.starts_with(&name))
        {
            std::fs::remove_file(file).map_err(|source| disk("remove", file, source))?;
        }
        Ok(())
    }

    fn packs(&self) -> Result<Vec<(PathBuf, String)>, SourceError> {
        let folder = self.pack_folder();
        let entries = std::fs::read_dir(&folder).map_err(|source| disk("read", &folder, source))?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| disk("read", &folder, source))?;
            files.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
        }
        Ok(files)
    }

    fn pack_folder(&self) -> PathBuf {
        self.path.join("objects/pack")
    }

    fn odb(&self) -> Result<Odb<'_>, SourceError> {
        self.repository.odb().map_err(failed("read objects", &self.path))
    }
}

/// A mirror is a copy that can be had again: what a power cut left of it is not worth an error.
fn is_damaged(path: &Path) -> bool {
    let read = Repository::open(path).and_then(|repository| {
        for branch in repository.branches()? {
            repository.head(Some(&branch))?;
        }
        repository.head(None)
    });
    match read {
        // The disk may have said no for other reasons, and would again.
        Err(SourceError::Git { source, .. }) => !matches!(source.class(), ErrorClass::Os | ErrorClass::NoMemory),
        Err(SourceError::NotRepository { .. }) => true,
        _ => false,
    }
}

/// A pack that is being received.
pub(super) struct Pack {
    indexer: Indexer<'static>,
    path: PathBuf,
}

impl Pack {
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), SourceError> {
        self.indexer.write_all(data).map_err(|error| {
            let source = git2::Error::new(
                ErrorCode::GenericError,
                ErrorClass::Indexer,
                error.to_string().replace('\0', ""),
            );
            failed("write the pack that was received", &self.path)(source)
        })
    }

    /// Checks the pack, unpacks its deltas and puts it in place with its index.
    pub(super) fn finish(self) -> Result<(), SourceError> {
        let failed = failed("index the pack that was received", &self.path);
        self.indexer.commit().map(drop).map_err(failed)
    }
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(git2::Error) -> SourceError {
    let path = path.to_path_buf();
    move |source| SourceError::Git {
        operation,
        path: path.clone(),
        source,
    }
}

fn disk(operation: &'static str, path: &Path, source: std::io::Error) -> SourceError {
    SourceError::Disk {
        operation,
        path: path.to_path_buf(),
        source,
    }
}
