//! `setpoint sync`, `rollback`, `resume`: what is asked of an app by hand.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use setpoint_engine::Name;
use setpoint_engine::state::short;

use crate::apps::{self, Apps};
use crate::cli::{Format, Global};
use crate::output;

/// How an app is waited for.
#[derive(Args)]
pub struct Wait {
    /// Return at once instead of waiting until it is done
    #[arg(long)]
    no_wait: bool,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

/// Options of `setpoint sync`.
#[derive(Args)]
pub struct Sync {
    /// The apps (default: all)
    apps: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Options of `setpoint rollback`.
#[derive(Args)]
pub struct Rollback {
    /// The app
    app: String,
    /// A number of `setpoint history`, or a commit (default: the last healthy revision before this one)
    revision: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Options of `setpoint resume`.
#[derive(Args)]
pub struct Resume {
    /// The app
    app: String,
    #[command(flatten)]
    wait: Wait,
}

impl Sync {
    /// Looks at the sources now, tries again what failed, and waits.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let names = match self.apps.is_empty() {
            true => apps.list().await?.iter().map(Name::of).collect(),
            false => self.apps.iter().map(|app| apps::name(app)).collect::<Vec<_>>(),
        };
        for name in &names {
            let _: Value = apps.ask(name, "sync", &[], Some(Vec::new())).await?;
        }
        finish(&apps, &names, &self.wait, global.output).await
    }
}

#[derive(Deserialize)]
struct Gone {
    number: u64,
    source: String,
}

impl Rollback {
    /// Goes to an earlier revision and holds it.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let name = apps::name(&self.app);
        let query: Vec<(&str, &str)> = self
            .revision
            .iter()
            .map(|revision| ("revision", revision.as_str()))
            .collect();
        let gone: Gone = apps.ask(&name, "rollback", &query, Some(Vec::new())).await?;
        if global.output == Format::Text {
            output::text(&format!(
                "{} goes to revision {} ({}) and stays there until git changes the app or `setpoint resume {}`\n",
                name.name,
                gone.number,
                short(&gone.source),
                self.app
            ));
        }
        finish(&apps, std::slice::from_ref(&name), &self.wait, global.output).await?;
        let app = apps.get(&name).await?;
        let status = app.status.unwrap_or_default();
        if !self.wait.no_wait && (status.held.is_none() || status.revision.as_deref() != Some(&gone.source)) {
            bail!(
                "{} could not be held at revision {}: `setpoint history {}` says why; git is followed again",
                name.name,
                gone.number,
                self.app
            );
        }
        Ok(())
    }
}

impl Resume {
    /// Follows git again.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let name = apps::name(&self.app);
        let answer: Value = apps.ask(&name, "resume", &[], Some(Vec::new())).await?;
        if global.output == Format::Text && answer["held"] != true {
            output::text(&format!("{} followed git already\n", name.name));
        }
        finish(&apps, &[name], &self.wait, global.output).await
    }
}

/// Waits for apps and says how they are; fails when one is not well.
pub async fn finish(apps: &Apps, names: &[Name], wait: &Wait, format: Format) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    let mut unwell = Vec::new();
    for name in names {
        let app = match wait.no_wait {
            true => apps.get(name).await?,
            false => apps.settle(name, Duration::from_secs(wait.timeout)).await?,
        };
        let (health, reason) = apps::standing(&app);
        if format == Format::Text {
            let revision = app
                .status
                .as_ref()
                .and_then(|status| status.revision.clone())
                .unwrap_or_default();
            let reason = if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            };
            output::text(&format!(
                "{}  {}  {}{reason}\n",
                name.name,
                short(&revision),
                apps::coloured(health)
            ));
        }
        if !wait.no_wait && health != "Healthy" {
            unwell.push(format!("{} is {}", name.name, health.to_lowercase()));
        }
        shown.push(apps::shown(&app));
    }
    if format == Format::Json {
        output::json(&serde_json::json!({"apps": shown}))?;
    }
    match unwell.is_empty() {
        true => Ok(()),
        false => bail!("{}", unwell.join(", ")),
    }
}
