//! The repository that `up` is told to follow: made from an example, on disk, or at a distance; and how its roll-out is shown.

mod progress;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use setpoint_engine::Name;
use setpoint_engine::api::{NAMESPACE, Repository};
use setpoint_engine::source::{self, Identity, Location};

use crate::carried;
use crate::instance::Paths;

pub use progress::show;

/// The field manager of Repository objects that `up` makes.
const MANAGER: &str = "setpoint-up";
/// The branch of a repository that is made.
const BRANCH: &str = "main";

/// A repository to be followed.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in the cluster.
    pub name: String,
    /// Its path or URL.
    pub url: String,
    /// The branch, where not the repository's HEAD.
    pub branch: Option<String>,
    /// The work tree to change things in, if there is one that pushes to it.
    pub clone: Option<PathBuf>,
}

/// Makes a repository from an example, and a clone of it to work in; goes on with both where they are there. Blocking.
pub fn init(example: &str, dest: &Path, paths: &Paths, name: Option<String>) -> anyhow::Result<Source> {
    let Some(files) = carried::example(example).filter(|files| files.contains_key("setpoint.toml")) else {
        bail!(
            "there is no example {example}; there is {}",
            carried::examples().join(", ")
        );
    };
    let dest = std::path::absolute(dest).with_context(|| format!("{} cannot be used", dest.display()))?;
    let name = match name {
        Some(name) => name,
        None => label(&dest)?,
    };
    let bare = paths.repositories().join(format!("{name}.git"));
    if dest.exists() && !is_empty(&dest)? {
        if !source::is_clone_of(&dest, &bare)? {
            bail!(
                "{} is there already and is no clone of {}; choose another folder, or follow it as it is: setpoint up {}",
                dest.display(),
                bare.display(),
                dest.display()
            );
        }
    } else {
        if !bare.exists() {
            std::fs::create_dir_all(paths.repositories()).context("cannot make the folder of repositories")?;
            let identity = identity();
            let time = crate::wall_clock().as_second();
            source::init_bare(&bare, BRANCH, &files, &format!("Start from {example}"), &identity, time)?;
        }
        source::clone_into(&bare, &dest, &identity())?;
    }
    Ok(Source {
        name,
        url: bare.display().to_string(),
        branch: None,
        clone: Some(dest),
    })
}

/// Takes a path or URL as people give it. Blocking.
pub fn find(text: &str, paths: &Paths, name: Option<String>, branch: Option<String>) -> anyhow::Result<Source> {
    match Location::parse(text)? {
        Location::Path(path) => {
            let path = std::path::absolute(&path).with_context(|| format!("{text} cannot be used"))?;
            // An error now says more than a status later.
            source::Repository::open(&path)?.head(branch.as_deref())?;
            if let Some(source) = hosted(&path, paths)? {
                return Ok(source);
            }
            Ok(Source {
                name: name.map_or_else(|| label(&path), Ok)?,
                url: path.display().to_string(),
                branch,
                clone: None,
            })
        }
        Location::Remote(_) => {
            let last = text.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
            Ok(Source {
                name: name.map_or_else(|| label(Path::new(last)), Ok)?,
                url: text.to_owned(),
                branch,
                clone: None,
            })
        }
    }
}

/// Returns the repository of ours that a folder is a clone of: what is pushed there counts, not what is only committed.
fn hosted(path: &Path, paths: &Paths) -> anyhow::Result<Option<Source>> {
    let entries = match std::fs::read_dir(paths.repositories()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot read the folder of repositories"),
    };
    for entry in entries {
        let bare = entry.context("cannot read the folder of repositories")?.path();
        if source::is_clone_of(path, &bare)? {
            return Ok(Some(Source {
                name: label(&bare)?,
                url: bare.display().to_string(),
                branch: None,
                clone: Some(path.to_owned()),
            }));
        }
    }
    Ok(None)
}

fn identity() -> Identity {
    Identity {
        name: "Setpoint".to_owned(),
        email: "setpoint@localhost".to_owned(),
    }
}

fn is_empty(folder: &Path) -> anyhow::Result<bool> {
    let mut entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries.next().is_none())
}

/// Makes a name of a path's last part.
fn label(path: &Path) -> anyhow::Result<String> {
    let last = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(&last).to_lowercase();
    let mut name: String = last
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '-'
            }
        })
        .collect();
    name.truncate(50);
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        bail!("{} makes no name; give one with --name", path.display());
    }
    Ok(name)
}

/// Makes the Repository object that the engine follows.
pub async fn follow(client: &kube::Client, source: &Source) -> anyhow::Result<Name> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: kube::core::ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            ..Default::default()
        },
        ..Namespace::default()
    };
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).context("cannot make the namespace of apps"),
    }
    let api: Api<Repository> = Api::namespaced(client.clone(), NAMESPACE);
    if let Some(there) = api.get_opt(&source.name).await.context("cannot read the repository")?
        && there.spec.url != source.url
    {
        bail!(
            "the repository {} follows {} already; give this one another name with --name, or delete that one: kubectl -n {NAMESPACE} delete repository {}",
            source.name,
            there.spec.url,
            source.name
        );
    }
    let object = json!({
        "apiVersion": "setpoint.dev/v1alpha1",
        "kind": "Repository",
        "metadata": {"name": source.name, "namespace": NAMESPACE},
        "spec": {"url": source.url, "branch": source.branch},
    });
    api.patch(
        &source.name,
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&object),
    )
    .await
    .with_context(|| format!("cannot follow {}", source.url))?;
    Ok(Name::new(NAMESPACE, &source.name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::label;

    #[test]
    fn a_path_makes_a_name_that_objects_can_have() {
        assert_eq!(label(Path::new("/srv/My Fleet.git")).unwrap(), "my-fleet");
        assert_eq!(label(Path::new("/srv/fleet/")).unwrap(), "fleet");
        assert!(label(Path::new("/")).is_err());
    }
}
