//! The instance's keys and databases: how they are opened, by the daemon and by commands that work without it.

use anyhow::{Context, bail};
use setpoint_store::{Keys, SqliteHistory, SqliteLog, SqliteOptions};

use crate::instance::Paths;
use crate::wall_clock;

/// How the store is opened.
pub fn log_options(keys: &Keys) -> SqliteOptions {
    SqliteOptions {
        now: Some(std::sync::Arc::new(wall_clock)),
        keys: Some(keys.clone()),
        rules: setpoint_server::log_rules(),
        ..SqliteOptions::default()
    }
}

/// Opens the instance's keys; makes the first one where nothing is sealed yet.
///
/// A new key would be no help against one that is lost, and hide that it is: that is an error.
pub async fn open_keys(paths: &Paths) -> anyhow::Result<Keys> {
    let path = paths.key();
    if !path
        .try_exists()
        .with_context(|| format!("cannot look at {}", path.display()))?
    {
        for database in [paths.store(), paths.history()] {
            if !database.exists() {
                continue;
            }
            let sealed = setpoint_store::sealed_with(&database).await?;
            if let Some(id) = sealed.keys().next() {
                bail!(
                    "{} is missing, and {} is sealed with its key {id}: put it back from where you keep a copy",
                    path.display(),
                    database.display()
                );
            }
        }
    }
    Ok(Keys::open(&path)?)
}

/// Seals everything in both databases with the newest key; answers when nothing is left to do.
pub async fn reseal(store: &SqliteLog, history: &SqliteHistory) -> anyhow::Result<()> {
    store.reseal().await.context("cannot seal the store anew")?;
    history.reseal().await.context("cannot seal the history anew")
}
