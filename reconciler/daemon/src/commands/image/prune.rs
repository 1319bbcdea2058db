//! `setpoint image prune`: removes what nothing needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::json;
use setpoint_engine::Name;
use setpoint_engine::state::Entry;
use setpoint_runtime::images::{Image, ImageStore};
use setpoint_store::{History as _, SqliteHistory};

use super::print;
use crate::apps::Apps;
use crate::cli::{Format, Global};
use crate::cluster::{engine, images};
use crate::instance::{DaemonLock, Paths};
use crate::{output, stores};

/// Options of `setpoint image prune`.
#[derive(Args)]
pub struct Prune {
    /// Also remove images that no container uses but an app may go back to
    #[arg(long)]
    all: bool,
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
}

#[derive(Deserialize)]
struct History {
    entries: Vec<Entry>,
}

impl Prune {
    /// Removes the images and says what that freed.
    pub async fn run(self, store: &ImageStore, paths: &Paths, global: &Global) -> anyhow::Result<()> {
        let kept = match self.all {
            true => BTreeSet::new(),
            false => kept(paths, global)
                .await
                .context("cannot tell which images apps may go back to; `--all` removes those, too")?,
        };
        let mut gone: Vec<Image> = Vec::new();
        let before = store.disk()?.available;
        for image in store.list()? {
            let needed = store.answers_to(&image.id)?.iter().any(|answer| kept.contains(answer));
            if needed || super::used_by(paths, &image.id)?.is_some() {
                continue;
            }
            if !self.dry_run {
                store.remove(&image.id).await?;
            }
            gone.push(image);
        }
        let freed = match self.dry_run {
            // Layers that other images share stay, so that it may be less.
            true => gone.iter().map(|image| image.size).sum(),
            false => store.disk()?.available.saturating_sub(before),
        };
        if global.output == Format::Json {
            let images: Vec<_> = gone.iter().map(print::value).collect();
            return output::json(&json!({"removed": images, "freed": freed, "dryRun": self.dry_run}));
        }
        if !gone.is_empty() {
            print::list(&gone, global.output)?;
        }
        let (what, freed) = (gone.len(), print::size(freed));
        output::text(&match self.dry_run {
            true => format!("{what} images would go, at most {freed}\n"),
            false => format!("{what} images removed, {freed} freed\n"),
        });
        Ok(())
    }
}

/// The digests of what apps may go back to: asked of the daemon, or read where none runs.
async fn kept(paths: &Paths, global: &Global) -> anyhow::Result<BTreeSet<String>> {
    if DaemonLock::holder(paths)?.is_none() {
        if !paths.history().exists() {
            return Ok(BTreeSet::new());
        }
        let _lock = DaemonLock::take(paths)?;
        let keys = stores::open_keys(paths).await?;
        let history = SqliteHistory::open(&paths.history(), Some(keys)).await?;
        let kept = images::kept(&engine::Kept(Arc::new(history.clone()))).await;
        history.close().await?;
        return kept;
    }
    if global.kubeconfig.is_some() || global.context.is_some() {
        bail!(
            "images are those of this machine, and so are the apps that need them: leave --kubeconfig and --context out"
        );
    }
    let apps = Apps::connect(global).await?;
    let mut kept = BTreeSet::new();
    for app in apps.list().await? {
        let name = Name::new(app.namespace().unwrap_or_default(), app.name_any());
        let history: History = apps.ask(&name, "history", &[], None).await?;
        kept.extend(
            history
                .entries
                .into_iter()
                .flat_map(|entry| entry.revision.images.digests.into_values()),
        );
    }
    Ok(kept)
}
