//! `setpoint chart`: a chart as an app of its own, without a repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use setpoint_engine::api::{App, AppSpec, ChartSource, NAMESPACE, SyncPolicy};
use setpoint_engine::{Name, pack};

use crate::apps::{self, Apps};
use crate::cli::{Format, Global};
use crate::commands::sync::{Wait, finish};
use crate::{carried, folder, output};

/// The field manager of Apps that are made by hand.
const MANAGER: &str = "setpoint-chart";

/// `setpoint chart`'s commands.
#[derive(Subcommand)]
pub enum Chart {
    /// Install a chart that setpoint carries, or one in a folder, as an app
    Install(Install),
    /// Install a newer chart or other values over what is installed
    Upgrade(Upgrade),
    /// Remove an installed chart and all its objects
    Uninstall(Uninstall),
    /// List the installed charts and those that setpoint carries
    List(List),
}

/// What is installed, and how.
#[derive(Args)]
pub struct What {
    /// The app's name
    name: String,
    /// A chart that setpoint carries (`setpoint chart list`), or a folder
    chart: String,
    /// A file of values; later ones win
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    values: Vec<PathBuf>,
    /// A value: key=value, as Helm reads it
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A value that stays text
    #[arg(long = "set-string", value_name = "KEY=VALUE")]
    set_string: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Options of `setpoint chart install`.
#[derive(Args)]
pub struct Install {
    #[command(flatten)]
    what: What,
    /// The namespace that it goes to; made when missing
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How long it may take to become healthy before it has failed
    #[arg(long, default_value = "2m")]
    deadline: String,
}

/// Options of `setpoint chart upgrade`.
#[derive(Args)]
pub struct Upgrade {
    #[command(flatten)]
    what: What,
    /// Keep the values that are set already and lay these over them
    #[arg(long)]
    reuse_values: bool,
}

/// Options of `setpoint chart uninstall`.
#[derive(Args)]
pub struct Uninstall {
    /// The app's name
    name: String,
    /// Leave its objects
    #[arg(long)]
    keep_objects: bool,
}

/// Options of `setpoint chart list`.
#[derive(Args)]
pub struct List {}

impl Chart {
    /// Runs the command.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        match self {
            Chart::Install(command) => command.run(global).await,
            Chart::Upgrade(command) => command.run(global).await,
            Chart::Uninstall(command) => command.run(global).await,
            Chart::List(command) => command.run(global).await,
        }
    }
}

impl Install {
    async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let api: Api<App> = Api::namespaced(apps.client().clone(), NAMESPACE);
        if let Some(there) = api.get_opt(&self.what.name).await.context("cannot read the app")? {
            let whose = there.spec.repository.map_or(
                "use `setpoint chart upgrade`, or another name".to_owned(),
                |repository| format!("it is declared by the repository {repository}; use another name"),
            );
            bail!("there is an app {} already: {whose}", self.what.name);
        }
        let values = folder::values(&self.what.values, &self.what.set, &self.what.set_string)?;
        let spec = AppSpec {
            namespace: Some(self.namespace.clone()),
            values,
            sync: SyncPolicy {
                deadline: self.deadline.clone(),
                ..SyncPolicy::default()
            },
            ..AppSpec::default()
        };
        ensure_namespace(&apps).await?;
        apply(&apps, &self.what, spec, global.output).await
    }
}

impl Upgrade {
    async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let there = apps.get(&Name::new(NAMESPACE, &self.what.name)).await?;
        if let Some(repository) = &there.spec.repository {
            bail!(
                "{} is declared by the repository {repository}: change it there",
                self.what.name
            );
        }
        let given = folder::values(&self.what.values, &self.what.set, &self.what.set_string)?;
        let mut spec = there.spec;
        spec.values = match self.reuse_values {
            true => setpoint_templates::chart::merge_maps(spec.values, given),
            false => given,
        };
        apply(&apps, &self.what, spec, global.output).await
    }
}

