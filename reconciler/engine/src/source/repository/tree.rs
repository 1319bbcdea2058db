//! The files of one commit: links resolved inside the tree, everything counted.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use git2::{ObjectType, Oid, Tree};

use super::super::SourceError;
use super::Repository;
use crate::declaration::normalize_path;

/// The most files and folders below one folder.
pub const MAX_FILES: usize = 10_000;
/// The most bytes of one file, and of all files below one folder.
pub const MAX_TOTAL: u64 = 64 << 20;
const MAX_DEPTH: usize = 64;
const MAX_LINKS: usize = 40;
const MAX_LINK: u64 = 4_096;

const KIND: i32 = 0o170_000;
const FOLDER: i32 = 0o040_000;
const LINK: i32 = 0o120_000;
const SUBMODULE: i32 = 0o160_000;

/// Reads below one commit's root.
pub(super) struct Walk<'r> {
    repository: &'r Repository,
    root: Tree<'r>,
    commit: String,
}

/// What a path leads to once links are followed.
struct Found {
    /// Where it really is.
    path: Vec<String>,
    id: Oid,
    folder: bool,
}

/// A folder whose entries are still to be read.
struct Pending {
    /// As the caller names it, relative to the folder asked for.
    name: String,
    /// Where it really is.
    path: Vec<String>,
    id: Oid,
    /// The folders above as the caller names them: a link to one of them would never end.
    above: Vec<Oid>,
}

struct Budget {
    files: usize,
    bytes: u64,
}

impl<'r> Walk<'r> {
    pub(super) fn new(repository: &'r Repository, root: Oid, commit: String) -> Result<Self, SourceError> {
        let root = tree(repository, root)?;
        Ok(Self {
            repository,
            root,
            commit,
        })
    }

    pub(super) fn id(&self, path: &str) -> Result<Option<String>, SourceError> {
        Ok(self.find(path)?.map(|found| found.id.to_string()))
    }

    pub(super) fn file(&self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let Some(found) = self.find(path)? else {
            return Ok(None);
        };
        if found.folder {
            return Err(content(path, "is a folder, where a file is wanted"));
        }
        let mut budget = Budget {
            files: MAX_FILES,
            bytes: MAX_TOTAL,
        };
        self.blob(found.id, path, &mut budget).map(Some)
    }

    pub(super) fn files(&self, folder: &str) -> Result<BTreeMap<String, Vec<u8>>, SourceError> {
        let Some(found) = self.find(folder)? else {
            return Err(SourceError::NoPath {
                commit: self.commit.clone(),
                path: folder.to_owned(),
            });
        };
        if !found.folder {
            return Err(content(folder, "is a file, where a folder is wanted"));
        }
        let mut files = BTreeMap::new();
        let mut budget = Budget {
            files: MAX_FILES,
            bytes: MAX_TOTAL,
        };
        let mut pending = vec![Pending {
            name: String::new(),
            path: found.path,
            id: found.id,
            above: Vec::new(),
        }];
        while let Some(folder) = pending.pop() {
            self.read(folder, &mut files, &mut pending, &mut budget)?;
        }
        Ok(files)
    }

