//! Taking away what sandboxes leave: processes, cgroups, links, sockets, files.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;

use super::channel::Channel;
use super::close::recorded;
use super::link::greet;
use super::{Inner, SHIM_END};
use crate::cgroup;
use crate::error::RuntimeError;
use crate::logs;

/// How long killed processes may take to leave their cgroup.
const EMPTY: Duration = Duration::from_secs(10);

/// How often a directory is tried to be removed into which others write.
const TRIES: u32 = 100;

/// How often it is looked whether they have: the kernel tells nobody.
const LOOK: Duration = Duration::from_millis(5);

impl Inner {
    /// Takes away everything of a sandbox whose shim is gone, or is to go. `ip` is its address where that is known; else the record tells. Succeeds
    /// when there is nothing.
    pub(super) async fn clean(&self, id: &str, ip: Option<Ipv4Addr>) -> Result<(), RuntimeError> {
        let directory = self.directory(id);
        let recorded = recorded(&directory).unwrap_or_else(|error| {
            tracing::warn!(%error, sandbox = id, "the record of a sandbox is unreadable");
            None
        });
        self.remove_processes(id).await?;
        let network = self.detach(id, ip.or_else(|| recorded?.spec.ip)).await;
        // Last, because it is what a later start finds the rest by.
        if network.is_ok() {
            remove_tree(directory).await?;
        }
        network
    }

    /// Takes a sandbox's network away, if it has one.
    pub(super) async fn detach(&self, id: &str, ip: Option<Ipv4Addr>) -> Result<(), RuntimeError> {
        let (Some(net), Some(ip)) = (&self.net, ip) else {
            return Ok(());
        };
        net.detach(ip).await.map_err(|source| RuntimeError::Network {
            operation: "detach",
            sandbox: id.to_owned(),
            source,
        })
    }

    /// Takes away a sandbox's processes, its shim first, its cgroup and its socket.
    pub(super) async fn remove_processes(&self, id: &str) -> Result<(), RuntimeError> {
        let group = self.hierarchies.sandbox(&self.config.instance, id);
        until_gone(&format!("the cgroup of sandbox {id}"), || {
            // All of them are asked each time: what is killed takes its time.
            let shim_is_gone = self.kill_shims(id);
            if !group.is_empty() {
                group.kill();
            }
            group.remove() && shim_is_gone
        })
        .await?;
        remove_file(&self.socket(id))
    }
}

/// Tries until something is gone, or the deadline passed.
async fn until_gone(what: &str, mut attempt: impl FnMut() -> bool) -> Result<(), RuntimeError> {
    let trying = async {
        while !attempt() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(EMPTY, trying)
        .await
        .map_err(|_| RuntimeError::Deadline {
            operation: format!("removing {what}"),
            seconds: EMPTY.as_secs(),
        })
}

fn remove_file(path: &Path) -> Result<(), RuntimeError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RuntimeError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a directory and all below it, on a thread that may wait.
pub(super) async fn remove_tree(path: PathBuf) -> Result<(), RuntimeError> {
    let task = tokio::task::spawn_blocking(move || {
        let mut tries = 0;
        loop {
            tries += 1;
            match crate::tree::remove(&path) {
                // Somebody who is about to end has written one more file.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries < TRIES => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RuntimeError::io("remove", path)(error));
                }
                _ => return Ok(()),
            }
        }
    });
    task.await
        .unwrap_or_else(|error| Err(RuntimeError::io("remove", "a sandbox's files")(io::Error::other(error))))
}

/// Removes the files of one attempt.
pub(super) async fn remove_container_files(directory: PathBuf, log: PathBuf) -> Result<(), RuntimeError> {
    remove_tree(directory).await?;
    let files = logs::files(&log).map_err(RuntimeError::io("list the files of", &log))?;
    files.iter().try_for_each(|file| remove_file(file))
}

/// Removes an instance's sandboxes without an open runtime.
pub(super) async fn remove_all(data_dir: &Path, run_dir: &Path, instance: &str) -> Result<(), RuntimeError> {
    let sockets = run_dir.join("shims");
    let mut shims = Vec::new();
    match std::fs::read_dir(&sockets) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(RuntimeError::io("list", &sockets))?.path();
                if path.extension().is_some_and(|extension| extension == "sock") {
                    shims.push(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(RuntimeError::io("list", sockets)(error)),
    }
    join_all(shims.iter().map(|socket| shut_down(socket))).await;
    // What does not answer, or was never recorded, is found by the cgroups that carry the instance's name.
    let groups = cgroup::remains(instance);
    for group in groups {
        until_gone(&group.display().to_string(), || {
            cgroup::kill_tree(&group);
            cgroup::remove_tree(&group)
        })
        .await?;
    }
    remove_tree(data_dir.join("sandboxes")).await?;
    remove_file(&data_dir.join("cgroups.json"))?;
    remove_tree(run_dir.join("shims")).await?;
    // Others may keep something beside the sockets.
    match std::fs::remove_dir(run_dir) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(RuntimeError::io("remove", run_dir)(error))
        }
        _ => Ok(()),
    }
}

/// Asks the shim at a socket to end and waits until it has.
async fn shut_down(socket: &Path) {
    let id = socket.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let asking = async {
        let channel = Channel::connect(socket)
            .await
            .map_err(|_| RuntimeError::ShimGone(id.clone()))?;
        let link = greet(&id, channel, true)
            .await?
            .into_link(tokio::sync::broadcast::channel(1).0, || {})?;
        link.shut_down(SHIM_END).await;
        link.gone(SHIM_END).await;
        Ok::<(), RuntimeError>(())
    };
    // Whoever cannot be asked is killed by its cgroup.
    match tokio::time::timeout(2 * SHIM_END, asking).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "a shim does not answer"),
        Err(_) => tracing::warn!(sandbox = id, "a shim does not end"),
    }
}