/// Hands the chart's files over, writes the App and waits for it.
async fn apply(apps: &Apps, what: &What, mut spec: AppSpec, format: Format) -> anyhow::Result<()> {
    let files = find(&what.chart)?;
    let (chart, version) = identity(&files).with_context(|| format!("{} is no chart", what.chart))?;
    let packed = pack(&files).map_err(anyhow::Error::msg)?;
    let name = Name::new(NAMESPACE, &what.name);
    let answer: Value = apps.ask(&name, "chart", &[], Some(packed.to_vec())).await?;
    let digest = answer["digest"]
        .as_str()
        .context("setpoint did not say what it kept")?
        .to_owned();
    spec.chart = Some(ChartSource {
        digest,
        name: chart,
        version,
    });
    let app = json!({
        "apiVersion": "setpoint.dev/v1alpha1",
        "kind": "App",
        "metadata": {"name": what.name, "namespace": NAMESPACE},
        "spec": spec,
    });
    let api: Api<App> = Api::namespaced(apps.client().clone(), NAMESPACE);
    api.patch(&what.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&app))
        .await
        .with_context(|| format!("cannot write the app {}", what.name))?;
    // What was asked for has begun when this returns, so that the wait is not for what was before.
    let _: Value = apps.ask(&name, "sync", &[], Some(Vec::new())).await?;
    finish(apps, &[name], &what.wait, format).await
}

/// Finds a chart: carried by name, or a folder. A name with a slash or dot is a folder.
fn find(chart: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    if let Some(files) = carried::chart(chart) {
        return Ok(files);
    }
    if !Path::new(chart).is_dir() {
        bail!(
            "{chart} is neither a folder nor a chart that setpoint carries; it carries {}",
            carried::charts().join(", ")
        );
    }
    folder::files(Path::new(chart))
}

fn identity(files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<(String, String)> {
    let text = files.get("Chart.yaml").context("it has no Chart.yaml")?;
    let chart: Value = serde_saphyr::from_str(std::str::from_utf8(text).context("Chart.yaml is not text")?)
        .context("Chart.yaml is not YAML")?;
    let name = chart["name"].as_str().context("Chart.yaml has no name")?.to_owned();
    let version = match &chart["version"] {
        Value::String(version) => version.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    Ok((name, version))
}

async fn ensure_namespace(apps: &Apps) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(apps.client().clone());
    let namespace = Namespace {
        metadata: kube::core::ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            ..Default::default()
        },
        ..Namespace::default()
    };
    match api.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make the namespace {NAMESPACE}")),
    }
}

impl Uninstall {
    async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let name = Name::new(NAMESPACE, &self.name);
        let app = apps.get(&name).await?;
        if let Some(repository) = &app.spec.repository {
            bail!(
                "{} is declared by the repository {repository}: remove it there",
                self.name
            );
        }
        let api: Api<App> = Api::namespaced(apps.client().clone(), NAMESPACE);
        if self.keep_objects {
            let patch = json!({"spec": {"sync": {"prune": false}}});
            api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .context("cannot write the app")?;
        }
        api.delete(&self.name, &DeleteParams::background())
            .await
            .with_context(|| format!("cannot delete the app {}", self.name))?;
        output::progress(&format!("{}: deleting its objects", self.name));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while api.get_opt(&self.name).await.context("cannot read the app")?.is_some() {
            if std::time::Instant::now() >= end {
                bail!(
                    "{} is still being deleted; `kubectl -n {NAMESPACE} describe app {}` says what waits",
                    self.name,
                    self.name
                );
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        match global.output {
            Format::Json => output::json(&json!({"name": self.name, "deleted": true})),
            Format::Text => {
                output::text(&format!("{} is gone\n", self.name));
                Ok(())
            }
        }
    }
}

impl List {
    async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let installed: Vec<App> = apps
            .list()
            .await?
            .into_iter()
            .filter(|app| app.spec.chart.is_some())
            .collect();
        if global.output == Format::Json {
            let shown: Vec<Value> = installed.iter().map(apps::shown).collect();
            return output::json(&json!({"installed": shown, "carried": carried::charts()}));
        }
        let rows: Vec<Vec<String>> = installed
            .iter()
            .map(|app| {
                let chart = app.spec.chart.clone().unwrap_or_default();
                let (health, reason) = apps::standing(app);
                vec![
                    app.name_any(),
                    app.spec.namespace.clone().unwrap_or_default(),
                    format!("{}-{}", chart.name, chart.version),
                    apps::coloured(health),
                    reason.to_owned(),
                ]
            })
            .collect();
        if !rows.is_empty() {
            output::table(&["NAME", "NAMESPACE", "CHART", "HEALTH", "REASON"], &rows);
            output::text("\n");
        }
        output::text(&format!("carried by setpoint: {}\n", carried::charts().join(", ")));
        Ok(())
    }
}
