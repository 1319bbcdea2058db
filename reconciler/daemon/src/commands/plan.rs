//! `setpoint plan`: what a folder would change, before it is committed.

mod images;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use setpoint_engine::api::NAMESPACE;
use setpoint_engine::{Name, Proposal};

use crate::apps::Apps;
use crate::cli::{Format, Global};
use crate::commands::diff;
use crate::folder::{self, WorkTree};
use crate::output;

/// Options of `setpoint plan`.
#[derive(Args)]
pub struct Plan {
    /// The repository's work tree, with what is not committed yet
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Only this app
    #[arg(long)]
    app: Option<String>,
    /// Fail when something would change
    #[arg(long)]
    exit_code: bool,
}

impl Plan {
    /// Prints what would change.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let Some(tree) = WorkTree::open(&self.path)? else {
            bail!(
                "{} has no setpoint.toml: `plan` takes a repository's work tree",
                self.path.display()
            );
        };
        let apps = Apps::connect(&global).await?;
        let known = apps.list().await?;
        let now = tree.time();
        let mut all = Vec::new();
        let mut changes = false;
        let mut broken = 0;
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for app in &tree.declaration.apps {
            if self.app.as_ref().is_some_and(|wanted| *wanted != app.name) {
                continue;
            }
            let mut job = tree.job(app)?;
            job.now = now;
            let spec = folder::spec(app);
            // Values travel with the spec, as they do in a deployment.
            job.values.retain(|values| values.name != "set");
            let body = serde_json::to_vec(&Proposal { spec, job })?;
            let name = Name::new(NAMESPACE, &app.name);
            match apps.ask::<Value>(&name, "plan", &[], Some(body)).await {
                Ok(answer) => {
                    changes |= diff::has_changes(&answer["plan"]);
                    let names = answer["images"].as_array().into_iter().flatten();
                    wanted.extend(names.filter_map(Value::as_str).map(str::to_owned));
                    if global.output == Format::Text {
                        diff::print(&app.name, &answer);
                    }
                    all.push(json!({"name": app.name, "difference": answer}));
                }
                Err(error) => {
                    broken += 1;
                    if global.output == Format::Text {
                        output::text(&format!(
                            "{}\n  {}\n",
                            output::paint("1", &app.name),
                            output::paint("31", &format!("{error:#}"))
                        ));
                    }
                    all.push(json!({"name": app.name, "error": format!("{error:#}")}));
                }
            }
        }
        if all.is_empty() && self.app.is_some() {
            bail!("setpoint.toml declares no app {}", self.app.unwrap_or_default());
        }
        let gone = removed(&tree, &known, self.app.is_none());
        for app in &gone {
            changes = true;
            if global.output == Format::Text {
                output::text(&format!(
                    "{}\n  {}\n",
                    output::paint("1", app),
                    output::paint("31", "- no longer declared: its objects are deleted")
                ));
            }
        }
        let lacking = images::lacking(apps.client(), &wanted).await;
        match global.output {
            Format::Json => output::json(&json!({"apps": all, "removed": gone, "images": lacking}))?,
            Format::Text => images::print(&lacking),
        }
        if broken > 0 {
            bail!("{broken} of {} apps would fail", all.len());
        }
        if changes && self.exit_code {
            bail!("something would change");
        }
        Ok(())
    }
}

/// Returns the apps that are declared now and would be no more: those of the repository that declares most of this tree's apps.
fn removed(tree: &WorkTree, known: &[setpoint_engine::api::App], all: bool) -> Vec<String> {
    let declared = |name: &str| tree.declaration.apps.iter().any(|app| app.name == name);
    let repository = known
        .iter()
        .find(|app| declared(&app.name_any()))
        .and_then(|app| app.spec.repository.clone());
    let (true, Some(repository)) = (all, repository) else {
        return Vec::new();
    };
    known
        .iter()
        .filter(|app| app.spec.repository.as_ref() == Some(&repository) && !declared(&app.name_any()))
        .map(|app| app.name_any())
        .collect()
}

/// Renders what a folder holds, here and without a cluster.
#[derive(Args)]
pub struct Render {
    /// A repository's work tree, a chart, or a folder of manifests
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Only this app of a repository
    #[arg(long)]
    app: Option<String>,
    /// The release's name, for a chart or folder (default: the folder's)
    #[arg(long)]
    name: Option<String>,
    /// The namespace, for a chart or folder
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// A file of values, for a chart or folder; later ones win
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    values: Vec<PathBuf>,
    /// A value, for a chart or folder: key=value, as Helm reads it
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A value that stays text
    #[arg(long = "set-string", value_name = "KEY=VALUE")]
    set_string: Vec<String>,
}

impl Render {
    /// Prints the objects.
    pub fn run(self, global: &Global) -> anyhow::Result<()> {
        let mut jobs = Vec::new();
        match WorkTree::open(&self.path)? {
            Some(tree) => {
                if !self.values.is_empty() || !self.set.is_empty() || !self.set_string.is_empty() || self.name.is_some()
                {
                    bail!(
                        "{} is a repository: its setpoint.toml says names and values; --name, --values and --set are for a chart or folder",
                        self.path.display()
                    );
                }
                for app in &tree.declaration.apps {
                    if self.app.as_ref().is_none_or(|wanted| *wanted == app.name) {
                        let mut job = tree.job(app)?;
                        job.now = tree.time();
                        jobs.push((app.path.clone(), job));
                    }
                }
                if let (true, Some(app)) = (jobs.is_empty(), &self.app) {
                    bail!("setpoint.toml declares no app {app}");
                }
            }
            None => {
                let absolute = std::path::absolute(&self.path).context("the path cannot be used")?;
                let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
                let values = folder::values(&self.values, &self.set, &self.set_string)?;
                jobs.push((
                    self.path.display().to_string(),
                    setpoint_templates::job::Job {
                        files: folder::files(&self.path)?,
                        name: self.name.or(name).unwrap_or_else(|| "app".to_owned()),
                        namespace: self.namespace,
                        revision: 1,
                        is_install: true,
                        values: vec![folder::set_file(&values)],
                        ..Default::default()
                    },
                ));
            }
        }
        let mut objects = Vec::new();
        for (path, job) in jobs {
            let output = setpoint_templates::job::run(&job).map_err(|failure| anyhow::anyhow!("{path}: {failure}"))?;
            for warning in &output.warnings {
                tracing::warn!("{path}: {warning}");
            }
            objects.extend(output.objects.into_iter().map(|object| (path.clone(), object)));
        }
        if global.output == Format::Json {
            let objects: Vec<&Value> = objects.iter().map(|(_, object)| &object.object).collect();
            return output::json(&objects);
        }
        for (path, object) in &objects {
            let text = serde_saphyr::to_string(&object.object).context("an object cannot be written as YAML")?;
            output::text(&format!("---\n# Source: {path}/{}\n{text}", object.file));
            if !text.ends_with('\n') {
                output::text("\n");
            }
        }
        Ok(())
    }
}
