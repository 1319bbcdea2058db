//! Sandboxes whose containers have all ended for good: shim, namespaces, network and cgroup go, logs and exit codes stay.
//!
//! What stays is the sandbox's directory. A record of the daemon's own in it (`closed.json`; the shim may still be writing its one) says that it is
//! closed, and no longer names an address once the network is gone, because the address then belongs to whoever gets it next.

use std::path::Path;
use std::sync::Arc;

use super::{Inner, Runtime, SHIM_END, resolve};
use crate::error::RuntimeError;
use crate::record;
use crate::spec::{SandboxSpec, SandboxState};

/// The record of a closed sandbox in its directory.
const CLOSED: &str = "closed.json";

/// Reads what is recorded of a sandbox without a shim: that it is closed (its `pid` is 0 then), else what its shim wrote last.
pub(super) fn recorded(directory: &Path) -> std::io::Result<Option<SandboxState>> {
    match record::read(&directory.join(CLOSED))? {
        Some(closed) => Ok(Some(closed)),
        None => record::read(&directory.join("state.json")),
    }
}

impl Runtime {
    /// Ends a sandbox of which no container runs any more and keeps its logs and the states of its containers until it is removed. Succeeds when it
    /// is closed already.
    pub async fn close_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
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
        let closing = tokio::spawn(async move {
            let result = inner.close(&sandbox).await;
            inner.release(&sandbox);
            result
        });
        closing
            .await
            .unwrap_or_else(|_| Err(RuntimeError::ShimGone(id.to_owned())))
    }
}

impl Inner {
    async fn close(&self, id: &str) -> Result<(), RuntimeError> {
        let (link, closed) = {
            let sandboxes = self.sandboxes.lock();
            (sandboxes.live.get(id).cloned(), sandboxes.closed.get(id).cloned())
        };
        let mut state = match (&link, closed) {
            (Some(link), _) => link.current(),
            (None, Some(closed)) => closed,
            (None, None) => return Err(RuntimeError::NoSandbox(id.to_owned())),
        };
        if let Some(running) = state.containers.iter().find(|container| container.exit.is_none()) {
            return Err(RuntimeError::Invalid(format!(
                "sandbox {id} cannot be closed, container {} runs",
                running.id()
            )));
        }
        if let Some(link) = link {
            state.pid = 0;
            // Before the shim goes: whoever finds none takes what a record without this mark says for the remains of an accident.
            self.write_closed(id, &state)?;
            link.shut_down(SHIM_END).await;
            link.gone(SHIM_END).await;
            self.sandboxes.lock().live.remove(id);
        }
        self.finish_closing(id, state).await
    }

    /// Takes away what a closed sandbox does not need.
    async fn finish_closing(&self, id: &str, mut state: SandboxState) -> Result<(), RuntimeError> {
        self.remove_processes(id).await?;
        self.detach(id, state.spec.ip).await?;
        if state.spec.ip.take().is_some() {
            self.write_closed(id, &state)?;
        }
        let directory = self.directory(id);
        super::cleanup::remove_tree(directory.join("containers")).await
    }

    fn write_closed(&self, id: &str, state: &SandboxState) -> Result<(), RuntimeError> {
        let path = self.directory(id).join(CLOSED);
        record::write(&path, state).map_err(RuntimeError::io("write", &path))?;
        self.sandboxes.lock().closed.insert(id.to_owned(), state.clone());
        Ok(())
    }

    /// Takes a sandbox without a shim among the closed ones, if its record says that it is one.
    pub(super) async fn adopt_closed(self: &Arc<Self>, id: &str) -> Option<SandboxState> {
        let closed: SandboxState = match record::read(&self.directory(id).join(CLOSED)) {
            Ok(closed) => closed?,
            Err(error) => {
                tracing::warn!(
                    %error,
                    sandbox = id,
                    "the record of a completed sandbox is unreadable; its logs are kept, and what its shim recorded"
                );
                self.presume_closed(id)
            }
        };
        if closed.pid != 0 {
            return None;
        }
        self.sandboxes.lock().closed.insert(id.to_owned(), closed.clone());
        if let Err(error) = self.finish_closing(id, closed).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                sandbox = id,
                "something of a completed sandbox could not be taken away"
            );
        }
        self.sandboxes.lock().closed.get(id).cloned()
    }

    /// Makes a record of a closed sandbox anew from what its shim wrote last. Only a sandbox that was closed has such a record at all, however
    /// unreadable it became, so what is in the directory is not the remains of an accident.
    fn presume_closed(&self, id: &str) -> SandboxState {
        let last: Option<SandboxState> = record::read(&self.directory(id).join("state.json")).unwrap_or_else(|error| {
            tracing::warn!(%error, sandbox = id, "what the shim of a completed sandbox recorded is unreadable too");
            None
        });
        let (spec, mut containers) = last.map_or_else(Default::default, |last| (last.spec, last.containers));
        // The shim may have been behind; none of them runs.
        containers.retain(|container| container.exit.is_some());
        let closed = SandboxState {
            spec: SandboxSpec {
                id: id.to_owned(),
                // Whether it was given back is not known, and it may be somebody else's by now.
                ip: None,
                ..spec
            },
            pid: 0,
            containers,
        };
        if let Err(error) = self.write_closed(id, &closed) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                sandbox = id,
                "the record of a completed sandbox cannot be mended"
            );
        }
        closed
    }
}
