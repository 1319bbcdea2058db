//! A folder of somebody's: a repository's work tree, or a chart, as `plan`, `render` and `chart install` take it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use setpoint_engine::api::AppSpec;
use setpoint_engine::declaration::{self, Declaration};
use setpoint_templates::job::{Job, ValuesFile};
use setpoint_templates::{FileSource, Folder};

/// A folder with a `setpoint.toml`.
pub struct WorkTree {
    root: PathBuf,
    /// What it declares.
    pub declaration: Declaration,
}

impl WorkTree {
    /// Reads a folder's `setpoint.toml`; `None` when it has none.
    pub fn open(root: &Path) -> anyhow::Result<Option<WorkTree>> {
        let file = root.join(declaration::FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !root.exists() {
                    bail!("there is no folder {}", root.display());
                }
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        Ok(Some(WorkTree {
            root: root.to_owned(),
            declaration: declaration::parse(&text)?,
        }))
    }

    /// Collects what rendering an app needs.
    pub fn job(&self, app: &declaration::App) -> anyhow::Result<Job> {
        let files = files(&self.root.join(&app.path))?;
        let mut values = Vec::new();
        for name in &app.values {
            values.push(values_file(&self.root.join(name), name)?);
        }
        if !app.set.is_empty() {
            values.push(set_file(&app.set));
        }
        Ok(Job {
            files,
            values,
            name: app.name.clone(),
            namespace: app.namespace.clone(),
            revision: 1,
            is_install: true,
            ..Job::default()
        })
    }

    /// Returns the time of the commit that is checked out, in seconds; 0 outside of git.
    pub fn time(&self) -> i64 {
        let head = setpoint_engine::source::Repository::open(&self.root).and_then(|repository| repository.head(None));
        head.ok().flatten().map_or(0, |head| head.time)
    }
}

/// Reads all files of a folder.
pub fn files(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    if !folder.is_dir() {
        bail!("there is no folder {}", folder.display());
    }
    let mut files = Folder(folder.to_owned())
        .files()
        .with_context(|| format!("cannot read {}", folder.display()))?;
    files.retain(|path, _| !path.starts_with(".git/"));
    Ok(files)
}

/// Reads a file of values.
pub fn values_file(path: &Path, name: &str) -> anyhow::Result<ValuesFile> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the values {}", path.display()))?;
    Ok(ValuesFile {
        name: name.to_owned(),
        text,
    })
}

/// Returns values as a file that comes after all others.
pub fn set_file(values: &Map<String, Value>) -> ValuesFile {
    ValuesFile {
        name: "set".to_owned(),
        text: Value::Object(values.clone()).to_string(),
    }
}

/// Reads `--set key=value` and `--set-string` as Helm does, over files of values: all as one map of values.
pub fn values(files: &[PathBuf], set: &[String], set_string: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut merged = Map::new();
    for path in files {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the values {}", path.display()))?;
        let read: Option<Map<String, Value>> =
            serde_saphyr::from_str(&text).with_context(|| format!("{} holds no YAML map", path.display()))?;
        merged = setpoint_templates::chart::merge_maps(merged, read.unwrap_or_default());
    }
    for text in set {
        setpoint_templates::chart::set_values(&mut merged, text)
            .map_err(|error| anyhow::anyhow!("--set {text}: {error}"))?;
    }
    for text in set_string {
        setpoint_templates::chart::set_string(&mut merged, text)
            .map_err(|error| anyhow::anyhow!("--set-string {text}: {error}"))?;
    }
    Ok(merged)
}

/// Makes the spec of a declared app, as its repository would.
pub fn spec(app: &declaration::App) -> AppSpec {
    setpoint_engine::repository::spec_of("", app.clone())
}
