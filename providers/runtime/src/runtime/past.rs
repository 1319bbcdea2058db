//! What is kept of a sandbox that died: the logs of its containers and how they ended, until its pod is removed.
//!
//! The pod goes on in a new sandbox of the same id, in the same directory, and people ask what became of the containers before. They are recorded in
//! `past.json`; all else of the dead sandbox goes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Inner, Runtime, SHIM_END, cleanup, logs, resolve};
use crate::error::RuntimeError;
use crate::record;
use crate::spec::{ContainerState, SandboxState};

/// The record in a sandbox's directory.
const PAST: &str = "past.json";

/// Where its logs are.
const LOGS: &str = "logs";

impl Runtime {
    /// Returns the containers that ended with former sandboxes of this id, oldest first.
    pub fn past(&self, id: &str) -> Vec<ContainerState> {
        self.inner.sandboxes.lock().past.get(id).cloned().unwrap_or_default()
    }

    /// Ends what there is of a sandbox, to be made anew: unlike [`Runtime::remove_sandbox`] it keeps the logs and exit codes. Succeeds when there is none.
    pub async fn clear_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.end_sandbox(id, true).await
    }

    /// Removes what is kept of dead sandboxes but those with these ids: their pods are gone.
    pub async fn forget_all_but(&self, ids: &BTreeSet<String>) {
        let kept: Vec<String> = self.inner.sandboxes.lock().past.keys().cloned().collect();
        for id in kept.iter().filter(|id| !ids.contains(*id)) {
            if let Err(error) = self.remove_sandbox(id).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    sandbox = id,
                    "what was kept of a former pod cannot be removed"
                );
            }
        }
    }

    pub(super) async fn end_sandbox(&self, id: &str, keep: bool) -> Result<(), RuntimeError> {
        if !resolve::is_name(id) {
            return Err(RuntimeError::Invalid(format!("{id:?} cannot be a sandbox's id")));
        }
        if !self.inner.sandboxes.lock().busy.insert(id.to_owned()) {
            return Err(RuntimeError::Exists {
                what: "a change of sandbox",
                id: id.to_owned(),
            });
        }
        // A task of its own: a caller that gives up must not leave half of it.
        let (inner, sandbox) = (self.inner.clone(), id.to_owned());
        let ended = tokio::spawn(async move {
            let link = inner.sandboxes.lock().live.get(&sandbox).cloned();
            let mut last = None;
            if let Some(link) = link {
                link.shut_down(SHIM_END).await;
                link.gone(SHIM_END).await;
                last = Some(link.current());
            }
            let result = if keep {
                inner.bury(&sandbox, last).await
            } else {
                inner.clean(&sandbox, last.and_then(|state| state.spec.ip)).await
            };
            let mut sandboxes = inner.sandboxes.lock();
            sandboxes.live.remove(&sandbox);
            if result.is_ok() {
                sandboxes.closed.remove(&sandbox);
                sandboxes.unreached.remove(&sandbox);
                if !keep {
                    sandboxes.past.remove(&sandbox);
                }
            }
            drop(sandboxes);
            inner.release(&sandbox);
            result
        });
        ended
            .await
            .unwrap_or_else(|_| Err(RuntimeError::ShimGone(id.to_owned())))
    }
}

impl Inner {
    /// Takes away what is left of a sandbox that died, but for its logs and how its containers ended. `last` is what is known of it besides its record.
    pub(super) async fn bury(&self, id: &str, last: Option<SandboxState>) -> Result<(), RuntimeError> {
        let directory = self.directory(id);
        let recorded = super::close::recorded(&directory).unwrap_or_else(|error| {
            tracing::warn!(%error, sandbox = id, "the record of a sandbox is unreadable");
            None
        });
        let ip = [&last, &recorded].into_iter().flatten().find_map(|state| state.spec.ip);
        let mut past = self.read_past(id);
        let now = (self.config.now)();
        // What is known besides may be newer than what the shim got to write.
        for state in [last, recorded]
            .into_iter()
            .flatten()
            .flat_map(|state| state.containers)
        {
            match past.iter_mut().find(|known| known.id() == state.id()) {
                Some(known) if known.exit.as_ref().is_some_and(|exit| exit.finished_at < now) => {}
                Some(known) if state.exit.is_some() => *known = state,
                Some(_) => {}
                None => past.push(state.killed(now)),
            }
        }
        if past.is_empty() {
            return self.clean(id, ip).await;
        }
        past.sort_by(|one, other| (&one.name, one.attempt).cmp(&(&other.name, other.attempt)));
        self.remove_processes(id).await?;
        self.detach(id, ip).await?;
        // On a full disk these make the room for the record. The shim's own stays until all is done: a crash in between begins anew.
        cleanup::remove_tree(directory.join("containers")).await?;
        self.write_past(id, past)?;
        let emptied = tokio::task::spawn_blocking(move || empty(&directory)).await;
        emptied.unwrap_or_else(|error| {
            Err(RuntimeError::io("empty", self.directory(id))(std::io::Error::other(
                error,
            )))
        })
    }

    fn read_past(&self, id: &str) -> Vec<ContainerState> {
        let read = record::read::<Vec<ContainerState>>(&self.directory(id).join(PAST));
        let past = read.unwrap_or_else(|error| {
            tracing::warn!(%error, sandbox = id, "the record of a pod's former containers is unreadable");
            None
        });
        past.unwrap_or_default()
    }

    fn write_past(&self, id: &str, past: Vec<ContainerState>) -> Result<(), RuntimeError> {
        let path = self.directory(id).join(PAST);
        record::write(&path, &past).map_err(RuntimeError::io("write", &path))?;
        self.sandboxes.lock().past.insert(id.to_owned(), past);
        Ok(())
    }

    /// Returns whether nothing is left of a sandbox but what is kept.
    pub(super) fn is_buried(&self, id: &str) -> bool {
        let directory = self.directory(id);
        directory.join(PAST).exists() && !directory.join("state.json").exists()
    }

    /// Remembers what is recorded of former sandboxes of an id.
    pub(super) fn recall(&self, id: &str) {
        let past = self.read_past(id);
        if !past.is_empty() {
            self.sandboxes.lock().past.insert(id.to_owned(), past);
        }
    }

    /// Removes an attempt of a former sandbox with its log; false when none is known by this id.
    pub(super) async fn forget_past(&self, id: &str, container: &str) -> Result<bool, RuntimeError> {
        let mut past = self.sandboxes.lock().past.get(id).cloned().unwrap_or_default();
        let Some(position) = past.iter().position(|state| state.id() == container) else {
            return Ok(false);
        };
        let state = past.remove(position);
        let directory = self.directory(id);
        let files = directory.join("containers").join(container);
        cleanup::remove_container_files(files, logs::below(&directory, &state.name, state.attempt)).await?;
        self.write_past(id, past)?;
        Ok(true)
    }
}

/// Removes everything in a sandbox's directory that is not kept.
fn empty(directory: &Path) -> Result<(), RuntimeError> {
    let entries = fs::read_dir(directory).map_err(RuntimeError::io("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(RuntimeError::io("list", directory))?;
        let path: PathBuf = entry.path();
        if [PAST, LOGS].iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory {
            crate::tree::remove(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(RuntimeError::io("remove", path))?;
    }
    Ok(())
}
