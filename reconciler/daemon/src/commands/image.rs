//! `setpoint image …`: the images on this node. Works beside a running daemon and without one.

mod print;
mod prune;
mod pull;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use setpoint_runtime::images::{Image as StoredImage, ImageStore, NodeCredentials, Registries, RegistryFiles};
use setpoint_runtime::spec::SandboxState;

use crate::cli::Global;
use crate::demo;
use crate::instance::Paths;
use crate::output;
pub use print::{size, value};
pub use prune::Prune;
pub use pull::{Pull, pulled};

/// The image commands.
#[derive(Subcommand)]
pub enum Image {
    /// Import an OCI layout (a folder or a tar), an archive of `docker save`, or the built-in `demo` image
    Import(Import),
    /// Fetch an image from its registry
    Pull(Pull),
    /// List the images
    Ls(Ls),
    /// Write an image into a tar that `image import`, `docker load` and podman take
    Export(Export),
    /// Show all that is known of an image, as JSON
    Inspect(Inspect),
    /// Remove an image by name or id
    Rm(Rm),
    /// Remove the images that no container uses, no app may go back to and nobody imported
    Prune(Prune),
}

/// Options of `setpoint image import`.
#[derive(Args)]
pub struct Import {
    /// The folder or file, or `demo`
    #[arg(value_name = "FILE|demo")]
    source: PathBuf,
    /// With `demo`: also write its OCI layout into this new folder, to look at or to push to a registry
    #[arg(long, value_name = "DIR")]
    layout: Option<PathBuf>,
}

/// Options of `setpoint image ls`.
#[derive(Args)]
pub struct Ls {}

/// Options of `setpoint image export`.
#[derive(Args)]
pub struct Export {
    /// The image's name or id
    name: String,
    /// The new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Options of `setpoint image inspect`.
#[derive(Args)]
pub struct Inspect {
    /// The image's name or id
    name: String,
}

/// Options of `setpoint image rm`.
#[derive(Args)]
pub struct Rm {
    /// The image's name or id
    name: String,
}

impl Image {
    /// Runs the command.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let paths = Paths::new(&global.data_dir)?;
        if !rustix::process::geteuid().is_root() {
            bail!("images belong to root: run this as root (sudo setpoint image …)");
        }
        paths.create()?;
        let store = open(&paths)?;
        match self {
            Image::Import(import) => {
                let images = import.run(&store).await?;
                print::list(&images, global.output)
            }
            Image::Pull(pull) => pull.run(&store, &global).await,
            Image::Export(export) => export.run(&store, &global).await,
            Image::Inspect(inspect) => inspect.run(&store),
            Image::Prune(prune) => prune.run(&store, &paths, &global).await,
            Image::Ls(Ls {}) => print::list(&store.list()?, global.output),
            Image::Rm(rm) => {
                let image = store.resolve(&rm.name)?.ok_or_else(|| absent(&rm.name))?;
                let goes = rm.name.starts_with("sha256:") || image.references.len() <= 1;
                if let Some(pod) = users(&paths)?.remove(&image.id).filter(|_| goes) {
                    bail!("{} is used by {pod}; delete that first", rm.name);
                }
                if store.remove(&rm.name).await? {
                    Ok(())
                } else {
                    Err(absent(&rm.name))
                }
            }
        }
    }
}

fn absent(name: &str) -> anyhow::Error {
    anyhow::anyhow!("there is no image {name}; `setpoint image ls` lists them")
}

impl Export {
    async fn run(self, store: &ImageStore, global: &Global) -> anyhow::Result<()> {
        let image = store.resolve(&self.name)?.ok_or_else(|| absent(&self.name))?;
        let names = image.references.clone();
        let file = std::fs::File::create_new(&self.file);
        let file = file.with_context(|| format!("cannot make {}", self.file.display()))?;
        if let Err(error) = store.export(&image, names, file).await {
            // Half of an archive is of no use.
            std::fs::remove_file(&self.file).with_context(|| format!("cannot remove {}", self.file.display()))?;
            return Err(error).with_context(|| format!("cannot export {}", self.name));
        }
        print::list(&[image], global.output)
    }
}

impl Inspect {
    fn run(self, store: &ImageStore) -> anyhow::Result<()> {
        let image = store.resolve(&self.name)?.ok_or_else(|| absent(&self.name))?;
        let mut value = print::value(&image);
        value["answersTo"] = json!(store.answers_to(&image.id)?);
        value["layers"] = json!(image.layers);
        value["config"] = match store.whole_config(&image.id)? {
            Some(config) => config,
            None => json!(image.config),
        };
        output::json(&value)
    }
}

impl Import {
    async fn run(&self, store: &ImageStore) -> anyhow::Result<Vec<StoredImage>> {
        if self.source == Path::new("demo") && !self.source.exists() {
            let images = import_demo(store).await?;
            if let Some(folder) = &self.layout {
                demo::image::write(folder).with_context(|| format!("cannot write {}", folder.display()))?;
            }
            return Ok(images);
        }
        if self.layout.is_some() {
            bail!("--layout goes with `demo`: {} is not made here", self.source.display());
        }
        store
            .import(&self.source)
            .await
            .with_context(|| format!("cannot import {}", self.source.display()))
    }
}

/// Opens an instance's images, with registries as the machine and the instance say to reach them.
pub fn open(paths: &Paths) -> anyhow::Result<ImageStore> {
    let files = vec![
        PathBuf::from("/etc/setpoint/registries.toml"),
        paths.data_dir().join("registries.toml"),
    ];
    let credentials = NodeCredentials::usual(paths.data_dir().join("docker-config.json"));
    let store = ImageStore::open(&paths.images()).context("cannot open the image store")?;
    Ok(store.with_registries(Registries::new(RegistryFiles::new(files)), credentials))
}

/// Writes the demo image's layout and imports it as any other.
pub async fn import_demo(store: &ImageStore) -> anyhow::Result<Vec<StoredImage>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    demo::image::write(folder.path()).context("cannot write the demo image")?;
    store
        .import(folder.path())
        .await
        .context("cannot import the demo image")
}

/// Returns the ids of the images that containers have, each with such a container's pod, by what the shims have written down.
fn users(paths: &Paths) -> anyhow::Result<BTreeMap<String, String>> {
    let folder = paths.data_dir().join("sandboxes");
    let mut users = BTreeMap::new();
    if !folder.exists() {
        return Ok(users);
    }
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let state = entry?.path().join("state.json");
        let bytes = match std::fs::read(&state) {
            Ok(bytes) => bytes,
            // A sandbox that is just being made or removed has none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", state.display())),
        };
        let state: SandboxState =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", state.display()))?;
        let held = state.containers.iter().flat_map(|container| container.images());
        let pod = format!("pod {} in {}", state.spec.name, state.spec.namespace);
        users.extend(held.map(|image| (image.to_owned(), pod.clone())));
    }
    Ok(users)
}
