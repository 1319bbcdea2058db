//! `setpoint down`: everything that the instance made on this host goes, nothing else does.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use setpoint_net::Net;
use setpoint_runtime::Runtime;

use crate::cli::{Format, Global};
use crate::instance::{DaemonLock, Instance, Paths};
use crate::output;

/// How long a running daemon may take to end.
const DAEMON_ENDS: Duration = Duration::from_secs(20);

/// Options of `setpoint down`.
#[derive(Args)]
pub struct Down {}

impl Down {
    /// Stops the daemon if one runs, then every pod, and removes what was made on the host.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let paths = Paths::new(&global.data_dir)?;
        if !rustix::process::geteuid().is_root() {
            bail!("what setpoint makes on a host belongs to root: run this as root (sudo setpoint down)");
        }
        let Some(instance) = Instance::load(&paths)? else {
            match global.output {
                Format::Text => output::text(&format!("nothing of setpoint is in {}\n", paths.data_dir().display())),
                Format::Json => output::json(&json!({"removed": false}))?,
            }
            return Ok(());
        };
        let _lock = end_daemon(&paths).await?;
        // One failure must not keep the rest from being removed: report them together at the end.
        let mut failures: Vec<anyhow::Error> = Vec::new();
        if let Err(error) = Runtime::remove_all(paths.data_dir(), &instance.run_dir(), &instance.id).await {
            failures.push(anyhow::Error::from(error).context("cannot remove every pod"));
        }
        if let Err(error) = setpoint_agent::remove_all(paths.data_dir()) {
            failures.push(anyhow::Error::from(error).context("cannot remove the pods' volumes"));
        }
        if let Err(error) = Net::remove(&instance.net()).await {
            failures.push(anyhow::Error::from(error).context("cannot remove the network"));
        }
        match std::fs::remove_dir_all(instance.run_dir()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => failures
                .push(anyhow::Error::from(error).context(format!("cannot remove {}", instance.run_dir().display()))),
            _ => {}
        }
        if !failures.is_empty() {
            for failure in &failures {
                output::error(failure);
            }
            bail!(
                "{} steps failed; run `setpoint down` again once their causes are gone",
                failures.len()
            );
        }
        match global.output {
            Format::Json => output::json(&json!({"removed": true}))?,
            Format::Text => output::text(&format!(
                "every pod, interface, rule, mount and cgroup of this instance is gone.\nIts objects, images and volumes are kept in {}; remove that folder to forget them.\n",
                paths.data_dir().display()
            )),
        }
        Ok(())
    }
}

/// Asks a running daemon to end and takes its lock, so that no other starts meanwhile.
async fn end_daemon(paths: &Paths) -> anyhow::Result<DaemonLock> {
    let deadline = tokio::time::Instant::now() + DAEMON_ENDS;
    let mut told = false;
    loop {
        match DaemonLock::holder(paths)? {
            None => return DaemonLock::take(paths),
            Some(pid) if !told => {
                kill(Pid::from_raw(pid), Signal::SIGTERM)
                    .with_context(|| format!("cannot stop the running daemon (process {pid})"))?;
                told = true;
            }
            Some(pid) if tokio::time::Instant::now() > deadline => bail!(
                "the running daemon (process {pid}) did not end within {} s; kill it and try again",
                DAEMON_ENDS.as_secs()
            ),
            // A lock has no event to wait for.
            Some(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
