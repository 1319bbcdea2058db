//! Finding the sandboxes again that an earlier daemon left running.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;

use super::channel::Channel;
use super::link::{Greeted, greet};
use super::{Inner, attach};
use crate::cgroup::Hierarchies;
use crate::error::RuntimeError;
use crate::spec::SandboxState;

/// Returns where cgroups are: chosen at the first start and kept, because a later daemon may run in another group itself.
pub(super) fn hierarchies(data_dir: &Path) -> Result<Hierarchies, RuntimeError> {
    let path = data_dir.join("cgroups.json");
    if let Ok(text) = std::fs::read(&path)
        && let Ok(kept) = serde_json::from_slice::<Hierarchies>(&text)
        && kept.is_present()
    {
        return Ok(kept);
    }
    let found = Hierarchies::detect().map_err(RuntimeError::io("find cgroups in", "/proc/self/cgroup"))?;
    let text = serde_json::to_vec(&found).map_err(|error| RuntimeError::io("encode", &path)(error.into()))?;
    std::fs::write(&path, text).map_err(RuntimeError::io("write", &path))?;
    Ok(found)
}

impl Inner {
    /// Connects to every shim; takes away what is left of those that are gone.
    pub(super) async fn adopt(self: &Arc<Self>) -> Result<Vec<SandboxState>, RuntimeError> {
        let mut ids = names(&self.config.data_dir.join("sandboxes"), "")?;
        ids.extend(names(&self.config.run_dir.join("shims"), ".sock")?);
        let attached = match &self.net {
            Some(net) if !ids.is_empty() => {
                let attached = net.attached().await.map_err(|source| RuntimeError::Network {
                    operation: "list",
                    sandbox: "of every pod".to_owned(),
                    source,
                })?;
                attached.into_iter().map(|attachment| attachment.ip).collect()
            }
            _ => BTreeSet::new(),
        };
        let all = join_all(ids.iter().map(|id| self.adopt_one(id, &attached))).await;
        Ok(all.into_iter().flatten().collect())
    }

    async fn adopt_one(self: &Arc<Self>, id: &str, attached: &BTreeSet<std::net::Ipv4Addr>) -> Option<SandboxState> {
        match self.reach(id).await {
            Ok(Some(greeted)) => {
                let state = greeted.state();
                // A daemon that died between the two steps left a sandbox without network.
                if let (Some(ip), Some(net)) = (state.spec.ip, &self.net)
                    && !attached.contains(&ip)
                    && let Err(error) = attach(net, id, state.pid, ip).await
                {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        sandbox = id,
                        "an adopted sandbox has no network"
                    );
                }
                match self.hold(greeted) {
                    Ok(link) => return Some(link.current()),
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            sandbox = id,
                            "cannot adopt a sandbox"
                        );
                    }
                }
            }
            Ok(None) => {
                if let Some(closed) = self.adopt_closed(id).await {
                    return Some(closed);
                }
                tracing::info!(sandbox = id, "a sandbox did not survive; taking its remains away");
                if let Err(error) = self.clean(id).await {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        sandbox = id,
                        "cannot clean up a sandbox"
                    );
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    sandbox = id,
                    "cannot adopt a sandbox"
                );
            }
        }
        None
    }

    /// Connects to a shim; `None` when it is gone.
    async fn reach(&self, id: &str) -> Result<Option<Greeted>, RuntimeError> {
        let Ok(channel) = Channel::connect(&self.socket(id)).await else {
            return Ok(None);
        };
        let peer = channel.peer();
        match greet(id, channel, true).await {
            Ok(greeted) => Ok(Some(greeted)),
            Err(RuntimeError::ShimGone(_)) => Ok(None),
            Err(RuntimeError::Deadline { .. }) => {
                tracing::error!(sandbox = id, "killing a shim that does not answer");
                if let Some(peer) = peer {
                    crate::sys::process::kill(peer);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Lists the names of a directory's entries that end in `suffix`, without it.
fn names(directory: &Path, suffix: &str) -> Result<BTreeSet<String>, RuntimeError> {
    let entries = std::fs::read_dir(directory).map_err(RuntimeError::io("list", directory))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(RuntimeError::io("list", directory))?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(suffix))
            && super::resolve::is_name(name)
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}
