//! `setpoint image prune`: removes what nothing needs. The daemon does it where one runs: it knows what is about to be used.

use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use setpoint_engine::ImagesKept;
use setpoint_runtime::images::ImageStore;
use setpoint_store::{History as _, SqliteHistory};

use super::print;
use crate::cli::{Format, Global};
use crate::cluster::engine;
use crate::cluster::images::needed::{self, Pruned, Wish};
use crate::instance::{DaemonLock, Instance, Paths};
use crate::{client, output, stores, wall_clock};

/// Options of `setpoint image prune`.
#[derive(Args)]
pub struct Prune {
    /// Also remove what only the history of apps names; what they run or fall back to by themselves stays
    #[arg(long)]
    all: bool,
    /// Also remove images that were imported, which no registry can give again
    #[arg(long)]
    imported: bool,
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    /// Removes the images and says what that freed.
    pub async fn run(self, store: &ImageStore, paths: &Paths, global: &Global) -> anyhow::Result<()> {
        if global.kubeconfig.is_some() || global.context.is_some() {
            bail!("images are those of this machine, and so is what needs them: leave --kubeconfig and --context out");
        }
        let wish = Wish {
            all: self.all,
            imported: self.imported,
            dry_run: self.dry_run,
        };
        let pruned = match DaemonLock::holder(paths)? {
            Some(_) => ask(wish, global).await?,
            None => alone(wish, store, paths).await?,
        };
        if global.output == Format::Json {
            return output::json(&pruned);
        }
        if !pruned.removed.is_empty() {
            print::table(&pruned.removed);
        }
        let (what, freed) = (pruned.removed.len(), print::size(pruned.freed));
        output::text(&match pruned.dry_run {
            true => format!("{what} images would go, at most {freed}\n"),
            false => format!("{what} images removed, {freed} freed\n"),
        });
        Ok(())
    }
}

/// Has the daemon do it.
async fn ask(wish: Wish, global: &Global) -> anyhow::Result<Pruned> {
    let paths = Paths::new(&global.data_dir)?;
    let instance = Instance::load(&paths)?.context("the daemon is still starting; try again")?;
    let request = http::Request::post(format!("/api/v1/nodes/{}/prune", instance.node_name))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(&wish)?)?;
    match client::connect(global).await?.request(request).await {
        Err(kube::Error::Api(status)) => bail!("{}", status.message),
        answer => answer.context("cannot ask the daemon"),
    }
}

/// Does it while no daemon can start.
async fn alone(wish: Wish, store: &ImageStore, paths: &Paths) -> anyhow::Result<Pruned> {
    let _lock = DaemonLock::take(paths)?;
    let kept = match paths.history().exists() {
        false => ImagesKept::default(),
        true => {
            let keys = stores::open_keys(paths).await?;
            let history = SqliteHistory::open(&paths.history(), Some(keys)).await?;
            let kept = needed::kept(&engine::Kept(Arc::new(history.clone()))).await;
            history.close().await?;
            kept.context("cannot tell which images apps need")?
        }
    };
    let used = || Ok(super::users(paths)?.into_keys().collect());
    let (pruned, doomed) = needed::prune(store, used, &kept, wish, wall_clock()).await?;
    tokio::task::spawn_blocking(move || doomed.remove()).await??;
    Ok(pruned)
}
