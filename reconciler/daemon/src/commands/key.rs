//! `setpoint key`: the keys that secrets are sealed with at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::json;
use setpoint_store::{DatabaseKind, History as _, KeyId, Keys, SqliteHistory, SqliteLog};

use crate::backup::swap;
use crate::cli::{Format, Global};
use crate::instance::{DaemonLock, Instance, Paths};
use crate::{output, stores};

/// How often it is looked how far the running daemon has come: a file has no event to wait for.
const LOOK: Duration = Duration::from_millis(200);

/// The keys that secrets are sealed with at rest
#[derive(Subcommand)]
pub enum Key {
    /// List the keys and what is sealed with each
    List(List),
    /// Make a new key and seal everything with it; older keys stay in the file, for backups
    Rotate(Rotate),
}

/// Options of `setpoint key list`.
#[derive(Args)]
pub struct List {}

/// Options of `setpoint key rotate`.
#[derive(Args)]
pub struct Rotate {
    /// How long to wait until everything is sealed with the new key, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

/// A key, and how many values each database has sealed with it.
#[derive(Serialize)]
struct Row {
    key: String,
    newest: bool,
    store: u64,
    history: u64,
}

impl Key {
    /// Runs the command.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("the keys belong to root: run this as root (sudo setpoint key …)");
        }
        let paths = Paths::new(&global.data_dir)?;
        ensure!(
            Instance::load(&paths)?.is_some(),
            "{} holds no instance; name another with --data-dir",
            paths.data_dir().display()
        );
        match self {
            Key::List(_) => list(&global, &paths).await,
            Key::Rotate(rotate) => rotate.run(&global, &paths).await,
        }
    }
}

async fn list(global: &Global, paths: &Paths) -> anyhow::Result<()> {
    swap::ensure_none_pending(paths.data_dir())?;
    let keys = stores::open_keys(paths).await?;
    let rows = rows(&keys, paths).await?;
    match global.output {
        Format::Json => output::json(&json!({"file": paths.key(), "keys": rows})),
        Format::Text => {
            let cells: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    let role = if row.newest { "seals and opens" } else { "opens" };
                    vec![
                        row.key.clone(),
                        role.into(),
                        row.store.to_string(),
                        row.history.to_string(),
                    ]
                })
                .collect();
            output::table(&["KEY", "USE", "IN THE STORE", "IN THE HISTORY"], &cells);
            Ok(())
        }
    }
}

async fn rows(keys: &Keys, paths: &Paths) -> anyhow::Result<Vec<Row>> {
    let (store, history) = (counts(&paths.store()).await?, counts(&paths.history()).await?);
    let count = |counts: &BTreeMap<KeyId, u64>, id: &KeyId| counts.get(id).copied().unwrap_or_default();
    Ok(keys
        .ids()
        .iter()
        .map(|id| Row {
            key: id.to_string(),
            newest: *id == keys.newest(),
            store: count(&store, id),
            history: count(&history, id),
        })
        .collect())
}

async fn counts(path: &std::path::Path) -> anyhow::Result<BTreeMap<KeyId, u64>> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    Ok(setpoint_store::sealed_with(path).await?)
}

impl Rotate {
    async fn run(self, global: &Global, paths: &Paths) -> anyhow::Result<()> {
        let deadline = Duration::from_secs(self.timeout);
        let new = match DaemonLock::holder(paths)? {
            Some(pid) => {
                ensure_takes_up(pid)?;
                let new = stores::open_keys(paths).await?.rotate()?;
                output::progress(&format!(
                    "key {new} is in {}; sealing everything with it",
                    paths.key().display()
                ));
                kill(Pid::from_raw(pid), Signal::SIGHUP).with_context(|| {
                    format!(
                        "cannot tell the running daemon (process {pid}); it seals with key {new} from its next start on"
                    )
                })?;
                if tokio::time::timeout(deadline, followed(paths, new)).await.is_err() {
                    return Err(unfinished(paths, new, self.timeout).await);
                }
                new
            }
            None => {
                let _lock = DaemonLock::take(paths)?;
                let keys = stores::open_keys(paths).await?;
                let new = keys.rotate()?;
                output::progress(&format!(
                    "key {new} is in {}; sealing everything with it",
                    paths.key().display()
                ));
                match tokio::time::timeout(deadline, alone(paths, &keys)).await {
                    Ok(done) => done?,
                    Err(_) => return Err(unfinished(paths, new, self.timeout).await),
                }
                new
            }
        };
        let older = older(paths, new).await?;
        match global.output {
            Format::Json => {
                output::json(&json!({"key": new.to_string(), "file": paths.key(), "leftWithOlderKeys": older}))
            }
            Format::Text => {
                let mut text = format!(
                    "everything that is sealed is sealed with key {new} now.\nKeep a new copy of {}: backups from now on need it. Older keys stay in it, for older backups.\n",
                    paths.key().display()
                );
                if older > 0 {
                    text.push_str(&format!(
                        "{older} values could not be read and stay sealed with older keys; the daemon's log names them.\n"
                    ));
                }
                output::text(&text);
                Ok(())
            }
        }
    }
}

/// Fails when the process would take the signal for its end.
fn ensure_takes_up(pid: i32) -> anyhow::Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("cannot look at the running daemon (process {pid})"))?;
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    ensure!(
        caught >> (Signal::SIGHUP as i32 - 1) & 1 == 1,
        "the running daemon (process {pid}) is starting, or is of a version that takes up no keys while it runs: try again, or restart it first"
    );
    Ok(())
}

/// Waits until both databases are marked as sealed with a key.
async fn followed(paths: &Paths, new: KeyId) {
    loop {
        let mut done = true;
        for (path, kind) in [
            (paths.store(), DatabaseKind::Log),
            (paths.history(), DatabaseKind::History),
        ] {
            match setpoint_store::sealed_throughout(&path, kind).await {
                Ok(key) => done &= key == Some(new),
                // It may be busy; the deadline ends the waiting.
                Err(error) => {
                    tracing::debug!(%error, "cannot look how far the sealing has come");
                    done = false;
                }
            }
        }
        if done {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Seals everything without a daemon.
async fn alone(paths: &Paths, keys: &Keys) -> anyhow::Result<()> {
    let store = SqliteLog::open(&paths.store(), stores::log_options(keys))
        .await
        .context("cannot open the store")?;
    let history = SqliteHistory::open(&paths.history(), Some(keys.clone()))
        .await
        .context("cannot open the history")?;
    stores::reseal(&store, &history).await?;
    history.close().await.context("cannot close the history")?;
    store.close().await.context("cannot close the store")
}

/// How many values are sealed with other keys.
async fn older(paths: &Paths, new: KeyId) -> anyhow::Result<u64> {
    let mut older = 0;
    for path in [paths.store(), paths.history()] {
        let counts = counts(&path).await?;
        older += counts
            .iter()
            .filter(|(id, _)| **id != new)
            .map(|(_, count)| count)
            .sum::<u64>();
    }
    Ok(older)
}

async fn unfinished(paths: &Paths, new: KeyId, seconds: u64) -> anyhow::Error {
    let left = match older(paths, new).await {
        Ok(count) => format!("{count} values are still sealed with older keys"),
        Err(error) => format!("how much is left cannot be counted: {error:#}"),
    };
    anyhow::anyhow!(
        "key {new} is in use, but not everything was sealed with it within {seconds} s: {left}. The daemon goes on with that, also after a restart; see its log, and `setpoint key list`"
    )
}
