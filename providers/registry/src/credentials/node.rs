//! The credentials of this machine: docker configuration files, read anew for each pull.

use std::path::{Path, PathBuf};

use super::{Credential, Keyring, Origin, docker, helper};
use crate::ImageReference;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// The files that hold this machine's credentials, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct NodeCredentials {
    files: Vec<PathBuf>,
}

impl NodeCredentials {
    /// Takes the files; none has to exist.
    pub fn new(files: Vec<PathBuf>) -> Self {
        NodeCredentials { files }
    }

    /// Returns the files where docker, podman and others keep them for the user of this process, after `own`.
    pub fn usual(own: PathBuf) -> Self {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
        let containers = variable("XDG_RUNTIME_DIR").map(|run| run.join("containers/auth.json"));
        let docker = docker.map(|folder| folder.join("config.json"));
        NodeCredentials {
            files: [Some(own), docker, containers].into_iter().flatten().collect(),
        }
    }

    /// Returns what this machine has for an image. A file or helper that cannot be used is warned about and passed over.
    pub async fn keyring(&self, reference: &ImageReference) -> Keyring {
        let mut keyring = Keyring::default();
        for file in &self.files {
            if let Err(why) = add(file, reference, &mut keyring).await {
                tracing::warn!(file = %file.display(), why, "registry credentials are passed over");
            }
        }
        keyring
    }
}

async fn add(file: &Path, reference: &ImageReference, keyring: &mut Keyring) -> Result<(), String> {
    let bytes = match tokio::fs::metadata(file).await {
        Ok(metadata) if metadata.len() > LARGEST => return Err(format!("it is over {LARGEST} bytes")),
        Ok(_) => tokio::fs::read(file).await.map_err(|error| error.to_string())?,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    let place = file.display().to_string();
    let config = docker::parse(&bytes, &place).map_err(|error| error.reason)?;
    // Docker asks the helper of the host before it looks into the file.
    let registry = reference.registry();
    let hub = "https://index.docker.io/v1/";
    let server = if registry == "docker.io" { hub } else { registry };
    let named = [server, registry].iter().find_map(|host| config.helpers.get(*host));
    if let Some(name) = named.or(config.store.as_ref())
        && let Some((user, proof)) = helper::ask(name, server).await?
    {
        let origin = Origin::Node { place: place.clone() };
        keyring.add(server, Credential { user, proof, origin });
    }
    config.add_to(&place, keyring).map_err(|error| error.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_tried_in_order_and_bad_ones_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let entry = |user: &str| format!(r#"{{"auths": {{"r.example": {{"username": "{user}", "password": "p"}}}}}}"#);
        let files = vec![
            folder.path().join("absent.json"),
            write("bad.json", "{"),
            write("helper.json", r#"{"credsStore": "there-is-none"}"#),
            write("one.json", &entry("one")),
            write("two.json", &entry("two")),
        ];
        let reference: ImageReference = "r.example/app:v1".parse().unwrap();
        let keyring = NodeCredentials::new(files).keyring(&reference).await;
        let users: Vec<String> = keyring.lookup("r.example/app").into_iter().map(|c| c.user).collect();
        assert_eq!(users, ["one", "two"]);
    }
}