    fn read(
        &self,
        folder: Pending,
        files: &mut BTreeMap<String, Vec<u8>>,
        pending: &mut Vec<Pending>,
        budget: &mut Budget,
    ) -> Result<(), SourceError> {
        let here = folder.path.join("/");
        if folder.above.len() >= MAX_DEPTH {
            return Err(content(&here, format!("is deeper than {MAX_DEPTH} folders")));
        }
        let mut above = folder.above.clone();
        above.push(folder.id);
        let entries = tree(self.repository, folder.id)?;
        for entry in entries.iter() {
            let name = text(entry.name_bytes(), &here)?;
            let mut path = folder.path.clone();
            path.push(name.clone());
            let shown = path.join("/");
            budget.files = budget.files.checked_sub(1).ok_or_else(|| {
                content(
                    &shown,
                    format!("is one too many: a folder may have {MAX_FILES} files and folders in all"),
                )
            })?;
            let found = match entry.filemode() & KIND {
                SUBMODULE => return Err(submodule(&shown)),
                LINK => self.follow(path, &shown)?,
                mode => Found {
                    path,
                    id: entry.id(),
                    folder: mode == FOLDER,
                },
            };
            let name = if folder.name.is_empty() {
                name
            } else {
                format!("{}/{name}", folder.name)
            };
            if found.folder {
                if above.contains(&found.id) {
                    return Err(content(
                        &shown,
                        "is a link to a folder that it is in; take the link out",
                    ));
                }
                pending.push(Pending {
                    name,
                    path: found.path,
                    id: found.id,
                    above: above.clone(),
                });
            } else {
                files.insert(name, self.blob(found.id, &shown, budget)?);
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Result<Option<Found>, SourceError> {
        let normal = match path {
            "" => String::new(),
            path => normalize_path(path).map_err(|problem| SourceError::BadPath { problem })?,
        };
        self.resolve(parts(&normal), path)
    }

    /// Follows a link that is known to be one; where it leads must exist.
    fn follow(&self, path: Vec<String>, shown: &str) -> Result<Found, SourceError> {
        self.resolve(path, shown)?.ok_or_else(|| {
            content(
                shown,
                "is a link to something that is not in the repository; take the link out",
            )
        })
    }

    /// Walks down from the root part by part. A link puts its target's parts in front of those that are left.
    fn resolve(&self, path: Vec<String>, shown: &str) -> Result<Option<Found>, SourceError> {
        let mut left: Vec<String> = path.into_iter().rev().collect();
        // The folders walked through, with their names: `..` in a link goes back.
        let mut trail: Vec<(String, Oid)> = Vec::new();
        let mut links = 0;
        let mut dangles = false;
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    if trail.pop().is_none() {
                        return Err(content(
                            shown,
                            "is or goes through a link that leaves the repository; take the link out",
                        ));
                    }
                    continue;
                }
                _ => {}
            }
            let folder = match trail.last() {
                None => self.root.clone(),
                Some((_, id)) => tree(self.repository, *id)?,
            };
            let Some(entry) = folder.get_name(&part) else {
                if dangles {
                    return Err(content(
                        shown,
                        "is a link to something that is not in the repository; take the link out",
                    ));
                }
                return Ok(None);
            };
            match entry.filemode() & KIND {
                FOLDER => trail.push((part, entry.id())),
                SUBMODULE => {
                    let mut path: Vec<&str> = trail.iter().map(|(name, _)| name.as_str()).collect();
                    path.push(&part);
                    return Err(submodule(&path.join("/")));
                }
                LINK => {
                    links += 1;
                    dangles = true;
                    if links > MAX_LINKS {
                        return Err(content(
                            shown,
                            format!("goes through more than {MAX_LINKS} links; do they form a circle?"),
                        ));
                    }
                    left.extend(parts(&self.target(entry.id(), shown)?).into_iter().rev());
                }
                _ if left.iter().all(|part| part.is_empty() || part == ".") => {
                    let mut path: Vec<String> = trail.into_iter().map(|(name, _)| name).collect();
                    path.push(part);
                    return Ok(Some(Found {
                        path,
                        id: entry.id(),
                        folder: false,
                    }));
                }
                // A file where a folder would have to be.
                _ => return Ok(None),
            }
        }
        let id = trail.last().map_or(self.root.id(), |(_, id)| *id);
        Ok(Some(Found {
            path: trail.into_iter().map(|(name, _)| name).collect(),
            id,
            folder: true,
        }))
    }

    fn target(&self, id: Oid, shown: &str) -> Result<String, SourceError> {
        let mut budget = Budget {
            files: 1,
            bytes: MAX_LINK,
        };
        let target = self.blob(id, shown, &mut budget)?;
        let target = text(&target, shown)?;
        if target.starts_with('/') {
            return Err(content(
                shown,
                "is or goes through a link to an absolute path; make it relative, to something in the repository",
            ));
        }
        Ok(target)
    }

    /// Reads one file; its size is taken from the header, before anything is unpacked.
    fn blob(&self, id: Oid, shown: &str, budget: &mut Budget) -> Result<Vec<u8>, SourceError> {
        let failed = |error| self.repository.failed("read a file")(error);
        let odb = self.repository.inner.odb().map_err(failed)?;
        // git2 panics at a kind that does not exist, which a damaged pack can name.
        let header = std::panic::catch_unwind(AssertUnwindSafe(|| odb.read_header(id)));
        let header = header.unwrap_or_else(|_| {
            Err(git2::Error::from_str(
                "the object has no kind that exists; `git fsck` tells more",
            ))
        });
        let (size, kind) = header.map_err(failed)?;
        if kind != ObjectType::Blob {
            return Err(failed(git2::Error::from_str("a file's object is no file")));
        }
        let limit = budget.bytes;
        budget.bytes = u64::try_from(size)
            .ok()
            .and_then(|size| limit.checked_sub(size))
            .ok_or_else(|| {
                content(
                    shown,
                    format!("has {size} bytes; all files together may have {} MB", MAX_TOTAL >> 20),
                )
            })?;
        self.repository.loose.check(id).map_err(failed)?;
        let object = odb.read(id).map_err(failed)?;
        Ok(object.data().to_vec())
    }
}

fn tree(repository: &Repository, id: Oid) -> Result<Tree<'_>, SourceError> {
    let failed = |error| repository.failed("read a folder")(error);
    repository.loose.check(id).map_err(failed)?;
    repository.inner.find_tree(id).map_err(failed)
}

fn parts(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn text(name: &[u8], place: &str) -> Result<String, SourceError> {
    String::from_utf8(name.to_vec()).map_err(|_| {
        content(
            place,
            format!(
                "has the name `{}`, which is not UTF-8; rename it",
                String::from_utf8_lossy(name).escape_debug()
            ),
        )
    })
}

fn content(path: &str, problem: impl Into<String>) -> SourceError {
    let path = if path.is_empty() { "the repository's root" } else { path };
    SourceError::Content {
        path: path.escape_debug().to_string(),
        problem: problem.into(),
    }
}

fn submodule(path: &str) -> SourceError {
    content(
        path,
        "is a submodule, whose files are not in this repository; commit the files themselves",
    )
}
