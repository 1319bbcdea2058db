//! A commit and what came before it.

use std::collections::{BinaryHeap, HashSet};

use git2::Oid;

use super::{Commit, Repository, described, full_id};
use crate::source::SourceError;

/// Asking for an ancestor looks no further back than this many commits.
const MAX_LOOK: usize = 200_000;

impl Repository {
    /// Lists a commit and its ancestors, newest first by their committers' clocks, at most `limit`.
    pub fn log(&self, commit: &str, limit: usize) -> Result<Vec<Commit>, SourceError> {
        let mut walk = Walk::from(self, commit)?;
        let mut commits = Vec::new();
        while commits.len() < limit
            && let Some(commit) = walk.next()?
        {
            commits.push(described(&commit));
        }
        Ok(commits)
    }

    /// Says whether one commit is the other or one of its ancestors.
    pub fn is_ancestor(&self, ancestor: &str, descendant: &str) -> Result<bool, SourceError> {
        let mut walk = Walk::from(self, descendant)?;
        let Some(ancestor) = full_id(ancestor) else {
            return Ok(false);
        };
        for _ in 0..MAX_LOOK {
            match walk.next()? {
                Some(commit) if commit.id() == ancestor => return Ok(true),
                Some(_) => {}
                None => break,
            }
        }
        Ok(false)
    }
}

/// libgit2 has such a walk, but reads the objects itself, the damaged ones too.
struct Walk<'r> {
    repository: &'r Repository,
    waiting: BinaryHeap<(i64, Oid)>,
    seen: HashSet<Oid>,
}

impl<'r> Walk<'r> {
    fn from(repository: &'r Repository, commit: &str) -> Result<Self, SourceError> {
        let start = repository.found(commit)?;
        Ok(Self {
            repository,
            waiting: BinaryHeap::from([(start.time().seconds(), start.id())]),
            seen: HashSet::from([start.id()]),
        })
    }

    fn next(&mut self) -> Result<Option<git2::Commit<'r>>, SourceError> {
        let Some((_, id)) = self.waiting.pop() else {
            return Ok(None);
        };
        let Some(commit) = self.repository.find(id)? else {
            return Ok(None);
        };
        for parent in commit.parent_ids() {
            if self.seen.insert(parent) {
                // A parent that is not there: a shallow clone ends here.
                if let Some(found) = self.repository.find(parent)? {
                    self.waiting.push((found.time().seconds(), parent));
                }
            }
        }
        Ok(Some(commit))
    }
}
